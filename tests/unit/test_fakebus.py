"""The fake bus plays the real one: the same verbs with the same arguments."""

from __future__ import annotations

import inspect

import pytest

from tests.support.fakebus import FakeBus
from trishula.sync import Bus

VERBS = ["send", "call_with", "rpc_with", "cancel", "request", "fetch", "ack", "subscribe"]


@pytest.mark.parametrize("verb", VERBS)
def test_signature(verb: str) -> None:
    real, fake = inspect.signature(getattr(Bus, verb)), inspect.signature(getattr(FakeBus, verb))
    assert fake == real
