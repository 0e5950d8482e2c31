"""Replication, as decisions: what each peer holds of each journal, what it is sent next, how many copies there are.

Every node writes to its own journal only and copies its peers' journals, record by record. What a node holds of a
journal is one number, the sequence of the newest record that is durable there; each peer tells its numbers twice a
second and after every copy (:class:`Held`), so an acknowledgement is cumulative, and one that gets lost is made up for
by the next.

A journal belongs to one epoch of one node's store. A peer is sent:

* our own journal, always;
* a journal that somebody else wrote, if the peer is behind with it and its own writer doesn't seem to bring it: the
  last records of a node that died, or those that a peer lost with its disk. Its writer comes first for
  :data:`PASS_ON_AFTER_S`, so that in a full mesh nothing travels twice.

What was sent and isn't durable there after :data:`RESEND_AFTER_S`, or is missed by the peer (it got a later run), is
sent again from what it holds; over a slow link, where it may still be on its way, after :data:`RESEND_MOVING_AFTER_S`.
Repeats are harmless: a store skips what it has.

A *sender* waits for a peer's copy only while that peer is *in step*: heard of lately, and not behind with what a sender
has waited for in vain. So a peer that is slow or far behind costs one wait, not one for each message.

Policy only: it takes the clock's seconds and does no I/O; ``peering`` sends and receives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trishula_router.store.runs import Origin

__all__ = ["DOWN_AFTER_S", "Lag", "Peer", "Replication", "Run"]

#: A peer that isn't heard of for so long is away: five of its hellos, so that one late round of a busy reactor is none.
DOWN_AFTER_S = 2.5
#: A run that is neither durable there nor missed by then was lost on the way.
RESEND_AFTER_S = 3.0
#: At 1 Mbit/s, what a link takes at once needs 40 s.
RESEND_MOVING_AFTER_S = 60.0
#: How long the writer of a journal has the first chance to bring it itself.
PASS_ON_AFTER_S = 3.0
#: Records on their way to one peer: enough to keep link and disk busy at once, and a bound on what is sent in vain.
WINDOW_RECORDS = 4096
#: And so many bytes of them: of large messages the records alone would be gigabytes, in the memory of both nodes.
WINDOW_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class _Progress:
    """How far one journal is at one peer.

    Attributes:
        durable: the sequence up to which it is durable there.
        sent: up to which it was sent.
        moved_at_s: when ``durable`` grew last, or sending began.
        passing: of a journal of somebody else: whether we pass it on, until the peer has what we have.
        runs, runs_bytes: those on their way: (sequence of the last record, bytes) each, and all of their bytes.
    """

    durable: int = 0
    sent: int = 0
    moved_at_s: float = 0.0
    passing: bool = False
    runs: deque[tuple[int, int]] = field(default_factory=deque)
    runs_bytes: int = 0

    @property
    def has_room(self) -> bool:
        """Whether more may be on its way."""
        while self.runs and self.runs[0][0] <= self.durable:
            self.runs_bytes -= self.runs.popleft()[1]
        return self.sent - self.durable < WINDOW_RECORDS and self.runs_bytes < WINDOW_BYTES

    def begin_again(self) -> None:
        """What was sent and isn't durable there was lost on the way."""
        self.sent = self.durable
        self.runs.clear()
        self.runs_bytes = 0


