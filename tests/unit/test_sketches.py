"""Sketches of durations: their quantiles, what adding up does, and bytes that are none."""

from __future__ import annotations

import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st

from trishula.watching.sketches import ACCURACY, Sketch, SketchInvalid

durations_ms = st.lists(st.integers(0, 10_000_000) | st.floats(0.001, 1e7), min_size=1, max_size=300)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(durations_ms, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent(values: list[float], part: float) -> None:
    exact = sorted(values)[int(part * (len(values) - 1))]
    assert sketch_of(values).quantile(part) == pytest.approx(exact, rel=ACCURACY * 1.0001, abs=1e-6)


@given(durations_ms, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_it_says_what_the_library_says(values: list[float], part: float) -> None:
    theirs = DDSketch(ACCURACY)
    for value in values:
        theirs.add(value)
    assert sketch_of(values).quantile(part) == pytest.approx(theirs.get_quantile_value(part), rel=1e-9)


@given(durations_ms, durations_ms)
def test_sketches_add_up_and_come_back_from_bytes(one: list[float], other: list[float]) -> None:
    merged = Sketch.of_text(sketch_of(one).text())
    merged.merge(Sketch.decode(sketch_of(other).encode()))
    together = sketch_of(one + other)
    assert merged.count == together.count == len(one) + len(other)
    assert merged.encode() == together.encode()


def test_how_many_are_above_a_bound() -> None:
    sketch = Sketch()
    sketch.add(1.0, 90)
    sketch.add(500.0, 10)
    assert (sketch.above(100.0), sketch.above(0.0), sketch.above(1000.0)) == (10, 100, 0)


def test_an_empty_sketch_has_no_quantile() -> None:
    assert Sketch().quantile(0.99) is None
    assert Sketch.decode(Sketch().encode()).count == 0


@given(st.binary(max_size=60))
def test_bytes_that_are_no_sketch_are_refused_and_never_more_than_that(data: bytes) -> None:
    try:
        Sketch.decode(b"\x01" + data)
    except SketchInvalid as error:
        assert str(error)
    with pytest.raises(SketchInvalid):
        Sketch.decode(b"\x02" + data)
    with pytest.raises(SketchInvalid):
        Sketch.of_text("no base64!")
