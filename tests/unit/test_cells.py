"""Two and more cells on a road in memory: messages, answers, ends, homes, faults; each against whole nodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from tests.support.cells import KEY, World
from tests.support.nodes import START_MS
from tests.support.stores import result_of
from trishula.errors import AnswerRefused, RecipientForbidden, StorageFailed, TakenOver
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.cells.letters import Mail, News, Parcel
from trishula_router.cells.seal import BODY, MAC, KeyUnfit, Seal, Unsealed, read_keys
from trishula_router.store.messages import Draft


def status(message_id: str, to: str = "agni", **more: Any) -> dict[str, Any]:
    return {"type": "STATUS", "id": message_id, "to": to, **more}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def at_home(world: World, cell: str = "south", agent: str = "agni") -> None:
    world[cell].attach(agent)
    world.advance(1.0)


def test_a_message_goes_to_the_cell_of_its_agent_and_its_end_comes_back(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    (receipt,) = north.send("dc", status("m1"))
    assert (receipt["status"], receipt["node"]) == ("accepted", "north")
    world.until(lambda: north.state("m1") == "done")
    assert south.state("m1") == "done"
    assert dict(world.ran) == {("agni", "dc", "m1"): 1}
    told = [one for one in north.rig.outlet.take_news() if one[0] == "m1"]
    assert told == [("m1", "agni", "delivered"), ("m1", "agni", "done")]
    assert len(north.cells.forwards) == 0
    events = [event["kind"] for event in north.life("m1")["events"]]
    assert events == ["accepted", "delivered", "done"]


def test_the_first_message_to_an_agent_waits_for_no_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    north = world["north"]
    at_home(world)
    at_home(world, agent="rushabdev")
    monkeypatch.setattr(north.cells.exchange, "round", lambda: None)
    north.send("dc", status("m1"))
    north.send("dc", status("m2"))
    # While the road is asked for one home, another one comes to be wanted.
    north.clock.advance(0.0)
    north.send("dc", status("m3", to="rushabdev"))
    world.advance(0.5)
    assert set(world.ran) == {("agni", "dc", "m1"), ("agni", "dc", "m2"), ("rushabdev", "dc", "m3")}


def test_a_message_for_an_agent_that_is_nowhere_waits_and_why_says_so(world: World) -> None:
    north = world["north"]
    north.send("dc", status("m1"))
    world.advance(3.0)
    assert north.state("m1") == "accepted"
    assert "no cell has told yet that agni is with it" in north.life("m1")["warning"]
    assert north.cells.told()["waiting_messages"] == 0
    at_home(world)
    world.until(lambda: north.state("m1") == "done")


def test_a_command_is_answered_over_cells_without_a_grant(tmp_path: Path) -> None:
    # agni may write to nobody, and answers all the same.
    grants = {"dc": AgentEntry(send=("*",)), "agni": AgentEntry(send=()), "rushabdev": AgentEntry()}
    world = World(tmp_path, agents=grants)
    north, south = world["north"], world["south"]
    at_home(world)
    session = north.rig.join("dc", session=900)
    north.rig.attach(session, instance="7f3a")
    north.rig.send(session, {"type": "COMMAND", "id": "c1", "from": "dc/7f3a", "to": "agni", "procedure": "p"})
    world.until(lambda: north.state("c1") == "done")
    (refused,) = south.send("agni", status("s1", "dc"))
    assert refused["error"] == RecipientForbidden.uri
    (receipt,) = south.send("agni", {"type": "RESULT", "id": "r1", "to": "dc/7f3a", "reply_to": "c1", "payload": 7})
    assert receipt["status"] == "accepted"
    world.until(lambda: bool(north.rig.outlet.pushed))
    (delivery,) = north.rig.pushed(session)
    assert delivery["message"]["payload"] == 7
    north.rig.ack(session, delivery["token"])
    world.until(lambda: south.state("r1") == "done")
    # A further answer is refused where it is given, as without cells.
    (again,) = south.send("agni", {"type": "RESULT", "id": "r2", "to": "dc/7f3a", "reply_to": "c1", "payload": 8})
    assert again["error"] == AnswerRefused.uri


def test_bytes_in_a_payload_are_the_same_at_the_other_cell(world: World) -> None:
    north, south = world["north"], world["south"]
    session = south.rig.join("agni", session=903)
    south.rig.attach(session, binary=True)
    world.advance(1.0)
    payload = {"picture": b"\x00\xff" * 20, "text": "é"}
    north.send("dc", status("m1", payload=payload))
    world.until(lambda: bool(south.rig.outlet.pushed))
    (delivery,) = south.rig.pushed(session)
    assert delivery["message"]["payload"] == payload
    # It is one message all the same.
    digests = {cell.life("m1")["events"][0]["digest"] for cell in (north, south)}
    assert len(digests) == 1


def test_what_is_lost_is_sent_again_and_runs_once(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    world.weather(loss=1.0)
    north.send("dc", status("m1"))
    world.advance(2.0)
    assert south.state("m1") is None
    assert north.cells.told()["waiting_messages"] == 1
    world.weather(repeats=1.0)
    world.until(lambda: north.state("m1") == "done")
    assert world.ran["agni", "dc", "m1"] == 1
    assert north.cells.told()["resent"] >= 1


def test_news_that_is_lost_is_asked_for(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    north.send("dc", status("m1"))
    world.until(lambda: south.state("m1") == "accepted")
    world.advance(1.0)
    world.weather(loss=1.0)
    south.attach("agni")
    world.until(lambda: south.state("m1") == "done")
    assert north.state("m1") == "accepted"
    world.weather()
    world.until(lambda: north.state("m1") == "done", at_most_s=120.0)


def test_news_that_the_store_refuses_comes_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    north = world["north"]
    at_home(world)
    settle, refused = north.store.settle, list[list[int]]()

    def refuse(positions: Sequence[int], *rest: Any) -> Any:
        if len(refused) >= 3:
            return settle(positions, *rest)
        refused.append(list(positions))
        return fail(StorageFailed("the disk is gone"))

    monkeypatch.setattr(north.store, "settle", refuse)
    north.send("dc", status("m1"))
    world.until(lambda: bool(refused))
    assert world.roads.streams["north"], "what is not durable is on the road still"
    world.until(lambda: north.state("m1") == "done")
    assert len(refused) == 3
    world.until(lambda: not any(world.roads.streams.values()))
    assert dict(world.ran) == {("agni", "dc", "m1"): 1}


def test_while_news_is_not_durable_it_stays_on_the_road_and_so_much_is_read_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trishula_router.cells.exchange._UNFINISHED", 2)
    north = world["north"]
    at_home(world)
    settle, waiting = north.store.settle, list[Callable[[], Any]]()

    def slow(*what: Any) -> Any:
        done: Deferred[Any] = Deferred()
        waiting.append(lambda: settle(*what).chainDeferred(done))
        return done

    monkeypatch.setattr(north.store, "settle", slow)
    north.send("dc", status("m0"))
    world.advance(0.5)
    assert len(waiting) == 1
    assert world.roads.streams["north"]
    for number in range(1, 8):
        north.send("dc", status(f"m{number}"))
        world.advance(0.5)
    assert len(waiting) <= 3
    assert north.state("m0") == "delivered"
    monkeypatch.setattr(north.store, "settle", settle)
    for work in waiting:
        work()
    world.until(lambda: {north.state(f"m{number}") for number in range(8)} == {"done"})
    world.until(lambda: not any(world.roads.streams.values()))


def test_news_that_a_flush_took_is_asked_for_at_once(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    north.send("dc", status("m1"))
    world.until(lambda: south.state("m1") == "accepted")
    world.advance(1.0)
    world.weather(loss=1.0)
    south.attach("agni")
    world.until(lambda: south.state("m1") == "done")
    world.roads.flush()
    world.weather()
    world.until(lambda: north.state("m1") == "done", at_most_s=5.0)


def test_a_flush_loses_nothing(world: World) -> None:
    north = world["north"]
    at_home(world)
    for number in range(20):
        north.send("dc", status(f"m{number}"))
        world.advance(0.05)
        if number % 5 == 0:
            world.roads.flush()
    world.until(lambda: all(north.state(f"m{number}") == "done" for number in range(20)), at_most_s=120.0)
    assert set(world.ran.values()) == {1}
    assert len(world.ran) == 20


def test_a_road_that_is_down_is_told_and_nobody_waits_for_it(world: World) -> None:
    north = world["north"]
    at_home(world)
    world.roads.is_down = True
    (receipt,) = north.send("dc", status("m1"))
    assert receipt["status"] == "accepted"
    world.advance(20.0)
    told = north.cells.told()
    assert told["fault"] == "the road in memory is down"
    # Growing pauses, not one try a round.
    assert told["errors"] < 30
    world.roads.is_down = False
    world.until(lambda: north.state("m1") == "done", at_most_s=40.0)
    assert north.cells.told()["fault"] is None


@pytest.mark.parametrize("who", ["north", "south"])
def test_a_cell_that_dies_loses_nothing(world: World, who: str) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    for number in range(5):
        north.send("dc", status(f"m{number}"))
    world.advance(0.1)
    world[who].crash()
    world.advance(1.0)
    south.attach("agni")
    world.until(lambda: all(north.state(f"m{number}") == "done" for number in range(5)), at_most_s=120.0)
    assert set(world.ran.values()) == {1}
    assert all(south.state(f"m{number}") == "done" for number in range(5))


def test_an_agent_that_moves_gets_what_waits_at_its_old_home(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    south.send("rushabdev", status("old"))
    north.send("dc", status("m1"))
    world.until(lambda: south.state("m1") == "accepted")
    at_home(world, "north")
    world.until(lambda: all(cell.state("m1") == "done" for cell in (north, south)), at_most_s=60.0)
    world.until(lambda: all(cell.state("old") == "done" for cell in (north, south)), at_most_s=60.0)
    assert set(world.ran.values()) == {1}
    # And back again.
    north.leave("agni")
    at_home(world, "south")
    north.send("dc", status("m2"))
    world.until(lambda: north.state("m2") == "done")
    assert world.handled["agni", "dc", "m2"] == "south"


def test_of_two_sessions_in_two_cells_the_older_one_is_closed(world: World) -> None:
    at_home(world, "south")
    at_home(world, "north")
    world.advance(30.0)
    assert [uri for _, uri, _ in world["south"].rig.outlet.closed] == [TakenOver.uri]
    assert world["north"].rig.outlet.closed == []


def test_what_the_recipients_cell_refuses_ends_dead_with_its_words(tmp_path: Path) -> None:
    world = World(tmp_path)
    north, south = world["north"], world["south"]
    at_home(world)
    with update_agents(south.rig.agents_file) as known:
        known["dc"] = AgentEntry(send=("rushabdev",))
    world.advance(3.0)
    north.attach("dc")
    north.send("dc", status("m1"))
    world.until(lambda: north.state("m1") == "dead")
    assert south.state("m1") is None
    (reason,) = [event["reason"] for event in north.life("m1")["events"] if event["kind"] == "dead"]
    assert reason.startswith("the cell south does not take it: ")
    assert "the grants of dc don't cover it" in reason
    world.advance(2.0)
    assert [key for key in world.ran if key[:2] == ("dc", "agni")]


def test_a_message_with_an_attachment_ends_dead_and_says_why(world: World) -> None:
    north, south = world["north"], world["south"]
    wire = {"type": "STATUS", "id": "m1", "from": "dc", "to": "agni", "priority": 3, "timestamp": 1}
    wire["payload"] = {"attachment": {"digest": "sha256:" + "0" * 64, "size_bytes": 1}}
    envelope = json.dumps(wire | {"accepted_at": 1}).encode()
    draft = Draft("dc", "m1", ("agni",), "STATUS", 3, START_MS + 10**9, envelope)
    result_of(north.store.append([draft], START_MS))
    north.crash()
    at_home(world)
    world.until(lambda: north.state("m1") == "dead")
    assert south.state("m1") is None
    assert "does not travel to other cells" in json.dumps(north.life("m1"))


def test_a_full_mailbox_puts_off_and_nothing_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path, mailbox_messages=3)
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    for number in range(3):
        south.send("rushabdev", status(f"s{number}"))
        north.send("dc", status(f"n{number}"))
    world.advance(5.0)
    assert all(north.state(f"n{number}") == "accepted" for number in range(3))
    south.attach("agni")
    world.until(lambda: all(north.state(f"n{number}") == "done" for number in range(3)), at_most_s=120.0)
    assert set(world.ran.values()) == {1}


def test_what_a_cell_had_that_is_gone_for_good_ends_with_its_time(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    north.send("dc", status("m1", ttl_ms=20_000))
    world.until(lambda: south.state("m1") == "accepted")
    world.advance(1.0)
    south.rig.crash()
    world.advance(30.0)
    assert north.state("m1") == "accepted"
    world.until(lambda: north.state("m1") == "expired", at_most_s=400.0)
    assert len(north.cells.forwards) == 0


def test_a_cancel_reaches_the_other_cell(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    north.send("dc", status("m1"))
    world.until(lambda: south.state("m1") == "accepted")
    session = north.rig.join("dc", session=901)
    assert north.rig.call(session, "trishula.mailbox.cancel", ["m1"]) == [True]
    world.until(lambda: south.state("m1") == "cancelled")
    south.attach("agni")
    world.advance(5.0)
    assert not world.ran
    assert len(north.cells.forwards) == 0


def test_a_dead_letter_tells_its_sender_once(world: World) -> None:
    north, south = world["north"], world["south"]
    session = south.rig.join("agni", session=902)
    south.rig.attach(session)
    world.advance(1.0)
    at_home(world, "north", "dc")
    north.send("dc", status("m1"))
    world.until(lambda: bool(south.rig.outlet.pushed))
    ((_, _, (delivery,)),) = south.rig.outlet.pushed
    south.rig.nack(session, delivery["token"], "no such thing", requeue=False)
    world.until(lambda: north.state("m1") == "dead")
    assert south.state("m1") == "dead"
    world.advance(5.0)
    notices = [key for key in world.seen if key[2].startswith("node:")]
    assert [(key[0], key[1]) for key in notices] == [("dc", "agni")]


def test_a_broadcast_reaches_each_cell(tmp_path: Path) -> None:
    world = World(tmp_path, ("east", "north", "south"))
    at_home(world, "south", "agni")
    at_home(world, "south", "rushabdev")
    world["east"].send("dc", status("b1", "broadcast"))
    world.until(lambda: len(world.ran) == 2)
    world.advance(2.0)
    assert world["east"].state("b1", "agni") == world["east"].state("b1", "rushabdev") == "done"
    assert set(world.ran.values()) == {1}


def test_what_is_forged_is_refused_counted_and_noted(world: World) -> None:
    south = world["south"]
    at_home(world)
    forged = Mail(ticket="t", sender="dc", id="x", to="agni", left_ms=1000, envelope=b"{}")
    other = Seal("north", [b"another key" * 4])
    world.roads.streams.setdefault("south", {})["9-1"] = other.entry(Parcel("north", "south", "e", [forged]))
    world.roads.homes["agni"] = (b"north 99999999999999 " + b"00" * 32, 1e9)
    world.advance(30.0)
    assert south.state("x") is None
    assert south.cells.told()["refused_entries"] >= 2
    assert south.cells.homes.cell_of("agni") == "south"


def test_an_entry_for_another_cell_is_none_for_this_one() -> None:
    keys = [b"k" * 40]
    entry = Seal("north", keys).entry(Parcel("north", "south", "e", []))
    assert Seal("south", keys).parcel(entry).source == "north"
    with pytest.raises(Unsealed):
        Seal("east", keys).parcel(entry)
    with pytest.raises(Unsealed):
        Seal("south", keys).parcel({**entry, BODY: entry[BODY] + b" "})
    with pytest.raises(Unsealed):
        Seal("south", keys).parcel({MAC: entry[MAC]})
    # A second line of the file is believed, so that keys can be changed.
    assert Seal("south", [b"n" * 40, *keys]).parcel(entry).source == "north"


def test_the_file_of_the_key_is_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "cells.key"
    with pytest.raises(KeyUnfit, match="can't be read"):
        read_keys(path)
    path.write_text("k" * 40)
    path.chmod(0o644)
    with pytest.raises(KeyUnfit, match="mode 0644"):
        read_keys(path)
    path.chmod(0o600)
    assert read_keys(path) == [b"k" * 40]
    path.write_text("short")
    with pytest.raises(KeyUnfit, match="openssl rand -hex 32"):
        read_keys(path)


def test_a_reader_that_is_dead_is_seen_by_its_canary(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    south = world["south"]
    world.advance(12.0)
    assert south.cells.told()["canary_s"] < 7.0
    monkeypatch.setattr(south.reader, "read", lambda limit, wait_s: [])
    world.advance(30.0)
    assert south.cells.told()["fault"] is None
    assert south.cells.told()["canary_s"] > 20.0


def test_who_attaches_gets_what_is_out_at_once_whatever_redis_does(world: World) -> None:
    north, south = world["north"], world["south"]
    at_home(world)
    south.leave("agni")
    north.send("dc", status("m1"))
    world.until(lambda: south.state("m1") == "accepted")
    world.roads.is_down = True
    north.attach("agni")
    world.until(lambda: world.handled.get(("agni", "dc", "m1")) == "north", at_most_s=5.0)
    world.roads.is_down = False
    world.until(lambda: south.state("m1") == "done", at_most_s=60.0)
    assert world.seen["agni", "dc", "m1"] == 1


def test_that_a_message_is_done_is_believed_of_whichever_forward(world: World) -> None:
    north = world["north"]
    north.send("dc", status("m1"))
    world.advance(1.0)
    seal = Seal("south", [KEY.encode()])

    def tell(number: int, state: str) -> None:
        parcel = Parcel(
            "south", "north", "e", [News(ticket="an old one", sender="dc", id="m1", to="agni", state=state)]
        )
        world.roads.streams.setdefault("north", {})[f"9{number}-1"] = seal.entry(parcel)
        world.advance(2.0)

    # Anything else of an old forward would be a replay.
    tell(1, "dead")
    assert north.state("m1") == "accepted"
    tell(2, "done")
    assert north.state("m1") == "done"
