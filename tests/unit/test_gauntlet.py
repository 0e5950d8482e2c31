"""What the gauntlet of mail for models counts, on a system in memory that errs where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks import gauntlet
from tests.benchmarks.gauntlet import HEAD, Gauntlet, Score, line
from tests.benchmarks.peers.mail_systems import Mailbox, Seen, System
from tests.benchmarks.peers.mcp_wire import McpClient, NoAnswer, NoServer, ToolFailed, messages_in
from trishula_drill.proxy import free_port


class Memory(System):
    """Keeps mail in memory.

    Attributes:
        loses, doubles: every so-manieth delivery; 0: none.
        unanswered: every so-manieth send is stored and has no answer.
    """

    def __init__(self, loses: int = 0, doubles: int = 0, unanswered: int = 0) -> None:
        super().__init__(Path(), ["a", "b", "c"])
        self.loses, self.doubles, self.unanswered = loses, doubles, unanswered
        self.runs, self.killed = False, 0
        self.lock = threading.Lock()
        self.sends = self.deliveries = self.ids = 0
        self.mail: dict[str, list[Seen]] = {name: [] for name in self._names}
        self.held: dict[str, list[str]] = {}
        #: How many may have a file alone.
        self.holders = 1

    def start(self) -> None:
        self.runs = True

    def kill(self) -> None:
        self.runs = False
        self.killed += 1

    def mailboxes(self) -> list[Mailbox]:
        return [_InMemory(self, name) for name in self._names]

    def deliver(self, to: str, mark: str) -> None:
        self.deliveries += 1
        if self.loses and self.deliveries % self.loses == 0:
            return
        for _ in range(2 if self.doubles and self.deliveries % self.doubles == 0 else 1):
            self.ids += 1
            self.mail[to].append((str(self.ids), mark))


class _InMemory(Mailbox):
    def __init__(self, system: Memory, name: str) -> None:
        self.name = name
        self._system = system

    def _check(self) -> None:
        if not self._system.runs:
            raise NoServer("nobody listens")

    def send(self, to: Sequence[str], text: str) -> None:
        self._check()
        with self._system.lock:
            self._system.sends += 1
            for one in to or [name for name in self._system.mail if name != self.name]:
                self._system.deliver(one, text.split()[0])
            if self._system.unanswered and self._system.sends % self._system.unanswered == 0:
                raise NoAnswer("the line broke")

    def read(self) -> list[Seen]:
        self._check()
        with self._system.lock:
            found, self._system.mail[self.name] = self._system.mail[self.name], []
        return found

    def finds(self, mark: str) -> bool:
        return mark != "mark000001"

    def claims(self, path: str) -> bool:
        self._check()
        with self._system.lock:
            those = self._system.held.setdefault(path, [])
            if len(those) < self._system.holders:
                those.append(self.name)
            return self.name in those


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauntlet, "PATIENCE_S", 0.5)
    monkeypatch.setattr(gauntlet, "_AGAIN_S", 0.01)
    monkeypatch.setattr(gauntlet, "EVERY_S", 0.02)


def run(part: str, system: Memory) -> Score:
    system.start()
    return Gauntlet(system, 0.3).run(part)


def test_a_system_that_keeps_all_of_it_is_given_that() -> None:
    for part, accepted in {"pipeline": 15, "storm": 15, "one inbox": 500, "broadcast": 20}.items():
        score = run(part, Memory())
        assert (score.accepted, score.failed, score.refused, score.lost, score.twice) == (accepted, 0, 0, 0, 0), part
        assert score.send_ms and score.read_ms


def test_what_is_lost_or_read_twice_is_counted() -> None:
    assert run("pipeline", Memory(loses=5)).lost == 3
    assert run("broadcast", Memory(loses=5)).lost == 4
    score = run("pipeline", Memory(doubles=5))
    assert (score.lost, score.twice) == (0, 3)


def test_a_file_has_one_holder_and_not_none_nor_two() -> None:
    system = Memory()
    for holders, counted in {1: (5, 0, 0), 0: (0, 5, 0), 2: (10, 0, 5)}.items():
        system.held.clear()
        system.holders = holders
        score = run("claims", system)
        assert (score.accepted, score.lost, score.twice) == counted
        assert len(score.send_ms) == 15


def test_a_send_without_an_answer_is_repeated_and_may_be_read_twice() -> None:
    score = run("pipeline", Memory(unanswered=6))
    assert (score.accepted, score.refused, score.lost) == (15, 0, 0)
    # Of 17 sends two had no answer, though both were stored; they may have been of one text.
    assert score.failed == 2
    assert score.twice in (1, 2)
    assert score.words == {"NoAnswer: the line broke": 2}


def test_what_is_done_later_counts_altogether() -> None:
    system = Memory()
    system.start()
    one = Gauntlet(system, 0.3)
    assert one.run("pipeline").twice == 0
    with system.lock:
        system.deliver("a", "mark000001")
        system.deliver("b", "mark000001")
        system.deliver("c", "mark000001")
    assert one.run("broadcast").twice == 0
    score = one.altogether()
    assert (score.accepted, score.lost, score.twice) == (15 + 20, 0, 1)


def test_what_is_never_accepted_is_not_lost() -> None:
    score = run("pipeline", Memory(unanswered=1))
    assert (score.accepted, score.refused, score.lost) == (0, 15, 0)


def test_a_crash_comes_in_between_and_all_go_on() -> None:
    system = Memory()
    score = run("crash", system)
    assert system.killed == 1
    assert score.accepted > 0
    assert (score.refused, score.lost, score.twice) == (0, 0, 0)


def test_a_search_that_finds_nothing_has_failed() -> None:
    system = Memory()
    system.start()
    one = Gauntlet(system, 0.3)
    one.run("broadcast")
    assert one.run("search").failed == 0
    other = Gauntlet(system, 0.3)
    other._send(0, [])
    assert other.run("search").words == {"ToolFailed: the search did not find a message that was accepted": 1}


def test_the_table_fits_a_terminal() -> None:
    score = Score(accepted=12_345, failed=1234, lost=1234, twice=1234, send_ms=[12_345.0], read_ms=[12_345.0])
    assert len(line("broadcast", "agent mail", score)) == len(HEAD) <= 80
    assert line("search", "TRISHULA", Score()).split() == ["search", "TRISHULA", "0", "0", "0", "0", "–", "–"]


def test_an_answer_is_json_or_a_stream_of_events() -> None:
    assert messages_in('{"id": 1}') == [{"id": 1}]
    assert messages_in('event: message\r\ndata: {"id": 1}\r\n\r\nevent: message\r\ndata: {"id": 2}\r\n\r\n') == [
        {"id": 1},
        {"id": 2},
    ]
    assert messages_in("") == []


def test_where_nobody_listens_nothing_was_done() -> None:
    with pytest.raises(NoServer):
        McpClient(free_port(), "/mcp").call("send")
    assert not issubclass(ToolFailed, NoAnswer)
