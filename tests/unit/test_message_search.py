"""An agent finds what it sent and was handed, nothing of others, and pays for a long history call by call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from tests.support.pair import Nodes
from trishula.contract import uris
from trishula.contract.searched import says
from trishula.errors import ArgumentInvalid, MessageUnknown
from trishula_router.mail import message_search
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def ask(rig: Rig, session: int, *words: str, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.MAILBOX_SEARCH, {"words": list(words), **options})
    return told


def search(rig: Rig, session: int, *words: str, **options: Any) -> list[str]:
    return [one["message"]["id"] for one in ask(rig, session, *words, **options)["messages"]]


def pages(rig: Rig, session: int, *words: str, **options: Any) -> Iterator[list[str]]:
    told = ask(rig, session, *words, **options)
    while True:
        yield [one["message"]["id"] for one in told["messages"]]
        if told["more"] is None:
            return
        told = ask(rig, session, *words, after=told["more"], **options)


def say(rig: Rig, sender: int, to: int, agent: str, message_id: str, payload: Any, **keys: Any) -> None:
    """Send and have it handed over."""
    rig.send(sender, {"id": message_id, "to": agent, "payload": payload, **keys})
    rig.advance(1)
    rig.fetch(to)


def test_it_finds_by_words_peer_thread_and_time(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    say(rig, dc, agni, "agni", "a", "The DISK of the build server is full", subject="Straße 7")
    say(rig, agni, dc, "dc", "b", {"deleted": ['/var/log "old"\n', 7]}, reply_to="a")
    say(rig, dc, boss, "rushabdev", "c", "the disk is empty again")
    at = START_MS + 2000
    assert search(rig, dc, "disk") == ["c", "a"]
    assert search(rig, dc, "disk", "full") == search(rig, dc, "STRASSE", "server") == ["a"]
    # A structure by its JSON, and what is in its texts as it was written.
    assert search(rig, dc, '"old"\n') == search(rig, dc, "deleted") == ["b"]
    assert search(rig, dc, "disk", **{"with": "rushabdev"}) == ["c"]
    assert search(rig, dc, thread="b") == search(rig, agni, thread="a") == ["b", "a"]
    assert search(rig, dc, "disk", thread="b") == ["a"]
    assert search(rig, dc, id="b") == ["b"] and search(rig, dc, "disk", id="b") == search(rig, agni, id="c") == []
    assert search(rig, dc, since=at) == ["c"] and search(rig, dc, until=at) == ["b", "a"]
    assert search(rig, dc, "nothing like it") == []
    assert ask(rig, dc, "disk", max=1)["messages"][0]["state"] == "delivered"


def test_nobody_sees_what_was_not_handed_to_them(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    say(rig, dc, agni, "agni", "a", "secret")
    assert search(rig, boss, "secret") == search(rig, boss) == []
    with pytest.raises(MessageUnknown):
        search(rig, boss, thread="a")
    # What waits comes by the mailbox; what was taken back before it came is its sender's alone.
    rig.send(dc, {"id": "b", "to": "agni", "payload": "secret too"})
    assert search(rig, agni, "secret") == ["a"] and search(rig, dc, "secret") == ["b", "a"]
    assert rig.call(dc, uris.MAILBOX_CANCEL, ["b"]) == [True]
    assert search(rig, agni, "secret") == ["a"]
    with pytest.raises(MessageUnknown):
        rig.call(agni, uris.MAILBOX_THREAD, "b")


def test_a_long_history_is_looked_through_call_by_call(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    say(rig, dc, agni, "agni", "needle", "needle")
    for begin in range(0, 1200, 60):
        rig.send(dc, *({"id": f"m{begin + n}", "to": "agni", "payload": "hay"} for n in range(60)))
        for delivery in rig.fetch(agni, max=60)["deliveries"]:
            rig.ack(agni, delivery["token"])
    monkeypatch.setattr(message_search, "LOOKED_AT", 1024)
    told = ask(rig, dc, "needle")
    assert told["messages"] == [] and told["more"] is not None and 1024 <= told["looked"] < 2048
    assert [one for page in pages(rig, dc, "needle") for one in page] == ["needle"]
    found = [one for page in pages(rig, agni, max=100) for one in page]
    assert sorted(found) == sorted(["needle", *(f"m{n}" for n in range(1200))]) and found[-1] == "needle"


def test_bodies_are_read_and_told_within_bounds(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    for number in range(8):
        say(rig, dc, agni, "agni", f"m{number}", "x" * 400_000)
    # The frame takes one, or the reading ends after five.
    assert list(pages(rig, dc)) == [[f"m{n}"] for n in range(7, -1, -1)]
    assert list(pages(rig, dc, thread="m3")) == [["m3"]]
    told = ask(rig, dc, "y")
    assert told["messages"] == [] and told["more"] is not None
    assert list(pages(rig, dc, "y")) == [[], []]


def test_a_broadcast_is_found_once(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    say(rig, dc, agni, "broadcast", "all", "to all")
    assert search(rig, dc, "all") == search(rig, agni, "all") == ["all"]


def test_what_is_encrypted_is_counted_or_handed_over(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    box = {"encrypted_for": "agni", "box": "1.0123456789abcdef.0123456789abcdef.x.y"}
    rig.send(dc, {"id": "a", "to": "agni", "payload": box, "subject": "plan"})
    rig.advance(1)
    rig.fetch(agni)
    assert ask(rig, agni, "0123")["messages"] == [] and ask(rig, agni, "0123")["encrypted"] == 1
    assert search(rig, agni, "0123", encrypted=True) == search(rig, agni, "plan") == ["a"]


def test_a_place_that_no_node_told_is_refused(rig: Rig) -> None:
    dc = rig.join("dc")
    for after in ("x", "agni:1:x", "*:1:m"):
        with pytest.raises(ArgumentInvalid, match=r"options\.after is .*what the answer before told as more"):
            search(rig, dc, after=after)


def test_linked_nodes_tell_the_journals_together_and_take_each_others_places(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a", "agni"), "rushabdev": MemoryStore("epoch-r", "rushabdev")})
    nodes.advance(5)
    first, second = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    here, there = first.join("dc"), second.join("agni")
    for number in range(10):
        rig, session, to = (first, here, "agni") if number % 2 else (second, there, "dc")
        rig.send(session, {"id": f"m{number}", "to": to, "payload": "x"}, copies=1)
        nodes.advance(1)
        first.fetch(here)
        second.fetch(there)
        nodes.advance(1)
    expected = [f"m{n}" for n in range(9, -1, -1)]
    assert search(first, here) == search(second, there) == expected
    told = ask(first, here, max=4)
    elsewhere = second.join("dc")
    assert [one["message"]["id"] for one in told["messages"]] == expected[:4]
    assert search(second, elsewhere, after=told["more"]) == expected[4:]


def test_each_question_gets_on_however_many_journals_have_messages_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a", "agni"), "rushabdev": MemoryStore("epoch-r", "rushabdev")})
    nodes.advance(5)
    first, second = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    here, there = first.join("dc"), second.join("agni")
    for begin in range(0, 300, 60):
        for rig, session, to in ((first, here, "agni"), (second, there, "dc")):
            rig.send(session, *({"id": f"{to}{begin + n}", "to": to, "payload": "x"} for n in range(60)), copies=1)
        nodes.advance(1)
        for rig, session in ((first, here), (second, there)):
            rig.ack(session, *(one["token"] for one in rig.fetch(session, max=60)["deliveries"]))
    nodes.advance(1)
    # One journal's part takes as much as one question looks at: as 17 journals do with the bound as it is.
    monkeypatch.setattr(message_search, "LOOKED_AT", 512)
    found, after = [], None
    for _ in range(20):
        told = ask(first, here, max=100, **({} if after is None else {"after": after}))
        assert told["looked"] <= 512 and told["more"] != after
        found += [one["message"]["id"] for one in told["messages"]]
        if (after := told["more"]) is None:
            break
    assert after is None and len(found) == len(set(found)) == 600


@given(st.text(), st.text(max_size=5))
def test_a_part_of_a_text_is_found_in_it_as_text_and_inside_of_a_structure(text: str, more: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    more = more.encode("utf-8", "ignore").decode()
    assert says([text], json.encode(more + text + more))
    assert says([text], json.encode([{"a": more + text + more}]))


def test_what_is_read_counts_once_for_each_word_and_is_read_in_small_runs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    text = "a b c d e f g h " + "x" * 30_000
    for number in range(12):
        say(rig, dc, agni, "agni", f"m{number}", text)
    runs: list[int] = []
    bodies = rig.node.store.bodies

    async def counted(positions: list[int]) -> dict[int, bytes]:
        runs.append(len(positions))
        found: dict[int, bytes] = await bodies(positions)
        return found

    monkeypatch.setattr(rig.node.store, "bodies", counted)
    one = [len(page) for page in pages(rig, dc, "b")]
    assert (one, runs) == ([12], [8, 4])
    runs.clear()
    eight = list(pages(rig, dc, *"abcdefgh"))
    assert [len(page) for page in eight] == [8, 4] and runs == [1] * 12
    assert sorted(one for page in eight for one in page) == sorted(f"m{number}" for number in range(12))
