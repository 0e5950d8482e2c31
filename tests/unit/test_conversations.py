"""The guard against agents that answer each other for ever: its policy, and a node that keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.loops import in_own_loop
from tests.support.nodes import LIMITS, START_MS, Rig
from tests.support.stores import HeldStore
from trishula.agent import Agent
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import LoopQuarantined
from trishula.testing import Grants, bus
from trishula_router.alerts.conditions import Facts, find_conditions
from trishula_router.mail import conversations as conversations_module
from trishula_router.mail.conversations import Conversations
from trishula_router.settings.alerts import AlertOptions
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import StoredMessage

HOPS = 6
WITHIN_MS = 60_000


class Talk:
    """Agents that answer each other, by the policy alone."""

    def __init__(self, hops: int = HOPS) -> None:
        self.guard = Conversations(hops, WITHIN_MS)
        self.now = 1000
        self.count = 0

    def say(self, sender: str, to: str, reply_to: str | None, message_id: str | None = None) -> str:
        self.count += 1
        message_id = message_id or f"m{self.count}"
        self.guard.check(sender, to, reply_to, 0, self.now)
        self.guard.note(sender, message_id, to, reply_to, self.now)
        return message_id

    def ping_pong(self, turns: int, *agents: str, after: str | None = None, pause_ms: int = 0) -> str | None:
        names = agents or ("agni", "dc")
        for turn in range(turns):
            self.now += pause_ms
            after = self.say(names[turn % len(names)], names[(turn + 1) % len(names)], after)
        return after


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_agents_that_answer_each_other_for_ever_are_stopped(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1)
    with pytest.raises(
        LoopQuarantined, match=r"messages\[0\] answers m7, in a conversation of agni and dc that had 6 "
    ):
        talk.ping_pong(1, "dc", "agni", after=last)
    # Also what answers an earlier message of it.
    with pytest.raises(LoopQuarantined, match="trishula loop release m1"):
        talk.say("agni", "dc", "m4")
    (told,) = talk.guard.told()
    assert (told["id"], told["agents"], told["hops"], told["refused"]) == ("m1", ["agni", "dc"], HOPS, 2)


def test_a_conversation_of_its_length_passes_and_others_go_on(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1)
    with pytest.raises(LoopQuarantined):
        talk.say("dc", "agni", last)
    talk.ping_pong(HOPS + 1)
    talk.say("dc", "agni", None)
    assert len(talk.guard.told()) == 1


def test_many_answers_to_one_message_are_no_loop(talk: Talk) -> None:
    first = talk.say("dc", "agni", None)
    for _ in range(10 * HOPS):
        talk.say("agni", "dc", first)
    assert talk.guard.told() == []


def test_a_long_talk_is_no_loop(talk: Talk) -> None:
    talk.ping_pong(10 * HOPS, pause_ms=WITHIN_MS // (HOPS - 1))
    assert talk.guard.told() == []


def test_a_round_of_three_is_one(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1, "agni", "dc", "rush")
    with pytest.raises(LoopQuarantined):
        talk.ping_pong(1, "dc", "rush", after=last)


def test_ids_of_others_are_not_mixed_up(talk: Talk) -> None:
    # Agents that number their messages.
    for turn in range(10 * HOPS):
        for agent, other in (("agni", "dc"), ("dc", "agni")):
            talk.say(agent, other, None, f"{turn}")
            talk.say(other, agent, f"{turn}", f"{turn}.answer")
    assert talk.guard.told() == []


def test_two_who_loop_below_a_question_to_all_leave_others_their_answers(talk: Talk) -> None:
    question = talk.say("boss", "broadcast", None)
    last = talk.ping_pong(HOPS, "agni", "boss", after=question)
    with pytest.raises(LoopQuarantined, match="a conversation of agni and boss that"):
        talk.ping_pong(1, "agni", "boss", after=last)
    answer = talk.say("rush", "boss", question)
    talk.say("boss", "rush", answer)
    assert [told["agents"] for told in talk.guard.told()] == [["agni", "boss"]]
    assert talk.guard.release(question) == 1


def test_nobody_stops_a_conversation_of_others(talk: Talk) -> None:
    first = talk.say("agni", "dc", None)
    answer = talk.say("dc", "agni", first)
    # It has never seen these messages, and can guess what they are called.
    for guessed in (first, answer):
        last = guessed
        for _ in range(3 * HOPS):
            last = talk.say("rush", "agni", last)
    talk.ping_pong(HOPS - 1, "agni", "dc", after=answer)
    assert talk.guard.told() == []


def test_instances_are_their_agent(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1, "agni/1", "dc/2")
    with pytest.raises(LoopQuarantined, match="a conversation of agni and dc that"):
        talk.say("dc/3", "agni/1", last)


def test_who_is_released_goes_on_as_anew(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1)
    with pytest.raises(LoopQuarantined):
        talk.say("dc", "agni", last)
    assert (talk.guard.release("m2"), talk.guard.release("m1"), talk.guard.release("m1")) == (0, 1, 0)
    last = talk.ping_pong(HOPS, "dc", "agni", after=last)
    with pytest.raises(LoopQuarantined):
        talk.say("dc", "agni", last)


def test_a_loop_stays_one_when_its_time_is_over(talk: Talk) -> None:
    last = talk.ping_pong(HOPS + 1)
    for _ in range(2):
        with pytest.raises(LoopQuarantined):
            talk.say("dc", "agni", last)
        talk.now += 2 * WITHIN_MS


def test_nobody_looks_where_it_is_off() -> None:
    talk = Talk(0)
    talk.ping_pong(1000)
    assert talk.guard.told() == []


def test_what_is_remembered_is_bounded(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations_module, "_REMEMBERED", 50)
    monkeypatch.setattr(conversations_module, "_MOST_LOOPS", 3)
    for _ in range(200):
        talk.ping_pong(3)
    assert len(talk.guard._hops) == 50
    for _ in range(5):
        last = talk.ping_pong(HOPS + 1)
        with pytest.raises(LoopQuarantined):
            talk.say("dc", "agni", last)
    assert len(talk.guard.told()) == 3


# -- a node ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    limits = replace(LIMITS, conversation_hops=HOPS)
    return Rig(tmp_path, HeldStore(MemoryStore("epoch-1")), Clock(), limits=limits).start()


def converse(rig: Rig, most: int, **fields: Any) -> list[dict[str, Any]]:
    """Two agents answer each other's every message; the receipts, up to a refusal."""
    sessions = {name: rig.join(name) for name in ("dc", "agni")}
    receipts: list[dict[str, Any]] = []
    names, last = ("dc", "agni"), None
    for turn in range(most):
        sender, to = names[turn % 2], names[1 - turn % 2]
        message = {"id": f"m{turn}", "to": to, **fields, **({} if last is None else {"reply_to": last})}
        (receipt,) = rig.send(sessions[sender], message)
        receipts.append(receipt)
        if receipt["status"] == "refused":
            break
        last = message["id"]
    return receipts


