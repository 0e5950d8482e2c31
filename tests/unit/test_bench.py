"""What the bench makes of its samples."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.deliveries import Delivery
from trishula.contract.message import parse
from trishula.runtime.pending import Pending, resolved
from trishula.tools.bench import describe_durability, evaluate, percentile
from trishula.tools.bench_worker import KINDS, Receiver, Result, Task

MS = 1_000_000


@pytest.mark.parametrize(
    ("samples", "share", "value"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.99, 3.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 201)], 0.99, 198.0),
        ([1.0, 2.0], 1.0, 2.0),
        ([1.0, 2.0], 0.0, 1.0),
    ],
)
def test_percentile(samples: list[float], share: float, value: float) -> None:
    assert percentile(samples, share) == value


def test_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_a_sample_with_enough_below_it(samples: list[float], share: float) -> None:
    ordered = sorted(samples)
    value = percentile(ordered, share)
    assert value in samples
    assert sum(one <= value for one in samples) >= share * len(samples) - 1e-9


def test_a_clean_run() -> None:
    sent = array(KINDS, [1000 * MS, 1010 * MS, 1020 * MS, 1030 * MS])
    came = array(KINDS, [1002 * MS, 1014 * MS, 1026 * MS, 1031 * MS])
    sender = Result(connect_ms=[3.0, 5.0], copies=1, warm_up_messages=7, pacing_lag_ms=0.5)
    receiver = Result(connect_ms=[4.0], finished_ns=2000 * MS)
    found = evaluate(sender, sent, came, receiver, [MS, 3 * MS, 2 * MS, 5 * MS])
    assert found.is_clean
    assert (found.messages, found.lost, found.refused, found.duplicates) == (4, 0, 0, 0)
    assert found.success_rate == 1.0
    assert found.throughput_per_s == pytest.approx(4.0)
    assert (found.latency_p50_ms, found.latency_p99_ms, found.latency_max_ms) == (2.0, 6.0, 6.0)
    assert (found.one_way_p50_ms, found.one_way_p99_ms, found.one_way_max_ms) == (2.0, 5.0, 5.0)
    assert (found.connect_ms, found.connect_max_ms) == (4.0, 5.0)
    assert (found.warm_up_messages, found.pacing_lag_max_ms, found.durability) == (7, 0.5, "durable on one node")


def test_a_refused_message_and_a_lost_one() -> None:
    sent = array(KINDS, [MS, 2 * MS, 3 * MS, 4 * MS])
    came = array(KINDS, [2 * MS, 0, 4 * MS, 5 * MS])
    found = evaluate(Result(connect_ms=[1.0]), sent, came, Result(finished_ns=9 * MS), [MS, MS])
    assert not found.is_clean
    assert (found.refused, found.lost, found.success_rate) == (1, 1, 0.5)


def test_what_arrived_without_a_receipt_is_no_success() -> None:
    sent = array(KINDS, [MS, 2 * MS])
    came = array(KINDS, [2 * MS, 0])
    found = evaluate(Result(connect_ms=[1.0]), sent, came, Result(finished_ns=9 * MS), [MS, MS])
    assert (found.refused, found.lost, found.success_rate) == (1, 0, 0.5)


def test_a_run_without_messages() -> None:
    found = evaluate(Result(), array(KINDS), array(KINDS), Result(), [])
    assert (found.messages, found.success_rate, found.throughput_per_s) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("copies", "words"), [(0, "volatile"), (1, "durable on one node"), (2, "durable on two nodes")]
)
def test_durability(copies: int, words: str) -> None:
    assert describe_durability(copies) == words


class Acks:
    """A client that acknowledges at once."""

    def ack(self, tokens: list[str]) -> Pending[list[bool]]:
        return resolved([True] * len(tokens))


def receiver() -> Receiver:
    task = Task("receive", "ws://x/ws", "dc.x", "r", "dc/r", 1, 0.0, 256, 1.0, 1.0, 200)
    found = Receiver(task)
    found.client = Acks()
    return found


def delivery(number: int) -> Delivery:
    wire = {
        "type": "STATUS",
        "id": f"m{number}",
        "from": "dc/s0",
        "to": "dc/r",
        "payload": {"n": number, "t": 0, "x": ""},
    }
    return Delivery(parse(wire), 1, f"{number}.1")


def test_a_message_that_comes_before_word_of_the_warm_ups_end_counts() -> None:
    found = receiver()
    # 0 and 1 were the warm-up; 2 overtakes the line that says so.
    found._deliveries([delivery(0), delivery(1), delivery(2)])
    found.heard("expect 2 2")
    assert (found.measured, found.expected) == (1, 2)
    found._deliveries([delivery(3)])
    assert found.measured == 2
    assert list(found.numbers) == [0, 1, 2, 3]
    assert len(found.one_way_ns) == 4


def test_what_comes_twice_counts_once() -> None:
    found = receiver()
    found.heard("expect 0 2")
    found._deliveries([delivery(0), delivery(0)])
    assert (found.measured, found.result.duplicates) == (1, 1)
