"""The exchange: both ends of the road, and the rounds of a cell. It decides nothing that a policy beside it can decide.

Two threads of its own wait for the road: one writes (:mod:`.sending`, homes), one reads. The reactor waits for neither.
The next entries are read when the messages of the ones before are durable, and not only when their news is: a
settlement waits some milliseconds for company, and no message is to wait for that.

Of two linked nodes one forwards and reads, the first by name of those in sight (:attr:`Exchange.leads`): a single
reader keeps the order in which a sender's messages come, and two forwarders would send everything twice. If both think
that they are the first, because the link between them is cut, all comes twice for a while, which identities make
harmless.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trishula.errors import StorageFailed, StorageFull
from trishula_router.archiving.archiver import InThread
from trishula_router.background import run
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.canary import Canary
from trishula_router.cells.forwards import Forwards
from trishula_router.cells.hearing import Hearing
from trishula_router.cells.homekeeping import Homekeeping
from trishula_router.cells.homes import Homes
from trishula_router.cells.letters import FINAL, Beacon, Letter, Parcel, Recall
from trishula_router.cells.onward import Onward
from trishula_router.cells.owed import Owed
from trishula_router.cells.road import Entry, Road, RoadFailed
from trishula_router.cells.seal import KeyUnfit, Seal, Unsealed
from trishula_router.cells.sending import Sending
from trishula_router.cells.standing import Standing
from trishula_router.clocks.clock import Clock
from trishula_router.mail.outlet import News as Told

__all__ = ["Ends", "Exchange"]

#: Entries read at a time, each with up to 256 letters.
_READ = 32
#: How long a read waits for the first entry. Another cell's first word after a silence doesn't wait for that.
_WAIT_S = 1.0
#: Readings of which some news is not durable yet: with more a slow disk is waited for.
_UNFINISHED = 8
#: What a round asks or sends again at most, and how many mailboxes it looks at; not sooner again than after so long.
_AGAIN, _SWEPT, _SWEEP_S = 512, 1000, 2.0


class Ends:
    """Both ends of a road, and the threads that wait for them.

    Args:
        write, read: the ends.
        in_writer, in_reader: have what blocks done, one thing after the other.
    """

    def __init__(self, write: Road, read: Road, in_writer: InThread, in_reader: InThread) -> None:
        self.write, self.read = write, read
        self.in_writer, self.in_reader = in_writer, in_reader


class Exchange:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        epoch: of this run of the node.
        ends: of the road.
        seal: proves who says what; raises :class:`.seal.KeyUnfit` while it can't.
        homes, forwards, owed, onward, acceptance, homekeeping: the cell's.
        leads: whether this node forwards and reads.
        is_consumed: whether an address is consumed in this cell.
        mailboxes: the addresses of all.
        cancel: cancels messages by position.
        refused: told of entries that are not believed: a sentence.
        clock: timers.
        random: spreads pauses.

    Attributes:
        canary: whether the reader lives.
        refusals: how many entries, and homes, were not believed.
        errors: how often the road failed.
        fault: why letters don't go out or come in, as a sentence; ``None`` while they do.
    """

    def __init__(
        self,
        cell: str,
        epoch: str,
        ends: Ends,
        seal: Callable[[], Seal],
        *,
        homes: Homes,
        forwards: Forwards,
        owed: Owed,
        acceptance: Acceptance,
        leads: Callable[[], bool],
        is_consumed: Callable[[str], bool],
        mailboxes: Callable[[], list[str]],
        cancel: Callable[[Sequence[int]], Deferred[list[bool]]],
        refused: Callable[[str], None],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._cell = cell
        self._epoch = epoch
        self._ends = ends
        self._seal = seal
        self._homes = homes
        self.forwards = forwards
        self._owed = owed
        self.leads = leads
        self._is_consumed = is_consumed
        self._mailboxes = mailboxes
        self._refused = refused
        self._clock = clock
        self.onward: Onward
        self.homekeeping: Homekeeping
        self.canary = Canary(clock.seconds())
        self._hearing = Hearing(
            cell, homes, forwards, owed, acceptance, self.canary, lambda: self.onward, self.post, cancel, clock.seconds
        )
        self.refusals = 0
        self._standing = Standing(ends.write.where, clock, random)
        self._sending = Sending(cell, epoch, ends.write, ends.in_writer, seal, self._standing, self._went_well, clock)
        self._is_reading = self._keeps_homes = self._looks_up = False
        # Of what was read: what is not durable yet, and why the first of it can't be made so.
        self._unfinished: deque[Deferred[None]] = deque()
        self._failure: Failure | None = None
        self._has_led = self._is_stopped = False
        self._sweep: Iterator[str] = iter(())
        self._sweep_s, self._losses = 0.0, 0

    @property
    def where(self) -> str:
        """Where the road leads."""
        return self._ends.write.where

    @property
    def fault(self) -> str | None:
        """See the class."""
        return self._standing.fault

    @property
    def errors(self) -> int:
        """See the class."""
        return self._standing.errors

    def stop(self) -> None:
        """Begin nothing more; what is under way ends with the process."""
        self._is_stopped = True
        self._sending.stop()

    # -- letters out ---------------------------------------------------------------------------------------------------

    def post(self, cell: str, letter: Letter) -> None:
        """Send a letter to a cell; it may get lost on the way."""
        self._sending.post(cell, letter)

    def _went_well(self) -> None:
        if self._standing.well("write"):
            # Nobody waits for as long as Redis was away, once it is back.
            self.forwards.hurry(self._clock.seconds())

    def _look_for_losses(self) -> None:
        """See whether news of what is out may have been lost, so that it is asked for rather than waited for."""
        was_away, losses = self._standing.well("read"), self._ends.read.losses
        if was_away or losses != self._losses:
            self._losses = losses
            self.forwards.hurry(self._clock.seconds())

    # -- letters in ----------------------------------------------------------------------------------------------------

    def _read_soon(self) -> None:
        if not self._is_reading and not self._is_stopped and self.leads() and self._standing.may("read"):
            self._is_reading = True
            run(self._read())

    async def _read(self) -> None:
        try:
            while not self._is_stopped and self.leads():
                entries = await self._ends.in_reader(partial(self._ends.read.read, _READ, _WAIT_S))
                if entries:
                    await self._work_off(entries)
                if self._failure is not None:
                    self._failure.raiseException()
                self._look_for_losses()
        except (RoadFailed, KeyUnfit) as error:
            self._standing.failed("read", str(error))
        except (StorageFull, StorageFailed):
            # The store tells of it itself. What was read comes again.
            await self._ends.in_reader(self._ends.read.close)
            self._standing.pause("read")
        finally:
            self._is_reading = False
            self._failure = None

    async def _work_off(self, entries: Sequence[Entry]) -> None:
        seal = self._seal()
        parcels: list[Parcel] = []
        for entry in entries:
            try:
                parcels.append(seal.parcel(entry.fields))
            except Unsealed as error:
                self.not_believed(f"entry {entry.id} of the stream of {self._cell}: {error}")
        rest = await self._hearing.hear(parcels)
        # Whatever is durable by then is; what is not has failed.
        ids = [entry.id for entry in entries]
        rest.addCallbacks(lambda _: self._sending.acknowledge(ids), self._failed)
        self._unfinished.append(rest)
        if len(self._unfinished) > _UNFINISHED:
            await self._unfinished.popleft()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    # -- what happens here ---------------------------------------------------------------------------------------------

    def told(self, news: Iterable[Told]) -> None:
        """Senders were told of messages here: so are the cells that sent them, and what is out is heeded."""
        for one in news:
            key = one.sender, one.id, one.recipient
            for cell, letter in self._owed.told(key, one.state, one.reason):
                self.post(cell, letter)
            forward = self.forwards.of(key) if one.state in FINAL else None
            if forward is None:
                continue
            if one.state == "cancelled":
                self.forwards.recall(forward, self._clock.seconds())
                self._recall(forward.cell, forward.ticket, key)
            else:
                self.forwards.drop(forward)

    def _recall(self, cell: str, ticket: str, key: tuple[str, str, str]) -> None:
        self.post(cell, Recall(ticket=ticket, sender=key[0], id=key[1], to=key[2]))

    # -- the rounds ----------------------------------------------------------------------------------------------------

    def here(self, marks: Mapping[str, int]) -> None:
        """Somebody came or went: the addresses that somebody at this node has, each with the mark of who that is."""
        for address in self._homes.here(marks, self._clock.seconds()):
            self.look_at(address)

    def round(self) -> None:
        """What is due: to be called a few times a second."""
        now_s = self._clock.seconds()
        if self.leads():
            self._lead(now_s)
        elif self._has_led:
            self._has_led = False
            for address in self.forwards.addresses():
                self.onward.take_back(self.forwards.to_address(address))
        self._sending.go()
        self._read_soon()
        self._keep_homes_soon()

    def look_up(self) -> None:
        """Have the road asked for homes in this turn, and not with the next round."""
        if not self._looks_up:
            self._looks_up = True
            self._clock.callLater(0, self._keep_homes_soon)

    def _keep_homes_soon(self) -> None:
        if not self._keeps_homes and not self._is_stopped and self._standing.may("homes"):
            self._keeps_homes = True
            run(self._keep_homes())

    async def _keep_homes(self) -> None:
        try:
            is_first = True
            while is_first or self._looks_up:
                is_first = self._looks_up = False
                await self.homekeeping.round(self._is_needed)
                self._standing.well("homes")
        except (RoadFailed, KeyUnfit) as error:
            self._standing.failed("homes", str(error))
        finally:
            self._keeps_homes = False

    def _lead(self, now_s: float) -> None:
        if not self._has_led:
            self._has_led = True
            self.canary.begin(now_s)
        number = self.canary.next(now_s)
        if number is not None:
            self.post(self._cell, Beacon(number))
        due = self.forwards.due(now_s, _AGAIN)
        run(self.onward.send_again(due.again))
        self.onward.ask(due.ask)
        for forward in due.recall:
            self._recall(forward.cell, forward.ticket, forward.key)
        # What nothing wakes is found within seconds, and a round stays short whatever there is.
        swept = list(islice(self._sweep, _SWEPT))
        for address in swept:
            self.look_at(address)
            self.onward.pump(address)
        if not swept and now_s >= self._sweep_s:
            self._sweep_s = now_s + _SWEEP_S
            self._sweep = iter(self._mailboxes())

    def look_at(self, address: str) -> None:
        """See whether what is out for an address is still out where its agent is."""
        if not self.forwards.is_out_for(address):
            return
        home = self._homes.cell_of(address)
        self._homes.want(address, self._clock.seconds())
        out = [one for one in self.forwards.to_address(address) if not one.is_recalled]
        is_here = self._is_consumed(address)
        self.onward.take_back([one for one in out if is_here or home not in (None, one.cell)])

    def _is_needed(self, address: str) -> bool:
        return self.forwards.is_out_for(address) or address in self.onward.waiting

    def not_believed(self, sentence: str) -> None:
        """Something in Redis is from no cell."""
        self.refusals += 1
        self._refused(sentence)
