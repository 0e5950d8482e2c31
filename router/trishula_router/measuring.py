"""How a node's recorder (:mod:`trishula_router.objectives.recorder`) learns what is counted, and how triggers act."""

from __future__ import annotations

from trishula_router.objectives.automatic import Automatic, Word
from trishula_router.objectives.canaries import FILES, LINK, LIVE
from trishula_router.objectives.recorder import Recorder
from trishula_router.objectives.triggers import Triggers
from trishula_router.services import Services
from trishula_router.settings.options import NodeConfig
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State

__all__ = ["NodeCounts", "last_record_at", "recorder_of"]

#: Agents that were seen so long ago are not missed any more.
_MISSED_MS = 86_400_000


def recorder_of(services: Services) -> Recorder:
    """The recorder of a node."""
    automatic = Automatic(services.config.node)

    async def act(triggers: Triggers) -> None:
        facts = services.fallback.mode.facts
        wanted = automatic.step(Word(facts.mode, facts.by, facts.reason, facts.since), triggers)
        if wanted is not None:
            # Nobody is kept from sending: agents that have a folder write files as well.
            await services.fallback.set(wanted.mode, sends=True, reason=wanted.reason, by=wanted.by)

    return Recorder(NodeCounts(services), services.book_file, now=services.now, seconds=services.clock.seconds, act=act)


async def last_record_at(store: Store) -> int | None:
    """When this node wrote its last record, ms; ``None`` if it wrote none, or others wrote on its behalf since."""
    records = await store.records(after=max(0, store.high_water - 1), limit=1)
    # A command that puts a store in place of another one writes into a journal whose node does not run.
    return records[0].at if records and records[0].kind != Kind.RESTORED else None


class NodeCounts:
    """What a node has counted: a :class:`~trishula_router.objectives.recorder.Counted`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    @property
    def config(self) -> NodeConfig:
        return self._services.config

    def is_up(self) -> bool:
        return bool(self._services.ready()["ready"])

    def attached(self) -> int:
        # Instances have a name behind a slash, and come and go as scripts do.
        return sum("/" not in name for name in self._services.consumers.addresses())

    def figures(self) -> dict[str, int]:
        services = self._services
        settled = services.settlement.settled
        live, link = services.canaries.roads[LIVE], services.canaries.roads[LINK]
        files = services.file_canaries.roads[FILES]
        return {
            "accepted": services.intake.accepted,
            "done": settled[State.DONE],
            "dead": settled[State.DEAD],
            "expired": settled[State.EXPIRED],
            "cancelled": settled[State.CANCELLED],
            "refused": sum(services.intake.receipts.refused.values()),
            "joins": services.measures.joins,
            "reconnects": services.measures.comings.reconnects,
            "canaries": live.answered + live.lost,
            "canaries_lost": live.lost,
            "link_canaries": link.answered + link.lost,
            "link_canaries_lost": link.lost,
            "file_canaries": files.answered + files.lost,
            "file_canaries_lost": files.lost,
        }

    def take_spans(self) -> dict[str, dict[int, int]]:
        services = self._services
        return {
            "delivery_ms": services.delivery.lender.delays.take(),
            "done_ms": services.settlement.spans.take(),
            "connect_ms": services.measures.connects.take(),
            "failover_ms": services.measures.comings.failovers.take(),
            "canary_ms": services.canaries.roads[LIVE].spans.take(),
            "link_canary_ms": services.canaries.roads[LINK].spans.take(),
            "file_canary_ms": services.file_canaries.roads[FILES].spans.take(),
        }

    def missing(self) -> dict[str, int]:
        services = self._services
        now = services.now()
        gone = {
            # While this node was down nobody could reach it.
            agent: max(one.seen_at, services.started_at)
            for agent, one in services.directory.memory().items()
            if one.offline_since is not None and now - one.seen_at <= _MISSED_MS and self._is_watched(agent)
        }
        if not gone or not (services.config.peers or services.cells):
            return gone
        # It may have gone to another node or cell, and to look at all agents costs more than at those that are gone.
        return {
            entry["agent"]: max(gone[entry["agent"]], entry["last_seen_at"] or 0)
            for entry in services.neighbourhood.entries()
            if entry["agent"] in gone and entry["presence"] in ("offline", "stale")
        }

    def _is_watched(self, agent: str) -> bool:
        watched = self._services.config.objectives.agents
        if watched:
            return agent in watched
        # Operators and observers come and go; who is registered no more won't come back.
        principals = self._services.principals
        return principals.get(agent) is not None and not principals.is_visitor(agent)
