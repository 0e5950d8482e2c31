"""Numbers with units, in and out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.units import parse_bytes, parse_duration_s, parse_rate_per_s, show_bytes, show_duration

DURATION_RULE = 'it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"'
BYTES_RULE = 'it must be a size with its unit, such as "64 KiB", "1 MiB" or "2 GiB"'


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("1.5s", 1.5),
        ("5m", 300),
        ("5min", 300),
        ("2h", 7200),
        ("7d", 604800),
        (" 3 S ", 3),
        ("0s", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "30", 30, 30.0, None, "s", "-1s", "1e3s", "1 s 2", "nan s", "30 sec", "1,5s", "٣s\n x", True]
)
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(DURATION_RULE)}$"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512 B", 512),
        ("64 KiB", 65536),
        ("64kib", 65536),
        ("1 MiB", 1 << 20),
        ("1.5 GiB", 3 << 29),
        ("2 kB", 2000),
        ("3 MB", 3 * 10**6),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "64", 64, None, "KiB", "-1 KiB", "1 TiB", "1 MiBs"])
def test_not_sizes(text: object) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(BYTES_RULE)}$"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (65536, "64 KiB"),
        (1 << 20, "1 MiB"),
        (5 << 30, "5 GiB"),
    ],
)
def test_sizes_in_words(count: int, text: str) -> None:
    assert show_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ms"),
        (0.0042, "4.20 ms"),
        (0.25, "250 ms"),
        (1.0, "1.0 s"),
        (30, "30.0 s"),
        (150, "2.5 min"),
        (7200, "2.0 h"),
        (172800, "2.0 d"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@given(st.integers(0, 1 << 40))
def test_a_shown_size_is_near_the_size(count: int) -> None:
    assert parse_bytes(show_bytes(count)) == pytest.approx(count, rel=0.05, abs=1)


@pytest.mark.parametrize(
    ("text", "per_s"), [("50/s", 50.0), ("600/m", 10.0), ("36/h", 0.01), (" 1.5 / s ", 1.5), ("0/s", 0.0)]
)
def test_a_rate(text: str, per_s: float) -> None:
    assert parse_rate_per_s(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["50", "50/d", "/s", "50 s/s", "-1/s", "1/s/s", 50, None, "", "x/s"])
def test_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match=r'it must be a rate with its unit, such as "50/s", "600/m" or "100/h"'):
        parse_rate_per_s(text)
