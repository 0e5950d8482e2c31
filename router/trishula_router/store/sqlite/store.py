"""The store on disk: one SQLite file in WAL mode, fsynced at every commit, written by one thread.

Durability: ``synchronous=FULL`` makes SQLite sync the write-ahead log at each COMMIT, so a Deferred that fired stands
for bytes on the disk. Reads run on a second thread with a connection of their own and never wait for the writer, and on
a third one the log is moved into the file (:mod:`.checkpoints`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from trishula.contract.addresses import agent_of
from trishula_router.store import facts as told
from trishula_router.store import keepers, telling
from trishula_router.store.bases import Base
from trishula_router.store.commits import Commits
from trishula_router.store.facts import Attempts, Facts
from trishula_router.store.fold import fold
from trishula_router.store.interface import PROOF, Condition, Copied, Forgotten
from trishula_router.store.joining import joined, rebased
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, Kind
from trishula_router.store.messages import Accepted, Draft, Return, State, StoredMessage
from trishula_router.store.noted import NOTED, notes_in
from trishula_router.store.origins import End, Tails, read_numbering
from trishula_router.store.runs import Extract, JournalForked, Origin
from trishula_router.store.sqlite import cutting, dead_letters, fold_rows, reads
from trishula_router.store.sqlite.appender import Appender, remember
from trishula_router.store.sqlite.checkpoints import Checkpoints, Plan
from trishula_router.store.sqlite.connection import connect
from trishula_router.store.sqlite.cutting_store import CuttingStore
from trishula_router.store.sqlite.delivered import mark_delivered, mark_settled, mark_surfaced, move_instants
from trishula_router.store.sqlite.handing_over import hand_over, hops_of
from trishula_router.store.sqlite.holding import Hold
from trishula_router.store.sqlite.old_bodies import BATCH_BYTES, delete_bodies, forgettable
from trishula_router.store.sqlite.read_runs import read_run
from trishula_router.store.sqlite.recent_runs import Recent
from trishula_router.store.sqlite.shrinking import Shrinking
from trishula_router.store.sqlite.space import PAGE_BYTES, Space
from trishula_router.store.sqlite.statements import insert
from trishula_router.store.sqlite.upkeep import Upkeep, Whereabouts
from trishula_router.store.sqlite.writer import NOTE_PATIENCE_S, SETTLE_PATIENCE_S, Writer, at_once
from trishula_router.store.sqlite.zone_index import ZoneIndex
from trishula_router.store.zones import Zones

__all__ = ["SqliteStore"]

log = Logger()


class SqliteStore(CuttingStore):
    """Implements :class:`trishula_router.store.interface.Store`. Make it with :func:`.opening.open_store`."""

    def __init__(
        self,
        file: Path,
        writes: sqlite3.Connection,
        readings: sqlite3.Connection,
        call_in_reactor: Callable[[Callable[[], None]], None],
        space: Space,
        hold: Hold,
        node: str = "",
        at_turns_end: Callable[[Callable[[], None]], object] = at_once,
    ) -> None:
        super().__init__(file, readings, call_in_reactor)
        self._space = space
        self._hold = hold
        self._epoch: str = writes.execute("SELECT value FROM property WHERE key = 'epoch'").fetchone()[0]
        self._node = node
        self._tails = Tails(self._epoch, node)
        self._tails.reload(writes)
        self._chain = self._tails.own
        self._rows = space.rows
        self._appender = Appender(self._tails, self._rows)
        self._record = self._appender.record
        # What a reader of the newest position may rely on is what the reactor's thread has been told of: between a
        # commit and its news the mailboxes lack what the journal has.
        self._high_water = self._chain.durable.sequence
        self._others = self._tails.durable
        self._base, self._bases = self._chain.durable_base, self._tails.durable_bases
        self._whereabouts = Whereabouts(file, self._tell_whereabouts)
        self._commits = Commits(self._high_water)
        checkpoints = Checkpoints(connect(file), Plan(space.log_bytes // PAGE_BYTES, PAGE_BYTES))
        checkpoints.take_over(writes)
        self._shrinking = Shrinking(space, time.monotonic, lambda: checkpoints.is_behind)
        upkeep = Upkeep(file, space, self._whereabouts, time.monotonic, self._commits, checkpoints)
        self._writer = Writer(
            writes, self._tails, self._tell_reactor, upkeep, rows=self._rows, at_turns_end=at_turns_end
        )
        self._advances: list[Callable[[], None]] = []
        self._recent = Recent(self._epoch, time.monotonic)
        self._zones = ZoneIndex(file, self._epoch, self.origins, call_in_reactor, space.log_bytes)

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def high_water(self) -> int:
        return self._high_water

    @property
    def commits(self) -> Commits:
        return self._commits

    @property
    def zones(self) -> Zones:
        return self._zones

    def origins(self) -> list[Origin]:
        return [Origin(0, "", self._epoch, self._high_water, self._base.sequence), *self._others]

    def place(self, position: int) -> tuple[str, int]:
        number = position >> ORIGIN_SHIFT
        node = next((origin.node for origin in self._others if origin.number == number), "")
        return node, position & SEQUENCE_MASK

    def base(self, number: int = 0) -> Base:
        return self._bases.get(number, Base()) if number else self._base

    def on_advance(self, tell: Callable[[], None]) -> None:
        self._advances.append(tell)
        # Whoever hears of records is going to ask for them.
        self._chain.collects = True

    def _tell_whereabouts(self, sentence: str, is_bad: bool) -> None:
        tell = log.critical if is_bad else log.warn
        self._call_in_reactor(lambda: tell("{what}", what=sentence))

    def _tell_reactor(self, answer: Callable[[], None]) -> None:
        """Hand the answers of a transaction over, and then its newest position; on the writer's thread."""
        newest, others, base = self._chain.durable.sequence, self._tails.durable, self._chain.durable_base
        bases = self._tails.durable_bases
        fresh = self._chain.take()
        self._commits.reached(newest)

        def tell() -> None:
            # The answers of a copy are told where its records belong.
            has_grown = newest > self._high_water or others is not self._others
            self._others = others
            self._base, self._bases = base, bases
            answer()
            self._recent.add(fresh)
            self._high_water = newest
            for advance in self._advances if has_grown else ():
                advance()

        self._call_in_reactor(tell)

    # -- writing: each job runs on the writer's thread, inside the group's transaction -------------------------------

    def append(self, drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        def job(connection: sqlite3.Connection) -> list[Accepted]:
            self._space.claim(connection, drafts)
            return self._appender.append(connection, drafts, at, ids_since)

        line = agent_of(drafts[0].sender) if drafts else None
        size_bytes = sum(len(draft.envelope) for draft in drafts)
        return self._writer.submit(job, line=line, draws=False, size_bytes=size_bytes, gathers=True)

    def deliver(self, deliveries: Attempts, holder: str | None, session: int | None, at: int) -> Deferred[None]:
        def job(connection: sqlite3.Connection) -> None:
            if self._rows.has_any_of(positions=(position for position, _ in deliveries)):
                self._rows.write(connection)
            facts = told.DeliveredFacts(deliveries, holder, session)
            mark_delivered(connection, deliveries, self._appender.record_with_others(at, Kind.DELIVERED, facts))

        return self._writer.submit(job, patience_s=NOTE_PATIENCE_S, gathers=True)

    def surface(self, surfacings: Attempts, holder: str, session: int | None, at: int) -> Deferred[list[int]]:
        def job(connection: sqlite3.Connection) -> list[int]:
            # The record lists what it changed alone, as that of a settlement.
            first = mark_surfaced(connection, surfacings, self._chain.sequence + 1, at)
            if first:
                self._record(connection, at, Kind.SURFACED, told.SurfacedFacts(first, holder, session))
            return [position for position, _ in first]

        return self._writer.submit(job, patience_s=SETTLE_PATIENCE_S, draws=False)

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        def job(connection: sqlite3.Connection) -> None:
            record = self._record(connection, at, Kind.RETURNED, telling.returned_facts(returns, reason))
            connection.executemany(
                "UPDATE message SET failures = ?, due_at = ? WHERE position = ?",
                [(one.failures, one.due_at, one.position) for one in returns],
            )
            insert(connection, "trace", [(one.position, record) for one in returns])

        return self._writer.submit(job)

    def hand_over(self, positions: Sequence[int], keeper: str, at: int) -> Deferred[list[StoredMessage]]:
        def job(connection: sqlite3.Connection) -> list[StoredMessage]:
            hops = {position: hop + 1 for position, hop in hops_of(connection, positions).items()}
            if hops:
                record = self._record(connection, at, Kind.HANDED, telling.handed_facts(hops, keeper))
                hand_over(connection, hops, keepers.keeper_as_stored(self._tails.numbering, keeper), record)
            return list(reads.at_positions(connection, positions).values())

        return self._writer.submit(job)

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        is_plain = state is State.DONE and not notices

        def job(connection: sqlite3.Connection) -> list[Accepted]:
            if self._rows.has_any_of(positions=positions):
                self._rows.write(connection)
            # The change goes first: other stores read the record as what was so, so it lists what it settled alone.
            settled = mark_settled(connection, positions, state, self._chain.sequence + 1)
            if settled:
                self._space.ended(len(settled))
                lives = None if state is State.DONE else dead_letters.lives(connection, settled)
                facts = telling.settled_facts(settled, reason, lives)
                self._appender.record_with_others(at, Kind(state.name.lower()), facts)
            return self._appender.append(connection, notices, at) if notices else []

        patience_s = SETTLE_PATIENCE_S if state is State.DONE else 0.0
        return self._writer.submit(job, patience_s=patience_s, gathers=is_plain)

    def replay(self, revived: Mapping[int, int], at: int, by: str | None = None) -> Deferred[list[StoredMessage]]:
        def job(connection: sqlite3.Connection) -> list[StoredMessage]:
            positions = dead_letters.letters_among(connection, list(revived))
            if not positions:
                return []
            before = dead_letters.lives(connection, positions)
            lives = {position: before.get(position, 0) + 1 for position in positions}
            record = self._record(connection, at, Kind.REPLAYED, telling.replayed_facts(lives, revived, by))
            dead_letters.replay(connection, lives, revived, record)
            return list(reads.at_positions(connection, positions).values())

        return self._writer.submit(job)

    def purge(self, positions: Sequence[int], at: int, by: str | None = None) -> Deferred[list[int]]:
        def job(connection: sqlite3.Connection) -> list[int]:
            dead = dead_letters.letters_among(connection, positions)
            if dead:
                record = self._record(connection, at, Kind.PURGED, told.PurgedFacts(dead, by))
                dead_letters.purge(connection, dead, record)
            return dead

        return self._writer.submit(job)

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        def job(connection: sqlite3.Connection) -> Forgotten:
            batch_bytes = min(BATCH_BYTES, self._space.log_bytes)
            found = forgettable(connection, after, limit, before, dead_before, at, batch_bytes)
            if found.bodies:
                self._record(connection, at, Kind.FORGOTTEN, told.ForgottenFacts(found.bodies, found.size_bytes))
                delete_bodies(connection, found.bodies)
            fullness = self._space.fullness(connection)
            return Forgotten(found.after, len(found.bodies), found.size_bytes, fullness)

        return self._writer.submit(job)

    def note(self, kind: Kind, facts: Facts | Mapping[str, Any], at: int) -> Deferred[None]:
        def job(connection: sqlite3.Connection) -> None:
            record = self._record(connection, at, kind, facts)
            if isinstance(facts, told.RedactedFacts):
                dead_letters.redact(connection, facts.messages, record)
            if kind in NOTED:
                remember(connection, notes_in(kind, at, told.write_facts(facts)))

        # What nobody waits for doesn't use up what acks need; an operator's word, on the mode or on a token, may.
        is_word = kind in (Kind.MODE, Kind.TOKEN, Kind.REDACTED)
        is_awaited = is_word or kind is Kind.LEASE
        return self._writer.submit(job, patience_s=0.0 if is_awaited else NOTE_PATIENCE_S, draws=is_word)

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        return self._writer.submit(
            lambda connection: remember(connection, notes), patience_s=NOTE_PATIENCE_S, draws=False
        )

    def prove(self, text: str) -> Deferred[str]:
        written = self._writer.submit(lambda connection: remember(connection, {PROOF: text}))
        return written.addCallback(lambda _: self.remembered(PROOF)).addCallback(lambda found: found.get(PROOF, ""))

    def follow_clock(self, by_ms: int, after: int, notes: Mapping[str, str], at: int) -> Deferred[None]:
        def job(connection: sqlite3.Connection) -> None:
            self._record(connection, at, Kind.CLOCK_SET, told.ClockSetFacts(by_ms))
            move_instants(connection, by_ms, after)
            remember(connection, notes)

        return self._writer.submit(job)

    def copy(self, node: str, extract: Extract, ahead_ms: int = 0) -> Deferred[Copied]:
        def job(connection: sqlite3.Connection) -> Copied:
            if extract.epoch == self._epoch:
                own = self._chain
                if joined(extract, node, End(own.sequence, own.digest)):
                    raise JournalForked(node, extract.epoch, own.sequence + 1, "is missing from the node's own journal")
                return Copied(own.sequence, [], [], [])
            learned = self._tails.learn(node, extract)
            fold_rows.write_learned(connection, learned)
            end, rest = self._tails.end_of(learned.number), extract.rest
            fresh = joined(extract, node, end, self._tails.base_of(learned.number))
            if not fresh and (fresh is None or rest is None or rest.last <= end.sequence):
                return Copied(end.sequence, [], [], [])
            newest = self._chain.sequence + self._tails.copied
            here, numbering = fold_rows.SqliteShelf(connection), self._tails.numbering
            changes = fold(here, numbering, learned.number, newest, fresh, extract, ahead_ms, self._tails.held)
            self._space.claim_copies(connection, changes.new, changes.bodies.values())
            fold_rows.write(connection, changes)
            self._count_from(connection, changes.first_use)
            base = rebased(extract, end, self._tails.base_of(learned.number))
            end = End(fresh[-1][0], fresh[-1][4]) if rest is None else End(rest.last, rest.digest)
            if base is not None:
                cutting.take_over(connection, self._chain.base, learned.number, base, changes.records)
                self._tails.rebase(learned.number, base)
            self._tails.move(learned.number, end)
            return changes.copied(end.sequence)

        return self._writer.submit(job, draws=False, size_bytes=sum(map(len, extract.bodies.values())))

    # -- reading what the rules decide by: on the writer's thread, behind every verb called before ---------------------

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        return self._writer.submit(lambda connection: reads.head(connection, recipient, after, limit), reads=True)

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        return self._writer.submit(lambda connection: reads.at_positions(connection, positions), reads=True)

    # -- the rest of what is asked stands in Questions -----------------------------------------------------------------

    def extract(self, number: int, after: int, *, limit: int, limit_bytes: int) -> Deferred[Extract]:
        origin = next((origin for origin in self.origins() if origin.number == number), None)
        if origin is None:
            raise ValueError(f"the store holds no origin {number}")
        if number == 0:
            origins = {one.number: (one.node, one.epoch) for one in self._others}
            recent = self._recent.run(after, origins, limit=limit, limit_bytes=limit_bytes)
            if recent is not None:
                return succeed(recent)
        return self._reader.submit(
            lambda connection: read_run(
                connection, read_numbering(connection, self._node), origin, after, limit, limit_bytes
            )
        )

    def condition(self) -> Condition:
        return replace(self._space.condition(), fault=self._whereabouts.fault, index_fault=self._zones.fault)

    def close(self) -> Deferred[None]:
        closed = self._zones.close().addCallback(lambda _: self._end_questions())
        closed.addCallback(lambda _: self._writer.close())

        def release(outcome: Any) -> Any:
            self._hold.release()
            return outcome

        # Only now: until then the file is written to.
        return closed.addBoth(release)
