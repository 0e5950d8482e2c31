"""Messages that are cancelled while somebody has them: who is told, and what becomes of answers that come too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula_router.mail import recalls as recalls_module
from trishula_router.store.memory import MemoryStore

COMMAND = {"type": "COMMAND", "to": "agni", "procedure": "p"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def result(command_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "RESULT", "id": f"{command_id}.result", "to": "dc", "reply_to": command_id, **fields}


def test_whoever_has_it_is_told(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "c1", **COMMAND}, {"id": "c2", **COMMAND})
    first, _ = rig.pushed(agni)
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["c1"]) == [True]
    assert rig.outlet.recalled == [("agni", agni, [{"from": "dc", "id": "c1", "token": first["token"]}])]
    assert rig.states(dc, "c1", "c2") == {"c1": "cancelled", "c2": "delivered"}


def test_nobody_is_told_of_what_nobody_has(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "c1", **COMMAND}, {"id": "c2", **COMMAND})
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["c1"]) == [True]
    # A fetched one has no inbox topic that anybody hears.
    rig.fetch(agni)
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["c2", "c1", "none"]) == [True, False, False]
    assert rig.outlet.recalled == []


def test_an_answer_that_comes_too_late_is_not_delivered(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "c1", **COMMAND}, {"id": "c2", **COMMAND})
    rig.call(dc, uris.MAILBOX_CANCEL, ["c1"])
    late, error, other = rig.send(agni, result("c1"), {**result("c1"), "type": "ERROR", "id": "e"}, result("c2"))
    assert (late["status"], late["error"]) == ("refused", "trishula.error.message_cancelled")
    assert late["detail"] == "the COMMAND c1 was cancelled by dc, which waits for no answer any more"
    assert "retry_after_s" not in late
    assert (error["status"], other["status"]) == ("refused", "accepted")
    assert [one["message"]["id"] for one in rig.fetch(dc)["deliveries"]] == ["c2.result"]


def test_also_that_of_a_process_whose_session_was_lost_meanwhile(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "c1", **COMMAND})
    rig.leave(agni)
    rig.call(dc, uris.MAILBOX_CANCEL, ["c1"])
    again = rig.join("agni")
    rig.attach(again)
    assert rig.send(again, result("c1"))[0]["status"] == "refused"


def test_the_memory_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalls_module, "_REMEMBERED", 2)
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    ids = ["c1", "c2", "c3"]
    rig.send(dc, *({"id": one, **COMMAND} for one in ids))
    rig.call(dc, uris.MAILBOX_CANCEL, ids)
    assert len(rig.node.recalls._cancelled) == 2
    statuses = [receipt["status"] for receipt in rig.send(agni, *(result(one) for one in ids))]
    assert statuses == ["accepted", "refused", "refused"]


def test_whoever_has_it_at_another_node_is_told(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in ("one", "two")})
    one, two = nodes.rigs["one"], nodes.rigs["two"]
    nodes.advance(3)
    dc, agni = one.join("dc"), two.join("agni")
    two.begin(agni, uris.MAILBOX_ATTACH)
    sent = one.begin(dc, uris.MAILBOX_SEND, [{"id": "c1", **COMMAND}])
    nodes.advance(3)
    assert sent.called
    assert [delivery["message"]["id"] for delivery in two.pushed(agni)] == ["c1"]
    one.begin(dc, uris.MAILBOX_CANCEL, ["c1"])
    nodes.advance(3)
    assert [(to, session, told[0]["id"]) for to, session, told in two.outlet.recalled] == [("agni", agni, "c1")]
    answered = two.begin(agni, uris.MAILBOX_SEND, [result("c1")])
    nodes.advance(3)
    assert result_of(answered)[0]["error"] == "trishula.error.message_cancelled"