def test_a_node_ends_a_loop_and_says_so_to_all(rig: Rig) -> None:
    *taken, refused = converse(rig, 1000)
    assert (len(taken), refused["error"]) == (HOPS + 1, "trishula.error.loop_quarantined")
    # For good: an outbox that offered it again would be a loop of its own.
    assert "retry_after_s" not in refused
    operator = rig.join("op", operator=True)
    (told,) = rig.call(operator, uris.NODE_LOOPS)
    assert (told["id"], told["agents"]) == ("m0", ["agni", "dc"])
    (condition,) = find_conditions(Facts(ready={}, loops=[told]), AlertOptions(), "node", rig.now())
    assert (condition.kind, condition.about) == ("loop", "m0")
    assert condition.sentence.startswith("agni and dc answered each other 6 times, and their conversation is stopped")
    (record,) = rig.call(operator, uris.AUDIT_QUERY, {"kind": "refused"})["records"]
    assert (record["agent"], record["error"]) == ("agni", "trishula.error.loop_quarantined")


def test_a_repeat_of_what_was_taken_is_a_repeat(rig: Rig) -> None:
    converse(rig, 1000)
    dc = rig.join("dc")
    (again,) = rig.send(dc, {"id": f"m{HOPS}", "to": "agni", "reply_to": f"m{HOPS - 1}"})
    assert again["status"] == "duplicate"


