"""Whatever an observer may ask or hear: nothing of what any message holds is in it. A test over the whole list.

The reason of a dead letter is no payload, and observers see it: ``deploy/docs/howto/dashboard.rst`` says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, MessageUnknown, NotAllowed, TrishulaError
from trishula_router.agents.authorizer import ACTIONS, OBSERVERS_ASK, Authorizer
from trishula_router.agents.file import AgentEntry
from trishula_router.realm import AGENT_ROLE
from trishula_router.store.memory import MemoryStore

#: In every part of a message that its sender alone chooses but its id, and in its answer.
SECRET = "hush-7c1d"

#: What each may be asked, so that it tells most. A procedure that observers may ask has a line here.
QUESTIONS: dict[str, list[tuple[Any, ...]]] = {
    uris.DIRECTORY_LIST: [()],
    uris.DIRECTORY_GET: [("agni",), ("dc",)],
    uris.DIRECTORY_FIND: [({},), ({"presence": "online"},)],
    uris.DIRECTORY_BEAT: [({"sent_at": 1_770_000_000_000},)],
    uris.LEASE_LIST: [()],
    uris.AUDIT_QUERY: [
        ({},),
        ({"limit": 1000, "node": "*"},),
        ({"agent": "dc"},),
        ({"id": "waits"},),
        ({"type": "COMMAND"},),
        ({"outcome": "dead"},),
        ({"outcome": "done"},),
        ({"kinds": ["accepted", "done", "dead", "nacked"]},),
        ({"subject": SECRET},),
        ({"subject": "h"},),
        ({"procedure": "do"},),
    ],
    uris.AUDIT_WHY: [(one,) for one in ("waits", "runs", "done", "dead", "cancelled", "refused", "nobody")],
    uris.NODE_STATUS: [()],
    uris.NODE_MAILBOXES: [(), ({},), ({"agent": "agni"},)],
    uris.NODE_READY: [()],
    uris.NODE_OBJECTIVES: [(), ({},)],
    uris.NODE_FALLBACK: [()],
    uris.ADMIN_DEAD_LIST: [({},), ({"agent": "agni", "limit": 1000},)],
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    agents = {"wall": AgentEntry(observer=True), "dc": AgentEntry(), "agni": AgentEntry(serve=("*",))}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni, capabilities=["host"], window=3)
    told = {"to": "agni", "subject": f"about {SECRET}", "payload": {SECRET: [SECRET]}, "traceparent": None}
    told.pop("traceparent")
    command = {"type": "COMMAND", "procedure": "do", "payload": {"args": [SECRET], "kwargs": {SECRET: 1}}}
    for name in ("done", "dead", "runs"):
        rig.send(dc, {"id": name, **told, **(command if name == "done" else {})})
    done, dead, _ = rig.pushed(agni)
    rig.send(agni, {"type": "RESULT", "id": "answer", "to": "dc", "reply_to": "done", "payload": SECRET})
    assert rig.ack(agni, done["token"]) == [True]
    rig.nack(agni, dead["token"], "it failed", requeue=False)
    rig.attach(agni, capabilities=["host"], window=1)
    for name in ("waits", "cancelled"):
        rig.send(dc, {"id": name, **told})
    rig.call(dc, uris.MAILBOX_CANCEL, ["cancelled"])
    rig.send(dc, {"id": "refused", **told, "to": "nobody"})
    rig.advance(2)
    yield rig
    rig.stop()


def test_each_question_that_an_observer_may_ask_is_tried() -> None:
    assert set(QUESTIONS) == set(OBSERVERS_ASK)


def texts_in(value: Any) -> str:
    return json.dumps(value, default=lambda other: repr(other))


@pytest.mark.parametrize("uri", sorted(OBSERVERS_ASK))
def test_what_it_is_answered_has_nothing_of_what_a_message_holds(rig: Rig, uri: str) -> None:
    wall = rig.join("wall")
    answers = 0
    for args in QUESTIONS[uri]:
        try:
            answer = rig.call(wall, uri, *args)
        except TrishulaError as error:
            # Who asks by what messages hold learns by the answer what they hold.
            assert isinstance(error, NotAllowed | ArgumentInvalid | MessageUnknown), error
            assert SECRET not in error.sentence or args[0].get("subject") == SECRET
            continue
        answers += 1
        assert SECRET not in texts_in(answer), (uri, args)
    assert answers


def test_there_is_something_to_see(rig: Rig) -> None:
    # Otherwise the test above would hold of an empty node.
    dc = rig.join("dc")
    assert SECRET in texts_in(rig.call(dc, uris.MAILBOX_ANSWER, "done"))
    wall = rig.join("wall")
    assert rig.call(wall, uris.AUDIT_WHY, "dead")["messages"][0]["state"] == "dead"
    assert [one["id"] for one in rig.call(wall, uris.ADMIN_DEAD_LIST, {})["letters"]] == ["dead"]


def decided(rig: Rig, uri: str, action: str) -> bool:
    session = {"authid": "wall", "authrole": AGENT_ROLE, "session": 1}
    return Authorizer(rig.node.principals).decide(session, uri, action, {}) is None


def test_it_may_use_nothing_else_of_the_node_and_hear_events_alone(rig: Rig) -> None:
    called = {uri for uri in rig.verbs if decided(rig, uri, "call")}
    assert called == set(OBSERVERS_ASK) & set(rig.verbs)
    own = (uris.procedure_of("wall", "x"), uris.topic_of("wall", "x"), "trishula.agent.wall.inbox")
    others = (uris.procedure_of("agni", "x"), uris.topic_of("agni", "x"), "trishula.agent.agni.inbox")
    topics = {
        *own,
        *others,
        "trishula.agent.wall.receipts",
        uris.EVENT_AGENT,
        uris.EVENT_NODE,
        uris.EVENT_FALLBACK,
        "trishula.peer.single.records",
        "wamp.session.on_join",
    }
    assert {one for one in topics if decided(rig, one, "subscribe")} == {
        uris.EVENT_AGENT,
        uris.EVENT_NODE,
        uris.EVENT_FALLBACK,
    }
    for action in set(ACTIONS) - {"call", "subscribe"}:
        assert not [one for one in (*topics, *rig.verbs) if decided(rig, one, action)]
