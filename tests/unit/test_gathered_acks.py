"""Acks that wait for those of the messages behind: how many, how long, and what sends them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock

from trishula.contract import uris
from trishula.messaging.acks import GATHER_S, Settling
from trishula.runtime.pending import Pending


class Link:
    """What was called of a session."""

    def __init__(self) -> None:
        self.called: list[tuple[str, list[Any]]] = []

    def call(self, uri: str, args: Sequence[Any], *_: Any, **__: Any) -> Pending[Any]:
        self.called.append((uri, list(args[0])))
        return Pending()


class Stage:
    """A settling whose owner flushes at the end of each turn in which it was woken."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = Link()
        self.flushes = 0
        self.backlog = 0
        self.settling = Settling(self._wake, lambda: True, lambda: None, self.clock)
        self.settling.backlog = lambda: self.backlog
        self._is_woken = False

    def _wake(self) -> None:
        self._is_woken = True

    def turn(self, after_s: float = 0.0) -> None:
        self.clock.advance(after_s)
        if self._is_woken:
            self._is_woken = False
            self.flushes += 1
            self.settling.flush(self.link)  # type: ignore[arg-type]

    @property
    def acked(self) -> list[list[str]]:
        return [tokens for uri, tokens in self.link.called if uri == uris.MAILBOX_ACK]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_one_that_nothing_follows_goes_at_once(stage: Stage) -> None:
    stage.settling.ack("1")
    stage.turn()
    assert stage.acked == [["1"]]
    assert not stage.clock.getDelayedCalls()


def test_they_go_when_as_many_wait_as_messages(stage: Stage) -> None:
    for number in range(8):
        stage.backlog = 7 - number
        stage.settling.ack(str(number))
        stage.turn()
    # Four of the eight, with which the node sends four more while the agent has three; then half of what is left.
    assert stage.acked == [["0", "1", "2", "3"], ["4", "5"], ["6"], ["7"]]
    assert not stage.clock.getDelayedCalls()


def test_each_turn_has_its_flush_all_the_same_for_what_is_on_record(stage: Stage) -> None:
    stage.backlog = 100
    for number in range(5):
        stage.settling.ack(str(number))
        stage.turn()
    assert stage.flushes == 5
    assert stage.acked == []
    assert not stage.settling.is_empty


def test_what_is_on_record_asks_for_no_flush_until_enough_wait(stage: Stage) -> None:
    stage.backlog = 100
    for number in range(5):
        stage.settling.ack(str(number), True)
        stage.turn()
    assert stage.flushes == 1
    stage.backlog = 6
    stage.settling.ack("5", True)
    stage.turn()
    assert stage.acked == [["0", "1", "2", "3", "4", "5"]]
    stage.backlog = 100
    stage.settling.ack("6", True)
    stage.turn()
    stage.turn(GATHER_S)
    assert stage.acked[1:] == [["6"]]


def test_none_waits_longer_than_the_bound(stage: Stage) -> None:
    stage.backlog = 100
    stage.settling.ack("1")
    stage.turn()
    stage.settling.ack("2")
    stage.turn(GATHER_S * 0.9)
    assert stage.acked == []
    stage.turn(GATHER_S * 0.1)
    assert stage.acked == [["1", "2"]]
    stage.settling.ack("3")
    stage.turn()
    assert stage.acked == [["1", "2"]]
    stage.turn(GATHER_S)
    assert stage.acked == [["1", "2"], ["3"]]


def test_one_that_somebody_waits_for_goes_at_once_with_the_others(stage: Stage) -> None:
    stage.backlog = 100
    stage.settling.ack("1")
    stage.turn()
    stage.settling.ack_all(["2"])
    stage.turn()
    assert stage.acked == [["1", "2"]]


def test_who_moves_to_another_node_leaves_none_behind(stage: Stage) -> None:
    stage.backlog = 100
    stage.settling.ack("1")
    stage.turn()
    stage.settling.flush(stage.link, at_once=True)  # type: ignore[arg-type]
    assert stage.acked == [["1"]]
    assert not stage.clock.getDelayedCalls()


def test_a_lost_session_takes_them_along(stage: Stage) -> None:
    stage.backlog = 100
    stage.settling.ack("1")
    stage.turn()
    stage.settling.disconnected()
    assert not stage.clock.getDelayedCalls()
    stage.turn(GATHER_S)
    assert stage.acked == []
    assert stage.settling.is_empty


def test_what_is_given_back_does_not_wait(stage: Stage) -> None:
    stage.backlog = 100
    stage.settling.ack("1")
    stage.settling.nack("2", "no", True)
    stage.turn()
    assert [uri for uri, _ in stage.link.called] == [uris.MAILBOX_NACK]
