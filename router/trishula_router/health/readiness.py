"""Whether the node can serve: all checks put together, and what they go by looked after.

Whoever asks gets what was found at most :data:`_KEPT_S` ago, so that a thousand probes a second cost no more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trishula_router.health import checks
from trishula_router.health.behind import Behind
from trishula_router.health.canary import Canaries
from trishula_router.health.cells_check import cells_check
from trishula_router.health.growth import SAMPLE_S, Growth
from trishula_router.health.lane import ThroughRouter
from trishula_router.health.mirror_check import mirror_check
from trishula_router.health.peer_check import peer_check
from trishula_router.health.report import Check, told
from trishula_router.node import Node

__all__ = ["Readiness"]

_KEPT_S = 1.0
#: How often it looks at the peers and at the room for messages.
_LOOK_S = 0.5


class Readiness:
    """The checks of a node.

    Args:
        node: the node.
        through: hands something over to its router, and gives what came back.

    Attributes:
        canaries: the messages that the node sends to itself.
        growth: of the store.
    """

    def __init__(self, node: Node, through: ThroughRouter) -> None:
        self.canaries = Canaries(node, through)
        self.growth = Growth()
        self._node = node
        self._behind = Behind()
        self._is_short = False
        self._told: dict[str, Any] = {}
        self._told_at_s = -_KEPT_S
        self._sample_at_s = 0.0

    def begin(self) -> None:
        """Look after all of it from now on."""
        self._node.ready = self.told
        self._node.measures.loop_lag.serve()
        self._look()
        self.canaries.begin()

    def told(self) -> dict[str, Any]:
        """What there is to know of it: ``{ready, node, version, checks}``."""
        now_s = self._node.clock.seconds()
        is_fresh = now_s - self._told_at_s < _KEPT_S
        if not is_fresh or self._node.is_stopping:
            self._told_at_s = now_s
            self._told = told(self._node.config.node, self._node.version, self._checks(now_s))
        return self._told

    def _checks(self, now_s: float) -> Iterator[Check]:
        node = self._node
        condition, peers = node.store.condition(), node.peering.told()
        yield checks.running_check(is_stopping=node.is_stopping, is_held_back=node.delivery.is_held_back)
        yield checks.store_check(condition, self.canaries.proof, now_s)
        disk = checks.disk_check(
            condition,
            None if node.archiver.makes_room(node.retention.fullness) else self.growth.full_in_s(),
            self.growth.per_s(),
            was_short=self._is_short,
            archive_fault=node.archiver.fault or node.archiver.holds_back,
        )
        self._is_short = not disk.ok
        yield disk
        yield peer_check(peers, self._behind.look(peers, now_s))
        differ = {peer["node"]: peer["clock_ahead_ms"] for peer in peers if peer["warning"]}
        yield checks.clock_check(node.timekeeper.gap_ms, differ, len(peers))
        yield checks.loop_check(node.measures.loop_lag.worst_s(now_s))
        yield checks.canary_check(self.canaries.trial, self.canaries.proof, now_s)
        if node.mirrors:
            yield mirror_check([mirror.told() for mirror in node.mirrors], node.config.mirror.lag_s)
        if node.cells is not None:
            yield cells_check(node.cells.told(), node.cells.late_s)

    def _look(self) -> None:
        now_s = self._node.clock.seconds()
        # Also while nobody asks: else whoever asks once a minute would take two short bursts for one that lasted.
        self._behind.look(self._node.peering.told(), now_s)
        if now_s >= self._sample_at_s:
            room_bytes = self._node.store.condition().room_bytes
            if room_bytes is not None:
                self._sample_at_s = now_s + SAMPLE_S
                self.growth.sample(room_bytes, now_s)
        if not self._node.is_stopping:
            self._node.clock.callLater(_LOOK_S, self._look)
