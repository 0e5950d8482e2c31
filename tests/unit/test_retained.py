"""Retained events are bounded, and go with their agent: with Crossbar's own broker."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from autobahn.wamp import message

from trishula_router.agents.quotas import Quotas
from trishula_router.upstream.retained import Retained

from .test_quotas import LIMITS
from .test_requests import Session, Setup

MOST, LIMIT_BYTES = 3, 1000


class Kept(Setup):
    """A router whose retained events are bounded; ``gone`` are agents that are registered no more."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: set[str] = set()
        self.message_bytes = 10
        self.allowed = True
        self.retained = Retained(
            Quotas(replace(LIMITS, retained=MOST)),
            LIMIT_BYTES,
            ("agent",),
            message,
            lambda agent, error: self.refused.append((agent, error)),
            lambda agent: agent not in self.gone,
        )
        assert self.retained.install(SimpleNamespace(_router=self.router))

    def _authorize(self, session: Any, uri: str, action: str, options: Any) -> Any:
        from twisted.internet.defer import succeed

        return succeed({"allow": self.allowed, "disclose": True})

    def retain(self, session: Session, topic: str, size_bytes: int = 10, **more: Any) -> Any:
        self.message_bytes = size_bytes
        event = message.Publish(self.next(), topic, args=["x"], retain=True, acknowledge=True, **more)
        self.broker.processPublish(session, event)
        return self.answer()

    def on(self, topic: str) -> int:
        found = self.broker._subscription_map.get_observation(topic)
        return 0 if found is None else len(found.extra.retained_events)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_an_agent_has_so_many_and_each_takes_the_place_of_the_one_before(kept: Kept) -> None:
    dc = kept.session("dc")
    for topic in ("a", "b", "c", "a"):
        assert isinstance(kept.retain(dc, topic), message.Published)
    assert kept.retain(dc, "d").error == "trishula.error.retained_exceeded"
    assert kept.retain(dc, "a", eligible=[1]).error == "trishula.error.retained_exceeded"
    assert [kept.on(topic) for topic in "abcd"] == [1, 1, 1, 0]
    assert isinstance(kept.retain(kept.session("agni"), "d"), message.Published)


def test_those_for_certain_sessions_are_kept_beside_each_other_and_count(kept: Kept) -> None:
    dc = kept.session("dc")
    for _ in range(MOST):
        assert isinstance(kept.retain(dc, "a", eligible=[1]), message.Published)
    assert kept.on("a") == MOST
    assert kept.retain(dc, "a", eligible=[1]).error == "trishula.error.retained_exceeded"
    # One for everybody takes the place of all.
    assert isinstance(kept.retain(dc, "a"), message.Published)
    assert isinstance(kept.retain(dc, "b"), message.Published)


def test_their_bytes_are_bounded(kept: Kept) -> None:
    dc = kept.session("dc")
    assert isinstance(kept.retain(dc, "a", 900), message.Published)
    assert kept.retain(dc, "b", 200).args == [
        "the retained events of dc would have 1100 bytes together; this node allows 1000 (limits.retained_bytes): "
        "publish it without retain, or retain smaller ones"
    ]
    assert isinstance(kept.retain(dc, "a", 100), message.Published)
    assert isinstance(kept.retain(dc, "b", 200), message.Published)


def test_what_is_denied_counts_for_nobody(kept: Kept) -> None:
    dc, eve = kept.session("dc"), kept.session("eve")
    kept.retain(dc, "a")
    kept.allowed = False
    for _ in range(MOST + 1):
        assert kept.retain(eve, "a").error == "wamp.error.not_authorized"


def test_they_go_with_their_agent(kept: Kept) -> None:
    dc, agni = kept.session("dc"), kept.session("agni")
    kept.subscribe(agni, "a")
    for topic in "ab":
        kept.retain(dc, topic)
    kept.retain(agni, "c")
    kept.gone.add("dc")
    kept.retained.forget_departed()
    assert [kept.on(topic) for topic in "abc"] == [0, 0, 1]
    # Of "a" there is a subscriber.
    assert kept.broker._subscription_map.get_observation("a") is not None
    assert kept.broker._subscription_map.get_observation("b") is None


def test_another_crossbar_is_left_as_it_is() -> None:
    retained = Retained(Quotas(LIMITS), 1, (), message, lambda agent, error: None, lambda agent: True)
    assert not retained.install(SimpleNamespace())