@dataclass(slots=True)
class Peer:
    """What is known of one peer.

    Attributes:
        name: the node's.
        epoch: of its store; ``None`` before it was first heard of.
        heard_at_s: when it was heard of last.
        is_up: whether that was lately.
        in_step_at_s: it holds all of our journal that there was then; ``None`` if that isn't known of any instant.
        mark: how long our journal was at some later instant: (sequence, instant), to see when the peer has got there.
            Where records never stop coming, a peer that is milliseconds behind never has all that there is now.
        waits_for: the sequence of our journal that it must hold before senders wait for it (again).
        revokes: whether it heeds revocations; ``True`` until it was heard of.
        takes_bases: whether it takes a journal whose begin is in an archive alone; see :class:`.store.runs.Rest`.
        base: up to which record its own journal is in its archive.
        first_use: from which use on it counts ids, see :mod:`trishula_router.store.first_use`; -1 if it is of a release
            that doesn't.
        bare: for each journal, by its epoch, up to which record it has no body of any message.
    """

    name: str
    epoch: str | None = None
    heard_at_s: float | None = None
    is_up: bool = False
    in_step_at_s: float | None = None
    mark: tuple[int, float] | None = None
    waits_for: int = 0
    revokes: bool = True
    takes_bases: bool = False
    base: int = 0
    first_use: int = -1
    bare: Mapping[str, int] = field(default_factory=dict)
    journals: dict[str, _Progress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What to send next: records of an origin (by its number in our store) behind a sequence."""

    origin: int
    epoch: str
    after: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a peer is behind with our journal.

    Attributes:
        sent, durable: sequences.
        records: how many it lacks.
        seconds: how long ago there was nothing that it lacks now; 0 if it lacks none, ``None`` if that wasn't so since
            our start.
    """

    sent: int
    durable: int
    records: int
    seconds: float | None


class Replication:
    """What the peers hold, and what follows from it.

    Args:
        epoch: of our own store.
        peers: their names.

    Attributes:
        bare: what this node tells of itself as :attr:`Peer.bare`.
    """

    def __init__(self, epoch: str, peers: Iterable[str]) -> None:
        self._epoch = epoch
        self.bare: Mapping[str, int] = {}
        self.peers = {name: Peer(name) for name in peers}

    def heard(
        self,
        name: str,
        epoch: str,
        durable: Mapping[str, int],
        own_sequence: int,
        now_s: float,
        *,
        missed: bool = False,
    ) -> bool:
        """A peer told what it holds; returns whether it was away until now.

        Args:
            name: the peer's.
            epoch: of its store.
            durable: for each journal, by its epoch, the sequence of the newest record that is durable there.
            own_sequence: of our own newest durable record.
            now_s: the clock.
            missed: whether it got a run that it couldn't use, because one before it is missing.
        """
        peer = self.peers[name]
        came_back = not peer.is_up
        if came_back or epoch != peer.epoch:
            # What was on its way is perhaps lost; what it holds now is all that counts.
            peer.journals = {}
            peer.waits_for = own_sequence
            missed = True
        peer.epoch, peer.heard_at_s, peer.is_up = epoch, now_s, True
        for journal in {*durable, *peer.journals}:
            progress = peer.journals.setdefault(journal, _Progress(moved_at_s=now_s))
            newest = durable.get(journal, 0)
            if newest != progress.durable:
                progress.durable, progress.moved_at_s = newest, now_s
            if missed or progress.sent < newest:
                progress.begin_again()
                progress.moved_at_s = now_s
        durable_now = self.durable_at(name)
        if durable_now >= own_sequence:
            peer.in_step_at_s, peer.mark = now_s, None
        elif peer.mark is None:
            peer.mark = own_sequence, now_s
        elif durable_now >= peer.mark[0]:
            peer.in_step_at_s, peer.mark = peer.mark[1], (own_sequence, now_s)
        return came_back

    def sent_us(self, name: str, epoch: str, sequence: int, now_s: float) -> None:
        """A peer sent records up to a sequence: what it sends is durable there."""
        progress = self.peers[name].journals.setdefault(epoch, _Progress(moved_at_s=now_s))
        if sequence > progress.durable:
            progress.durable, progress.sent, progress.moved_at_s = sequence, max(sequence, progress.sent), now_s

    def silent(self, now_s: float) -> list[str]:
        """The peers that are away from now on, because they weren't heard of for too long."""
        gone = [
            peer
            for peer in self.peers.values()
            if peer.is_up and peer.heard_at_s is not None and now_s - peer.heard_at_s > DOWN_AFTER_S
        ]
        for peer in gone:
            peer.is_up = False
        return [peer.name for peer in gone]

    def lost(self, name: str) -> bool:
        """The link to a peer broke; returns whether the peer was there until now."""
        was_up, self.peers[name].is_up = self.peers[name].is_up, False
        return was_up

    def moved(self, name: str, at_s: float) -> None:
        """Bytes came from a peer, if nothing that can be read yet: over a slow link a run of records takes its time."""
        peer = self.peers[name]
        if peer.heard_at_s is not None:
            peer.heard_at_s = max(peer.heard_at_s, at_s)

    def next_run(self, name: str, origins: Iterable[Origin], now_s: float, *, is_moving: bool = False) -> Run | None:
        """What to send a peer next, if anything.

        Args:
            name: the peer's.
            origins: the journals that we hold.
            now_s: the clock.
            is_moving: whether something is on its way to the peer, as far as the link knows.
        """
        peer = self.peers[name]
        if not peer.is_up:
            return None
        patience_s = RESEND_MOVING_AFTER_S if is_moving else RESEND_AFTER_S
        for origin in sorted(origins, key=lambda one: one.number):
            if origin.epoch == peer.epoch or not origin.sequence:
                continue
            progress = peer.journals.setdefault(origin.epoch, _Progress(moved_at_s=now_s))
            waited_s = now_s - progress.moved_at_s
            if progress.sent > progress.durable and waited_s > patience_s:
                progress.begin_again()
                progress.moved_at_s = now_s
            if progress.durable >= origin.sequence:
                progress.passing = False
            if progress.sent >= origin.sequence or not progress.has_room:
                continue
            if progress.sent < origin.base and not peer.takes_bases:
                # It would find the gaps in what is left of the journal, and take that for another one.
                continue
            if origin.number and not progress.passing and waited_s < PASS_ON_AFTER_S:
                continue
            return Run(origin.number, origin.epoch, progress.sent)
        return None

    def sent(self, name: str, run: Run, sequence: int, now_s: float, *, size_bytes: int) -> None:
        """A run went out to a peer; ``sequence`` is that of its last record, ``size_bytes`` its size."""
        progress = self.peers[name].journals.get(run.epoch)
        # If the peer told something new in the meantime, what it told counts.
        if progress is not None and progress.sent == run.after:
            if progress.sent == progress.durable:
                progress.moved_at_s = now_s
            progress.sent, progress.passing = sequence, run.origin != 0
            progress.runs.append((sequence, size_bytes))
            progress.runs_bytes += size_bytes

    # -- copies --------------------------------------------------------------------------------------------------------

    def durable_at(self, name: str, epoch: str | None = None) -> int:
        """Up to which sequence a journal (our own, unless said otherwise) is durable at a peer."""
        progress = self.peers[name].journals.get(self._epoch if epoch is None else epoch)
        return 0 if progress is None else progress.durable

    def copies_of(self, sequence: int, epoch: str | None = None) -> int:
        """On how many nodes a record that we hold is durable, ours included, as far as we know.

        Args:
            sequence: its place in its journal.
            epoch: of its journal, if that is not our own.
        """
        return 1 + sum(self.durable_at(name, epoch) >= sequence for name in self.peers)

    def in_step(self) -> list[str]:
        """The peers whose copy a sender can wait for."""
        return [
            peer.name for peer in self.peers.values() if peer.is_up and self.durable_at(peer.name) >= peer.waits_for
        ]

    def waited_in_vain(self, sequence: int) -> None:
        """A sender waited for copies of a record and didn't get them in time."""
        for peer in self.peers.values():
            if self.durable_at(peer.name) < sequence:
                peer.waits_for = max(peer.waits_for, sequence)

    def lacks(self, name: str, durable: Mapping[str, int]) -> int:
        """How many records a peer holds that we don't, by what it told last.

        Args:
            name: the peer's.
            durable: what we hold of each journal, by its epoch.
        """
        journals = self.peers[name].journals.items()
        return sum(max(0, journal.durable - durable.get(epoch, 0)) for epoch, journal in journals)

    def lag(self, name: str, own_sequence: int, now_s: float) -> Lag:
        """How far a peer is behind with our journal."""
        peer, durable = self.peers[name], self.durable_at(name)
        progress = peer.journals.get(self._epoch)
        behind = max(0, own_sequence - durable)
        since_s: float | None = 0.0
        if behind:
            since_s = None if peer.in_step_at_s is None else now_s - peer.in_step_at_s
        return Lag(progress.sent if progress else 0, durable, behind, since_s)
