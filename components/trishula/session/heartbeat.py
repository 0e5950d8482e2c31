"""The heartbeat: tells the directory that the agent lives, and measures how far its clock is off.

``directory.beat({sent_at})`` answers ``{received_at, answered_at}``, all in ms. With the instant at which the answer
came, that is the exchange of NTP: the offset is known up to half of the round trip, so the exchange with the shortest
round trip of the last few is believed (:class:`ClockOffset`). :class:`Heartbeat` is the loop; a beat that fails is no
news, for the connection has its own pings: it is logged, and the next one follows. A node with very many agents says in
its answer how often is enough (``heartbeat_s``); it is obeyed where that is less often than we would beat.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula.contract.texts import LINE_RULE, is_line, show_value
from trishula.contract.uris import DIRECTORY_BEAT
from trishula.errors import ArgumentInvalid, KeyUnknown
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock, Timer
from trishula.session.transport import Link

__all__ = ["Activity", "ClockOffset", "Exchange", "Heartbeat"]

_log = logging.getLogger("trishula")

#: At the default interval of 10 s: a clock that was set right is noticed within a minute and a half.
_REMEMBERED = 8
#: News of so much time travel in two beats at most, the first and the latest, unless the loop has a turn in between.
_APART_S = 1.0
#: What a node takes of it.
_PROGRESS_LENGTH = 1000
#: What a node may ask for; it stops calling us stale accordingly.
_SLOWEST_S = 300.0
#: Keys of a beat that nodes of the first release refuse.
_NEW_KEYS = frozenset({"progress"})


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


class Activity:
    """What an agent says about itself with each beat: that it is busy, until when, how far it is."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._says: dict[str, Any] = {}

    def busy(self, until_ms: int | None, progress: str | None, load: float | None) -> None:
        """It is busy, until an instant or until it says something else.

        Raises:
            ArgumentInvalid: a node would refuse each beat with that progress.
        """
        if progress is not None and not (is_line(progress) and 1 <= len(progress) <= _PROGRESS_LENGTH):
            raise ArgumentInvalid(
                f"progress is {show_value(progress)}; it must be a string of 1 to {_PROGRESS_LENGTH} characters, "
                f"{LINE_RULE}"
            )
        fields = {"state": "busy", "busy_until": until_ms, "progress": progress, "load": load}
        self._says = {key: value for key, value in fields.items() if value is not None}

    def idle(self, load: float | None) -> None:
        """It is not busy."""
        self._says = {} if load is None else {"load": load}

    def told(self) -> Mapping[str, Any]:
        """What goes with the next beat; what it said holds no longer than it said."""
        until_ms = self._says.get("busy_until")
        if until_ms is not None and until_ms <= self._now_ms():
            self._says = {}
        return self._says


class Heartbeat:
    """Beats every ``interval_s`` while there is a link, or as seldom as the node asks for.

    Args:
        clock: timers.
        now_ms: the wall clock.
        state: what else to tell with each beat: ``state``, ``busy_until``, ``progress``, ``load``.
    """

    def __init__(self, clock: Clock, now_ms: Callable[[], int], state: Callable[[], Mapping[str, Any]] = dict) -> None:
        self.clock_offset = ClockOffset()
        self._clock = clock
        self._now_ms = now_ms
        self._state = state
        self._link: Link | None = None
        self._own_s = 0.0
        self._interval_s = 0.0
        self._timer: Timer | None = None
        self._soon: Timer | None = None
        self._told_s = float("-inf")
        # What the node at the other end doesn't take: it is of an older release.
        self._unknown: frozenset[str] = frozenset()

    def start(self, link: Link, interval_s: float) -> None:
        """Beat on this link from now on, the first time at once."""
        self.stop()
        self._link = link
        self._own_s = self._interval_s = interval_s
        self.clock_offset.forget()
        self._unknown = frozenset()
        self._beat()

    def tell(self) -> None:
        """Beat now, besides: there is news, and whoever tells it may block the loop next.

        Of much news at a time the first goes out now and the latest at the end of the turn.
        """
        now_s = self._clock.seconds()
        if now_s - self._told_s >= _APART_S:
            self._told_s = now_s
            self._beat_now()
        else:
            self.soon()

    def soon(self) -> None:
        """Beat at the end of this turn, besides."""
        if self._link is not None and self._soon is None:
            self._soon = self._clock.callLater(0, self._beat_now)

    def _beat_now(self) -> None:
        for timer in (self._timer, self._soon):
            if timer is not None and timer.active():
                timer.cancel()
        self._soon = None
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        self._link = None
        for timer in (self._timer, self._soon):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._soon = None

    def _beat(self) -> None:
        link = self._link
        if link is None:
            return
        self._timer = self._clock.callLater(self._interval_s, self._beat)
        sent_at = self._now_ms()
        says = {key: value for key, value in self._state().items() if key not in self._unknown}
        answer = link.call(DIRECTORY_BEAT, [{"sent_at": sent_at, **says}], timeout_s=self._own_s)
        answer.when_done(lambda pending: self._answered(link, sent_at, pending))

    def _answered(self, link: Link, sent_at: int, pending: Pending[Any]) -> None:
        error = pending.error
        if isinstance(error, KeyUnknown) and link is self._link and not self._unknown:
            self._unknown = _NEW_KEYS
            self.soon()
        elif error is not None:
            if link is self._link:
                _log.warning("The heartbeat to %s failed: %s", link.url, error)
        else:
            self._measure(link, sent_at, pending)

    def _measure(self, link: Link, sent_at: int, pending: Pending[Any]) -> None:
        answer = pending.result()
        if link is self._link and isinstance(answer, Mapping):
            received, answered, asked_s = (answer.get(key) for key in ("received_at", "answered_at", "heartbeat_s"))
            self._interval_s = self._own_s
            if isinstance(asked_s, int | float):
                self._interval_s = max(self._own_s, min(asked_s, _SLOWEST_S))
            if isinstance(received, int) and isinstance(answered, int):
                self.clock_offset.add(Exchange(sent_at, received, answered, self._now_ms()))
