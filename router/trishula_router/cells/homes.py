"""Homes: at which cell an agent is. Policy only: no I/O, instants are arguments.

An agent's home is the cell where it attached last. Redis has it for each address (an agent's, or that of an instance)
as the cell and a *fence*: a number that each cell that becomes the home makes larger than the one before, and than its
own clock. A cell that refreshes what it was once told writes its old fence, so it never overwrites a newer home, and it
learns that there is one. What Redis has lost is written again by whoever is the home, with the fence of before.

What a cell was once told it keeps: while Redis is away, and when the entry of an agent that is away ran out there, its
last home stays its home. Where an agent's home is was never told, its mail waits where it was sent.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

__all__ = ["REFRESH_S", "TTL_S", "Claim", "Home", "Homes", "plan"]

#: An entry that nobody refreshes is taken out of Redis after that time.
TTL_S = 60.0
#: So often a cell refreshes those of its agents: two rounds may fail.
REFRESH_S = 27.0
#: So often it is asked where an agent is for which mail waits, or is out: if that is unknown, and if it is known.
_UNKNOWN_S, _KNOWN_S = 1.0, 5.0
#: What came to nothing is tried again so soon.
_AGAIN_S = 1.0
#: Homes that are remembered of others.
_MOST = 200_000


class Home(msgspec.Struct, frozen=True):
    """A cell, and the fence by which it is the home."""

    cell: str
    fence: int


@dataclass(slots=True)
class Claim:
    """That an address is here.

    Attributes:
        mark: of the session that has it, or 0.
        fence: by which this cell is its home; 0 if that is not written down yet.
        due_s: when it is to be written down, or refreshed.
    """

    mark: int
    fence: int
    due_s: float


def plan(cell: str, fence: int, there: Home | None, now: int) -> Home | None:
    """What to write down of an agent that is here; ``None`` if another cell became its home since.

    Args:
        cell: the own one.
        fence: of the own claim; 0 if it attached since.
        there: what is written down.
        now: the wall clock in ms.
    """
    if not fence:
        return Home(cell, max(now, (there.fence if there is not None else 0) + 1))
    if there is not None and there.cell != cell and there.fence > fence:
        return None
    return Home(cell, max(fence, there.fence if there is not None else 0))


class Homes:
    """What a cell knows of homes.

    Args:
        cell: its name.
    """

    def __init__(self, cell: str) -> None:
        self._cell = cell
        self._claims: dict[str, Claim] = {}
        self._known: OrderedDict[str, Home] = OrderedDict()
        # When to ask next, by address.
        self._wanted: dict[str, float] = {}
        # (due_s, address) of both, the earliest first; what is not due then any more is skipped when it comes up.
        self._claims_due: list[tuple[float, str]] = []
        self._wanted_due: list[tuple[float, str]] = []

    # -- who is here ---------------------------------------------------------------------------------------------------

    def here(self, marks: Mapping[str, int], now_s: float) -> list[str]:
        """These addresses, and no others, have somebody at this node; who came since has another mark.

        Returns:
            those that somebody came for.
        """
        came = []
        for address, mark in marks.items():
            claim = self._claims.get(address)
            if claim is None or claim.mark != mark:
                self._claims[address] = Claim(mark, 0, now_s)
                heapq.heappush(self._claims_due, (now_s, address))
                came.append(address)
        if len(self._claims) > len(marks):
            for address in self._claims.keys() - marks.keys():
                del self._claims[address]
        return came

    def to_claim(self, now_s: float, limit: int) -> dict[str, int]:
        """Which claims are to be written down or refreshed now, with their fences."""
        due: dict[str, int] = {}
        for due_s, address in _up(self._claims_due, now_s):
            claim = self._claims.get(address)
            if claim is not None and claim.due_s == due_s:
                due[address] = claim.fence
                # Unless it is written down by then.
                self._claim_due(address, claim, now_s + _AGAIN_S)
                if len(due) >= limit:
                    break
        return due

    def claimed(self, address: str, home: Home, now_s: float) -> None:
        """A claim is written down."""
        self._know(address, home)
        if (claim := self._claims.get(address)) is not None:
            claim.fence = home.fence
            self._claim_due(address, claim, now_s + REFRESH_S)

    def lost(self, address: str, there: Home, now_s: float) -> None:
        """Another cell became the home of an address that somebody here still has a session for."""
        self._know(address, there)
        if (claim := self._claims.get(address)) is not None:
            self._claim_due(address, claim, now_s + REFRESH_S)

    def _claim_due(self, address: str, claim: Claim, due_s: float) -> None:
        claim.due_s = due_s
        heapq.heappush(self._claims_due, (due_s, address))

    def is_here(self, address: str) -> bool:
        """Whether somebody at this node has that address."""
        return address in self._claims

    # -- who is where --------------------------------------------------------------------------------------------------

    def cell_of(self, address: str) -> str | None:
        """At which cell an address is, as far as that is known."""
        claim = self._claims.get(address)
        if claim is not None and not claim.fence:
            return self._cell
        home = self._known.get(address)
        return None if home is None else home.cell

    def want(self, address: str, now_s: float) -> bool:
        """Mail for an address waits, or is out: have it asked where it is; whether that has never been told."""
        if address in self._wanted:
            return False
        is_known = address in self._known
        self._want_at(address, now_s + (_KNOWN_S if is_known else 0.0))
        return not is_known

    def to_ask(self, now_s: float, limit: int, is_needed: Callable[[str], bool]) -> list[str]:
        """Of which addresses it is to be asked now; those that nobody needs any more are let go."""
        asked: list[str] = []
        for due_s, address in _up(self._wanted_due, now_s):
            if self._wanted.get(address) != due_s:
                continue
            if not is_needed(address):
                del self._wanted[address]
                continue
            asked.append(address)
            # Unless it is answered by then.
            self._want_at(address, now_s + _AGAIN_S)
            if len(asked) >= limit:
                break
        return asked

    def told(self, found: Iterable[tuple[str, Home | None]], now_s: float) -> list[str]:
        """What is written down of addresses; those whose home is another one than before."""
        moved = []
        for address, home in found:
            before = self._known.get(address)
            if home is not None and (before is None or home.fence >= before.fence):
                self._know(address, home)
                if before is None or before.cell != home.cell:
                    moved.append(address)
            if address in self._wanted:
                self._want_at(address, now_s + (_KNOWN_S if address in self._known else _UNKNOWN_S))
        return moved

    def hint(self, address: str, cell: str) -> None:
        """A message from an address came from a cell: it is there, unless something better is known."""
        if address not in self._known and address not in self._claims:
            self._know(address, Home(cell, 0))

    def _want_at(self, address: str, due_s: float) -> None:
        self._wanted[address] = due_s
        heapq.heappush(self._wanted_due, (due_s, address))

    def _know(self, address: str, home: Home) -> None:
        self._known[address] = home
        self._known.move_to_end(address)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _up(due: list[tuple[float, str]], now_s: float) -> Iterator[tuple[float, str]]:
    """What is due, taken out of a heap one by one."""
    while due and due[0][0] <= now_s:
        yield heapq.heappop(due)
