"""The registry of sessions: what it knows at each stage, and whom it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula_router.agents import sessions as sessions_module
from trishula_router.agents.file import AgentEntry
from trishula_router.agents.sessions import Session, Sessions, Stage
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore

TOKEN = "agni.secret"


class Told:
    """What a registry told, in order."""

    def __init__(self, sessions: Sessions) -> None:
        self.all: list[tuple[str, int]] = []
        sessions.when_joined(lambda session: self.all.append(("joined", session.number)))
        sessions.when_left(lambda session: self.all.append(("left", session.number)))


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def told(sessions: Sessions) -> Told:
    return Told(sessions)


def join(sessions: Sessions, number: int, agent: str = "agni", now: int = 0) -> Session:
    return sessions.joined(number, agent, "agent", None, now)


def test_a_session_goes_through_its_stages_and_is_told_of_once(sessions: Sessions, told: Told) -> None:
    session = sessions.authenticated(1, "agni", 2.0, token_digest="d", client_ip="192.0.2.7")
    assert (session.stage, told.all, sessions.count) == (Stage.AUTHENTICATED, [], 0)
    assert list(sessions.awaited()) == [session]
    assert (list(sessions.all()), list(sessions.of_agent("agni")), sessions.staying("agni")) == ([], [], 1)
    assert sessions.joined(1, "agni", "operator", None, 7) is session
    assert (session.role, session.joined_at, session.client_ip) == ("operator", 7, "192.0.2.7")
    # By its first call or by the news, whichever comes first.
    sessions.joined(1, "agni", "operator", "192.0.2.7", 8)
    assert (session.stage, session.joined_at, told.all) == (Stage.JOINED, 7, [("joined", 1)])
    assert (list(sessions.awaited()), list(sessions.all()), sessions.count) == ([], [session], 1)
    sessions.leaving(1)
    assert (session.stage, sessions.staying("agni"), list(sessions.of_agent("agni"))) == (Stage.LEAVING, 0, [session])
    sessions.left(1)
    sessions.left(1)
    assert (session.stage, told.all) == (Stage.GONE, [("joined", 1), ("left", 1)])
    assert (sessions.get(1), sessions.is_gone(1), sessions.count, list(sessions.of_agent("agni"))) == (
        None,
        True,
        0,
        [],
    )


def test_no_stage_is_gone_back_to(sessions: Sessions) -> None:
    session = join(sessions, 1)
    sessions.leaving(1)
    session.advance(Stage.ATTACHED)
    assert session.stage is Stage.LEAVING
    join(sessions, 1)
    assert session.stage is Stage.LEAVING


def test_sessions_of_an_agent_are_in_the_order_of_joining(sessions: Sessions) -> None:
    sessions.authenticated(1, "agni", 0.0)
    sessions.authenticated(2, "agni", 0.1)
    join(sessions, 2)
    join(sessions, 1)
    assert [session.number for session in sessions.of_agent("agni")] == [2, 1]
    assert sessions.is_older(2, 1)
    assert not sessions.is_older(1, 2)
    assert not sessions.is_older(1, 1)
    assert not sessions.is_older(1, 3)
    assert not sessions.is_older(3, 1)


def test_who_never_joined_or_was_never_known_is_told_of_to_nobody(sessions: Sessions, told: Told) -> None:
    session = sessions.authenticated(1, "agni", 0.0)
    sessions.withdrawn(session)
    assert (sessions.staying("agni"), sessions.is_gone(1), session.stage) == (0, False, Stage.GONE)
    sessions.authenticated(2, "agni", 0.0)
    sessions.left(2)
    sessions.left(3)
    assert told.all == []
    assert sessions.is_gone(2)
    assert sessions.is_gone(3)


def test_of_those_that_are_gone_the_last_are_remembered(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "_GONE_REMEMBERED", 2)
    for number in (1, 2, 3):
        sessions.left(number)
    assert [sessions.is_gone(number) for number in (1, 2, 3)] == [False, True, True]


# -- in a node ---------------------------------------------------------------------------------------------------------


def records(rig: Rig) -> list[tuple[str, Any]]:
    """What the journal says of sessions."""
    found = result_of(rig.store.records(after=0, limit=1000))
    return [(record.kind, json.loads(record.facts)) for record in found if record.kind in (Kind.JOINED, Kind.LEFT)]


def test_a_first_call_that_overtakes_the_news_joins_its_session_with_all_that_is_known(tmp_path: Path) -> None:
    agents = {"agni": AgentEntry(tokens=(TokenEntry(digest_of(TOKEN), 0.0),))}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    rig.node.door.authenticate(
        "trishula", "agni", {"ticket": TOKEN, "session": 77, "transport": {"peer": "tcp4:192.0.2.7:1"}}
    )
    rig._agent_of[77] = ("agni", "agent")
    rig.attach(77)
    rig.node.session_joined("agni", 77, "agent", "192.0.2.7")
    rig.leave(77)
    assert rig.node.measures.joins == 1
    assert records(rig) == [
        ("joined", {"agent": "agni", "session": 77, "role": "agent", "address": "192.0.2.7"}),
        ("left", {"agent": "agni", "session": 77}),
    ]
    rig.crash()


def test_a_beat_that_waited_for_the_store_is_no_life_of_a_session_that_left_meanwhile(tmp_path: Path) -> None:
    """A call goes on when its session is gone; a session that nobody will ever say good-bye for must not come of it."""
    store = HeldStore(MemoryStore("epoch-1"))
    rig = Rig(tmp_path, store, Clock()).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.advance(2.0)
    store.holding = True
    answer = {"type": "RESULT", "id": "r1", "to": "dc", "reply_to": "unknown"}
    sent = rig.begin(agni, uris.MAILBOX_SEND, [answer, {"type": "HEARTBEAT", "id": "h1", "to": "dc"}])
    assert not sent.called
    rig.leave(agni)
    store.holding = False
    store.let_all()
    assert [receipt["status"] for receipt in result_of(sent)] == ["accepted", "accepted"]
    rig.advance(1.0)
    entry = rig.call(dc, uris.DIRECTORY_GET, "agni")
    assert (entry["presence"], entry["sessions"]) == ("offline", 0)
    rig.crash()
