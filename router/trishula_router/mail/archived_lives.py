"""The lives of messages whose records the store has no more: read in the archive, one segment a call.

Only the accepted record of a message has its id; all others list it by its position. So a search goes from the oldest
segment on that may tell of it, and remembers what it found: whoever asks for the next segment says how far it is. What
is remembered is the node's own, and no caller's word: a caller is told of messages that it may know of. Of many ids
that are asked for at once the first may be forgotten; then the answer begins anew, and says so by where it ended
(``after``).

No call costs more than the reading of a segment, whoever makes it, and one is read at a time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredLock

from trishula.errors import NodeBusy
from trishula_router.archiving.tracing import MessageTraces, Traces
from trishula_router.archiving.walking import Message
from trishula_router.mail.archive_search import InThread, message_of, record_of
from trishula_router.mail.mailroom import is_party
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind, Record, is_own

__all__ = ["ArchivedLives"]

#: Searches that are remembered, some kilobytes each.
_SEARCHES = 64
#: Messages of one id that are told of: an id may be used again once it is forgotten.
_MOST_OF_ID = 500
#: Who waits while another one's segment is read.
_WAITING = 32
#: Calls of one agent at a time: nobody takes the places of all others.
_OF_ONE = 4
_ENDS = (Kind.DONE, Kind.DEAD, Kind.EXPIRED, Kind.CANCELLED)


class _Found(msgspec.Struct):
    """A message that was found, and what is known of it so far."""

    message: Message
    state: str = "accepted"
    attempts: int = 0
    delivered_at: int | None = None
    settled_at: int | None = None
    surfaced_at: int | None = None


class _Search(msgspec.Struct):
    after: int = 0
    found: dict[int, _Found] = msgspec.field(default_factory=dict)


class ArchivedLives:
    """Answers ``audit.why`` of what the store doesn't tell any more.

    Args:
        node: the node's name.
        traces: seeks messages in the archive.
        in_thread: has that done.
        store: where the journal begins.
        event: a record as it concerns the message at a position.
    """

    def __init__(
        self,
        node: str,
        traces: MessageTraces,
        in_thread: InThread,
        store: Store,
        event: Callable[[Record, int], dict[str, Any]],
    ) -> None:
        self._node = node
        self._traces = traces
        self._in_thread = in_thread
        self._store = store
        self._event = event
        self._searches: OrderedDict[str, _Search] = OrderedDict()
        self._lock = DeferredLock()
        self._asking: Counter[str] = Counter()

    async def page(
        self, agent: str, message_id: str, sender: str | None, after: int, *, operator: bool
    ) -> dict[str, Any]:
        """What the next segment behind ``after`` tells of messages of that id that the caller may know of."""
        if self._asking[agent] >= _OF_ONE:
            raise NodeBusy(f"the node reads its archive for {_OF_ONE} questions of {agent} already; ask one by one")
        if len(self._lock.waiting) >= _WAITING:
            raise NodeBusy("the node reads its archive for many others now; ask again in some seconds")
        self._asking[agent] += 1
        try:
            told: dict[str, Any] = await self._lock.run(
                lambda: Deferred.fromCoroutine(self._page(agent, message_id, sender, after, operator))
            )
        finally:
            self._asking[agent] -= 1
            if not self._asking[agent]:
                del self._asking[agent]
        return told

    async def _page(
        self, agent: str, message_id: str, sender: str | None, after: int, operator: bool
    ) -> dict[str, Any]:
        search = self._searches.pop(message_id, None)
        if search is None or after == 0 or search.after < after:
            search = _Search(await self._start_of(message_id))
            after = search.after
        self._searches[message_id] = search
        while len(self._searches) > _SEARCHES:
            self._searches.popitem(last=False)
        end = self._store.base().sequence
        traces: Traces = await self._in_thread(lambda: self._traces.of(message_id, set(search.found), after, end))
        for position, message in traces.accepted.items():
            if len(search.found) < _MOST_OF_ID:
                search.found.setdefault(position, _Found(message))
        told: dict[int, list[dict[str, Any]]] = {}
        for line, positions in traces.records:
            record = record_of(line)
            for position in positions & search.found.keys():
                event = self._event(record, position)
                told.setdefault(position, []).append(event)
                if record.position > search.after:
                    _follow(search.found[position], event)
        search.after = max(search.after, traces.after)
        lives = [
            life
            for position, events in told.items()
            if (life := self._life(position, search.found[position], events, agent, sender, operator)) is not None
        ]
        answer = {"messages": lives, "missing": [], "after": traces.after, "more": traces.after < end, "base": end}
        return {**answer, "archive_faults": traces.faults} if traces.faults else answer

    async def _start_of(self, message_id: str) -> int:
        """Behind which record to begin: while the store knows a message, nothing of it is before that was accepted."""
        own = [message.position for message in await self._store.with_ids([message_id]) if is_own(message.position)]
        return min(own) - 1 if own else 0

    def _life(
        self, position: int, found: _Found, events: list[dict[str, Any]], agent: str, sender: str | None, operator: bool
    ) -> dict[str, Any] | None:
        """What is told of a message; ``None`` if the caller may not know of it, or asks for another sender's."""
        message = message_of(position, found.message)
        if message is None or sender not in (None, message.sender) or not (operator or is_party(agent, message)):
            return None
        return {
            "id": message.id,
            "type": message.type,
            "from": message.sender,
            "to": message.recipient,
            "priority": message.priority,
            "bytes": message.size_bytes,
            "node": self._node,
            "seq": position,
            "state": found.state,
            "attempts": found.attempts,
            "accepted_at": message.accepted_at,
            "delivered_at": found.delivered_at,
            "settled_at": found.settled_at,
            "surfaced_at": found.surfaced_at,
            "events": events,
        }


def _follow(found: _Found, event: dict[str, Any]) -> None:
    """What a record says of how its message stands."""
    kind, at = event["kind"], event["at"]
    if kind == Kind.DELIVERED:
        found.attempts = max(found.attempts, int(event.get("attempt") or 0))
        found.delivered_at = at
        found.state = kind if found.settled_at is None else found.state
        if isinstance(holder := event.get("to"), str):
            found.message = found.message._replace(holder=holder)
    elif kind == Kind.SURFACED:
        found.surfaced_at = at if found.surfaced_at is None else found.surfaced_at
    elif kind == Kind.REPLAYED:
        found.state, found.settled_at = "accepted", None
    elif kind in _ENDS and found.state != Kind.DONE:
        found.state, found.settled_at = kind, at
