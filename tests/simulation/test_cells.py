"""1,000 cells and 100,000 agents on one road: what a message costs is the same as with 10 cells.

The exchange, the homes, the forwards and the seals are the real ones; stores and mailboxes are sets in memory. What is
counted is what the road carries, which no machine makes slow or fast. The processor's time is shown
(``pytest --log-cli-level=INFO``) and never asserted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock

from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.exchange import Ends, Exchange
from trishula_router.cells.forwards import Forward, Forwards
from trishula_router.cells.homekeeping import Homekeeping
from trishula_router.cells.homes import Homes
from trishula_router.cells.letters import Mail, News
from trishula_router.cells.memory_road import MemoryRoad, MemoryRoads
from trishula_router.cells.onward import Onward
from trishula_router.cells.owed import Owed
from trishula_router.cells.road import Change, Fields
from trishula_router.cells.seal import Seal
from trishula_router.mail.outlet import News as Told

_log = logging.getLogger("tests.simulation")
_T = TypeVar("_T")
_STEP_S = 0.25
_KEY = b"k" * 40


@dataclass
class Tally:
    """What the road was asked for."""

    entries: int = 0
    bytes: int = 0
    looks: int = 0
    claims: int = 0


class CountedRoad(MemoryRoad):
    """A road that counts."""

    def __init__(self, roads: MemoryRoads, cell: str, tally: Tally) -> None:
        super().__init__(roads, cell, cell)
        self._tally = tally

    def append(self, entries: Sequence[tuple[str, Fields]], worked_off: Sequence[str] = ()) -> None:
        self._tally.entries += len(entries)
        self._tally.bytes += sum(len(value) for _, fields in entries for value in fields.values())
        super().append(entries, worked_off)

    def homes(self, addresses: Sequence[str]) -> list[bytes | None]:
        self._tally.looks += len(addresses)
        return super().homes(addresses)

    def put_homes(self, changes: Sequence[Change], ttl_s: float) -> list[bool]:
        self._tally.claims += len(changes)
        return super().put_homes(changes, ttl_s)


@dataclass
class Box:
    """A cell's store and its mailboxes, and the agents that handle at once whatever comes."""

    cell: SimulatedCell
    waiting: dict[str, float] = field(default_factory=dict)
    mail: dict[str, list[str]] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    done_count: int = 0
    twice: int = 0

    # -- as Onward -----------------------------------------------------------------------------------------------------

    def pump(self, address: str) -> None:
        ids = self.mail.get(address)
        cell = self.cell.homes.cell_of(address)
        if not ids:
            return
        if cell is None:
            self.waiting[address] = 0.0
            self.cell.homes.want(address, self.cell.clock.seconds())
            return
        self.waiting.pop(address, None)
        for message_id in self.mail.pop(address):
            self.cell.number += 1
            key, now_s = ("dc", message_id, address), self.cell.clock.seconds()
            forward = self.cell.forwards.begin(self.cell.number, key, cell, f"t{self.cell.number}", 300, now_s)
            self.cell.exchange.post(cell, _mail(forward))

    async def send_again(self, forwards: Sequence[Forward]) -> None:
        for forward in forwards:
            self.cell.exchange.post(forward.cell, _mail(forward))

    async def done(self, those: Iterable[tuple[int, str]]) -> None:
        self.done_count += len(list(those))

    async def delivered(self, forwards: Iterable[Forward]) -> None:
        pass

    def take_back(self, forwards: Iterable[Forward], hold_s: float = 0.0) -> None:
        assert not list(forwards)

    def ask(self, forwards: Iterable[Forward]) -> None:
        assert not list(forwards)

    def goes_well(self, address: str) -> None:
        pass

    # -- as Acceptance -------------------------------------------------------------------------------------------------

    async def take(self, cell: str, mails: Sequence[Mail]) -> list[News]:
        for mail in mails:
            self.twice += mail.id in self.accepted
            self.accepted.add(mail.id)
            told = Told(mail.sender, mail.id, mail.to, "done", 0)
            self.cell.timers.callLater(_STEP_S, self.cell.exchange.told, [told])
        return [News(ticket=m.ticket, sender=m.sender, id=m.id, to=m.to, state="accepted") for m in mails]


def _mail(forward: Forward) -> Mail:
    sender, message_id, to = forward.key
    return Mail(ticket=forward.ticket, sender=sender, id=message_id, to=to, left_ms=60_000, envelope=b"x" * 300)


