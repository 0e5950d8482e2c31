"""The heartbeat: tells the directory that the agent lives, and measures how far its clock is off.

``directory.beat({sent_at})`` answers ``{received_at, answered_at}``, all in ms. With the instant at which the answer
came, that is the exchange of NTP: the offset is known up to half of the round trip, so the exchange with the shortest
round trip of the last few is believed (:class:`ClockOffset`). :class:`Heartbeat` is the loop; a beat that fails is no
news, for the connection has its own pings: it is logged, and the next one follows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula.awaiting import Pending
from trishula.surroundings import Clock, Timer
from trishula.transport import Link
from trishula.uris import DIRECTORY_BEAT

__all__ = ["ClockOffset", "Exchange", "Heartbeat"]

_log = logging.getLogger("trishula")

#: At the default interval of 10 s: a clock that was set right is noticed within a minute and a half.
_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class Exchange:
    """One beat and its answer; instants in ms, of our clock and of the node's."""

    sent_at: int
    received_at: int
    answered_at: int
    returned_at: int

    @property
    def round_trip_ms(self) -> float:
        """How long it was under way, without the node's own time."""
        return float((self.returned_at - self.sent_at) - (self.answered_at - self.received_at))

    @property
    def offset_ms(self) -> float:
        """How far the node's clock is ahead of ours."""
        return ((self.received_at - self.sent_at) + (self.answered_at - self.returned_at)) / 2


class ClockOffset:
    """The best estimate from the last exchanges."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=_REMEMBERED)

    def add(self, exchange: Exchange) -> None:
        """Take an exchange into account; one with a negative round trip (a clock was set meanwhile) says nothing."""
        if exchange.round_trip_ms >= 0:
            self._exchanges.append(exchange)

    def forget(self) -> None:
        """Another node has another clock."""
        self._exchanges.clear()

    @property
    def offset_ms(self) -> float | None:
        """How far the node's clock is ahead of ours; ``None`` before the first exchange."""
        best = min(self._exchanges, key=lambda exchange: exchange.round_trip_ms, default=None)
        return None if best is None else best.offset_ms


class Heartbeat:
    """Beats every ``interval_s`` while there is a link.

    Args:
        clock: timers.
        now_ms: the wall clock.
        state: what else to tell with each beat: ``state``, ``busy_until``, ``load``.
    """

    def __init__(self, clock: Clock, now_ms: Callable[[], int], state: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.clock_offset = ClockOffset()
        self._clock = clock
        self._now_ms = now_ms
        self._state = state
        self._link: Link | None = None
        self._interval_s = 0.0
        self._timer: Timer | None = None

    def start(self, link: Link, interval_s: float) -> None:
        """Beat on this link from now on, the first time at once."""
        self.stop()
        self._link = link
        self._interval_s = interval_s
        self.clock_offset.forget()
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        self._link = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _beat(self) -> None:
        link = self._link
        if link is None:
            return
        self._timer = self._clock.callLater(self._interval_s, self._beat)
        sent_at = self._now_ms()
        answer = link.call(DIRECTORY_BEAT, [{"sent_at": sent_at, **self._state()}], timeout_s=self._interval_s)
        answer.when_done(lambda pending: self._answered(link, sent_at, pending))

    def _answered(self, link: Link, sent_at: int, pending: Pending[Any]) -> None:
        error = pending.error
        if error is not None:
            if link is self._link:
                _log.warning("The heartbeat to %s failed: %s", link.url, error)
            return
        answer = pending.result()
        if link is self._link and isinstance(answer, Mapping):
            received, answered = answer.get("received_at"), answer.get("answered_at")
            if isinstance(received, int) and isinstance(answered, int):
                self.clock_offset.add(Exchange(sent_at, received, answered, self._now_ms()))
