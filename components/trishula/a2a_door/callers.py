"""Who calls the door: agents of the bus, each under the token that it brings. The door joins for them.

A token is proved by joining under it, so a foreign caller has the name, the grants, the rates and the record of an
agent, and a token that is revoked calls no more within a second. The door is beside whatever else runs under that name:
it takes no mail and takes over no session. It asks the node for the answers to its own tasks.

A session stays while its caller comes now and then, or while the door has work for it. After a restart the door joins
again for those with work, by the tokens that it kept (:mod:`trishula.a2a_door.ledger`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from trishula.client import Client
from trishula.contract.uris import receipts_of
from trishula.errors import BusUnreachable, TokenInvalid, TrishulaError
from trishula.runtime.pending import Pending, start
from trishula.runtime.surroundings import Surroundings
from trishula.runtime.waiting import ended_within
from trishula.settings import Settings
from trishula.token_file import owner_of

__all__ = ["Caller", "Callers"]

_log = logging.getLogger("trishula")

_IDLE_S = 900.0
#: How many there are at most; of those without work the one that was quiet for longest makes room.
_MOST = 500
#: How many that nobody knows yet may wait for a node's yes at a time: tokens that somebody made up keep nobody out.
_MOST_JOINING = 40
_JOIN_S = 10.0


@dataclass(slots=True, eq=False)
class Caller:
    """One of them.

    Attributes:
        name: the agent.
        token: the one that it joined by.
        client: its session.
        joined: whether it has joined, or why it can't.
        used_s: when it came last.
    """

    name: str
    token: str
    client: Client
    joined: Pending[None]
    used_s: float

    @property
    def has_joined(self) -> bool:
        """Whether a node has let it in."""
        return self.joined.done and self.joined.error is None


class Callers:
    """See the module's docstring.

    Args:
        settings: those of a token.
        around: clocks.
        news: told of the ids of a caller's messages of which the node has news, and with an empty list when it has
            joined (again).
        has_work: whether the door has work for a caller.
    """

    def __init__(
        self,
        settings: Callable[[str], Settings],
        around: Surroundings,
        news: Callable[[str, list[str]], object],
        has_work: Callable[[str], bool],
    ) -> None:
        self._settings = settings
        self._around = around
        self._news = news
        self._has_work = has_work
        self._by_token: dict[str, Caller] = {}

    async def of(self, token: str) -> Caller:
        """The caller of a token, which has joined.

        Raises:
            TokenInvalid: it is no token, or the node refuses it.
            BusUnreachable: no node says whether it is one, or as many as may ask are asking.
        """
        if owner_of(token) is None:
            raise TokenInvalid("the bearer token is no token of an agent: it must look like NAME.SECRET")
        caller = self._by_token.get(token)
        if caller is None:
            if sum(not one.has_joined for one in self._by_token.values()) >= _MOST_JOINING:
                raise BusUnreachable(f"{_MOST_JOINING} others are joining just now; try again")
            caller = self._open(token)
        caller.used_s = self._around.clock.seconds()
        if await ended_within(self._around.clock, caller.joined, _JOIN_S):
            # Before it has joined, and ever after: a token that was revoked opens nothing.
            error = caller.joined.error or caller.client.end
            if error is None:
                await self._make_room(caller)
                return caller
            await self._close(token)
            raise error if isinstance(error, TrishulaError) else BusUnreachable(str(error))
        raise BusUnreachable(f"no node let the agent {caller.name} join within {_JOIN_S:g} s; try again")

    def resume(self, token: str) -> None:
        """Join for a caller with work, before it comes."""
        if owner_of(token) is not None and token not in self._by_token:
            self._open(token)

    def named(self, name: str) -> Caller | None:
        """One that has joined under this name and has a node."""
        found = [one for one in self._by_token.values() if one.name == name and one.client.is_ready]
        return max(found, key=lambda one: one.used_s, default=None)

    def refused(self) -> list[tuple[str, str]]:
        """Names and tokens that a node refuses by now."""
        return [(one.name, one.token) for one in self._by_token.values() if isinstance(one.client.end, TokenInvalid)]

    def _open(self, token: str) -> Caller:
        settings = self._settings(token)
        observer = _Observer(settings.agent, lambda: self._news(settings.agent, []))
        client = Client(replace(settings, failback_s=None), around=self._around, observer=observer)
        client.beat()
        client.subscribe(receipts_of(settings.agent), lambda *told: self._told(settings.agent, told)).when_done(
            lambda pending: pending.error
        )
        joined = start(client.start())
        joined.when_done(lambda pending: pending.error)
        caller = Caller(settings.agent, token, client, joined, self._around.clock.seconds())
        self._by_token[token] = caller
        return caller

    def _told(self, name: str, told: tuple[Any, ...]) -> None:
        reports = told[0] if told and isinstance(told[0], list) else []
        ids = [str(one["id"]) for one in reports if isinstance(one, dict) and "id" in one]
        if ids:
            self._news(name, ids)

    async def sweep(self) -> None:
        """Let those go that were quiet for long and have no work, and those that nobody waits for to join."""
        now_s = self._around.clock.seconds()
        for token, caller in list(self._by_token.items()):
            limit_s = _IDLE_S if caller.has_joined else 2 * _JOIN_S
            if now_s - caller.used_s > limit_s and not self._has_work(caller.name):
                await self._close(token)

    async def _make_room(self, for_whom: Caller) -> None:
        while sum(one.has_joined for one in self._by_token.values()) > _MOST:
            others = [one for one in self._by_token.values() if one.has_joined and one is not for_whom]
            idle = [one for one in others if not self._has_work(one.name)]
            await self._close(min(idle or others, key=lambda one: one.used_s).token)

    async def _close(self, token: str) -> None:
        caller = self._by_token.pop(token, None)
        if caller is not None:
            await start(caller.client.stop())

    async def close(self) -> None:
        """Let all of them go."""
        for token in list(self._by_token):
            await self._close(token)


class _Observer:
    """What a client tells (trishula.session.attachment.Observer)."""

    def __init__(self, name: str, joined: Callable[[], object]) -> None:
        self._name = name
        self._joined = joined

    def joined(self, url: str) -> None:
        self._joined()

    def lost(self, url: str, error: TrishulaError) -> None:
        _log.warning("The node at %s is lost for %s: %s; joining anew", url, self._name, error)

    def moved(self, old: str, url: str) -> None:
        self._joined()

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        _log.info("The bus can't be joined for %s: %s", self._name, error)

    def ended(self, error: TrishulaError) -> None:
        _log.info("%s is off the bus: %s", self._name, error)
