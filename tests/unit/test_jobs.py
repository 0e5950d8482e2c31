"""Which handler the loop's thread is in, as somebody sees it who looks from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trishula.consumer.handlers import Handler
from trishula.consumer.jobs import Jobs
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.runtime.pending import resolved

DELIVERY = Delivery(Message(type="STATUS", id="m-1", to="agni", sender="dc"), 1, "token")
NAMED = "think (STATUS m-1 from dc)"


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(lambda: 0.0, lambda message, for_s: resolved(None), lambda message: resolved(True))


def handler(function: Callable[..., Any]) -> Handler:
    return Handler(function, name="think")


def test_a_plain_handler_is_named_while_it_runs(jobs: Jobs) -> None:
    seen: list[str | None] = []

    def think() -> None:
        seen.append(jobs.at_work(None))

    def fail() -> None:
        think()
        raise ValueError("no")

    jobs.start(handler(think), DELIVERY, (), {})
    jobs.call(handler(think), (), {})
    with pytest.raises(ValueError, match="no"):
        jobs.start(handler(fail), DELIVERY, (), {})
    with pytest.raises(ValueError, match="no"):
        jobs.call(handler(fail), (), {})
    assert seen == [NAMED, "think (a live call)"] * 2
    assert jobs.at_work(None) is None
