"""The notifier of a node: looks at it in rounds, and sends what is to be told by every road.

Each road has a queue of its own, so that one that is down holds nobody else up: one alert is under way at a time, in a
thread; what fails is tried again after growing pauses. A full queue loses its oldest alert, which the log says.

What was told is kept after each round in which that changed, so that the node's next run tells the end of it. A road's
queue is not kept: of what it still holds, the next run judges anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula.runtime.backoff import Backoff
from trishula_router.alerts.conditions import Condition, Facts, find_conditions, untold_kinds
from trishula_router.alerts.policy import Alert, AlertPolicy, Told
from trishula_router.alerts.roads import RoadFailed
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock, Timer
from trishula_router.settings.alerts import AlertOptions

__all__ = ["Notifier"]

log = Logger()

#: Alerts that wait for one road.
_MOST_WAITING = 100
_PAUSES = Backoff(first_s=2.0, factor=2.0, cap_s=600.0)
#: An alert is tried so often: over more than two hours.
_TRIES = 20

#: Sends an alert by a road: what the other end said, later; fails with :class:`RoadFailed`.
Send = Callable[[str, Alert], "Deferred[str]"]


class Notifier:
    """See the module's docstring.

    Args:
        node: the node's name.
        options: what is worth an alert, and the roads.
        facts: what is known of the node now.
        send: sends by a road.
        clock: timers.
        now: the wall clock in ms.
        random: spreads pauses.
        keep: keeps a text for the node's next run; the last one counts.
    """

    def __init__(
        self,
        node: str,
        options: AlertOptions,
        facts: Callable[[], Coroutine[Deferred[Any], Any, Facts]],
        send: Send,
        *,
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
        keep: Callable[[str], None],
    ) -> None:
        self._keep = keep
        self._kept: list[Told] = []
        self._node = node
        self._options = options
        self._facts = facts
        self._send = send
        self._clock = clock
        self._now = now
        self._policy = AlertPolicy(
            node, after_s=options.after_s, repeat_s=options.repeat_s, rate_per_s=options.rate_per_s
        )
        self._queues = {road: _Queue(road, send, clock, random) for road in options.roads}

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to be told."""
        return bool(self._queues)

    def recall(self, text: str) -> None:
        """What the node's last run gave to ``keep``."""
        try:
            self._kept = msgspec.json.decode(text, type=list[Told])
        except msgspec.DecodeError:
            log.warn("what an earlier run has told can't be read, so the end of none of it is told")
            return
        self._policy.recall(self._kept, self._now(), self._clock.seconds())

    def _keep_told(self) -> None:
        told = self._policy.memory([alert for queue in self._queues.values() for alert in queue.waiting])
        if told != self._kept:
            self._kept = told
            self._keep(msgspec.json.encode(told).decode())

    async def _conditions(self) -> list[Condition]:
        return find_conditions(await self._facts(), self._options, self._node, self._now())

    async def round(self) -> None:
        """Look at the node, and send what is to be told."""
        if not self.is_on:
            return
        facts = await self._facts()
        # Their end would be told else, as soon as another node tells of them.
        self._policy.forget(untold_kinds(facts, self._node))
        conditions = find_conditions(facts, self._options, self._node, self._now())
        for alert in self._policy.step(conditions, self._now(), self._clock.seconds()):
            for queue in self._queues.values():
                queue.put(alert)
        self._keep_told()

    async def told(self) -> dict[str, Any]:
        """What is wrong now, and how the roads are, for ``trishula.node.alerts``."""
        known = {(one["kind"], one["about"]): one for one in self._policy.told()}
        conditions = []
        for one in await self._conditions():
            before = known.get(one.key)
            since, notified = (None, False) if before is None else (before["since"], before["notified"])
            conditions.append(
                {"kind": one.kind, "about": one.about, "sentence": one.sentence, "since": since, "notified": notified}
            )
        return {
            "node": self._node,
            "roads": [queue.told() for queue in self._queues.values()],
            "conditions": conditions,
        }

    async def test(self) -> list[dict[str, Any]]:
        """Send a test by every road, once; what came of it: ``{road, ok, detail}`` each."""
        now = self._now()
        what = "this is a test, which somebody asked for; nothing is wrong"
        alert = Alert("test", self._node, Condition("test", "", what), now, now)

        def sent(road: str, outcome: object) -> dict[str, Any]:
            if isinstance(outcome, Failure):
                if not isinstance(outcome.value, RoadFailed):
                    log.failure("a test alert could not be sent by {road}", outcome, road=road)
                return {"road": road, "ok": False, "detail": outcome.getErrorMessage()}
            return {"road": road, "ok": True, "detail": str(outcome)}

        def begin(road: str) -> Deferred[dict[str, Any]]:
            return self._send(road, alert).addBoth(lambda outcome: sent(road, outcome))

        found: Iterable[dict[str, Any]] = await gatherResults([begin(road) for road in self._queues])
        return list(found)

    def stop(self) -> None:
        """Send nothing more."""
        if self.is_on:
            self._keep_told()
        for queue in self._queues.values():
            queue.stop()


class _Queue:
    """The alerts of one road.

    Attributes:
        waiting: those that it has not taken, the oldest first.
    """

    def __init__(self, road: str, send: Send, clock: Clock, random: Callable[[], float]) -> None:
        self._random = random
        self._road = road
        self._send = send
        self._clock = clock
        self.waiting: deque[Alert] = deque()
        self._tries = 0
        self._is_under_way = False
        self._timer: Timer | None = None
        self._is_stopped = False
        self._fault: str | None = None

    def put(self, alert: Alert) -> None:
        self.waiting.append(alert)
        if len(self.waiting) > _MOST_WAITING:
            # The one under way stays: nobody knows whether it gets through.
            del self.waiting[1 if self._is_under_way else 0]
            log.warn("too many alerts wait for {road}: the oldest of them is lost", road=self._road)
        self._next()

    def stop(self) -> None:
        self._is_stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def told(self) -> dict[str, Any]:
        return {"road": self._road, "waiting": len(self.waiting), "fault": self._fault}

    def _next(self) -> None:
        is_pausing = self._timer is not None and self._timer.active()
        if self._is_stopped or self._is_under_way or is_pausing or not self.waiting:
            return
        self._is_under_way = True
        sent = self._send(self._road, self.waiting[0])
        sent.addBoth(self._sent).addErrback(log_fault, log, "the alerts of {road} stopped", road=self._road)

    def _sent(self, outcome: object) -> None:
        self._is_under_way = False
        if not isinstance(outcome, Failure):
            if self._fault is not None:
                log.warn("alerts go out by {road} again", road=self._road)
            self._tries, self._fault = 0, None
            self.waiting.popleft()
            self._next()
            return
        error = outcome.value
        why = str(error) if isinstance(error, RoadFailed) else f"{type(error).__name__}: {error}"
        if self._fault is None:
            log.warn("an alert could not be sent by {road}: {why}; it is tried again", road=self._road, why=why)
        self._fault = why
        self._tries += 1
        if self._tries >= _TRIES or (isinstance(error, RoadFailed) and not error.is_temporary):
            log.warn("an alert is given up by {road} after {tries} tries", road=self._road, tries=self._tries)
            self.waiting.popleft()
            self._tries = 0
        self._timer = self._clock.callLater(_PAUSES.pause_s(max(self._tries - 1, 0), self._random), self._next)