class SimulatedCell:
    """One cell."""

    def __init__(self, name: str, roads: MemoryRoads, tally: Tally) -> None:
        self.clock = Clock()
        self.timers = cast(Any, self.clock)
        self.number = 0
        self.homes, self.forwards, self.box = Homes(name), Forwards(), Box(self)
        road = CountedRoad(roads, name, tally)
        seal = Seal(name, [_KEY])
        self.exchange = Exchange(
            name,
            "e",
            Ends(road, road, self._later, self._later),
            lambda: seal,
            homes=self.homes,
            forwards=self.forwards,
            owed=Owed(),
            acceptance=cast(Acceptance, self.box),
            leads=lambda: True,
            is_consumed=lambda address: False,
            mailboxes=list,
            cancel=lambda positions: succeed([]),
            refused=self._refused,
            clock=self.timers,
            random=lambda: 0.5,
        )
        self.exchange.onward = cast(Onward, self.box)
        self.exchange.homekeeping = Homekeeping(
            name,
            self.homes,
            road,
            self._later,
            lambda: seal,
            refused=self._refused,
            moved=self.box.pump,
            superseded=lambda address, cell: None,
            seconds=self.clock.seconds,
            now=lambda: 1_700_000_000_000,
        )

    def _refused(self, sentence: str) -> None:
        raise AssertionError(sentence)

    def _later(self, work: Callable[[], _T]) -> Deferred[_T]:
        done: Deferred[_T] = Deferred()
        self.timers.callLater(_STEP_S / 2, lambda: maybeDeferred(work).chainDeferred(done))
        return done

    def send(self, message_id: str, to: str) -> None:
        self.box.mail.setdefault(to, []).append(message_id)
        self.box.pump(to)


@dataclass
class Cost:
    """What one message cost."""

    entries: float
    bytes: float
    looks: float
    cpu_us: float


def cost_with(cells: int, agents_each: int, messages_each: int) -> Cost:
    """Have each cell send to agents anywhere, and wait until all of it is done at both ends."""
    now_s, tally, chance = 0.0, Tally(), Random(7)
    roads = MemoryRoads(lambda: now_s)
    all_cells = [SimulatedCell(f"c{number}", roads, tally) for number in range(cells)]

    def pass_time(steps: int) -> None:
        nonlocal now_s
        for _ in range(steps):
            now_s += _STEP_S
            for cell in all_cells:
                cell.exchange.round()
                cell.clock.advance(_STEP_S)

    for number, cell in enumerate(all_cells):
        cell.exchange.here({f"a{number}_{agent}": 1 for agent in range(agents_each)})
    pass_time(8)
    assert tally.claims == cells * agents_each
    before, began_s = Tally(**vars(tally)), time.process_time()
    for number, cell in enumerate(all_cells):
        for message in range(messages_each):
            # To another cell, and within a bounded circle, as teams are.
            other = (number + 1 + chance.randrange(min(cells - 1, 8))) % cells
            cell.send(f"m{number}_{message}", f"a{other}_{chance.randrange(agents_each)}")
    total = cells * messages_each
    for _ in range(60):
        pass_time(2)
        if sum(cell.box.done_count for cell in all_cells) == total:
            break
    cpu_s = time.process_time() - began_s
    assert sum(cell.box.done_count for cell in all_cells) == total
    assert sum(len(cell.box.accepted) for cell in all_cells) == total
    assert sum(cell.box.twice for cell in all_cells) == 0
    assert sum(cell.forwards.resent for cell in all_cells) == 0
    return Cost(
        (tally.entries - before.entries) / total,
        (tally.bytes - before.bytes) / total,
        (tally.looks - before.looks) / total,
        1e6 * cpu_s / total,
    )


def test_a_message_costs_the_same_with_10_and_with_1000_cells() -> None:
    few, many = cost_with(10, 100, 20), cost_with(1000, 100, 20)
    for cells, cost in ((10, few), (1000, many)):
        _log.info(
            f"{cells} cells, {cells * 100} agents: {cost.entries:.2f} entries, {cost.bytes:.0f} bytes, "
            f"{cost.looks:.2f} looks and {cost.cpu_us:.0f} us of the processor a message"
        )
    assert many.entries <= 1.2 * few.entries
    assert many.bytes <= 1.2 * few.bytes
    assert many.looks <= 1.2 * few.looks
