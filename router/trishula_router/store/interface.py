"""The store's contract: what every implementation promises to the rules above it.

The store decides nothing. It keeps messages and the journal, each verb in one transaction, and answers when that
transaction is durable. The rules (who may send, which attempt is the last) are in ``intake``, ``delivery`` and
``entry``. Whoever writes calls from one thread, so verbs take effect in the order of the calls.

Promises, held by ``tests/contract/test_store.py``:

* A verb's Deferred fires only after its effect would survive a power cut (memory: a restart of the node object).
* Verbs take effect in the order in which they were called, and one that fails has no effect at all.
* ``append`` is idempotent by (agent of the sender, id), also within one batch: an equal message is a repeat, another
  one under that key is not stored. What is equal, and for how long, is said in :mod:`.identity`.
* After an ``append`` that failed, those of the same agent that were called before it was answered fail too: what an
  agent sends reaches its mailboxes in order or not at all, and what to do about it is for the rules to say.
* ``surface`` counts the first surfacing of a message, and of linked stores the earliest by the writers' clocks.
* ``settle`` never unsettles; ``done`` overrides ``dead``, ``expired`` and ``cancelled`` and nothing else overrides.
* ``replay`` alone opens what was settled, and only dead letters whose body is there.
* Each verb that changes something appends its record to the journal in the same transaction.
* ``cut`` deletes records that ``archived`` told of and no others, and of them none that a message still needs;
  ``verify`` finds a store as sound after each step of a cut as before; held by ``tests/contract/test_cutting.py``.
* ``copy`` is idempotent, and stores that hold the same journals have the same states, in whatever order they came; held
  by ``tests/contract/test_origins.py`` and ``tests/property/test_convergence.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred

from trishula_router.store.commits import Commits
from trishula_router.store.cuttable import Cuttable
from trishula_router.store.facts import Attempts, Facts
from trishula_router.store.journal import Damage, Kind, Record
from trishula_router.store.messages import Accepted, DeadLetter, Draft, MailboxSize, Return, State, StoredMessage
from trishula_router.store.runs import Extract, Origin
from trishula_router.store.zones import Zones

__all__ = [
    "Condition",
    "Copied",
    "Forgotten",
    "History",
    "Store",
    "StoreError",
    "Verification",
]


class StoreError(Exception):
    """The store can't be opened; the text is the sentence for the operator."""


#: Under what the store remembers what :meth:`Store.prove` wrote last.
PROOF = "proof"


class Copied(msgspec.Struct, frozen=True):
    """What copying a run of records changed here.

    Attributes:
        sequence: what is held of that journal now; as before if the run doesn't join on to it.
        arrived: open messages that are new here, in order of arrival.
        settled: messages that were open here and are final now, with the reason.
        reopened: dead letters that were replayed elsewhere.
        moved: messages that were open here, also those that are settled now, and have another keeper; with the former.
        surfaced: messages of before that were first put into a model's context.
    """

    sequence: int
    arrived: list[StoredMessage]
    settled: list[tuple[StoredMessage, str | None]]
    reopened: list[StoredMessage]
    moved: list[tuple[StoredMessage, str | None]] = []
    surfaced: list[StoredMessage] = []


class Forgotten(msgspec.Struct, frozen=True, gc=False):
    """What one step of retention did.

    Attributes:
        after: where to go on; 0 if there is nothing further that is old enough.
        bodies: how many bodies were deleted.
        size_bytes: their size.
        fullness: how much of what the store may take it takes now: 1.0 is all.
    """

    after: int
    bodies: int
    size_bytes: int
    fullness: float


class Condition(msgspec.Struct, frozen=True, gc=False):
    """How a store is.

    Attributes:
        size_bytes: what its files take.
        used_bytes: what of it is in use; as of the last time that it was measured, and 0 before.
        limit_bytes: what its file may take (``limits.store``); ``None`` without such a limit.
        free_bytes: what the disk has left; ``None`` if it is on none.
        reserve_bytes: what is kept back on the disk for acks.
        shortage: why sends are refused for want of room, and what to do; ``None`` while they are not.
        fault: why nothing can be written, and what to do; ``None`` while it can.
        index_fault: why searches of the journal are slow, and what to do; ``None`` while they are not. Nothing is lost.
        room_bytes: how much it can still take for messages, within its limit and on its disk; below 0 it lacks so much.
            As of the last time that it was measured, every few seconds; ``None`` without such a limit.
        unused_bytes: what of its file is free pages; they are filled before the file grows.
        can_shrink: whether free pages can be given back to the disk; not by a store of an earlier release.
    """

    size_bytes: int
    used_bytes: int
    limit_bytes: int | None = None
    free_bytes: int | None = None
    reserve_bytes: int = 0
    shortage: str | None = None
    fault: str | None = None
    room_bytes: int | None = None
    unused_bytes: int = 0
    can_shrink: bool = True
    index_fault: str | None = None


