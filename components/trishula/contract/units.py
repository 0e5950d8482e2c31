"""Numbers with units as people write them: ``"30s"``, ``"64 KiB"``, and back into words for tables and errors."""

from __future__ import annotations

import re

__all__ = ["parse_bytes", "parse_duration_s", "parse_rate_per_s", "show_bytes", "show_duration"]

_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "kb": 1000, "mb": 1000**2, "gb": 1000**3}


def parse_duration_s(text: object) -> float:
    """Seconds of ``"250ms"``, ``"30s"``, ``"5m"``, ``"2h"``, ``"7d"``.

    A bare number is refused: it would leave the reader of a config to guess its unit.

    Raises:
        ValueError: if ``text`` is anything else.
    """
    match = _NUMBER.match(text) if isinstance(text, str) else None
    if match is None or match[2].lower() not in _SECONDS:
        raise ValueError('it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"')
    return float(match[1]) * _SECONDS[match[2].lower()]


def parse_bytes(text: object) -> int:
    """Bytes of ``"512 B"``, ``"64 KiB"``, ``"1 MiB"``, ``"2 GiB"`` (and the decimal kB, MB, GB).

    Raises:
        ValueError: if ``text`` is anything else.
    """
    match = _NUMBER.match(text) if isinstance(text, str) else None
    if match is None or match[2].lower() not in _BYTES:
        raise ValueError('it must be a size with its unit, such as "64 KiB", "1 MiB" or "2 GiB"')
    return int(float(match[1]) * _BYTES[match[2].lower()])


def parse_rate_per_s(text: object) -> float:
    """A rate in 1/s of ``"50/s"``, ``"600/m"``, ``"100/h"``.

    Raises:
        ValueError: if ``text`` is anything else.
    """
    number, _, unit = text.partition("/") if isinstance(text, str) else ("", "", "")
    match = _NUMBER.match(number)
    if match is None or match[2] or unit.strip() not in ("s", "m", "h"):
        raise ValueError('it must be a rate with its unit, such as "50/s", "600/m" or "100/h"')
    return float(match[1]) / _SECONDS[unit.strip()]


def show_bytes(count: int) -> str:
    """``65536`` → ``"64 KiB"``: the largest binary unit that keeps the number at or above one."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} B"


def show_duration(seconds: float) -> str:
    """``0.0042`` → ``"4.2 ms"``, ``150`` → ``"2.5 min"``: the unit in which the number is easy to say."""
    if seconds < 1:
        return f"{seconds * 1000:.2f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"
