"""Notices: the ERROR messages by which the node tells a sender that its message ended unhandled.

Who gets one: the sender of any message that is *dead*, and of a COMMAND that *expired*. Not the sender of an ERROR or a
RESULT: an answer to an answer could go round for ever. A notice is a message like others, durable, in the sender's own
mailbox; it is accepted in the same transaction as the end that it tells of, so no crash leaves one without the other::

    {"type": "ERROR", "id": "node:<node>:<epoch>:<sequence>:dead", "from": <the dead message's recipient>,
     "to": <its sender>, "reply_to": <its id>,
     "payload": {"error": <URI>, "message": <a sentence>, "reason": <why>}}

``from`` is the recipient, because that is whose answer the sender waits for. That it is the node who speaks, the id
says: nobody else may use ids that begin with ``node:`` (:func:`trishula.contract.addresses.is_nodes_own`). It names the
record by which the message was accepted, so one message has one notice for each kind of end, however often it is
replayed and whichever node ends it, because (``from``, ``id``) is the key.

Policy only: no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from trishula.errors import DeadLetter, MessageExpired
from trishula_router.mail.entry import Entry
from trishula_router.store.messages import Draft, State

__all__ = ["Notice", "Notices"]

_RESERVED_PREFIX = "node:"


class Notice(msgspec.Struct, frozen=True, gc=False):
    """A notice on its way into the store; ``wire`` is what its recipient will read."""

    draft: Draft
    wire: dict[str, Any]


class Notices:
    """Writes notices.

    Args:
        node: the own node's name: the number of a dead letter means another one at another node.
        place: where a message was accepted, by its position: (node, epoch of its store, sequence).
        ttl_ms: how long a notice is tried.
        reach: which address to write to for an address that sent something: itself, its agent, or ``None``.
    """

    def __init__(
        self,
        node: str,
        place: Callable[[int], tuple[str, str, int]],
        ttl_ms: int,
        reach: Callable[[str], str | None],
    ) -> None:
        self._node = node
        self._place = place
        self._ttl_ms = ttl_ms
        self._reach = reach

    def of(self, entries: Iterable[Entry], state: State, reason: str | None, now: int) -> list[Notice]:
        """The notices for messages that reach a final state at ``now`` (ms)."""
        return [
            self._notice(entry, to, state, reason or "no reason is known", now)
            for entry in entries
            if _wants_notice(entry, state) and (to := self._reach(entry.sender)) is not None
        ]

    def _notice(self, entry: Entry, to: str, state: State, reason: str, now: int) -> Notice:
        if state is State.DEAD:
            uri = DeadLetter.uri
            sentence = (
                f"the {entry.type} {entry.id} to {entry.recipient} is a dead letter: {reason}; an operator can put it "
                f"back, at the node {self._node}, with: trishula dead replay {entry.position}"
            )
        else:
            uri = MessageExpired.uri
            sentence = f"the {entry.type} {entry.id} to {entry.recipient} expired before it was done: {reason}"
        node, epoch, sequence = self._place(entry.position)
        wire: dict[str, Any] = {
            "type": "ERROR",
            "id": f"{_RESERVED_PREFIX}{node}:{epoch}:{sequence}:{state.name.lower()}",
            "to": to,
            "from": entry.recipient,
            "timestamp": now,
            "payload": {"error": uri, "message": sentence, "reason": reason},
            "priority": entry.priority,
            "reply_to": entry.id,
            "accepted_at": now,
        }
        draft = Draft(
            entry.recipient,
            wire["id"],
            (to,),
            "ERROR",
            entry.priority,
            now + self._ttl_ms,
            msgspec.json.encode(wire),
            reply_to=entry.id,
        )
        return Notice(draft, wire)


def _wants_notice(entry: Entry, state: State) -> bool:
    if state is State.DEAD:
        return entry.type not in ("ERROR", "RESULT")
    return state is State.EXPIRED and entry.type == "COMMAND"