class History(msgspec.Struct, frozen=True):
    """A message and every record that tells of it, oldest first."""

    message: StoredMessage
    records: tuple[Record, ...]


class Verification(msgspec.Struct, frozen=True):
    """The outcome of a check of the whole store."""

    records: int
    bodies: int
    damages: tuple[Damage, ...]


class Store(Cuttable, Protocol):
    """What a node keeps. All instants are ms since the epoch; nothing here reads a clock."""

    @property
    def epoch(self) -> str:
        """Changes when the store is made anew: positions of another epoch mean nothing here."""

    @property
    def high_water(self) -> int:
        """The position of the newest durable record of this node."""

    @property
    def commits(self) -> Commits:
        """What it counts of its commits."""

    @property
    def zones(self) -> Zones:
        """Where to look for records that a question asks for."""

    def origins(self) -> list[Origin]:
        """The journals held here, the own one first; as of the last commit that the caller's thread was told of."""

    def place(self, position: int) -> tuple[str, int]:
        """Whose record is at a position: (node, sequence in its journal); the node is "" for the own one."""

    def on_advance(self, tell: Callable[[], None]) -> None:
        """Have something called, in the caller's thread, whenever a journal held here has grown."""

    def append(self, drafts: Sequence[Draft], at: int, *, ids_since: int = 0) -> Deferred[list[Accepted]]:
        """Store messages. Fails with ``StorageFull`` or ``StorageFailed``; then none of them is stored.

        Args:
            drafts: the messages.
            at: now.
            ids_since: ids whose messages were accepted before this instant (ms) may be forgotten.
        """

    def deliver(self, deliveries: Attempts, holder: str | None, session: int | None, at: int) -> Deferred[None]:
        """Note deliveries, (position, attempt) each, to an agent's session.

        May wait for the next verb of another kind, because nothing is lost with it: a message whose delivery was not
        on record is delivered again, and its receiver remembers its id.
        """

    def surface(self, surfacings: Attempts, holder: str, session: int | None, at: int) -> Deferred[list[int]]:
        """Note that messages were put into a model's context, (position, attempt) each, by an agent's session.

        The first surfacing of a message counts, whatever its state; there is no record of a further one. The answer has
        the positions of those for which this is the first.
        """

    def give_back(self, returns: Sequence[Return], reason: str, at: int) -> Deferred[None]:
        """Put messages back into their mailboxes."""

    def hand_over(self, positions: Sequence[int], keeper: str, at: int) -> Deferred[list[StoredMessage]]:
        """Make another node the keeper of messages; of those that are open, to a capability, and kept here.

        From the moment when that is durable this node hands them out no more, and the other one does when it has copied
        the record. The answer has all of the messages, as they are now.
        """

    def settle(
        self, positions: Sequence[int], state: State, reason: str | None, at: int, notices: Sequence[Draft] = ()
    ) -> Deferred[list[Accepted]]:
        """Bring messages to a final state, and append the notices that tell their senders, both or neither.

        The answer is that of :meth:`append` for the notices.
        """

    def replay(self, revived: Mapping[int, int], at: int, by: str | None = None) -> Deferred[list[StoredMessage]]:
        """Put dead letters back into their mailboxes, with no failures, to expire at the given instants (ms).

        What is not a dead letter (any more) is left alone; the answer has those that are open now. ``by`` is the
        operator who wants it.
        """

    def purge(self, positions: Sequence[int], at: int, by: str | None = None) -> Deferred[list[int]]:
        """Delete the bodies of dead letters; the answer has the positions of those that were some; ``by`` as before."""

    def forget(self, after: int, limit: int, *, before: int, dead_before: int, at: int) -> Deferred[Forgotten]:
        """Delete bodies of messages that are settled at all their recipients; of ``limit`` bodies behind ``after``.

        Args:
            after: a position; 0 to begin.
            limit: how many bodies to look at.
            before: those that were settled before this instant (ms) can go.
            dead_before: the same for dead letters.
            at: now.
        """

    def note(self, kind: Kind, facts: Facts | Mapping[str, Any], at: int) -> Deferred[None]:
        """Append a record that changes no message. May wait for the next verb, like :meth:`deliver`.

        A plain map stands for facts that no type has, such as a newer node's.

        Records ``mode``, ``token`` and ``redacted`` wait for nothing, and may draw on what is kept back for acks: an
        operator who stops all sends may do so because the disk is full, and a stolen token must not stay good for that.
        With a record ``redacted`` go the bodies of the messages that it lists.

        Records ``lease`` wait for nothing either. What a record says that must be known when it is long cut is
        remembered with it; :meth:`copy` does the same. See :mod:`.noted`.
        """

    def remember(self, notes: Mapping[str, str]) -> Deferred[None]:
        """Keep short texts by key, each in place of the one before, or of an empty text none; no record tells of it.

        May wait for the next verb, like :meth:`deliver`.
        """

    def prove(self, text: str) -> Deferred[str]:
        """Make a short text durable, in place of the one before, and read it back; no record tells of it.

        The answer is what was read. It waits for nothing else, and may draw on what is kept back for acks: so it fails
        where nothing at all can be written.
        """

    def follow_clock(self, by_ms: int, after: int, notes: Mapping[str, str], at: int) -> Deferred[None]:
        """The node's clock was set: have open messages end, and be due, in as long as before; and remember notes.

        Args:
            by_ms: it is ahead by so much now.
            after: messages with an ``arrival`` up to this one stay as they are: another clock wrote them.
            notes: see :meth:`remember`.
            at: now, by the clock as it is now.
        """

    def copy(self, node: str, extract: Extract, ahead_ms: int = 0) -> Deferred[Copied]:
        """Copy a run of another node's records, and bring the messages they tell of to the state they add up to.

        What is held already is skipped; a run behind a gap changes nothing. Fails with ``StorageFull`` too.

        Args:
            node: whose journal it is.
            extract: the run.
            ahead_ms: by how much the clock that the instants beside its records are by is ahead of this node's.

        Raises:
            JournalForked: a record doesn't continue the chain; then nothing of the run was copied.
        """

    # -- what the rules decide by: these see every verb that was called before them -----------------------------------

    def head(self, recipient: str, after: tuple[int, int], limit: int) -> Deferred[list[StoredMessage]]:
        """The next open messages of an address behind ``after``, in order of delivery: by (priority, arrival).

        Of those to a capability only what this node keeps.
        """

    def at_positions(self, positions: Sequence[int]) -> Deferred[dict[int, StoredMessage]]:
        """Messages by position; unknown positions are left out."""

    # -- questions: as of some instant between the call and the answer ------------------------------------------------

    def bodies(self, positions: Sequence[int]) -> Deferred[dict[int, bytes]]:
        """The envelopes of messages, as JSON."""

    def open_mailboxes(self) -> Deferred[dict[str, MailboxSize]]:
        """Every mailbox that has open messages."""

    def oldest(self, mailboxes: Sequence[str]) -> Deferred[dict[str, int]]:
        """When the oldest open message of each mailbox was accepted (ms); mailboxes without any are left out.

        Looked at is what came first here of each priority: of a peer's that came late one may be older. Of those to a
        capability only what this node keeps counts.
        """

    def expired(self, now: int, limit: int) -> Deferred[list[int]]:
        """Positions of open messages whose time is over."""

    def dead_letters(self, after: int, limit: int, agent: str | None = None) -> Deferred[list[DeadLetter]]:
        """Dead letters behind a position, oldest first: all, or those to an agent and its instances."""

    def remembered(self, prefix: str) -> Deferred[dict[str, str]]:
        """What is kept under keys that begin so."""

    def with_ids(self, ids: Sequence[str]) -> Deferred[list[StoredMessage]]:
        """Messages by id, of all senders and recipients: the caller filters by who asks."""

    def answers(
        self, ids: Sequence[str], *, before: int | None = None, limit: int | None = None
    ) -> Deferred[list[StoredMessage]]:
        """Messages by the id that they answer, of all senders and recipients, in order of position.

        With ``limit`` the last so many of them; with ``before`` of those before that position.
        """

    def holders(self, positions: Sequence[int]) -> Deferred[dict[int, set[str]]]:
        """The addresses that messages were ever delivered to, by position, as far as records here tell."""

    def history(self, message_id: str) -> Deferred[list[History]]:
        """The life of every message of that id: records of all journals, by time."""

    def records(
        self,
        *,
        after: int,
        limit: int,
        kind: str | Sequence[str] | None = None,
        since: int | None = None,
        until: int | None = None,
        origin: int | None = 0,
        end: int | None = None,
    ) -> Deferred[list[Record]]:
        """Records behind a position, up to ``end``, in order: of the own journal, of another, or (``None``) of all.

        They are of one kind, of one of several, or of any. With ``since`` (ms) a store may leave out what was written
        before a record that tells an instant before it: then the writer's clock was ahead, and has been set back since.

        Facts of other journals name messages by the positions that they have here.
        """

    def modes(self) -> Deferred[list[Record]]:
        """The newest record ``mode`` of each journal held here, found without reading the others."""

    def extract(self, number: int, after: int, *, limit: int, limit_bytes: int) -> Deferred[Extract]:
        """A run of a journal's records for another store, up to what :meth:`origins` tells; empty if there is nothing.

        Args:
            number: of the origin; 0 is the own journal.
            after: the sequence of the record before the run.
            limit: how many records at most, but for those of one broadcast, which come together.
            limit_bytes: how large facts and bodies together; the first record may be larger.
        """

    def verify(self) -> Deferred[Verification]:
        """Check the chain, and every message and body against it; what is unreadable is a damage, not a fault."""

    def condition(self) -> Condition:
        """How large and how full the store is, and what is wrong with it; a few calls, no transaction."""

    def close(self) -> Deferred[None]:
        """Make durable what waits, and let go of everything."""
