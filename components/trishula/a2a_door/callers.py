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
from trishula.errors import BusUnreachable, RateLimited, TokenInvalid, TrishulaError
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
#: How many that nobody knows yet may wait for a node's yes at a time. A made-up token gives its place back as soon as
#: the node has said no, or that too many wrong ones came; as long as no node answers, nobody could join.
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
        is_resumed: whether the door joined for it by a token that it kept, before it came.
    """

    name: str
    token: str
    client: Client
    joined: Pending[None]
    used_s: float
    is_resumed: bool = False

    @property
    def has_joined(self) -> bool:
        """Whether a node has let it in."""
        return self.joined.done and self.joined.error is None

    @property
    def error(self) -> BaseException | None:
        """Why it opens nothing (any more): its token is none, or was revoked."""
        return self.joined.error or self.client.end


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
            unknown = [one for one in self._by_token.values() if not one.joined.done and not one.is_resumed]
            if len(unknown) >= _MOST_JOINING:
                raise BusUnreachable(f"{_MOST_JOINING} others are joining just now; try again")
            caller = self._open(token)
        caller.used_s = self._around.clock.seconds()
        if await ended_within(self._around.clock, caller.joined, _JOIN_S):
            # Before it has joined, and ever after: a token that was revoked opens nothing.
            error = caller.error
            if error is None:
                await self._make_room(caller)
                return caller
            await self._close(caller)
            raise error if isinstance(error, TrishulaError) else BusUnreachable(str(error))
        raise BusUnreachable(f"no node let the agent {caller.name} join within {_JOIN_S:g} s; try again")

    def resume(self, token: str) -> None:
        """Join for a caller with work, before it comes."""
        if owner_of(token) is not None and token not in self._by_token:
            self._open(token).is_resumed = True

    def named(self, name: str) -> Caller | None:
        """One that has joined under this name and has a node."""
        found = [one for one in self._by_token.values() if one.name == name and one.client.is_ready]
        return max(found, key=lambda one: one.used_s, default=None)

    def refused(self) -> list[tuple[str, str]]:
        """Names and tokens that a node refuses by now."""
        return [(one.name, one.token) for one in self._by_token.values() if isinstance(one.client.end, TokenInvalid)]

    def _open(self, token: str) -> Caller:
        settings = self._settings(token)
        observer = _Observer(
            settings.agent, lambda: self._news(settings.agent, []), lambda error: self._not_joined(token, error)
        )
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

    def _not_joined(self, token: str, error: TrishulaError) -> None:
        caller = self._by_token.get(token)
        if caller is not None and not caller.is_resumed and isinstance(error, RateLimited):
            # Too many wrong tokens came from here. This one may be right, but whoever brought it must come again.
            caller.joined.reject(error)

    def _told(self, name: str, told: tuple[Any, ...]) -> None:
        reports = told[0] if told and isinstance(told[0], list) else []
        ids = [str(one["id"]) for one in reports if isinstance(one, dict) and "id" in one]
        if ids:
            self._news(name, ids)

    async def sweep(self) -> None:
        """Let those go that the node refused, that were quiet for long and have no work, or don't get to join.

        Work is of a name, and anybody can write a name before a secret: it spares who has joined, and who the door
        itself joins for.
        """
        now_s = self._around.clock.seconds()
        for caller in list(self._by_token.values()):
            limit_s = _IDLE_S if caller.has_joined else 2 * _JOIN_S
            is_known = caller.has_joined or caller.is_resumed
            is_spared = now_s - caller.used_s <= limit_s or (is_known and self._has_work(caller.name))
            if caller.error is not None or not is_spared:
                await self._close(caller)

    async def _make_room(self, for_whom: Caller) -> None:
        while sum(one.has_joined for one in self._by_token.values()) > _MOST:
            others = [one for one in self._by_token.values() if one.has_joined and one is not for_whom]
            idle = [one for one in others if not self._has_work(one.name)]
            await self._close(min(idle or others, key=lambda one: one.used_s))

    async def _close(self, caller: Caller) -> None:
        # Whoever waited for it may come late, when its token has a new session.
        if self._by_token.get(caller.token) is caller:
            del self._by_token[caller.token]
        await start(caller.client.stop())

    async def close(self) -> None:
        """Let all of them go."""
        for caller in list(self._by_token.values()):
            await self._close(caller)


class _Observer:
    """What a client tells (trishula.session.attachment.Observer)."""

    def __init__(self, name: str, joined: Callable[[], object], not_joined: Callable[[TrishulaError], object]) -> None:
        self._name = name
        self._joined = joined
        self._not_joined = not_joined

    def joined(self, url: str) -> None:
        self._joined()

    def lost(self, url: str, error: TrishulaError) -> None:
        _log.warning("The node at %s is lost for %s: %s; joining anew", url, self._name, error)

    def moved(self, old: str, url: str) -> None:
        self._joined()

    def unreachable(self, error: TrishulaError, now_s: float) -> None:
        _log.info("The bus can't be joined for %s: %s", self._name, error)
        self._not_joined(error)

    def ended(self, error: TrishulaError) -> None:
        _log.info("%s is off the bus: %s", self._name, error)
