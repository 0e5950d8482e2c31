"""Searching messages: an agent finds what it sent and what was handed to it, by words, peer, thread and time.

Messages are looked at from the newest back, as the journals here tell of them, and a question is answered after
:data:`LOOKED_AT` records or :data:`.found_messages.READ_BYTES` of bodies at the latest, with the place where to go on.
So no question keeps the store's reader from others for long, and whoever searches all of a long history pays for it
call by call. No index of words is kept: it would cost each message that is sent, for the few that are ever searched
for.

Who asks sees what :func:`.threads.may_see` lets them, so a search tells nobody of mail that waits, nor of what was
said between others. What is encrypted the node can't read: it is counted, or handed to a client that can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Any, Protocol

from trishula.errors import ArgumentInvalid
from trishula_router.mail.found_messages import FoundMessages, Searched
from trishula_router.mail.mailroom import is_party
from trishula_router.mail.threads import Threads, may_see
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind, Record
from trishula_router.store.messages import StoredMessage
from trishula_router.store.origins import position_in
from trishula_router.store.zones import ZONE_RECORDS, Sought, of_kind, of_pair, of_party

__all__ = ["MessageSearch"]

#: Records of all kinds that one question looks at, in the zones that may have some that fit.
LOOKED_AT = 8_192
#: Records of which the rows are looked up at a time.
_ROWS = 256
#: Zones are asked for in spans of so many records, which an index answers at once.
_SPAN = 1_000_000


class _Source(Protocol):
    """Messages to look at, the newest first."""

    #: How many records were looked at.
    looked: int

    async def ahead(self) -> list[StoredMessage]:
        """The next ones that have not been passed; none: there are no more, or no more for this question."""

    def passed(self, message: StoredMessage) -> None:
        """One was looked at, and so were those before it."""

    def passed_all(self) -> None:
        """All that ``ahead`` answered last were."""

    def place(self) -> str | None:
        """Where to go on; ``None`` at the end."""


class MessageSearch:
    """Answers from the store.

    Args:
        node: the node's name.
        store: what there is.
        threads: finds threads.
    """

    def __init__(self, node: str, store: Store, threads: Threads) -> None:
        self._node = node
        self._store = store
        self._threads = threads

    async def of(self, agent: str, asked: Searched) -> dict[str, Any]:
        """Messages that fit, as far as the agent may see them, the newest first.

        Raises:
            MessageUnknown: the agent neither sent nor got a message of the id that is asked for as ``thread``.
            ArgumentInvalid: ``after`` is none that a node told.
        """
        source: _Source
        if asked.thread is not None:
            source = _Known(await self._threads.members(agent, asked.thread), asked.after)
        elif asked.id is not None:
            source = _Known(await self._store.with_ids([asked.id]), asked.after)
        else:
            source = _InJournals(self._node, self._store, agent, asked)
        found = FoundMessages(asked)
        while not found.is_full() and (ahead := await source.ahead()):
            left = [message for message in ahead if _fits(agent, message, asked)]
            while run := found.next_run(left):
                bodies = await self._store.bodies([message.position for message in run])
                for message in run:
                    if found.is_full() or not found.take(message, bodies.get(message.position)):
                        return {**found.told(), "more": source.place(), "looked": source.looked}
                    source.passed(message)
                left = left[len(run) :]
            if left:
                break
            source.passed_all()
        return {**found.told(), "more": source.place(), "looked": source.looked}


def _fits(agent: str, message: StoredMessage, asked: Searched) -> bool:
    return (
        may_see(agent, message)
        and (asked.id is None or asked.id == message.id)
        and (asked.peer is None or is_party(asked.peer, message))
        and (asked.since is None or message.accepted_at >= asked.since)
        and (asked.until is None or message.accepted_at < asked.until)
    )


class _Known:
    """Messages that are known without a search: those of a thread, or of an id; the oldest first."""

    def __init__(self, members: Sequence[StoredMessage], after: str | None) -> None:
        begin = len(members)
        if after is not None:
            if not after.startswith(_OF_KNOWN):
                raise _no_place(after)
            begin = next((at for at, one in enumerate(members) if _place_of(one) == after), 0)
        self._left = list(members[:begin][::-1])
        self._last: StoredMessage | None = None
        self.looked = 0

    async def ahead(self) -> list[StoredMessage]:
        return self._left[:_ROWS]

    def passed(self, message: StoredMessage) -> None:
        at = self._left.index(message) + 1
        self.looked += at
        self._left, self._last = self._left[at:], message

    def passed_all(self) -> None:
        if page := self._left[:_ROWS]:
            self.passed(page[-1])

    def place(self) -> str | None:
        return _place_of(self._last) if self._left and self._last is not None else None


def _place_of(message: StoredMessage) -> str:
    """In a thread; the same at each node."""
    return f"{_OF_KNOWN}{message.accepted_at}:{message.id}"


class _InJournals:
    """The messages that the journals here tell of."""

    def __init__(self, node: str, store: Store, agent: str, asked: Searched) -> None:
        self._store = store
        self.looked = 0
        parties = of_party(agent) if asked.peer is None else of_pair(agent, asked.peer)
        sought = Sought(((parties,), (of_kind(Kind.ACCEPTED),)), None, asked.since, asked.until)
        places = {} if asked.after is None else _read_places(asked.after)
        origins = store.origins()
        self._walks = [
            _Walk(store, f"{one.node or node}:{one.epoch[:_EPOCH]}", one.number, one.base, one.sequence, sought, places)
            for one in origins
        ]
        # The newest message is known once each journal has told one: what ended before that would never get on.
        self._step = max(1, min(ZONE_RECORDS, LOOKED_AT // (2 * len(origins))))
        self._batch: list[tuple[_Walk, Record]] = []
        self._at: dict[int, int] = {}

    async def ahead(self) -> list[StoredMessage]:
        while self.looked < LOOKED_AT:
            for walk in self._walks:
                # One step at a time, for the journals are told together.
                while not walk.ahead and not walk.is_over and self.looked < LOOKED_AT:
                    self.looked += await walk.look(self._step)
            if not any(walk.ahead for walk in self._walks):
                break
            if any(not walk.ahead and not walk.is_over for walk in self._walks):
                break
            self._batch = list(_newest(self._walks))
            rows = await self._store.at_positions([record.position for _, record in self._batch])
            self._at = {record.position: index for index, (_, record) in enumerate(self._batch)}
            # One that several nodes accepted has one row, and is found by that one's record.
            found = [rows[record.position] for _, record in self._batch if record.position in rows]
            if found:
                return found
            self.passed_all()
        return []

    def passed(self, message: StoredMessage) -> None:
        index = self._at[message.position]
        for walk, record in self._batch[: index + 1]:
            walk.passed(record)

    def passed_all(self) -> None:
        for walk, record in self._batch:
            walk.passed(record)

    def place(self) -> str | None:
        if all(walk.is_over and not walk.ahead for walk in self._walks):
            return None
        return ",".join(f"{walk.name}:{walk.left}" for walk in self._walks)


class _Walk:
    """One journal, from its end back to where it was cut.

    Attributes:
        name: of the journal, as other nodes know it too.
        ahead: its accepted records that were read and not passed, the newest last.
        is_over: whether there are none before those.
    """

    def __init__(
        self, store: Store, name: str, number: int, base: int, newest: int, sought: Sought, places: dict[str, int]
    ) -> None:
        self._store = store
        self.name = name
        self._number = number
        self._base = position_in(number, base)
        self._upto = position_in(number, max(base, min(newest, places.get(name, newest))))
        self._sought = sought
        # Behind which record, up to which one; the newest last. And down to where these are all.
        self._stretches: list[tuple[int, int]] = []
        self._known_to = self._upto
        self.ahead: list[Record] = []

    @property
    def is_over(self) -> bool:
        return self._upto <= self._base

    @property
    def left(self) -> int:
        """Up to which sequence its records were not passed."""
        return (self.ahead[-1].position if self.ahead else self._upto) - position_in(self._number, 0)

    async def look(self, most: int) -> int:
        """Read some more records, if the next stretch has some; at how many it looked, at most so many."""
        if not self._stretches and self._upto == self._known_to:
            begin = max(self._base, self._upto - _SPAN)
            likely = await self._store.zones.likely(self._sought, begin, self._upto)
            self._stretches = likely.stretches
            if likely.upto < self._upto:
                self._stretches.append((likely.upto, self._upto))
            self._known_to = begin
        if not self._stretches:
            self._upto = self._known_to
            return 0
        begin, end = self._stretches.pop()
        if begin < end - most:
            self._stretches.append((begin, end - most))
            begin = end - most
        self.ahead = await self._store.records(
            after=begin, end=end, limit=most, kind=Kind.ACCEPTED, origin=self._number
        )
        self._upto = begin
        return end - begin

    def passed(self, record: Record) -> None:
        while self.ahead and self.ahead[-1].position >= record.position:
            self.ahead.pop()


def _newest(walks: Sequence[_Walk]) -> Iterator[tuple[_Walk, Record]]:
    """The newest records of all, until one of the walks must be asked for more."""
    heads = [[(-record.at, number, record) for record in walk.ahead[::-1]] for number, walk in enumerate(walks)]
    left = [len(walk.ahead) for walk in walks]
    for count, (_, number, record) in enumerate(merge(*heads, key=lambda one: one[:2])):
        if count == _ROWS:
            return
        yield walks[number], record
        left[number] -= 1
        if not left[number] and not walks[number].is_over:
            return


#: So begins a place among messages that are known; no node is called that.
_OF_KNOWN = "*:"
#: As much of an epoch as tells it from others, as in tokens.
_EPOCH = 8


def _read_places(after: str) -> dict[str, int]:
    places = {}
    for one in after.split(","):
        name, _, sequence = one.rpartition(":")
        if (
            after.startswith(_OF_KNOWN)
            or not name
            or not sequence.isascii()
            or not sequence.isdigit()
            or len(sequence) > 19
        ):
            raise _no_place(after)
        places[name] = int(sequence)
    return places


def _no_place(after: str) -> ArgumentInvalid:
    return ArgumentInvalid(
        f"options.after is {after!r}; it must be what the answer before told as more, with the same question"
    )
