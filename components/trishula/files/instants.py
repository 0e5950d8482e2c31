"""Instants as files have them: ISO 8601, or seconds or milliseconds since the epoch."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

__all__ = ["INSTANT_RULE", "read_instant", "show_instant"]

INSTANT_RULE = "a time of ISO 8601, such as 2026-02-10T00:02:00Z, or seconds or milliseconds since the epoch"
#: As seconds that is the year 5138, as milliseconds March 1973: nobody means the one by the other.
_LEAST_MS = 100_000_000_000
#: What the contract takes.
_MOST_MS = 2**53 - 1
#: The end of the year 9999, of which ISO 8601 has the last four digits.
_LAST_ISO_MS = 253_402_300_800_000
_NUMBER = re.compile(r"\d+(\.\d+)?\Z")


def read_instant(value: object) -> int:
    """Milliseconds since the epoch; a time without a zone is UTC.

    Raises:
        ValueError: it is no instant.
    """
    if isinstance(value, str) and _NUMBER.match(value) and len(value) >= 9:
        # A short number would be a year or a date.
        value = float(value) if "." in value else int(value)
    if isinstance(value, str):
        found = datetime.fromisoformat(value.strip())
        since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
        at_ms = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        at_ms = int(value) if value >= _LEAST_MS else round(value * 1000)
    else:
        raise ValueError(f"it must be {INSTANT_RULE}")
    if not 0 <= at_ms <= _MOST_MS:
        raise ValueError(f"it must be {INSTANT_RULE}, from 1970 on")
    return at_ms


def show_instant(at_ms: int) -> str | int:
    """``2026-02-10T00:02:00.123Z``; of an instant that ISO 8601 has no four digits for, the milliseconds."""
    if at_ms >= _LAST_ISO_MS:
        return at_ms
    seconds, left_ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{left_ms:03d}Z"
