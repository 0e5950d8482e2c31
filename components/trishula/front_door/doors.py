"""The doors of a front door that serves several models: one for each token, opened by its first request.

Who brings a token gets the door of its agent, whichever session of MCP it is in: a client may open a new session for
each request. A door is closed when nobody came for a while; what was in hand there is delivered again.
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
_JOIN_S = 10.0


@dataclass(slots=True)
class _Door:
    tools: Tools
    joined: Pending[None]
    used_s: float


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
            BusUnreachable: no node says whether it is one.
        """
        if owner_of(token) is None:
            raise TokenInvalid("the bearer token is no token of an agent: it must look like NAME.SECRET")
        await self._sweep()
        door = self._doors.get(token)
        if door is None:
            tools = self._opened(token)
            door = self._doors[token] = _Door(tools, tools.member.start(), self._seconds())
        door.used_s = self._seconds()
        if await ended_within(door.tools.member.clock, door.joined, _JOIN_S):
            # Before it has joined, and ever after: a token that was revoked opens nothing.
            error = door.joined.error or door.tools.member.client.end
            if error is not None:
                await self._close(token)
                raise error if isinstance(error, TrishulaError) else BusUnreachable(str(error))
            return door.tools
        raise BusUnreachable(f"no node let the agent {owner_of(token)} join within {_JOIN_S:g} s; try again")

    async def _sweep(self) -> None:
        now_s = self._seconds()
        for token, door in list(self._doors.items()):
            limit_s = _HOLDING_S if len(door.tools.member.desk) else _IDLE_S
            if now_s - door.used_s > limit_s:
                await self._close(token)
        while len(self._doors) >= _MOST:
            await self._close(min(self._doors, key=lambda token: self._doors[token].used_s))

    async def _close(self, token: str) -> None:
        door = self._doors.pop(token, None)
        if door is not None:
            await start(door.tools.member.stop())

    async def close(self) -> None:
        """Close all of them."""
        for token in list(self._doors):
            await self._close(token)
