"""What a node tells of agents and messages, typed: newer and older nodes, dates, and answers that are none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trishula.contract.answers import AgentInfo, MessageStatus, agents_in, history_in, states_in
from trishula.errors import TrishulaError

AT_MS = 1_795_850_364_231
AT = datetime(2026, 11, 28, 7, 19, 24, 231000, UTC)


def test_an_agent() -> None:
    (agni,) = agents_in(
        [
            {
                "agent": "agni",
                "presence": "busy",
                "since": AT_MS,
                "reason": None,
                "node": "n1",
                "capabilities": ["deploy"],
                "busy_until": AT_MS + 1000,
                "load": 2,
                "clock_skew_ms": 7,
                "sessions": 1,
                "mood_of_a_newer_node": {"good": True},
            }
        ]
    )
    assert (agni.agent, agni.presence, agni.is_present, agni.node) == ("agni", "busy", True, "n1")
    assert (agni.capabilities, agni.load, agni.clock_skew_ms, agni.sessions) == (("deploy",), 2.0, 7, 1)
    assert abs((agni.since or AT) - AT).total_seconds() < 0.001
    assert agni.since is not None and agni.busy_until is not None
    assert (agni.busy_until - agni.since).total_seconds() == 1.0


def test_an_older_node_tells_less() -> None:
    assert agents_in([{"agent": "dc"}]) == [AgentInfo(agent="dc")]
    assert not AgentInfo(agent="dc").is_present
    assert states_in({"m1": {"state": "done"}}) == {"m1": MessageStatus(id="m1", state="done")}
    assert history_in({}).lives == ()


def test_states() -> None:
    told = {"state": "accepted", "from": "dc", "to": "broadcast", "accepted_at": AT_MS, "recipients": {"agni": "done"}}
    state = states_in({"m1": told})["m1"]
    assert (state.sender, state.recipient, state.is_settled) == ("dc", "broadcast", False)
    assert state.recipients == {"agni": "done"}
    assert state.accepted_at is not None and state.accepted_at.tzinfo is UTC
    assert MessageStatus(id="m1", state="expired").is_settled


def test_a_life_with_the_events_on_one_clock() -> None:
    events = [
        {"seq": 1, "node": "n1", "at": AT_MS, "kind": "accepted", "copies": 1},
        {"seq": 9, "node": "n2", "at": AT_MS + 5002, "kind": "delivered", "clock_ahead_ms": 5000},
    ]
    life = {"id": "m1", "state": "delivered", "type": "COMMAND", "bytes": 77, "events": events}
    history = history_in({"messages": [life], "missing": [{"node": "n3", "held": 5}]})
    (only,) = history.lives
    assert (only.id, only.type, only.size_bytes) == ("m1", "COMMAND", 77)
    first, second = only.events
    assert first.details == {"copies": 1}
    assert first.at is not None and second.at is not None
    assert (second.at - first.at).total_seconds() == pytest.approx(0.002)
    assert history.missing == ({"node": "n3", "held": 5},)


@pytest.mark.parametrize("raw", [None, 7, {"agent": "agni"}, ["agni"], [{"agent": 7}], [{}]])
def test_no_such_answer(raw: object) -> None:
    with pytest.raises(TrishulaError, match=r"can't be read: .*; request\(\) gives it as it came"):
        agents_in(raw)


def test_no_such_history() -> None:
    with pytest.raises(TrishulaError, match=r"can't be read: .*; request\(\) gives it as it came"):
        history_in({"messages": [], "missing": [7]})


def test_no_date() -> None:
    with pytest.raises(TrishulaError, match="since is 1e\\+30, which is no date in milliseconds"):
        agents_in([{"agent": "agni", "since": 1e30}])
