"""What a command says of a node of an earlier release: such a node has no procedure for it, and refuses it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from trishula.cli.known import ask_newer
from trishula.contract import uris
from trishula.errors import NodeStopping, NotAllowed, ProcedureUnknown, TrishulaError
from trishula.sync import Bus


class Earlier:
    """Answers as a node of an earlier release does, to an operator or to an agent."""

    def __init__(self, refusal: type[TrishulaError], *, is_operator: bool) -> None:
        self._refusal = refusal
        self._is_operator = is_operator

    def request(self, uri: str, *args: Any, timeout: float = 10.0) -> Any:
        if uri != uris.NODE_STATUS:
            raise self._refusal("no")
        if not self._is_operator:
            raise NotAllowed("not for agents")
        return {"node": "agni", "version": "1.9"}


@pytest.mark.parametrize(
    "refusal, is_operator, error, sentence",
    [
        (NodeStopping, True, ProcedureUnknown, "the node agni runs version 1.9, which doesn't answer"),
        (NodeStopping, False, ProcedureUnknown, "it is about to stop, or runs an earlier version"),
        (NotAllowed, False, NotAllowed, "no; a node of an earlier version, which doesn't know trishula.lease.list"),
    ],
)
def test_who_asks_a_node_of_an_earlier_release_is_told_so(
    refusal: type[TrishulaError], is_operator: bool, error: type[TrishulaError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        ask_newer(cast(Bus, Earlier(refusal, is_operator=is_operator)), uris.LEASE_LIST)


def test_what_is_the_operators_is_refused_as_the_node_says_it() -> None:
    with pytest.raises(NotAllowed, match=r"^no$"):
        ask_newer(cast(Bus, Earlier(NotAllowed, is_operator=False)), uris.NODE_MAILBOXES)
