"""Messages on their way in: what the node pushes and what is fetched from it, until a receiver has them.

Answers to our own calls go to whoever waits for them (:mod:`trishula.messaging.pending_calls`), everything else to the
receiver. What can't be read is given back for good: delivered again it could be read no better.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from trishula.contract.addresses import Address, agent_of
from trishula.contract.deliveries import Delivery, Fetched, Unreadable, read_deliveries, with_bytes
from trishula.contract.encrypted import encrypted_for, no_key_for
from trishula.contract.message import Message
from trishula.contract.uris import MAILBOX_CANARY, MAILBOX_FETCH
from trishula.errors import KeyUnknown
from trishula.messaging.acks import Settling
from trishula.messaging.pending_calls import Calls
from trishula.session.membership import Membership

if TYPE_CHECKING:
    # Who looks at no signature doesn't load what does.
    from trishula.messaging.verifying import Verifier

__all__ = ["Receiving"]

_log = logging.getLogger("trishula")

#: A long poll ends on the node's side; the client waits so much longer for its answer.
_FETCH_GRACE_S = 10.0
#: Answers that are known again when they come by the other road.
_ANSWERS = 4096
#: After that a node has given a canary up.
_CANARY_S = 10.0

Receiver = Callable[[list[Delivery]], object]


class Receiving:
    """See the module's docstring.

    Attributes:
        receiver: gets the deliveries; ``None`` if nobody takes any.
        recalled: told of each message that was delivered and that its sender has cancelled since: (sender, id).
        answers: the newest answers to our calls, by agent and id, where a second road brings each of them again;
            ``None`` where there is none.
        file_canary: writes a canary as a file: (its id, to whom); ``None`` without a folder.
        verifier: looks at signatures; ``None``: nobody does.
    """

    def __init__(self, calls: Calls, settling: Settling, member: Membership) -> None:
        self.receiver: Receiver | None = None
        self.recalled: Callable[[str, str], object] | None = None
        self.answers: dict[tuple[str, str], None] | None = None
        self.verifier: Verifier | None = None
        self.file_canary: Callable[[str, str], object] | None = None
        self._calls = calls
        self._settling = settling
        self._member = member
        # What the node knows of a fetch, as far as we know.
        self._fetches_with: list[dict[str, Any]] = [{"run": member.run, "binary": True}, {"run": member.run}, {}]

    def pushed(self, raw: object = None, more: object = None, *_: object) -> None:
        """An event on the inbox topic: deliveries, or what was cancelled of them."""
        if more is not None:
            self._recall(more)
            self._answer_canary(more)
        deliveries, unreadable = read_deliveries(raw)
        self._refuse(unreadable)
        self.take(deliveries if self._member.gets_binary else _with_bytes(deliveries))

    def take(self, deliveries: list[Delivery]) -> None:
        """Deliveries came, by whichever road."""
        deliveries = self._verified(deliveries)
        calls = self._calls
        if calls.is_busy or self.answers:
            others = []
            for delivery in deliveries:
                if self._is_answer(delivery.message):
                    self._settling.ack(delivery.token)
                else:
                    others.append(delivery)
            deliveries = others
        if deliveries and self.receiver is not None:
            self.receiver(deliveries)

    def _is_answer(self, message: Message) -> bool:
        if self.answers is None:
            return self._calls.answered(message)
        key = agent_of(message.sender or ""), message.id
        if key in self.answers:
            return True
        if not self._calls.answered(message):
            return False
        if len(self.answers) >= _ANSWERS:
            del self.answers[next(iter(self.answers))]
        self.answers[key] = None
        return True

    def _recall(self, more: object) -> None:
        cancelled = more.get("cancelled") if isinstance(more, Mapping) else None
        recalled = self.recalled
        for one in cancelled if recalled is not None and isinstance(cancelled, list) else ():
            if recalled is not None and isinstance(one, Mapping):
                recalled(str(one.get("from")), str(one.get("id")))

    def _answer_canary(self, more: object) -> None:
        """The node looks whether agents reach each other; see ``trishula.mailbox.canary``. No handler hears of it."""
        canary = more.get("canary") if isinstance(more, Mapping) else None
        if not isinstance(canary, Mapping):
            return
        if canary.get("road") != "files":
            self.tell_of_canary(canary.get("id"))
        elif self.file_canary is not None and isinstance(canary.get("id"), str) and isinstance(canary.get("to"), str):
            self.file_canary(canary["id"], canary["to"])

    def tell_of_canary(self, canary: object) -> None:
        """A canary is sent, or has come; by its id."""
        link = self._member.link
        if link is not None:
            # Nobody waits for the answer: what the node doesn't hear in time, it counts as lost.
            link.call(MAILBOX_CANARY, [{"id": canary}], timeout_s=_CANARY_S).when_done(lambda _: None)

    async def fetch(
        self, request: Callable[..., Awaitable[Any]], max: int, wait_s: float, instance: str | None
    ) -> Fetched:
        """See :meth:`trishula.client.Client.fetch`."""
        member = self._member
        member.stays = True
        url = _url_of(member)
        known = member.stores.told(url)
        while True:
            told = self._fetches_with[0]
            try:
                fetched = await self._ask(request, max, wait_s, instance, {**known, **told})
                break
            except KeyUnknown:
                # A node of a former release.
                if not told:
                    raise
                if told is self._fetches_with[0]:
                    del self._fetches_with[0]
        if url is None or url != _url_of(member):
            # Another node, or another session: what we said we knew may not have been of its store.
            return msgspec.structs.replace(fetched, epoch_changed=False)
        changed = member.stores.met(url, "", fetched.epoch, fetched.high_water, fetched.epoch_changed)
        return msgspec.structs.replace(fetched, epoch_changed=changed)

    async def _ask(
        self,
        request: Callable[..., Awaitable[Any]],
        max: int,
        wait_s: float,
        instance: str | None,
        known: Mapping[str, Any],
    ) -> Fetched:
        details: dict[str, Any] = {"max": max, "wait_s": wait_s, **known}
        if instance is not None:
            details["instance"] = instance
        raw = await request(MAILBOX_FETCH, details, timeout_s=wait_s + _FETCH_GRACE_S)
        fields: dict[str, Any] = raw if isinstance(raw, dict) else {}
        deliveries, unreadable = read_deliveries(fields.get("deliveries"))
        self._refuse(unreadable)
        if "binary" not in known:
            deliveries = _with_bytes(deliveries)
        fetched = msgspec.convert({**fields, "deliveries": []}, Fetched)
        at = None if instance is None else Address(self._member.settings.agent, instance)
        return msgspec.structs.replace(fetched, deliveries=self._verified(deliveries, at))

    def _verified(self, deliveries: list[Delivery], at: Address | None = None) -> list[Delivery]:
        """Those that may be handled, as far as that is a question of signatures; the others go back for good."""
        if self.verifier is None:
            return self._readable(deliveries)
        good, refused = self.verifier.sorted(deliveries, at)
        for token, one in refused:
            _log_refused(one.message, one.reason)
            self._settling.nack(token, one.reason, one.requeue)
        return good

    def _readable(self, deliveries: list[Delivery]) -> list[Delivery]:
        """Those that are not encrypted: there is no key here, and another process of the agent may have one."""
        closed = [one for one in deliveries if encrypted_for(one.message.payload) is not None]
        for one in closed:
            reason = no_key_for(self._member.settings.agent)
            _log_refused(one.message, reason)
            self._settling.nack(one.token, reason, True)
        return [one for one in deliveries if one not in closed] if closed else deliveries

    def answer(self, message: Message, signature: str | None) -> Message | None:
        """An answer that the node was asked for; ``None`` if it has no good signature, and must have one."""
        message = with_bytes(message)
        if self.verifier is None:
            return message
        judged = self.verifier.judged(message, signature)
        if isinstance(judged, Message):
            return judged
        _log_refused(judged.message, judged.reason)
        return None

    def _refuse(self, unreadable: list[Unreadable]) -> None:
        for fault in unreadable:
            _log.error("A delivery can't be read and is refused: %s", fault.reason)
            if fault.token:
                self._settling.nack(fault.token, f"the receiver can't read it: {fault.reason}", False)


def _log_refused(message: Message, reason: str) -> None:
    what = "The %s %s from %s is refused: %s"
    facts = {"message_id": message.id, "peer": message.sender}
    _log.warning(what, message.type, message.id, message.sender, reason, extra=facts)


def _with_bytes(deliveries: list[Delivery]) -> list[Delivery]:
    """As a node of a release before hands them out: with the bytes of payloads marked."""
    return [
        one if (message := with_bytes(one.message)) is one.message else msgspec.structs.replace(one, message=message)
        for one in deliveries
    ]


def _url_of(member: Membership) -> str | None:
    return None if member.link is None else member.link.url
