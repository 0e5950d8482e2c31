"""The part of a connection that takes no more than its share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from trishula_router.realm import AGENT_ROLE, LINK_ROLE
from trishula_router.upstream.fair_share import TurnTaking
from trishula_router.upstream.turns import Turns


class Connection(TurnTaking):
    def __init__(self, session: Any) -> None:
        self.rests: list[tuple[str, float]] = []
        self.turns = cast(Turns, SimpleNamespace(rest=lambda owner, for_s: self.rests.append((owner, for_s))))
        self._session = session


def of(role: str, number: int | None = 1) -> Connection:
    return Connection(SimpleNamespace(_session_id=number, _authid="eve", _authrole=role))


@pytest.mark.parametrize("role", [AGENT_ROLE, LINK_ROLE])
def test_whoevers_frames_take_long_to_read_rests_also_a_peer(role: str) -> None:
    connection = of(role)
    connection.frame_took(0.02)
    assert connection.rests == []
    connection.frame_took(0.125)
    ((owner, for_s),) = connection.rests
    assert owner == "eve"
    assert for_s == pytest.approx(10.0)


def test_strangers_have_small_frames() -> None:
    for connection in (of(AGENT_ROLE, None), Connection(None)):
        connection.frame_took(1.0)
        assert connection.rests == []
