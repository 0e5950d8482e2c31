"""One link for as long as one connection lasts: which names its legs carry for each other.

The next connection gets two new legs. Upstream keeps its sessions over reconnects and mends their state afterwards,
which is where its doubled events and dead registrations come from (crossbar issues 1909, 1916, 1920, 2079).

A leg subscribes to a topic while sessions of the other router are subscribed to it. It registers a procedure while a
session of the other router has registered it and none of its own router has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred

from trishula_router.upstream.link_legs import Leg
from trishula_router.upstream.link_names import Change

__all__ = ["Bridge"]


class Bridge:
    """Two legs, and the names that each carries for the other's router.

    Args:
        near: joined to our router.
        far: joined to the peer's.
        step: told of each answer while it begins.
    """

    def __init__(self, near: Leg, far: Leg, step: Callable[[], object]) -> None:
        near.other, far.other = far, near
        self._legs = (near, far)
        self._topics: dict[Leg, set[str]] = {near: set(), far: set()}
        self._procedures: dict[Leg, set[str]] = {near: set(), far: set()}
        self._at: dict[Leg, int] = {}
        self._early: list[tuple[Leg, Change]] = []
        self._step = step

    async def begin(self) -> None:
        """Carry all that is there now; what changes later follows by itself.

        Raises:
            ApplicationError, TransportLost: if one of the routers doesn't say what names it has.
        """
        for leg in self._legs:
            found = await leg.names(partial(self._changed, leg))
            self._step()
            self._at[leg] = found["at"]
            self._take(leg, found)
        early, self._early = self._early, []
        for leg, change in early:
            self._changed(leg, change)
        topics = set().union(*self._topics.values())
        procedures = set().union(*self._procedures.values())
        for done in [*map(self._carry_topic, topics), *map(self._carry_procedure, procedures)]:
            for one in done:
                await one
                self._step()

    async def again(self) -> None:
        """Try once more to carry what was denied."""
        for leg in self._legs:
            await leg.procedures.again()

    def end(self) -> None:
        """The connection is gone."""
        for leg in self._legs:
            leg.fail_all()

    def _changed(self, leg: Leg, change: Change) -> None:
        if len(self._at) < len(self._legs):
            self._early.append((leg, change))
        elif change["at"] > self._at[leg]:
            self._take(leg, change)
            for uri in change["topics"]:
                self._carry_topic(uri)
            for uri in change["procedures"]:
                self._carry_procedure(uri)

    def _take(self, leg: Leg, change: Change) -> None:
        for names, told in ((self._topics[leg], change["topics"]), (self._procedures[leg], change["procedures"])):
            for uri, there in told.items():
                (names.add if there else names.discard)(uri)

    def _carry_topic(self, uri: str) -> list[Deferred[None]]:
        return [Deferred.fromCoroutine(leg.topics.want(uri, uri in self._topics[leg.other])) for leg in self._legs]

    def _carry_procedure(self, uri: str) -> list[Deferred[None]]:
        return [
            Deferred.fromCoroutine(
                leg.procedures.want(uri, uri in self._procedures[leg.other] and uri not in self._procedures[leg])
            )
            for leg in self._legs
        ]
