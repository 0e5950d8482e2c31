"""What became of a COMMAND, asked by another process of its sender's agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import MessageUnknown
from trishula_router.store.memory import MemoryStore

DAY_S = 86_400.0


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def ask(rig: Rig, session: int, message_id: str = "c1") -> dict[str, Any]:
    answer: dict[str, Any] = rig.call(session, uris.MAILBOX_ANSWER, message_id)
    return answer


@pytest.fixture
def script(rig: Rig) -> int:
    """A script of dc that asked agni something."""
    session = rig.join("dc")
    rig.attach(session, instance="one")
    (receipt,) = rig.send(session, {"id": "c1", "to": "agni", "from": "dc/one", "type": "COMMAND", "procedure": "f"})
    assert receipt["status"] == "accepted"
    return session


@pytest.fixture
def agni(rig: Rig, script: int) -> int:
    session = rig.join("agni")
    rig.attach(session)
    return session


def reply(rig: Rig, agni: int, message_id: str = "r1", **fields: Any) -> str:
    (receipt,) = rig.send(agni, {"id": message_id, "to": "dc/one", "type": "RESULT", "reply_to": "c1", **fields})
    return str(receipt["status"])


def test_where_it_stands_and_its_answer_when_it_is_there(rig: Rig, script: int) -> None:
    other = rig.join("dc")
    assert ask(rig, other) == {"state": "accepted"}
    rig.attach(agni := rig.join("agni"))
    (delivery,) = rig.pushed(agni)
    assert ask(rig, other) == {"state": "delivered"}
    assert reply(rig, agni, payload={"cpu": 1}) == "accepted"
    rig.ack(agni, delivery["token"])
    told = ask(rig, other)
    assert (told["state"], told["message"]["payload"]) == ("done", {"cpu": 1})
    assert (told["message"]["id"], told["message"]["from"], told["message"]["to"]) == ("r1", "agni", "dc/one")


def test_an_answer_to_a_process_that_is_gone_is_kept_for_the_next_one(rig: Rig, script: int, agni: int) -> None:
    rig.leave(script)
    rig.advance(400)
    assert reply(rig, agni, payload=5) == "accepted"
    assert ask(rig, rig.join("dc"))["message"]["payload"] == 5
    # It is no mailbox that lasts: nobody comes for it.
    rig.advance(400)
    assert ask(rig, rig.join("dc"))["message"]["payload"] == 5
    assert rig.states(rig.join("agni"), "r1") == {"r1": "expired"}
    assert not rig.node.mailroom.has("dc/one")


def test_nothing_but_an_answer_is_taken_for_a_process_that_is_gone(rig: Rig, script: int, agni: int) -> None:
    rig.leave(script)
    rig.advance(400)
    assert reply(rig, agni, type="STATUS") == "refused"
    assert reply(rig, agni, reply_to="c2") == "refused"
    assert reply(rig, agni, to="dc/two") == "refused"
    rushabdev = rig.join("rushabdev")
    assert reply(rig, rushabdev) == "refused"
    # Nobody acknowledged it in all that time, and that is all there is to tell.
    assert ask(rig, rig.join("dc"))["message"]["id"].startswith("node:")


def test_only_who_was_asked_answers(rig: Rig, script: int, agni: int) -> None:
    assert reply(rig, rig.join("rushabdev"), payload="false") == "refused"
    assert "message" not in ask(rig, script)
    reply(rig, agni, type="STATUS")
    assert "message" not in ask(rig, script)
    assert reply(rig, agni, "r2", type="ERROR", payload={"error": "E", "message": "m"}) == "accepted"
    assert ask(rig, script)["message"]["id"] == "r2"


def test_the_word_of_the_node_is_an_answer_until_the_agent_gives_one(rig: Rig, script: int, agni: int) -> None:
    (delivery,) = rig.pushed(agni)
    rig.nack(agni, delivery["token"], "no", requeue=False)
    told = ask(rig, script)
    assert (told["state"], told["message"]["payload"]["error"]) == ("dead", "trishula.error.dead_letter")
    assert reply(rig, agni, payload="after all") == "accepted"
    assert ask(rig, script)["message"]["payload"] == "after all"


def test_whoever_has_a_capability_answers_for_it(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.attach(agni := rig.join("agni"), capabilities=["deploy"])
    rig.send(dc, {"id": "c1", "to": "capability:deploy", "type": "COMMAND"})
    rig.pushed(agni)
    rig.send(agni, {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1", "payload": 1})
    assert ask(rig, dc)["message"]["payload"] == 1


def test_an_answer_whose_body_is_gone_is_told_by_the_state(rig: Rig, script: int, agni: int) -> None:
    (delivery,) = rig.pushed(agni)
    reply(rig, agni)
    rig.ack(agni, delivery["token"])
    rig.ack(script, *(one["token"] for one in rig.pushed(script)))
    rig.advance(1)
    rig.clock.rightNow += 8 * DAY_S
    rig.advance(20)
    assert ask(rig, rig.join("dc")) == {"state": "done"}


def test_the_answer_to_an_earlier_use_of_the_id_is_not_told(rig: Rig, script: int, agni: int) -> None:
    (delivery,) = rig.pushed(agni)
    reply(rig, agni, payload="old")
    rig.ack(agni, delivery["token"])
    rig.clock.rightNow += 31 * DAY_S
    dc = rig.join("dc")
    (receipt,) = rig.send(dc, {"id": "c1", "to": "agni", "type": "COMMAND", "procedure": "g"})
    assert receipt["status"] == "accepted"
    assert "message" not in ask(rig, dc)


@pytest.mark.parametrize("who", ["agni", "rushabdev"])
def test_whose_command_it_is_not_learns_nothing(rig: Rig, script: int, agni: int, who: str) -> None:
    reply(rig, agni)
    with pytest.raises(MessageUnknown, match=f"there is no COMMAND c1 that {who} sent at this node"):
        ask(rig, rig.join(who))


def test_what_is_no_command_has_no_answer(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "s1", "to": "agni"})
    for message_id in ("s1", "unknown"):
        with pytest.raises(MessageUnknown):
            ask(rig, dc, message_id)
