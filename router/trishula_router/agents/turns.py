"""Turns: an agent says that it is at work, waits for a human, or is through; the node knows it for so long as was said.

A model's turn outlives the processes that tell of it: the hook of a coding tool ends at once, and a server of MCP may
be started anew in the middle of a thought. So the node keeps it, with the instant at which it ends by itself, also over
its own restart. An agent in a turn is *busy* in the directory until then, however silent; without a session it is
offline all the same, because nobody takes its mail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import msgspec
from twisted.logger import Logger

from trishula_router.agents.directory import Directory
from trishula_router.background import log_fault
from trishula_router.store.interface import Store

__all__ = ["LONGEST_S", "STATES", "TurnState", "Turns"]

log = Logger()

TurnState = Literal["open", "blocked", "closed"]
STATES: tuple[TurnState, ...] = get_args(TurnState)
#: A turn that goes on for longer is said anew.
LONGEST_S = 86_400.0
#: Under what the store remembers them.
_PREFIX = "turn:"


class _Turn(msgspec.Struct, frozen=True, gc=False):
    """A turn that lasts. Instants in ms."""

    state: TurnState
    since: int
    until: int
    doing: str | None = None


class Turns:
    """See the module's docstring.

    Args:
        store: remembers them.
        directory: is told who is busy.
        now: the wall clock in ms.
    """

    def __init__(self, store: Store, directory: Directory, now: Callable[[], int]) -> None:
        self._store = store
        self._directory = directory
        self._now = now
        self._turns: dict[str, _Turn] = {}

    async def recall(self) -> None:
        """Take over what an earlier run of the node knew; to be called before anybody joins."""
        for key, text in (await self._store.remembered(_PREFIX)).items():
            agent, turn = key.removeprefix(_PREFIX), _read(text)
            if turn is not None and turn.until > self._now():
                # The clock may have been ahead when that was written.
                until = min(turn.until, self._now() + round(LONGEST_S * 1000))
                self._turns[agent] = turn = msgspec.structs.replace(turn, until=until)
                self._directory.in_turn(agent, turn.until, _progress_of(turn), turn.since)

    def take(self, agent: str, state: TurnState, doing: str | None, for_s: float) -> dict[str, Any]:
        """An agent begins or ends a turn; the answer is that of :meth:`of`."""
        now = self._now()
        if state == "closed":
            had = self._turns.pop(agent, None)
            self._directory.in_turn(agent, None, None, None)
            if had is not None:
                self._remember(agent, "")
            return self.of(agent)
        before = self._running(agent)
        same = before is not None and (before.state, before.doing) == (state, doing)
        turn = _Turn(state, before.since if before is not None and same else now, now + round(for_s * 1000), doing)
        self._turns[agent] = turn
        self._directory.in_turn(agent, turn.until, _progress_of(turn), turn.since)
        self._remember(agent, msgspec.json.encode(turn).decode())
        return self.of(agent)

    def of(self, agent: str) -> dict[str, Any]:
        """The turn of an agent: ``{state, doing, since, until}``."""
        turn = self._running(agent)
        if turn is None:
            return {"state": "closed", "doing": None, "since": None, "until": None}
        return {"state": turn.state, "doing": turn.doing, "since": turn.since, "until": turn.until}

    def follow_clock(self, by_ms: int) -> None:
        """The node's clock was set: it is ahead by so much now."""
        for agent, turn in self._turns.items():
            self._turns[agent] = msgspec.structs.replace(turn, since=turn.since + by_ms, until=turn.until + by_ms)

    def _running(self, agent: str) -> _Turn | None:
        turn = self._turns.get(agent)
        return turn if turn is not None and turn.until > self._now() else None

    def _remember(self, agent: str, text: str) -> None:
        self._store.remember({_PREFIX + agent: text}).addErrback(log_fault, log, "a turn could not be kept")


def _read(text: str) -> _Turn | None:
    """A turn as it was kept; ``None`` if it is over, or of a state that a newer release has."""
    try:
        return msgspec.json.decode(text, type=_Turn) if text else None
    except msgspec.MsgspecError:
        return None


def _progress_of(turn: _Turn) -> str | None:
    """What others read of it."""
    if turn.state == "blocked":
        return f"waits for a human: {turn.doing}" if turn.doing else "waits for a human"
    return turn.doing
