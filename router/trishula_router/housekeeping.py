"""Housekeeping: what a node does by the clock, and not because somebody asks.

A *tick*, a few times a second, ends leases and pauses that are over and tells who came and went. Slower rounds look for
messages whose time is over, for bodies and records that nobody needs at hand any more, and keep when agents were there
last. A round that fails is logged, and the next one comes all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import (
    StorageFailed,
    StorageFull,
    TokenInvalid,
)
from trishula_router.background import log_fault, run
from trishula_router.clocks.clock import Timer
from trishula_router.mirroring.mirror import ROUND_S as MIRROR_ROUND_S
from trishula_router.objectives.recorder import FIRST_STEP_S, look_s
from trishula_router.services import Services
from trishula_router.store.messages import State

__all__ = ["Housekeeping"]

log = Logger()

#: Leases and pauses are looked at so often; they are seconds long, so this is fine enough and costs nothing.
TICK_S = 0.25
#: The journal is made fast to search so often, some thousands of records at a time.
ZONES_ROUND_S = 0.25
#: Free pages of the store's file go back to the disk so often, 64 at a time: a MiB a second.
SHRINK_ROUND_S = 0.25
#: Work leases stay for seconds at least.
LEASE_ROUND_S = 0.5
#: Messages that nobody asks for are looked at so often whether their time is over.
EXPIRY_ROUND_S = 10.0
#: Bodies that nobody needs any more are looked for so often; a sender whom a full store refused comes again after 5 s.
RETENTION_ROUND_S = 5.0
#: Attachments that nobody needs are looked for so often, some at a time.
ATTACHMENTS_ROUND_S = 20.0
#: When agents gave their last sign of life is kept so often; after a crash it is known so exactly.
SEEN_ROUND_S = 60.0
#: What is worth an alert lasts longer.
ALERT_ROUND_S = 5.0


class Housekeeping:
    """The rounds of a node.

    Args:
        services: what the rounds are about.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._timers: list[Timer] = []
        self._beat_due_s = services.clock.seconds()
        #: The fault of the agents file that was logged last.
        self._agents_fault: str | None = None

    def start(self) -> None:
        """Begin the rounds."""
        self._beat_due_s = self._services.clock.seconds() + TICK_S
        self.every(TICK_S, self._beat)
        self.every(TICK_S, self._tick)
        self.every(ZONES_ROUND_S, self._gather_zones)
        self.every(SHRINK_ROUND_S, self._shrink)
        self.every(LEASE_ROUND_S, self._services.leases.rounds.round)
        self.every(EXPIRY_ROUND_S, self._expire)
        self.every(RETENTION_ROUND_S, self._forget)
        self.every(ATTACHMENTS_ROUND_S, self._services.attachments.sweep.step)
        self.every(SEEN_ROUND_S, self._remember_all)
        step_ms = self._services.config.objectives.step_ms
        self.every(look_s(step_ms), self._services.recorder.look)
        self.every(step_ms / 1000, self._services.recorder.step)
        # What was long before the start is known by then, and need not wait for a minute.
        self.later(FIRST_STEP_S, lambda: run(self._services.recorder.step()))
        for mirror in self._services.mirrors:
            self.every(MIRROR_ROUND_S, mirror.round)
        if self._services.cells is not None:
            self.every(TICK_S, self._services.cells.round)
        if self._services.notifier.is_on:
            self.every(ALERT_ROUND_S, self._services.notifier.round)

    def later(self, delay_s: float, work: Callable[..., object], *args: object) -> None:
        """Do something once, unless the node stops before."""
        self._timers.append(self._services.clock.callLater(delay_s, work, *args))

    def stop(self) -> None:
        """End the rounds, and keep what the node's next run is to know."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._services.notifier.stop()
        for mirror in self._services.mirrors:
            mirror.stop()
        if self._services.cells is not None:
            self._services.cells.stop()
        self._services.token_uses.keep()
        self._services.last_seen.keep(self._services.directory.memory())
        self._services.timekeeper.remember()

    def every(self, period_s: float, work: Callable[[], Coroutine[Deferred[Any], Any, None]]) -> None:
        """Do work again and again; a round that fails is logged, and the next one comes all the same."""
        slot = len(self._timers)

        def again(_: object = None) -> None:
            if not self._services.is_stopping:
                self._timers[slot] = self._services.clock.callLater(period_s, once)

        def once() -> None:
            done: Deferred[None] = Deferred.fromCoroutine(work())
            done.addErrback(log_fault, log, "a round of the node's housekeeping failed")
            done.addBoth(again)

        self._timers.append(self._services.clock.callLater(period_s, once))

    async def _beat(self) -> None:
        """Measure how late it comes; it waits for nothing, as a tick may for the store."""
        now_s = self._services.clock.seconds()
        late_s = now_s - self._beat_due_s
        self._beat_due_s = now_s + TICK_S
        self._services.measures.loop_lag.measured(late_s, now_s)
        self._services.joins.measure(self._services.worked_s(), now_s, late_s)

    async def _tick(self) -> None:
        if self._services.principals.reload_if_changed():
            log.info("the agents file changed and was read again")
        self._services.principals.heed_time(self._services.now() / 1000)
        if self._services.principals.fault != self._agents_fault:
            self._agents_fault = self._services.principals.fault
            if self._agents_fault is not None:
                log.warn("{fault}", fault=self._agents_fault)
        self._services.change_records.look()
        self._services.revoking.look()
        self._services.sharing.look()
        for session, sentence in self._services.admission.ended(self._services.now() / 1000):
            self._services.close_session(session, TokenInvalid.uri, sentence)
        self._services.departures.look()
        if not self._services.delivery.is_held_back:
            await self._services.departures.end()
        self._services.settlement.take_back_overdue()
        self._services.delivery.tick()
        self._services.surfacing.look()
        self._services.tell_presence()
        if not self._services.is_stopping:
            await self._services.timekeeper.look()

    async def _forget(self) -> None:
        self._services.forget_retained()
        await self._services.retention.round()
        await self._services.archiver.round(self._services.retention.fullness)

    async def _gather_zones(self) -> None:
        await self._services.store.zones.step()

    async def _shrink(self) -> None:
        try:
            await self._services.store.shrink()
        except (StorageFull, StorageFailed):
            # The store tells of it itself.
            return

    async def _expire(self) -> None:
        self._services.refusals.flush(self._services.clock.seconds())
        self._services.refused_joins.flush(self._services.clock.seconds())
        self._services.links.flush()
        for address in self._services.instances.gone(self._services.clock.seconds()):
            if self._services.neighbourhood.has_instance(address):
                # It is with another node, whose part its end is.
                continue
            try:
                await self._services.endings.close_mailbox(address, State.EXPIRED, "its instance is gone")
            except (StorageFull, StorageFailed):
                # It is tried again later.
                self._services.instances.remember(address, self._services.clock.seconds())
        self._services.mailroom.drop_unused(self._services.instances.is_there)
        if not self._services.timekeeper.is_setting:
            await self._services.endings.expire()
        # What a fault made nobody pump waits no longer than a round.
        self._services.delivery.pump_all()

    async def _remember_all(self) -> None:
        self._services.token_uses.keep()
        self._services.last_seen.keep(self._services.directory.memory())
        self._services.timekeeper.remember()
