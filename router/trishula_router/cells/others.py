"""What is known of the other cells: which there are, what they said of their agents last, and how long ago.

That a cell is not heard of is no sign that its agents are gone: it may be the road, or this node. So what it said
stays as it was, and says how old it is; nobody is declared dead for a silence. Only a cell that says so itself makes
its agent offline, and who is here is here, whatever others say.

Policy only: instants are ms, spans seconds of the steady clock; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trishula.contract.units import show_duration
from trishula_router.agents.presence import PRESENT
from trishula_router.cells.directory_words import Beat
from trishula_router.clocks.peer_clocks import ahead_of
from trishula_router.peers.presence_policy import by_own_clock, is_entry

__all__ = ["KEPT_S", "SILENT_S", "Other", "Others"]

#: A cell of which nothing was heard for longer is silent: three beats are missing.
SILENT_S = 30.0
#: A cell that is silent for so long is forgotten.
KEPT_S = 7 * 86_400.0


@dataclass(slots=True)
class Other:
    """Another cell.

    Attributes:
        number: of its last beat.
        heard_s, heard_at: when that was said, by the steady clock and in ms.
        ahead_ms: by how much the clock of that cell is ahead of the own one.
        digest: what that beat stood for.
        held: the digest of what is held.
        known_s, known_at: when it said last that what is held is so, likewise.
        agents: its agents that are registered here.
    """

    number: int = 0
    heard_s: float = 0.0
    heard_at: int = 0
    ahead_ms: int = 0
    digest: bytes = b""
    held: bytes = b""
    known_s: float = 0.0
    known_at: int = 0
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)


class Others:
    """See the module's docstring.

    Args:
        cell: the own cell's name.
        is_registered: whether this node knows an agent.
    """

    def __init__(self, cell: str, is_registered: Callable[[str], bool]) -> None:
        self._cell = cell
        self._is_registered = is_registered
        self._others: dict[str, Other] = {}
        #: The other cells that say something of an agent.
        self._of: dict[str, set[str]] = {}

    # -- what they say -------------------------------------------------------------------------------------------------

    def beat(self, cell: str, beat: Beat, age_s: float, now_s: float, now: int) -> None:
        """A cell gave a sign of life so long ago; one that is no newer than what is known says nothing."""
        if self._cell in (cell, beat.cell) or cell != beat.cell:
            return
        one = self._others.get(cell)
        if one is not None and beat.number <= one.number:
            return
        if one is None:
            one = self._others[cell] = Other()
        # Whoever can write to the road can put it into the future.
        age_s = max(0.0, age_s)
        one.number, one.heard_s, one.digest = beat.number, now_s - age_s, beat.digest
        one.heard_at = now - round(age_s * 1000)
        one.ahead_ms = ahead_of(beat.sent_at, one.heard_at)
        if one.digest == one.held:
            one.known_s, one.known_at = one.heard_s, one.heard_at

    def wanted(self) -> list[str]:
        """The cells that say something else of their agents than what is held."""
        return [cell for cell, one in self._others.items() if one.digest != one.held]

    def digest(self, cell: str) -> bytes:
        """What the last beat of a cell stood for."""
        return self._others[cell].digest

    def agents(self, cell: str, entries: Iterable[Mapping[str, Any]]) -> None:
        """What a cell says of its agents has come: what its last beat stood for."""
        one = self._others[cell]
        for agent in one.agents:
            self._unlink(agent, cell)
        one.agents = {
            entry["agent"]: by_own_clock(entry, one.ahead_ms)
            for entry in entries
            if is_entry(entry) and self._is_registered(entry["agent"])
        }
        for agent in one.agents:
            self._of.setdefault(agent, set()).add(cell)
        one.held, one.known_s, one.known_at = one.digest, one.heard_s, one.heard_at

    def forget(self, now_s: float) -> None:
        """Cells that have been silent for very long are gone; to be called only while the road works."""
        for cell in [cell for cell, one in self._others.items() if now_s - one.heard_s > KEPT_S]:
            for agent in self._others.pop(cell).agents:
                self._unlink(agent, cell)

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now."""
        for one in self._others.values():
            one.ahead_ms -= by_ms
            one.heard_at += by_ms
            one.known_at += by_ms
            one.agents = {agent: by_own_clock(entry, -by_ms) for agent, entry in one.agents.items()}

    def _unlink(self, agent: str, cell: str) -> None:
        cells = self._of[agent]
        cells.discard(cell)
        if not cells:
            del self._of[agent]

    # -- what is known -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._others)

    def silent(self, now_s: float) -> dict[str, float]:
        """The cells of which nothing was heard for long, each with for how long, in s; the longest first."""
        ages = {cell: now_s - one.heard_s for cell, one in self._others.items()}
        return dict(sorted(((c, s) for c, s in ages.items() if s > SILENT_S), key=lambda it: (-it[1], it[0])))

    def told(self, now_s: float, limit: int) -> list[dict[str, Any]]:
        """The other cells, those first of which nothing was heard for longest, as ``node.status`` tells them."""
        found = sorted(self._others.items(), key=lambda it: (it[1].heard_s, it[0]))[:limit]
        return [
            {"cell": cell, "heard_s": round(max(0.0, now_s - one.heard_s), 3), "agents": len(one.agents)}
            for cell, one in found
        ]

    def merged(self, own: Iterable[dict[str, Any]], now_s: float) -> list[dict[str, Any]]:
        """The own cell's entries, each replaced by what another cell knows better; such a one has ``cell``, and in
        ``known_at`` (ms) when that cell said so last."""
        if not self._of:
            return list(own)
        return [entry if entry["presence"] in PRESENT else self._better(entry, now_s) for entry in own]

    def _better(self, own: dict[str, Any], now_s: float) -> dict[str, Any]:
        told = [self._entry(cell, own["agent"], now_s) for cell in self._of.get(own["agent"], ())]
        # What a cell said before the agent was here doesn't count.
        since = own["last_seen_at"] or 0
        return max((own, *(one for one in told if one["known_at"] > since)), key=_rank)

    def _entry(self, cell: str, agent: str, now_s: float) -> dict[str, Any]:
        one = self._others[cell]
        age_s = max(0.0, now_s - one.known_s)
        entry = {**one.agents[agent], "cell": cell, "known_at": one.known_at}
        if entry["last_seen_at"] is None:
            entry["last_seen_at"] = entry["known_at"]
        if age_s > SILENT_S:
            entry["reason"] = (
                f"as the cell {cell} said {show_duration(age_s)} ago; what became of it since is not known here"
            )
        return entry


def _rank(entry: Mapping[str, Any]) -> tuple[int, int]:
    """From what tells most of where an agent is; of several cells where it is, from the one where it has come last."""
    if entry["presence"] in PRESENT:
        return 2, entry["since"] or 0
    return int(entry["presence"] == "stale"), entry["last_seen_at"] or 0
