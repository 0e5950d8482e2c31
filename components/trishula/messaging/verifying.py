"""Signatures of messages on their way in: whether a message is of who it says, whatever the node says.

A signature is good if it is of a key that the receiver's own file (:mod:`trishula.known_keys`) has for the sender's
agent, over what came, to this recipient, and its time is not over. A node can't make such a message, can't change one,
can't hand one on to somebody else or to another instance, and can't bring one back when its receiver forgets its id by
age: no signature counts for longer. The memory is bounded by count as well, whoever sends
(:mod:`trishula.messaging.deduplication`): who makes up some ten thousand messages in a sender's name can bring one of
that sender back within its time to live.

What is required (``require_signature``) and has no good signature is *refused*: it goes back for good, as a dead letter
with the reason, and its sender gets an ERROR. No handler sees it. What is not required is delivered, and says by
``signed_by`` and ``signature_fault`` what came of it.

One thing is never signed and always taken: an ERROR by which the node itself tells that a message ended unhandled
(:mod:`trishula.contract.notices`). A node that lies so tells no more than one that loses the message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from trishula.contract.addresses import BROADCAST, Address, agent_of
from trishula.contract.deliveries import Delivery
from trishula.contract.encrypted import NOT_DECRYPTED, around, encrypted_for, no_key_for
from trishula.contract.message import DEFAULT_TTL_MS, Message, ReceivedMessage
from trishula.contract.notices import is_word_of_node
from trishula.contract.sealed import split_sealed
from trishula.contract.signed import SIGNATURE_REFUSED, SLACK_MS, key_id, read_signature, statement
from trishula.key_file import is_signed
from trishula.known_keys import KnownKeys
from trishula.messaging.boxes import Boxes
from trishula.settings import SettingsInvalid

__all__ = ["Refused", "Verifier"]

_log = logging.getLogger("trishula")

_COMMAND = "trishula key trust"
_FIELDS = Message.__struct_fields__


class Refused(msgspec.Struct, frozen=True):
    """A message that must not be handled.

    Attributes:
        message: the message.
        reason: why.
        requeue: whether it may be another time: for want of a key, which somebody may give us.
    """

    message: Message
    reason: str
    requeue: bool = False


class Verifier:
    """See the module's docstring.

    Args:
        trusted_keys: the file of keys.
        required: the types of messages that are taken only with a good signature.
        address: the receiver's.
        now_ms: the wall clock.
        boxes: opens what is encrypted for us; ``None``: nobody can.

    Attributes:
        capabilities: what the receiver has announced.

    Raises:
        SettingsInvalid: the file can't be used.
    """

    def __init__(
        self,
        trusted_keys: Path,
        required: Collection[str],
        address: Address,
        now_ms: Callable[[], int],
        boxes: Boxes | None = None,
    ) -> None:
        self._known = KnownKeys(trusted_keys, SettingsInvalid, _COMMAND)
        # Said at the start rather than with the first message.
        self._known.agents()
        self._required = frozenset(required)
        self._address = address
        self._now_ms = now_ms
        self._boxes = boxes
        self.capabilities: Collection[str] = ()

    def judged(self, message: Message, signature: str | None, at: Address | None = None) -> Message | Refused:
        """A message with what came of its signature, or why it must not be handled.

        Args:
            message: the message.
            signature: its signature.
            at: the address that it was delivered to; ``None``: the node was asked for it, and it may be to any of ours.
        """
        try:
            return self._judged(message, signature, at)
        except Exception as error:
            # Whatever somebody has made up: what came with it is judged all the same.
            _log.exception("The %s %s from %s can't be judged", message.type, message.id, message.sender)
            return Refused(message, f"{SIGNATURE_REFUSED}: judging it ended with {type(error).__name__}", requeue=True)

    def _judged(self, message: Message, signature: str | None, at: Address | None) -> Message | Refused:
        fault = self._fault(message, signature, at)
        if fault is not None and message.type in self._required and not is_word_of_node(message):
            words = f"{self._address} takes no {message.type} without a good signature, and {fault}"
            return Refused(message, f"{SIGNATURE_REFUSED}: {words}")
        if encrypted_for(message.payload) is not None:
            return self._opened(message, fault)
        signed_by = agent_of(message.sender or "") if fault is None else None
        fields = {name: getattr(message, name) for name in _FIELDS}
        return ReceivedMessage(**fields, signed_by=signed_by, signature_fault=fault)

    def _opened(self, message: Message, fault: str | None) -> Message | Refused:
        """An encrypted message, decrypted. Whose it is only the signature says for sure, so one must be there."""
        if fault is not None:
            return Refused(message, f"{SIGNATURE_REFUSED}: an encrypted message must be signed, and {fault}")
        if self._boxes is None:
            return Refused(message, no_key_for(self._address), requeue=True)
        try:
            aad = around({"type": message.type, "id": message.id, "to": message.to}, message.sender or "")
            payload, sealed = split_sealed(self._boxes.opened(message), aad)
        except ValueError as error:
            return Refused(message, f"{NOT_DECRYPTED}: {error}", requeue=True)
        fields = {name: getattr(message, name) for name in _FIELDS} | {"payload": payload}
        return ReceivedMessage(**fields, signed_by=agent_of(message.sender or ""), encrypted=True, sealed=sealed)

    def sorted(
        self, deliveries: list[Delivery], at: Address | None = None
    ) -> tuple[list[Delivery], list[tuple[str, Refused]]]:
        """Those that may be handled, and of the others the tokens; ``at``: where they came, if not at our address."""
        good: list[Delivery] = []
        refused: list[tuple[str, Refused]] = []
        for delivery in deliveries:
            judged = self.judged(delivery.message, delivery.signature, at or self._address)
            if isinstance(judged, Refused):
                refused.append((delivery.token, judged))
            else:
                good.append(msgspec.structs.replace(delivery, message=judged))
        return good, refused

    def _fault(self, message: Message, text: str | None, at: Address | None) -> str | None:
        """Why a message counts as signed by nobody; ``None`` if it is signed by its sender."""
        sender = agent_of(message.sender or "")
        if text is None:
            return "this one is not signed"
        signature = read_signature(text)
        if signature is None:
            return "the signature of this one is of a form that is not known here"
        keys = [key for key in self._known.held(sender) if key_id(key.hex()) == signature.key]
        if not keys:
            return (
                f"this one is signed by the key {signature.key}…, which is no key of {sender} that is known here: if "
                f"it is one, make it known with '{_COMMAND} {sender} KEY'"
            )
        # Before what costs: whoever replays doesn't have us read a MiB for it.
        if not self._is_for_us(message.to, at):
            return f"this one is for {message.to}"
        if (lateness := self._lateness(message, signature.deadline_at)) is not None:
            return lateness
        try:
            signed = statement(message.to_wire(), sender=message.sender or "", deadline_at=signature.deadline_at)
        except (KeyError, ValueError, RecursionError):
            signed = b""
        if any(is_signed(key, signed, signature.value) for key in keys):
            return None
        return f"the signature of this one is not {sender}'s over what came: it was changed or made up on the way"

    def _is_for_us(self, to: str, at: Address | None) -> bool:
        if to == BROADCAST:
            return True
        found = Address.parse(to)
        if found.capability is not None:
            return found.capability in self.capabilities
        return found.agent == self._address.agent and (at is None or found.instance in (None, at.instance))

    def _lateness(self, message: Message, deadline_at: int | None) -> str | None:
        sent_at, now_ms = message.timestamp or 0, self._now_ms()
        if sent_at > now_ms + SLACK_MS:
            return "this one is dated more than an hour ahead of the clock here, and could be brought back for longer"
        # A longer time to live outlives the memory of ids.
        ends_at = sent_at + min(DEFAULT_TTL_MS if message.ttl_ms is None else message.ttl_ms, DEFAULT_TTL_MS)
        if deadline_at is not None:
            ends_at = min(ends_at, deadline_at)
        if now_ms <= ends_at + SLACK_MS:
            return None
        return "the time to live that was signed with this one is over: somebody has kept it back, or replays it"
