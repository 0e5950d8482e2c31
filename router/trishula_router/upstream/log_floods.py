"""Floods in the log: the first lines of each kind come, and the rest is counted.

Whoever sends bad frames, pongs nobody asked for or wrong tokens makes the node, Crossbar and Autobahn write a line or
more for each, thousands a second; the log is cut at a size, and what else it had to tell is gone. A *kind* is what one
place in the code writes: level, name of the logger, format of the message and class of the failure. Of each kind
:data:`_FIRST` lines come in a minute, and then one says how many more there were. So no flood hides an error of another
kind, and none is ever swallowed that comes now and then.

A format should hold no data; where one does, each line is a kind of its own. Beyond :data:`_KINDS` at a time all others
of a level are one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import LogLevel

from trishula_router.clocks.clock import Clock

__all__ = ["Floods", "Kind", "guard_log"]

_FIRST = 20
_EACH_S = 60.0
_KINDS = 200
#: So much of a format is shown.
_SHOWN = 160

#: Level, name of the logger, format, class of the failure.
Kind = tuple[str, str, str, str]


@dataclass(slots=True)
class _Count:
    since_s: float
    seen: int = 0


class Floods:
    """How many lines of each kind there were lately. Policy, no I/O; instants are seconds."""

    def __init__(self) -> None:
        self._counts: dict[Kind, _Count] = {}

    def passes(self, kind: Kind, now_s: float) -> bool:
        """A line is to be written; whether it is."""
        count = self._counts.get(kind)
        if count is None:
            if len(self._counts) >= _KINDS:
                kind = (kind[0], "", "lines of other kinds", "")
            count = self._counts.setdefault(kind, _Count(now_s))
        count.seen += 1
        return count.seen <= _FIRST

    def over(self, now_s: float) -> list[tuple[Kind, int]]:
        """The kinds whose minute is over, each with how many lines were not written."""
        # Also after the clock was set back.
        ended = [kind for kind, count in self._counts.items() if not 0.0 <= now_s - count.since_s < _EACH_S]
        return [(kind, self._counts.pop(kind).seen - _FIRST) for kind in ended]


def guard_log(publisher: Any, clock: Clock, wall_s: Callable[[], float]) -> bool:
    """Have what this process logs written as this module says.

    It reaches into a private name of Twisted (``LogPublisher._observers``).

    Args:
        publisher: Twisted's, of all log events.
        clock: timers.
        wall_s: the time of day, for the lines that are written here.

    Returns:
        Whether Twisted is as expected; if not, nothing was changed.
    """
    observers = getattr(publisher, "_observers", None)
    if not isinstance(observers, list) or not observers:
        return False
    inner: list[Callable[[Mapping[str, Any]], object]] = list(observers)
    floods, lock = Floods(), threading.Lock()

    def write(event: Mapping[str, Any]) -> None:
        for observer in inner:
            observer(event)

    def observe(event: Mapping[str, Any]) -> None:
        level = event.get("log_level")
        if level is not None and level is not LogLevel.debug:
            # The store's threads log too.
            with lock:
                is_written = floods.passes(_kind_of(event), clock.seconds())
            if not is_written:
                return
        write(event)

    def again() -> None:
        with lock:
            over = floods.over(clock.seconds())
        for (level, namespace, text, failure), more in over:
            if more > 0:
                write(
                    {
                        "log_level": LogLevel.lookupByName(level),
                        "log_namespace": namespace,
                        "log_time": wall_s(),
                        "log_format": "… and {more:,} more in the last {span:g} s of: {text}",
                        "more": more,
                        "span": _EACH_S,
                        "text": " ".join(f"{text} {failure}".split())[:_SHOWN],
                    }
                )
        clock.callLater(1.0, again)

    for observer in inner:
        publisher.removeObserver(observer)
    publisher.addObserver(observe)
    clock.callLater(1.0, again)
    return True


def _kind_of(event: Mapping[str, Any]) -> Kind:
    failure = event.get("log_failure")
    return (
        event["log_level"].name,
        str(event.get("log_namespace", "")),
        str(event.get("log_format") or event.get("log_text") or ""),
        "" if failure is None else getattr(failure.type, "__name__", ""),
    )
