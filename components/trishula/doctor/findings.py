"""Findings: what a check found, in one sentence, and what to do about it, in one line.

A finding is at one of four levels:

===========  ===========================================================================
``ok``       what was looked at is as it should be
``warning``  it works now, and will not for long, or not as well as it could
``fault``    it doesn't work
``skipped``  it could not be looked at; the sentence says why
===========  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "exit_code", "fault", "ok", "skipped", "warning"]


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: the check's name, such as ``disk`` or ``peer agni: link``.
        level: how bad it is.
        sentence: what was found; somebody else's text in it is on one line.
        to_do: what to do; "" if nothing has to be done.
    """

    check: str
    level: Level
    sentence: str
    to_do: str = ""

    def as_map(self) -> dict[str, str]:
        """As ``--json`` and the bundle have it."""
        return {"check": self.check, "level": str(self.level), "sentence": self.sentence, "to_do": self.to_do}


def ok(check: str, sentence: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, sentence)


def warning(check: str, sentence: str, to_do: str) -> Finding:
    """It works, and not for long or not well."""
    return Finding(check, Level.WARNING, sentence, to_do)


def fault(check: str, sentence: str, to_do: str) -> Finding:
    """It doesn't work."""
    return Finding(check, Level.FAULT, sentence, to_do)


def skipped(check: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(check, Level.SKIPPED, why)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if nothing is wrong, 1 if there are warnings, 2 if there are faults; what was skipped doesn't count."""
    levels = {finding.level for finding in findings}
    if Level.FAULT in levels:
        return 2
    return 1 if Level.WARNING in levels else 0
