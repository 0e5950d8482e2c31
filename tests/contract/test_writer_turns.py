"""In which order the writer of the SQLite store takes what waits: who sends little does not wait for who sends much."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue as Answers
from threading import Event
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.subjects import Gate, InSqlite, draft
from trishula_router.store.messages import State
from trishula_router.store.sqlite.jobs import LARGE_BYTES
from trishula_router.store.sqlite.writer import GROUP_LIMIT, Writer


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[InSqlite]:
    subject = InSqlite(tmp_path)
    yield subject
    subject.close()


class Queue:
    """What is submitted while the writer is held, and in which order, and in which transactions, it was done."""

    def __init__(self, subject: InSqlite) -> None:
        self.subject = subject
        self.done: list[str] = []
        self._statements: list[str] = []
        self._waiting: list[Deferred[Any]] = []
        self._gate = Gate(subject)

    def send(self, agent: str, name: str, size_bytes: int = 10) -> None:
        sent = self.subject.store.append([draft(name, sender=agent, body=b"x" * size_bytes)], 100)
        self.note(sent, name)

    def note(self, done: Deferred[Any], name: str) -> None:
        def told(outcome: Any) -> Any:
            self.done.append(name)
            return outcome

        self._waiting.append(done.addCallback(told))

    def run(self) -> list[str]:
        connection = self.subject.store._writer._connection
        connection.set_trace_callback(self._statements.append)
        self._gate.open()
        for one in self._waiting:
            self.subject.calls.wait(one)
        connection.set_trace_callback(None)
        return self.done

    @property
    def transactions(self) -> int:
        return self._statements.count("COMMIT")


LARGE = LARGE_BYTES + 1
#: Only a writer that would wait for ever takes so long.
PATIENCE_S = 20.0


def test_a_small_send_goes_ahead_of_large_ones_of_others(subject: InSqlite) -> None:
    queue = Queue(subject)
    for number in range(4):
        queue.send("eve", f"large{number}", LARGE)
    queue.send("agni", "small")
    queue.send("dc", "small too")
    assert queue.run() == ["small", "small too", *(f"large{number}" for number in range(4))]


def test_a_large_send_is_passed_for_one_transaction_and_has_one_of_its_own(subject: InSqlite) -> None:
    queue = Queue(subject)
    writer = subject.store._writer
    queue.send("eve", "large0", LARGE)
    queue.send("eve", "large1", LARGE)
    queue.send("agni", "small")
    # As if the small one were taken, and then another came.
    writer._jobs[1].is_next = True
    queue.send("agni", "late")
    assert queue.run() == ["small", "large0", "late", "large1"]
    # With that of the gate.
    assert queue.transactions == 5


def test_a_large_send_is_passed_once_also_by_a_full_transaction(subject: InSqlite) -> None:
    queue = Queue(subject)
    writer = subject.store._writer
    queue.send("eve", "large", LARGE)
    for number in range(GROUP_LIMIT):
        queue.send("agni", f"small{number}")
    # The first transaction takes all the small ones there may be in one; then it is the large one's turn.
    group = writer._next_group()
    assert group is not None
    queue.send("agni", "late")
    assert [job.size_bytes > LARGE_BYTES for job in writer._jobs] == [True, False]
    writer._jobs.extendleft(reversed(group))
    queue.run()


def test_the_sends_of_one_agent_keep_their_order(subject: InSqlite) -> None:
    queue = Queue(subject)
    queue.send("agni", "first", LARGE)
    queue.send("eve", "large", LARGE)
    queue.send("agni", "second")
    queue.send("agni", "third", LARGE)
    queue.send("agni", "fourth")
    assert [name for name in queue.run() if name != "large"] == ["first", "second", "third", "fourth"]


def test_what_is_no_send_passes_nothing_and_is_not_passed(subject: InSqlite) -> None:
    (accepted,) = subject.calls.wait(subject.store.append([draft("before")], 100))
    queue = Queue(subject)
    queue.send("eve", "large", LARGE)
    queue.note(subject.store.settle(accepted.positions, State.DONE, None, 200), "settled")
    queue.note(subject.store.at_positions(accepted.positions), "read")
    queue.send("agni", "small")
    assert queue.run() == ["large", "settled", "read", "small"]


def test_who_waits_is_told_before_the_log_is_moved(subject: InSqlite) -> None:
    """To move it takes the disk's time: an fsync or two, once in some hundred transactions."""
    told = Event()
    tended: list[bool] = []
    ground: Any = subject.store._writer._ground
    tend = ground.tend

    def tend_when_told(connection: sqlite3.Connection, size_bytes: int) -> None:
        tended.append(told.wait(PATIENCE_S))
        tend(connection, size_bytes)

    ground.tend = tend_when_told
    sent = subject.store.append([draft("one", sender="dc", body=b"x")], 100)
    sent.addCallback(lambda _: told.set())
    subject.calls.wait(sent)
    subject.calls.wait(subject.store.append([draft("two", sender="dc", body=b"x")], 100))
    assert tended[0]


def test_what_is_submitted_in_one_turn_of_the_reactor_is_done_together_at_its_end() -> None:
    turns: list[Callable[[], None]] = []
    answers: Answers[Callable[[], None]] = Answers()
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    writer = Writer(connection, None, answers.put, at_turns_end=turns.append)

    def submit(patience_s: float = 0.0) -> Deferred[None]:
        return writer.submit(lambda _: None, patience_s=patience_s)

    patient, other = submit(60.0), submit()
    (end,) = turns
    end()
    answers.get(timeout=PATIENCE_S)()
    assert patient.called and other.called
    # One that has waited long enough takes along what this turn has submitted so far; at its end there is nothing.
    patient = submit(0.05)
    turns[1]()
    other = submit()
    answers.get(timeout=PATIENCE_S)()
    assert patient.called and other.called
    turns[2]()
    # A thread that took that for the end would be over by now.
    writer._thread.join(0.2)
    last = submit()
    turns[3]()
    answers.get(timeout=PATIENCE_S)()
    assert last.called
    closed = writer.close()
    answers.get(timeout=PATIENCE_S)()
    assert closed.called
    turns[4]()
