"""What is sent when, on lines of any speed."""

from __future__ import annotations

from collections import deque

import pytest

from trishula.session.outflow import Outflow


class Line:
    """A line that carries so many bytes a second, with a round trip beside; the far end answers each ping in order."""

    def __init__(self, bytes_per_s: float, round_trip_s: float = 0.0) -> None:
        self.now_s = 0.0
        self.received: list[bytes] = []
        self.pings = 0
        #: How long a ping waited at most.
        self.longest_s = 0.0
        self._bytes_per_s = bytes_per_s
        self._round_trip_s = round_trip_s
        self._free_s = 0.0
        self._answers: deque[tuple[float, float, bytes]] = deque()
        self._words = iter(range(1, 1_000_000))
        self.outflow = Outflow(self._write, self._ping, lambda size: next(self._words).to_bytes(size, "big"))

    def _write(self, frame: bytes) -> None:
        self.received.append(frame)
        self._free_s = max(self._free_s, self.now_s) + len(frame) / self._bytes_per_s

    def _ping(self, payload: bytes) -> None:
        self.pings += 1
        self._answers.append((max(self._free_s, self.now_s) + self._round_trip_s, self.now_s, payload))

    def send(self, size: int, frame: int = 0) -> None:
        """A message of so many bytes, in the frames that are due."""
        frame = frame or self.outflow.frame_bytes
        for at in range(0, size, frame):
            self.outflow.offer(bytes(min(frame, size - at)), self.now_s)

    def run(self) -> None:
        """Until nothing is under way any more."""
        while self._answers:
            at_s, sent_s, payload = self._answers.popleft()
            self.now_s = max(self.now_s, at_s)
            self.longest_s = max(self.longest_s, self.now_s - sent_s)
            self.outflow.answered(payload, self.now_s)


def test_small_messages_go_out_at_once_and_are_not_marked() -> None:
    line = Line(125_000)
    for _ in range(10):
        line.send(1000)
    assert (len(line.received), line.pings, line.outflow.waiting_bytes) == (10, 0, 0)


@pytest.mark.parametrize("bytes_per_s", [16_000, 125_000, 1_250_000, 125_000_000])
@pytest.mark.parametrize("round_trip_s", [0.0, 0.05, 0.6])
def test_a_megabyte_arrives_whole_and_pings_never_wait_long(bytes_per_s: float, round_trip_s: float) -> None:
    line = Line(bytes_per_s, round_trip_s)
    for _ in range(4):
        line.send(1024 * 1024)
    line.run()
    assert sum(map(len, line.received)) == 4 * 1024 * 1024
    assert line.outflow.waiting_bytes == 0
    # The very first stretch goes out before anything is known of the line.
    first_s = 64 * 1024 / bytes_per_s
    assert line.longest_s <= max(1.2, first_s + 0.1) + round_trip_s


def test_a_fast_line_is_used_and_costs_few_pings() -> None:
    line = Line(125_000_000, 0.02)
    for _ in range(64):
        line.send(1024 * 1024)
        line.run()
    assert line.outflow.window_bytes == 4 * 1024 * 1024
    before = line.pings
    line.send(64 * 1024 * 1024)
    line.run()
    assert line.pings - before <= 64 + 1


def test_small_traffic_does_not_teach_trust_in_a_line() -> None:
    line = Line(125_000)
    for _ in range(2000):
        line.send(1000)
        line.now_s += 0.05
        line.run()
    line.longest_s = 0.0
    line.send(1024 * 1024)
    line.run()
    assert line.longest_s < 1.2


def test_a_line_that_becomes_slow_is_noticed_and_nothing_gets_stuck() -> None:
    line = Line(12_500_000)
    for _ in range(20):
        line.send(1024 * 1024)
        line.run()
    line._bytes_per_s = 50_000
    line.send(1024 * 1024, frame=5000)
    line.run()
    assert line.outflow.waiting_bytes == 0
    assert line.outflow.window_bytes < 100_000


def test_a_pong_that_answers_nothing_opens_no_window() -> None:
    line = Line(1_000)
    line.send(256 * 1024)
    sent = len(line.received)
    line.outflow.answered(b"", 0.0)
    line.outflow.answered((99).to_bytes(12, "big"), 0.0)
    assert len(line.received) == sent
    assert line.outflow.confirmed_bytes == 0


def test_an_answer_stands_for_those_before_it() -> None:
    line = Line(1_000_000)
    line.send(64 * 1024)
    last = line._answers[-1][2]
    line.outflow.answered(last, 0.1)
    assert line.outflow.confirmed_bytes == 64 * 1024
    assert line.outflow.stalled_since_s() is None


def test_whether_something_is_still_moving() -> None:
    line = Line(125_000)
    line.send(256 * 1024)
    position = line.outflow.offered_bytes
    assert line.outflow.is_moving(position)
    assert line.outflow.unsent_bytes == 256 * 1024
    line.run()
    assert not line.outflow.is_moving(position)


def test_who_answers_nothing_has_stalled_since_the_first_mark() -> None:
    line = Line(125_000)
    line.now_s = 5.0
    line.send(256 * 1024)
    assert line.outflow.stalled_since_s() == 5.0


def test_the_end_of_a_connection_passes_nothing() -> None:
    line = Line(125_000)
    line.send(256 * 1024)
    line.outflow.flush()
    assert sum(map(len, line.received)) == 256 * 1024
    assert line.outflow.waiting_bytes == 0


def test_a_closed_one_keeps_nothing() -> None:
    line = Line(125_000)
    line.send(256 * 1024)
    sent = len(line.received)
    line.outflow.close()
    line.send(1024 * 1024)
    line.run()
    assert len(line.received) == sent
    assert line.outflow.waiting_bytes == 0
