"""Questions about what happened: states, whole lives, the journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, MessageUnknown, NotAllowed
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def test_a_state(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    (delivery,) = rig.pushed()
    rig.clock.advance(0.5)
    rig.ack(agni, delivery["token"])
    for party in (dc, agni):
        assert rig.call(party, uris.MAILBOX_STATUS, ["m1", "unknown"]) == {
            "m1": {
                "state": "done",
                "from": "dc",
                "to": "agni",
                "accepted_at": START_MS,
                "delivered_at": START_MS,
                "settled_at": START_MS + 500,
                "surfaced_at": None,
                "attempts": 1,
            }
        }


def test_who_is_no_party_learns_nothing(rig: Rig) -> None:
    dc, stranger = rig.join("dc"), rig.join("rushabdev")
    rig.send(dc, {"id": "m1", "to": "agni"})
    assert rig.call(stranger, uris.MAILBOX_STATUS, ["m1"]) == {}
    with pytest.raises(MessageUnknown) as caught:
        rig.call(stranger, uris.AUDIT_WHY, "m1")
    assert caught.value.sentence == (
        "there is no message m1 that rushabdev sent or received at this node; check the id, or ask as an operator"
    )


def test_a_broadcast_is_as_far_as_the_last_of_its_recipients(rig: Rig) -> None:
    dc, agni, rushabdev = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    rig.send(dc, {"id": "b1", "to": "broadcast"})

    def state() -> tuple[str, str, dict[str, str]]:
        told = rig.call(dc, uris.MAILBOX_STATUS, ["b1"])["b1"]
        return told["state"], told["to"], told["recipients"]

    assert state() == ("accepted", "broadcast", {"agni": "accepted", "rushabdev": "accepted"})
    (to_agni,) = rig.fetch(agni)["deliveries"]
    assert state() == ("accepted", "broadcast", {"agni": "delivered", "rushabdev": "accepted"})
    (to_other,) = rig.fetch(rushabdev)["deliveries"]
    rig.ack(agni, to_agni["token"])
    assert state() == ("delivered", "broadcast", {"agni": "done", "rushabdev": "delivered"})
    rig.nack(rushabdev, to_other["token"], requeue=False)
    assert state() == ("dead", "broadcast", {"agni": "done", "rushabdev": "dead"})
    # A recipient sees its own part alone.
    mine = rig.call(agni, uris.MAILBOX_STATUS, ["b1"])["b1"]
    assert (mine["state"], mine["to"], "recipients" in mine) == ("done", "agni", False)


def test_one_id_of_two_senders_is_not_one_message(rig: Rig) -> None:
    dc, agni, rushabdev = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    rig.send(rushabdev, {"id": "x", "to": "agni"})
    rig.send(agni, {"id": "x", "to": "dc"})
    rig.send(dc, {"id": "x", "to": "agni"})
    told = rig.call(agni, uris.MAILBOX_STATUS, ["x"])["x"]
    assert (told["from"], told["to"], "recipients" in told) == ("agni", "dc", False)
    told = rig.call(rushabdev, uris.MAILBOX_STATUS, ["x"])["x"]
    assert (told["from"], told["to"]) == ("rushabdev", "agni")
    lives = rig.call(agni, uris.AUDIT_WHY, "x")["messages"]
    assert [life["from"] for life in lives] == ["rushabdev", "agni", "dc"]
    (life,) = rig.call(agni, uris.AUDIT_WHY, "x", {"from": "dc"})["messages"]
    assert life["from"] == "dc"


def test_why_tells_a_whole_life(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni", "priority": 2}, {"id": "m2", "to": "agni"})
    first, _ = rig.pushed()
    rig.nack(agni, first["token"], "not now")
    rig.advance(1.5)
    (second,) = rig.pushed()
    rig.ack(agni, second["token"])
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert (life["id"], life["state"], life["priority"], life["attempts"], life["failures"]) == ("m1", "done", 2, 2, 1)
    assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "returned", "delivered", "done"]
    assert [event.get("attempt") for event in life["events"]] == [None, 1, None, 2, None]
    returned = life["events"][2]
    assert (returned["reason"], returned["failures"], returned["due_at"]) == ("not now", 1, START_MS + 1000)
    assert [event["at"] for event in life["events"]] == sorted(event["at"] for event in life["events"])
    assert not any("messages" in event for event in life["events"])


def test_why_tells_of_a_replay_what_concerns_the_message(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "m1", "to": "agni", "ttl_ms": 5000}, {"id": "m2", "to": "agni"})
    for delivery in rig.fetch(agni)["deliveries"]:
        rig.nack(agni, delivery["token"], "no", requeue=False)
    operator = rig.join("rushabdev", operator=True)
    letters = rig.call(operator, uris.ADMIN_DEAD_LIST, {})["letters"]
    rig.call(operator, uris.ADMIN_DEAD_REPLAY, [letter["seq"] for letter in letters])
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    (replayed,) = (event for event in life["events"] if event["kind"] == "replayed")
    assert (replayed["life"], replayed["expires_at"]) == (1, START_MS + 5000)


def test_the_journal_says_which_operator_replayed_and_purged(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    boss = rig.join("rushabdev", operator=True)
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"}, {"id": "m3", "to": "agni"})
    for delivery in rig.fetch(agni)["deliveries"]:
        rig.nack(agni, delivery["token"], "no", requeue=False)
    first, second, _ = (letter["seq"] for letter in rig.call(boss, uris.ADMIN_DEAD_LIST, {})["letters"])
    rig.call(boss, uris.ADMIN_DEAD_REPLAY, [first])
    rig.call(boss, uris.ADMIN_DEAD_PURGE, [second])
    rig.call(boss, uris.ADMIN_DEAD_PURGE, {})
    found = rig.call(boss, uris.AUDIT_QUERY, {"agent": "rushabdev", "kinds": ["replayed", "purged"]})["records"]
    assert [(record["kind"], record["by"]) for record in found] == [
        ("replayed", "rushabdev"),
        ("purged", "rushabdev"),
        ("purged", "rushabdev"),
    ]
    # The purged letter's record is dc's too: it was its message.
    assert len(rig.call(boss, uris.AUDIT_QUERY, {"agent": "dc", "kind": "purged"})["records"]) == 2
    (life,) = rig.call(dc, uris.AUDIT_WHY, "m1")["messages"]
    assert [event["by"] for event in life["events"] if event["kind"] == "replayed"] == ["rushabdev"]


def test_an_operator_may_ask_about_all_as_long_as_it_is_one(rig: Rig) -> None:
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni"})
    with update_agents(rig.agents_file) as agents:
        agents["rushabdev"] = AgentEntry(operator=True)
    rig.advance(0.25)
    boss = rig.join("rushabdev", operator=True)
    assert len(rig.call(boss, uris.AUDIT_WHY, "m1")["messages"]) == 1
    with update_agents(rig.agents_file) as agents:
        agents["rushabdev"] = AgentEntry()
    rig.advance(0.25)
    with pytest.raises(MessageUnknown):
        rig.call(boss, uris.AUDIT_WHY, "m1")


def test_query_finds_records(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, *({"id": f"m{index}", "to": "agni" if index % 2 else "rushabdev"} for index in range(10)))
    page = rig.call(dc, uris.AUDIT_QUERY, {"kind": "accepted", "agent": "agni", "limit": 3})
    assert ([record["id"] for record in page["records"]], page["more"]) == (["m1", "m3", "m5"], True)
    rest = rig.call(dc, uris.AUDIT_QUERY, {"kind": "accepted", "agent": "agni", "after": page["after"]})
    assert ([record["id"] for record in rest["records"]], rest["more"]) == (["m7", "m9"], False)
    (only,) = rig.call(dc, uris.AUDIT_QUERY, {"id": "m4"})["records"]
    assert (only["from"], only["to"], only["kind"]) == ("dc", "rushabdev", "accepted")
    assert rig.call(dc, uris.AUDIT_QUERY, {"until": START_MS})["records"] == []


def test_cancel_of_a_broadcast_is_for_those_who_have_not_done_it(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "b1", "to": "broadcast"})
    (delivery,) = rig.fetch(agni)["deliveries"]
    rig.ack(agni, delivery["token"])
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["b1"]) == [True]
    told = rig.call(dc, uris.MAILBOX_STATUS, ["b1"])["b1"]
    assert (told["state"], told["recipients"]) == ("cancelled", {"agni": "done", "rushabdev": "cancelled"})


def test_query_finds_what_became_of_an_agents_messages(rig: Rig) -> None:
    # Those records list positions, and name neither sender nor recipient.
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("boss", operator=True)
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"}, {"id": "m3", "to": "rushabdev"})
    first, second = rig.fetch(agni)["deliveries"]
    rig.ack(agni, first["token"])
    rig.nack(agni, second["token"], "not now")
    rig.call(dc, uris.MAILBOX_CANCEL, ["m2", "m3"])

    def kinds(**options: str) -> list[str]:
        records = rig.call(boss, uris.AUDIT_QUERY, options)["records"]
        return [record["kind"] for record in records if record["kind"] not in ("joined", "left")]

    life = ["delivered", "done", "returned", "cancelled"]
    assert kinds(agent="agni") == ["accepted"] * 2 + life
    assert kinds(agent="dc") == ["accepted"] * 3 + life
    assert kinds(agent="rushabdev") == ["accepted", "cancelled"]
    assert kinds(agent="boss") == []
    assert kinds(id="m1") == ["accepted", "delivered", "done"]
    assert kinds(id="m2", agent="dc") == ["accepted", "delivered", "returned", "cancelled"]
    assert kinds(id="m2", agent="rushabdev") == []
    assert kinds(agent="agni", kind="done") == ["done"]
    for node in (None, "*"):
        with pytest.raises(
            ArgumentInvalid, match=r'options.kind is "dnoe", and the journal has no such kind .*delivered'
        ):
            rig.call(boss, uris.AUDIT_QUERY, {"kind": "dnoe"} | ({} if node is None else {"node": node}))


def test_a_question_about_what_bodies_say_tells_how_many_are_gone(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, *({"id": name, "to": "agni", "subject": "Deploy it"} for name in ("m1", "m2")))
    first, _ = rig.fetch(agni)["deliveries"]
    rig.nack(agni, first["token"], requeue=False)
    asked = {"subject": "deploy", "kind": "accepted"}
    assert "bodies_gone" not in rig.call(dc, uris.AUDIT_QUERY, asked)
    boss = rig.join("rushabdev", operator=True)
    rig.call(boss, uris.ADMIN_DEAD_PURGE, {})
    answer = rig.call(dc, uris.AUDIT_QUERY, asked)
    assert ([one["id"] for one in answer["records"]], answer["bodies_gone"]) == (["m2"], 1)


def test_a_question_looks_at_so_many_records_and_says_where_to_go_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trishula_router.mail.journal_search._PAGE", 10)
    monkeypatch.setattr("trishula_router.mail.journal_search._LOOK_LIMIT", 20)
    dc = rig.join("dc")
    rig.send(dc, *({"id": f"m{index}", "to": "agni"} for index in range(45)), {"id": "last", "to": "rushabdev"})
    asked, found = {"agent": "rushabdev", "kind": "accepted", "after": 0}, []
    for looked in (20, 20, 6):
        answer = rig.call(dc, uris.AUDIT_QUERY, asked)
        assert (answer["looked"], answer["more"]) == (looked, looked == 20)
        found += answer["records"]
        asked["after"] = answer["after"]
    assert [one["id"] for one in found] == ["last"]


def test_an_observer_learns_nothing_of_what_bodies_say(tmp_path: Path) -> None:
    agents = {"wallboard": AgentEntry(observer=True), "dc": AgentEntry(), "agni": AgentEntry()}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni", "subject": "Deploy it"})
    wallboard = rig.join("wallboard")
    assert len(rig.call(wallboard, uris.AUDIT_QUERY, {"id": "m1"})["records"]) == 1
    for asked in ({"subject": "deploy"}, {"procedure": "deploy"}):
        with pytest.raises(NotAllowed, match="wallboard is an observer"):
            rig.call(wallboard, uris.AUDIT_QUERY, asked)
