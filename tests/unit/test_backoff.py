"""The pause before another attempt: grows, is capped, and its chance is the caller's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.runtime.backoff import Backoff

RECONNECT = Backoff(first_s=0.1, factor=2.0, cap_s=5.0, jitter=0.2)


@pytest.mark.parametrize(
    ("failures", "pause_s"),
    [(0, 0.1), (1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (5, 3.2), (6, 5.0), (7, 5.0), (64, 5.0), (10**9, 5.0)],
)
def test_it_doubles_up_to_its_cap(failures: int, pause_s: float) -> None:
    assert RECONNECT.pause_s(failures, lambda: 0.0) == pytest.approx(pause_s)


def test_jitter_only_shortens() -> None:
    assert RECONNECT.pause_s(0, lambda: 0.5) == pytest.approx(0.09)
    assert RECONNECT.pause_s(9, lambda: 0.5) == pytest.approx(4.5)


def test_without_jitter_chance_has_no_part() -> None:
    policy = Backoff(first_s=1.0, factor=3.0, cap_s=10.0, jitter=0.0)
    assert [policy.pause_s(n, lambda: 0.99) for n in range(4)] == [1.0, 3.0, 9.0, 10.0]


@given(st.integers(0, 10**6), st.floats(0.0, 1.0, exclude_max=True))
def test_never_zero_never_over_the_cap(failures: int, chance: float) -> None:
    assert 0.08 <= RECONNECT.pause_s(failures, lambda: chance) <= 5.0
