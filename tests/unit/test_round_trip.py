"""What the router does to a message of the node to itself."""

from __future__ import annotations

from typing import Any

import pytest
from autobahn.wamp.exception import ApplicationError, TransportLost
from twisted.internet.defer import Deferred, fail, succeed

from tests.support.stores import result_of
from trishula.errors import NodeFailed
from trishula_router.upstream.round_trip import RoundTrip


class Session:
    """The node's session: answers calls with what a test says."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def call(self, uri: str, told: Any) -> Deferred[Any]:
        return fail(self._answer) if isinstance(self._answer, Exception) else succeed(told)


def test_what_comes_back_is_given() -> None:
    assert result_of(Deferred.fromCoroutine(RoundTrip(Session(None))(["it"]))) == ["it"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ApplicationError("wamp.error.no_such_procedure", "no callee registered"), "no callee registered"),
        (TransportLost(), "TransportLost"),
    ],
)
def test_a_router_that_ends_is_told_in_a_sentence(error: Exception, said: str) -> None:
    with pytest.raises(NodeFailed, match=f"the router does not bring it back .*{said}.*; restart the node"):
        result_of(Deferred.fromCoroutine(RoundTrip(Session(error))(["it"])))