def test_an_operator_lets_it_go_on(rig: Rig) -> None:
    converse(rig, 1000)
    agni, operator = rig.join("agni"), rig.join("op", operator=True)
    offered = {"id": "more", "to": "dc", "reply_to": f"m{HOPS}"}
    assert rig.call(operator, uris.ADMIN_LOOP_RELEASE, "m0") == 1
    assert rig.call(operator, uris.NODE_LOOPS) == []
    (receipt,) = rig.send(agni, offered)
    assert receipt["status"] == "accepted"


def test_answers_to_commands_come_home(rig: Rig) -> None:
    sessions = {name: rig.join(name) for name in ("dc", "agni")}
    for session in sessions.values():
        rig.attach(session)
    for turn in range(HOPS + 1):
        to = ("agni", "dc")[turn % 2]
        answers = {"reply_to": f"c{turn - 1}"} if turn else {}
        command = {"id": f"c{turn}", "to": to, "type": "COMMAND", "procedure": "think", **answers}
        (receipt,) = rig.send(sessions[("dc", "agni")[turn % 2]], command)
        assert receipt["status"] == "accepted"
    for turn in reversed(range(HOPS + 1)):
        who, to = ("agni", "dc")[turn % 2], ("dc", "agni")[turn % 2]
        result = {"id": f"r{turn}", "to": to, "type": "RESULT", "reply_to": f"c{turn}", "payload": 1}
        (receipt,) = rig.send(sessions[who], result)
        assert receipt["status"] == "accepted"


def test_what_peers_accepted_counts() -> None:
    guard = Conversations(2, WITHIN_MS)
    for number, (sender, to) in enumerate((("dc", "agni"), ("agni", "dc"), ("dc", "agni")), 1):
        reply_to = f"m{number - 1}"
        it = StoredMessage(number, sender, f"m{number}", to, "STATUS", 3, START_MS, 0, 0, reply_to=reply_to)
        guard.copied([it], START_MS)
    with pytest.raises(LoopQuarantined):
        guard.check("agni", "dc", "m3", 0, START_MS)
    guard = Conversations(2, WITHIN_MS)
    for number in range(1, 5):
        it = StoredMessage(number, "dc", f"m{number}", "agni", "RESULT", 3, 0, 0, 0, reply_to=f"m{number - 1}")
        guard.copied([it], START_MS)
    guard.check("agni", "dc", "m4", 0, START_MS)


# -- agents that run ---------------------------------------------------------------------------------------------------


def talker(name: str, heard: list[str], refused: list[str]) -> Agent:
    """An agent that answers whatever it is told, as a polite model does."""
    agent = Agent(name)

    @agent.on("STATUS")
    async def answer(message: Message) -> None:
        heard.append(message.id)
        try:
            await agent.send(str(message.sender), payload="thank you", reply_to=message.id)
        except LoopQuarantined as error:
            refused.append(error.sentence)

    return agent


def test_two_agents_that_answer_each_other_for_ever_come_to_rest_and_others_go_on() -> None:
    async def main() -> None:
        heard: list[str] = []
        refused: list[str] = []
        dc = talker("dc", heard, refused)
        names = {"agni": Grants(), "dc": Grants(), "rush": Grants(), "boss": Grants(operator=True)}
        # With the limits as they are.
        async with (
            bus(names) as there,
            there.run(talker("agni", heard, refused)),
            there.run(dc),
            there.run(talker("rush", heard, refused)),
        ):
            boss = there.client("boss")
            await dc.send("agni", payload="hello", id="hello")
            await there.advance(minutes=1)
            assert (len(heard), len(refused)) == (LIMITS.conversation_hops + 1, 1)
            (told,) = await boss.request(uris.NODE_LOOPS)
            assert (told["agents"], told["refused"]) == (["agni", "dc"], 1)
            # The two have something else to say.
            await dc.send("rush", payload="hello", id="another")
            await there.advance(minutes=1)
            assert len(refused) == 2
            assert await boss.request(uris.ADMIN_LOOP_RELEASE, "another") == 1

    in_own_loop(main)
