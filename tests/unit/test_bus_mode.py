"""The bus's mode: which word counts, what is refused meanwhile, and how linked nodes and restarts come to agree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, StorageFull
from trishula_router.bus_mode import LIVE, BusMode
from trishula_router.store.facts import ModeFacts
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore
from trishula_router.store.telling import read_mode

REASON = {"reason": "the link to Oslo is cut"}


# -- which word counts -------------------------------------------------------------------------------------------------


def test_a_bus_of_which_nobody_has_said_anything_is_live() -> None:
    mode = BusMode()
    assert (mode.facts, mode.refuses) == (LIVE, False)
    assert mode.told() == {"mode": "live", "sends": True, "reason": "", "by": "", "since": 0}


def test_the_newest_word_counts_in_whatever_order_they_come() -> None:
    words = [
        (ModeFacts("fallback", False, "first", "ops", 10), "agni"),
        (ModeFacts("live", True, "second", "ops", 20), "rushabdev"),
        # At the same instant: then by the node's name.
        (ModeFacts("fallback", True, "third", "ops", 20), "agni"),
    ]
    for order in permutations(words):
        mode = BusMode()
        for word in order:
            mode.fold(*word)
        assert mode.facts.reason == "second"
        assert not mode.fold(*words[0])


def test_a_word_is_newer_than_the_one_it_replaces_whatever_the_clocks_say() -> None:
    mode = BusMode()
    mode.fold(ModeFacts("fallback", False, "its clock is fast", "ops", 5_000_000), "agni")
    off = mode.word("live", sends=True, reason="over", by="ops", now=1000)
    assert off.since == 5_000_001
    # Two that are on their way to the disk at once don't tie either.
    assert mode.word("live", sends=True, reason="over", by="ops", now=1000).since == 5_000_002
    assert mode.fold(off, "aaa")
    assert mode.facts.mode == "live"


@pytest.mark.parametrize(
    ("mode", "sends", "refuses"), [("fallback", False, True), ("fallback", True, False), ("live", False, False)]
)
def test_only_a_fallback_without_sends_refuses(mode: Any, sends: bool, refuses: bool) -> None:
    there = BusMode()
    there.fold(there.word(mode, sends=sends, reason="why", by="ops", now=1), "agni")
    assert there.refuses is refuses


@pytest.mark.parametrize(
    "text",
    [
        b"no JSON",
        b"{}",
        b'{"mode": "half", "sends": true, "reason": "", "by": "", "since": 1}',
        # It would leave no room for a word that replaces it.
        b'{"mode": "fallback", "sends": false, "reason": "", "by": "", "since": 9007199254740992}',
        b'{"mode": "fallback", "sends": false, "reason": "a\\nb", "by": "", "since": 1}',
    ],
)
def test_what_is_no_word_is_passed_over(text: bytes) -> None:
    assert read_mode(text) is None


# -- one node ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def boss(rig: Rig) -> int:
    return rig.join("rushabdev", operator=True)


def turn(rig: Rig, session: int, word: str, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.ADMIN_FALLBACK, word, {**REASON, **options})
    return told


def outcomes(receipts: list[dict[str, Any]]) -> list[str]:
    return [str(one.get("error", one["status"])).rpartition(".")[2] for one in receipts]


def test_it_is_answered_told_and_on_record(rig: Rig, boss: int) -> None:
    told = turn(rig, boss, "on")
    assert told == {
        "node": "single",
        "mode": "fallback",
        "sends": False,
        "reason": "the link to Oslo is cut",
        "by": "rushabdev",
        "since": START_MS,
    }
    assert rig.call(boss, uris.NODE_FALLBACK) == told
    assert (uris.EVENT_FALLBACK, told) in rig.outlet.announced
    (record,) = rig.call(boss, uris.AUDIT_QUERY, {"kind": "mode"})["records"]
    assert {key: record[key] for key in ("mode", "sends", "reason", "by", "since")} == {
        key: told[key] for key in ("mode", "sends", "reason", "by", "since")
    }


def test_meanwhile_messages_are_refused_and_those_it_has_go_out(rig: Rig, boss: int) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.send(dc, {"id": "before", "to": "agni"})
    turn(rig, boss, "on")
    first, last = rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "broadcast"})
    assert outcomes([first, last]) == ["fallback_on", "fallback_on"]
    assert first["retry_after_s"] == 5.0
    assert first["detail"] == (
        "messages[0] is not taken: rushabdev has put the bus into fallback (the link to Oslo is cut), so it delivers "
        "what it has and takes nothing new, until an operator ends that (trishula fallback off); try again in 5 s"
    )
    assert rig.attach(agni)["fallback"]["reason"] == "the link to Oslo is cut"
    assert rig.ids(agni) == ["before"]
    # What is in already is a repeat, as ever.
    assert outcomes(rig.send(dc, {"id": "before", "to": "agni"})) == ["duplicate"]


def test_afterwards_all_is_taken_again_in_its_order(rig: Rig, boss: int) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    turn(rig, boss, "on")
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})
    turn(rig, boss, "off")
    # What waits behind the first one keeps waiting until that comes again.
    assert outcomes(rig.send(dc, {"id": "m2", "to": "agni"})) == ["fallback_on"]
    assert outcomes(rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni"})) == ["accepted", "accepted"]
    assert rig.ids(agni) == ["m1", "m2"]
    assert "fallback" not in rig.attach(agni)


def test_answers_acks_and_heartbeats_are_taken(rig: Rig, boss: int) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "c1", "to": "agni", "type": "COMMAND", "procedure": "p"}, {"id": "s1", "to": "agni"})
    rig.pushed(agni)
    turn(rig, boss, "on")
    # A message of the answerer's own to the same agent is refused first, and keeps nothing back but mail.
    assert outcomes(
        rig.send(
            agni,
            {"id": "m1", "to": "dc"},
            {"id": "r1", "to": "dc", "type": "RESULT", "reply_to": "c1", "payload": 1},
            {"id": "a1", "to": "dc", "type": "ACK", "reply_to": "s1"},
            {"id": "h1", "to": "dc", "type": "HEARTBEAT"},
            {"id": "m2", "to": "dc"},
            # It answers nothing.
            {"id": "r2", "to": "dc", "type": "RESULT", "reply_to": "never"},
        )
    ) == ["fallback_on", "accepted", "accepted", "accepted", "fallback_on", "fallback_on"]
    assert rig.states(dc, "s1") == {"s1": "done"}
    assert [one["message"]["id"] for one in rig.fetch(dc)["deliveries"]] == ["r1"]


def test_with_sends_nothing_is_refused(rig: Rig, boss: int) -> None:
    dc = rig.join("dc")
    assert turn(rig, boss, "on", sends=True)["sends"] is True
    assert outcomes(rig.send(dc, {"id": "m1", "to": "agni"})) == ["accepted"]
    assert rig.attach(dc)["fallback"]["sends"] is True


def test_it_survives_a_crash(tmp_path: Path, rig: Rig, store: HeldStore, boss: int) -> None:
    turn(rig, boss, "off")
    told = turn(rig, boss, "on")
    rig.crash()
    again = Rig(tmp_path, store, rig.clock).start()
    assert again.call(again.join("rushabdev", operator=True), uris.NODE_FALLBACK) == told
    assert outcomes(again.send(again.join("dc"), {"id": "m1", "to": "agni"})) == ["fallback_on"]


def test_what_could_not_be_written_changes_nothing(rig: Rig, store: HeldStore, boss: int) -> None:
    store.fail_next("note", StorageFull("full"))
    with pytest.raises(StorageFull):
        turn(rig, boss, "on")
    assert rig.call(boss, uris.NODE_FALLBACK)["mode"] == "live"
    assert outcomes(rig.send(rig.join("dc"), {"id": "m1", "to": "agni"})) == ["accepted"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("maybe", REASON), 'mode is "maybe"; it must be "on" or "off"'),
        (("on", {}), "reason"),
        (("on", {"reason": ""}), "options.reason"),
        (("on", {"reason": "a\nb"}), "options.reason"),
        (("on", {"reason": "a" * 501}), "options.reason"),
        (("off", {**REASON, "sends": False}), 'options.sends is false with "off"; leave the key out'),
    ],
)
def test_bad_words_are_refused_with_the_rule(rig: Rig, boss: int, args: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        rig.call(boss, uris.ADMIN_FALLBACK, *args)
    assert sentence in caught.value.sentence


# -- linked nodes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(
        tmp_path,
        {name: MemoryStore(f"epoch-{name}", name) for name in ("agni", "rushabdev")},
        # The clock of one is an hour slow.
        aheads_ms={"rushabdev": -3_600_000},
    )
    nodes.advance(1.0)
    yield nodes


def say(nodes: Nodes, at: str, word: str, reason: str) -> dict[str, Any]:
    rig = nodes.rigs[at]
    answer = rig.begin(rig.join("rushabdev", operator=True), uris.ADMIN_FALLBACK, word, {"reason": reason})
    nodes.settle()
    told: dict[str, Any] = result_of(answer)
    return told


def modes(nodes: Nodes) -> dict[str, tuple[str, str]]:
    found = {name: rig.node.fallback.told() for name, rig in nodes.rigs.items()}
    return {name: (told["mode"], told["reason"]) for name, told in found.items()}


def test_a_linked_node_follows_and_tells_its_agents(two: Nodes) -> None:
    told = say(two, "agni", "on", "why")
    two.advance(2.0)
    assert modes(two) == dict.fromkeys(two.rigs, ("fallback", "why"))
    assert (uris.EVENT_FALLBACK, {**told, "node": "rushabdev"}) in two.rigs["rushabdev"].outlet.announced
    there = two.rigs["rushabdev"]
    assert outcomes(there.send(there.join("dc"), {"id": "m1", "to": "agni"})) == ["fallback_on"]


def test_what_began_by_a_fast_clock_is_ended_by_a_slow_one(two: Nodes) -> None:
    say(two, "agni", "on", "why")
    two.advance(2.0)
    say(two, "rushabdev", "off", "over")
    two.advance(2.0)
    assert modes(two) == dict.fromkeys(two.rigs, ("live", "over"))


def test_a_node_that_was_away_follows_when_it_is_back(two: Nodes) -> None:
    two.down("rushabdev")
    say(two, "agni", "on", "why")
    two.advance(2.0)
    two.boot("rushabdev")
    two.advance(3.0)
    assert modes(two) == dict.fromkeys(two.rigs, ("fallback", "why"))
    # What it copied it knows by itself at its next start.
    two.down("agni")
    two.down("rushabdev")
    two.boot("rushabdev")
    assert modes(two) == {"rushabdev": ("fallback", "why")}


def test_after_a_partition_both_agree_on_the_newest_word(two: Nodes) -> None:
    two.cut()
    two.advance(10.0)
    say(two, "rushabdev", "on", "by the slow clock")
    say(two, "agni", "on", "by the fast clock")
    two.advance(2.0)
    assert modes(two) == {"agni": ("fallback", "by the fast clock"), "rushabdev": ("fallback", "by the slow clock")}
    two.heal()
    two.advance(5.0)
    assert modes(two) == dict.fromkeys(two.rigs, ("fallback", "by the fast clock"))
    assert say(two, "rushabdev", "off", "over")["mode"] == "live"
    two.advance(2.0)
    assert modes(two) == dict.fromkeys(two.rigs, ("live", "over"))


def test_a_word_that_a_peer_garbled_changes_nothing(two: Nodes) -> None:
    say(two, "agni", "on", "why")
    noted = two.stores["agni"].note(Kind.MODE, {"mode": "half"}, START_MS)
    two.settle()
    assert result_of(noted) is None
    two.advance(2.0)
    assert modes(two)["rushabdev"] == ("fallback", "why")


def test_facts_are_what_the_record_has(rig: Rig, store: HeldStore, boss: int) -> None:
    turn(rig, boss, "on")
    (record,) = result_of(store.modes())
    assert set(msgspec.json.decode(record.facts)) == {"mode", "sends", "reason", "by", "since"}
