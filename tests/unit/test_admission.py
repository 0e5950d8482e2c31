"""Who may stay, and how many of one agent: the exact sentences, on integers of time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import LIMITS, Rig
from trishula.contract import uris
from trishula.errors import ConnectionsExceeded, TokenInvalid
from trishula_router.agents.admission import Admission
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.agents.sessions import Sessions
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.realm import AGENT_ROLE
from trishula_router.store.memory import MemoryStore

TOKEN = "agni.secret"
DIGEST = digest_of(TOKEN)
REVOKED = (
    "the token of agni that this session joined with was revoked, so the session was ended; make a new one with "
    "`trishula token new agni` on the node"
)
OBSERVES = (
    "agni became an observer, which takes no mail, so the session that it had before was ended; whoever looks with its "
    "token joins anew"
)


def write(path: Path, *tokens: TokenEntry) -> None:
    with update_agents(path) as known:
        known.clear()
        known.update({"agni": AgentEntry(tokens=tokens), "dc": AgentEntry()})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "agents.json"
    write(path, TokenEntry(DIGEST, 0.0, expires_at=1000.0))
    return path


class Doorway:
    """Admission, and the sessions that it decides about."""

    def __init__(self, principals: Principals, limit: int = 3) -> None:
        self.sessions = Sessions()
        self.admission = Admission(principals, self.sessions, limit)
        self.sessions.when_joined(self.admission.joined)
        self.ended = self.admission.ended

    def admit(self, agent: str, session: int, digest: str | None, now_s: float) -> None:
        self.admission.admit(agent, session, digest, now_s)

    def joined(self, agent: str, session: int) -> None:
        self.sessions.joined(session, agent, AGENT_ROLE, None, 0)

    def left(self, session: int) -> None:
        self.sessions.left(session)


def here(principals: Principals, limit: int = 3) -> Doorway:
    doorway = Doorway(principals, limit)
    doorway.admit("agni", 1, DIGEST, 0.0)
    doorway.joined("agni", 1)
    return doorway


def test_a_session_with_a_valid_token_stays(path: Path) -> None:
    assert here(Principals(path)).ended(999.0) == []


def test_a_token_that_was_removed_ends_its_session_once(path: Path) -> None:
    principals = Principals(path)
    doorway = here(principals)
    write(path, TokenEntry(digest_of("agni.other"), 0.0))
    assert principals.reload_if_changed()
    assert doorway.ended(1.0) == [(1, REVOKED)]
    assert doorway.ended(2.0) == []


def test_a_token_that_expired_ends_its_session(path: Path) -> None:
    assert here(Principals(path)).ended(1000.0) == [
        (
            1,
            "the token of agni that this session joined with expired at 1970-01-01 00:16:40 UTC, so the session was "
            "ended; make a new one with `trishula token new agni` on the node",
        )
    ]


def test_an_agent_that_was_removed_ends_its_sessions(path: Path) -> None:
    principals = Principals(path)
    doorway = here(principals)
    doorway.joined("dc", 2)
    with update_agents(path) as known:
        del known["agni"]
    principals.reload_if_changed()
    assert doorway.ended(1.0) == [(1, "agni is no registered agent of this node any more, so its session was ended")]


def test_a_session_whose_token_is_not_known_ends_only_with_its_agent(path: Path) -> None:
    doorway = Doorway(Principals(path))
    doorway.joined("agni", 1)
    assert doorway.ended(5000.0) == []


def test_who_left_is_not_ended(path: Path) -> None:
    doorway = here(Principals(path))
    doorway.left(1)
    assert doorway.ended(1000.0) == []


def test_one_too_many_is_refused(path: Path) -> None:
    doorway = here(Principals(path), limit=2)
    doorway.admit("agni", 2, DIGEST, 0.0)
    with pytest.raises(ConnectionsExceeded) as caught:
        doorway.admit("agni", 3, DIGEST, 0.0)
    assert caught.value.sentence == (
        "agni has 2 connections to this node and may have 2 (limits.connections); close one, or try again later"
    )
    assert caught.value.retry_after_s == 3.0
    doorway.admit("dc", 4, DIGEST, 0.0)
    doorway.left(1)
    doorway.admit("agni", 5, DIGEST, 0.0)


def test_who_was_let_in_and_never_joined_counts_for_a_while(path: Path) -> None:
    doorway = Doorway(Principals(path), 1)
    doorway.admit("agni", 1, DIGEST, 0.0)
    with pytest.raises(ConnectionsExceeded):
        doorway.admit("agni", 2, DIGEST, 5.0)
    doorway.admit("agni", 3, DIGEST, 11.0)


# -- in a node ---------------------------------------------------------------------------------------------------------


def join(rig: Rig, session: int) -> None:
    rig.node.door.authenticate("trishula", "agni", {"ticket": TOKEN, "session": session})
    rig.join("agni", session=session)


def test_a_node_ends_the_sessions_of_a_revoked_token_within_a_second(tmp_path: Path) -> None:
    agents = {"agni": AgentEntry(tokens=(TokenEntry(DIGEST, 0.0),)), "dc": AgentEntry()}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    for session in (11, 12):
        join(rig, session)
    rig.advance(5)
    assert rig.outlet.closed == []
    with update_agents(rig.agents_file) as known:
        known["agni"] = replace(known["agni"], tokens=())
    rig.advance(1)
    assert rig.outlet.closed == [(11, TokenInvalid.uri, REVOKED), (12, TokenInvalid.uri, REVOKED)]
    with pytest.raises(TokenInvalid):
        join(rig, 13)
    rig.crash()


def test_a_node_refuses_one_connection_too_many(tmp_path: Path) -> None:
    agents = {"agni": AgentEntry(tokens=(TokenEntry(DIGEST, 0.0),))}
    limits = replace(LIMITS, connections=2)
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents, limits=limits).start()
    for session in (1, 2):
        join(rig, session)
    with pytest.raises(ConnectionsExceeded):
        join(rig, 3)
    rig.leave(1)
    join(rig, 4)
    rig.crash()


def test_who_may_stay_is_asked_once_and_again_when_the_file_changes_or_a_token_expires(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    principals = Principals(path)
    doorway = here(principals)
    asked: list[str] = []
    reason_to_leave = Principals.reason_to_leave

    def counting(self: Principals, name: str, digest: str | None, now_s: float) -> str | None:
        asked.append(name)
        return reason_to_leave(self, name, digest, now_s)

    monkeypatch.setattr(Principals, "reason_to_leave", counting)
    for now_s in range(1, 999):
        assert doorway.ended(float(now_s)) == []
    assert asked == ["agni"]
    write(path, TokenEntry(DIGEST, 0.0, expires_at=1000.0), TokenEntry(digest_of("agni.other"), 0.0))
    principals.reload_if_changed()
    assert doorway.ended(999.0) == []
    assert asked == ["agni"] * 2
    ((session, sentence),) = doorway.ended(1000.0)
    assert (session, "expired" in sentence) == (1, True)


def test_a_session_that_joined_with_a_token_removed_in_that_moment_is_ended(path: Path) -> None:
    principals = Principals(path)
    doorway = here(principals)
    assert doorway.ended(1.0) == []
    doorway.admit("agni", 2, DIGEST, 1.0)
    write(path)
    principals.reload_if_changed()
    assert [session for session, _ in doorway.ended(1.5)] == [1]
    doorway.joined("agni", 2)
    assert [session for session, _ in doorway.ended(2.5)] == [2]


def test_an_agent_that_becomes_an_observer_gets_no_more_mail_by_the_session_that_it_had(tmp_path: Path) -> None:
    """What a session takes from its mailbox and hears of topics is asked for once, when it still was an agent's."""
    agents = {"agni": AgentEntry(tokens=(TokenEntry(DIGEST, 0.0),)), "dc": AgentEntry()}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    join(rig, 11)
    rig.call(11, uris.MAILBOX_ATTACH, {})
    with update_agents(rig.agents_file) as known:
        known["agni"] = replace(known["agni"], observer=True)
    rig.advance(1)
    assert rig.outlet.closed == [(11, TokenInvalid.uri, OBSERVES)]
    # It may look, for as long as it likes.
    join(rig, 12)
    with update_agents(rig.agents_file) as known:
        known["dc"] = replace(known["dc"], observer=True, operator=True)
    rig.advance(5)
    assert len(rig.outlet.closed) == 1
    rig.crash()
