"""Grants: what an agent may do beside what every agent may, and until when. Policy only: no I/O.

An agent's record has four lists of them, one for each *act*:

=============  =====================================================================
``send``       to whom it may send: ``*``, ``broadcast``, agents, capabilities
``call``       what it may call: ``*``, an agent, or ``agent.procedure``
``serve``      which capabilities it may announce: ``*``, or their names
``subscribe``  whose topics it may hear: ``*``, an agent, or ``agent.topic``
=============  =====================================================================

A grant of a list is a text, which holds for ever, or a map with an end and a reason, a *timed* one::

    "call": ["dc", {"grant": "rushabdev.restart", "until": "2026-12-01T08:00:00Z", "reason": "the move"}]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["ACTS", "ANYBODY", "TimedGrant", "covers_all", "covers_name", "held", "next_end_s"]

ACTS = ("send", "call", "serve", "subscribe")
#: The grant that covers every agent.
ANYBODY = "*"


@dataclass(frozen=True, slots=True)
class TimedGrant:
    """A grant that ends, or that has a reason, or both.

    Attributes:
        act: one of :data:`ACTS`.
        grant: what would stand in the list.
        until: when it ends, seconds since the epoch; ``None``: never.
        reason: why it was given, in one line.
    """

    act: str
    grant: str
    until: float | None = None
    reason: str | None = None

    def is_over(self, now_s: float) -> bool:
        """Whether its end has come."""
        return self.until is not None and now_s >= self.until

    def __str__(self) -> str:
        """In words, for people."""
        end = "" if self.until is None else f"until {datetime.fromtimestamp(self.until, UTC):%Y-%m-%dT%H:%M:%SZ}"
        return f"{self.grant} ({': '.join(part for part in (end, self.reason or '') if part)})"


def held(lasting: tuple[str, ...], timed: Iterable[TimedGrant], act: str, now_s: float) -> tuple[str, ...]:
    """The grants for an act that hold now, each once."""
    return tuple(dict.fromkeys((*lasting, *(one.grant for one in timed if one.act == act and not one.is_over(now_s)))))


def next_end_s(timed: Iterable[TimedGrant], now_s: float) -> float:
    """When the next of the grants ends; ``inf`` if none does."""
    ends = (one.until for one in timed if one.until is not None and one.until > now_s)
    return min(ends, default=float("inf"))


def covers_name(grants: Iterable[str], agent: str, name: str) -> bool:
    """Whether grants such as ``*``, ``agent`` and ``agent.name`` cover something of an agent."""
    return any(grant in (ANYBODY, agent, f"{agent}.{name}") for grant in grants)


def covers_all(grants: tuple[str, ...], others: Iterable[str]) -> bool:
    """Whether grants cover at least what others do."""
    return all(covers_name(grants, *_parts(other)) for other in others)


def _parts(grant: str) -> tuple[str, str]:
    agent, _, name = grant.partition(".")
    return agent, name
