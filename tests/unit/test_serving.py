"""Which capabilities an agent may announce, and be handed messages to. A node on a Clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import CapabilityForbidden
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.serving import grant_command
from trishula_router.store.memory import MemoryStore

DEPLOY = "capability:deploy"
AGENTS = {
    "agni": AgentEntry(serve=("deploy", "host")),
    "dc": AgentEntry(serve=()),
    "old": AgentEntry(),
    "older": AgentEntry(),
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=AGENTS).start()


def announced(rig: Rig, session: int, *capabilities: str, **options: Any) -> str | None:
    """Attach; the sentence if that is refused."""
    try:
        rig.attach(session, capabilities=list(capabilities), **options)
    except CapabilityForbidden as error:
        return error.sentence
    return None


def grant(rig: Rig, agent: str, *capabilities: str) -> None:
    with update_agents(rig.agents_file) as agents:
        agents[agent] = dataclasses.replace(agents[agent], serve=capabilities)


def test_what_is_not_granted_is_refused_as_a_whole_and_noted(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni", operator=True)
    assert announced(rig, dc, "deploy", "web", "deploy") == (
        "options.capabilities names deploy, web, and dc is not granted to serve that; an operator can grant it on the "
        "node with: trishula token grant dc --serve deploy --serve web"
    )
    # It has not attached at all: who thinks to serve and is handed nothing would be a silent loss.
    rig.send(agni, {"id": "m1", "to": "dc"}, {"id": "m2", "to": DEPLOY})
    assert rig.pushed(dc) == []
    assert rig.call(dc, uris.DIRECTORY_GET, "dc")["capabilities"] == []
    (note,) = rig.call(agni, uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert (note["agent"], note["error"]) == ("dc", "trishula.error.capability_forbidden")
    assert announced(rig, dc) is None
    assert rig.ids(dc) == ["m1"]


def test_what_is_granted_is_announced(rig: Rig) -> None:
    agni = rig.join("agni")
    assert announced(rig, agni, "host", "deploy") is None
    assert announced(rig, agni, "host", "web") is not None
    rig.send(rig.join("dc"), {"id": "m1", "to": DEPLOY})
    # The announcement before is what counts.
    assert rig.ids(agni) == ["m1"]


def test_what_an_instance_announces_counts_for_nothing(rig: Rig) -> None:
    script = rig.join("dc")
    assert announced(rig, script, "deploy", instance="x") is None
    rig.send(rig.join("agni"), {"id": "m1", "to": DEPLOY})
    rig.advance(1)
    assert rig.pushed(script) == []


def test_a_grant_counts_at_once(rig: Rig) -> None:
    dc = rig.join("dc")
    assert announced(rig, dc, "web") is not None
    grant(rig, "dc", "web")
    assert announced(rig, dc, "web") is None


def test_a_grant_that_is_withdrawn_counts_from_the_next_message_on(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    assert announced(rig, agni, "deploy", "host") is None
    rig.send(dc, {"id": "m1", "to": DEPLOY, "type": "COMMAND"})
    (delivery,) = rig.pushed(agni)
    grant(rig, "agni", "host")
    rig.advance(1)
    assert rig.call(dc, uris.DIRECTORY_GET, "agni")["capabilities"] == ["host"]
    (receipt,) = rig.send(dc, {"id": "m2", "to": DEPLOY})
    assert "no agent that is present here" in receipt["warning"]
    rig.advance(1)
    assert rig.pushed(agni) == []
    # What it was given is its own to answer.
    (receipt,) = rig.send(agni, {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "m1"})
    assert receipt["status"] == "accepted"
    assert rig.ack(agni, delivery["token"]) == [True]
    grant(rig, "agni", "host", "deploy")
    rig.advance(1)
    assert rig.ids(agni) == ["m2"]


def test_an_agent_of_an_earlier_file_may_serve_what_nobody_else_is_granted(rig: Rig) -> None:
    old, older = rig.join("old"), rig.join("older")
    assert announced(rig, old, "web", "mail") is None
    assert announced(rig, older, "web") is None
    assert announced(rig, old, "deploy") == (
        "options.capabilities names deploy, and old is not granted to serve that; an operator can grant it on the node "
        "with: trishula token grant old --serve deploy"
    )
    status = rig.call(rig.join("agni", operator=True), uris.NODE_STATUS)
    assert status["serve_unwritten"] == ["old", "older"]
    grant(rig, "old", "web", "deploy")
    rig.advance(1)
    # Now it is written down whose that is.
    assert announced(rig, old, "web", "deploy") is None
    assert announced(rig, older, "web") is not None
    rig.send(rig.join("dc"), {"id": "m1", "to": "capability:web"})
    assert (rig.ids(older), rig.ids(old)) == ([], ["m1"])


def test_who_may_serve_it_and_was_not_given_it_may_not_answer_it_yet_and_others_never(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "c1", "to": "capability:host", "type": "COMMAND"})
    answer = {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1"}
    errors = [rig.send(rig.join(name), answer)[0]["error"] for name in ("agni", "old")]
    assert errors == ["trishula.error.answer_early", "trishula.error.answer_refused"]


def test_the_command_that_grants() -> None:
    assert grant_command("agni", ["a", "b", "a"]) == "trishula token grant agni --serve a --serve b"
