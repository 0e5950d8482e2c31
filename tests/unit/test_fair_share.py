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


@pytest.mark.parametrize(("role", "rests_s"), [(AGENT_ROLE, 10.0), (LINK_ROLE, 0.5)])
def test_whoevers_frames_take_long_to_read_rests_a_peer_not_for_long(role: str, rests_s: float) -> None:
    connection = of(role)
    connection.frame_took(0.02)
    assert connection.rests == []
    connection.frame_took(0.125)
    ((_, for_s),) = connection.rests
    assert for_s == pytest.approx(rests_s)


@pytest.mark.parametrize(("role", "rests_s"), [(AGENT_ROLE, 1.0), (LINK_ROLE, 0.5)])
def test_whoevers_large_frame_is_refused_rests_however_quickly_that_was(role: str, rests_s: float) -> None:
    connection = of(role)
    connection.frame_took(0.0, is_refused=True)
    ((_, for_s),) = connection.rests
    assert for_s == rests_s
    stranger = of(role, None)
    stranger.frame_took(0.0, is_refused=True)
    assert stranger.rests == []


def test_a_link_is_not_the_agent_of_its_name() -> None:
    owners = set()
    for role in (AGENT_ROLE, LINK_ROLE):
        connection = of(role)
        connection.frame_took(0.125)
        owners.add(connection.rests[0][0])
    assert "eve" in owners
    assert len(owners) == 2


def test_strangers_have_small_frames() -> None:
    for connection in (of(AGENT_ROLE, None), Connection(None)):
        connection.frame_took(1.0)
        assert connection.rests == []
