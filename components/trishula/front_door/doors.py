"""The doors of a front door that serves several models: one for each token, opened by its first request.

Who brings a token gets the door of its agent, whichever session of MCP it is in: a client may open a new session for
each request. A door is closed when nobody came for a while; what was in hand there is delivered again. Tokens that no
node has said yes to yet have places of their own, few: whoever makes up tokens closes no model's door.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trishula.errors import BusUnreachable, TokenInvalid, TrishulaError
from trishula.front_door.tools import Tools
from trishula.runtime.pending import Pending, start
from trishula.runtime.waiting import ended_within
from trishula.token_file import owner_of

__all__ = ["Doors"]

#: How long a door waits for its model, in seconds: with nothing in hand, and with messages in hand.
_IDLE_S = 900.0
_HOLDING_S = 4 * 3600.0
#: How many there are at most; the one that was quiet for longest is closed for the next.
_MOST = 500
#: How many may wait for a node's yes at a time, and for how long.
_MOST_JOINING = 40
_JOIN_S = 10.0


@dataclass(slots=True)
class _Door:
    token: str
    tools: Tools
    joined: Pending[None]
    used_s: float

    @property
    def is_open(self) -> bool:
        """Whether a node has let its agent in."""
        return self.joined.done and self.joined.error is None

    @property
    def error(self) -> BaseException | None:
        """Why it opens nothing (any more): its token is none, or was revoked, or too many wrong ones came from here."""
        return self.joined.error or self.tools.member.client.end or (None if self.is_open else self.tools.member.denial)


class Doors:
    """See the module's docstring.

    Args:
        opened: the tools of a token's agent, not joined yet.
        seconds: a clock for spans.
    """

    def __init__(self, opened: Callable[[str], Tools], seconds: Callable[[], float]) -> None:
        self._opened = opened
        self._seconds = seconds
        self._doors: dict[str, _Door] = {}

    def __len__(self) -> int:
        return len(self._doors)

    async def of(self, token: str) -> Tools:
        """The tools of a token's agent, which has joined.

        Raises:
            TokenInvalid: it is no token, or the node refuses it.
            BusUnreachable: no node says whether it is one, or as many as may ask are asking.
        """
        if owner_of(token) is None:
            raise TokenInvalid("the bearer token is no token of an agent: it must look like NAME.SECRET")
        await self._sweep()
        door = self._doors.get(token)
        if door is None:
            if sum(not door.joined.done for door in self._doors.values()) >= _MOST_JOINING:
                raise BusUnreachable(f"{_MOST_JOINING} others are joining just now; try again")
            tools = self._opened(token)
            door = self._doors[token] = _Door(token, tools, tools.member.start(), self._seconds())
        door.used_s = self._seconds()
        if not await ended_within(door.tools.member.clock, door.joined, _JOIN_S):
            raise BusUnreachable(f"no node let the agent {owner_of(token)} join within {_JOIN_S:g} s; try again")
        # Before it has joined, and ever after.
        if (error := door.error) is not None:
            await self._close(door)
            raise error if isinstance(error, TrishulaError) else BusUnreachable(str(error))
        await self._make_room(token)
        return door.tools

    async def _sweep(self) -> None:
        now_s = self._seconds()
        for door in list(self._doors.values()):
            limit_s = _JOIN_S
            if door.is_open:
                limit_s = _HOLDING_S if len(door.tools.member.desk) else _IDLE_S
            # An error that nobody waited for: its client had gone.
            if now_s - door.used_s > limit_s or door.error is not None:
                await self._close(door)

    async def _make_room(self, for_token: str) -> None:
        while sum(door.is_open for door in self._doors.values()) > _MOST:
            others = [door for door in self._doors.values() if door.is_open and door.token != for_token]
            await self._close(min(others, key=lambda door: door.used_s))

    async def _close(self, door: _Door) -> None:
        # Whoever waited for it may come late, when its token has a new door.
        if self._doors.get(door.token) is door:
            del self._doors[door.token]
        await start(door.tools.member.stop())

    async def close(self) -> None:
        """Close all of them."""
        for door in list(self._doors.values()):
            await self._close(door)
