"""The life of a message whose records are in the archive alone is what it was in the store, for those who may know."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.contract.test_archive_search import EARLY, LATE, Node, _at_once, opened, some
from tests.support.subjects import append, draft
from trishula.cli.archived_lives import add_archived
from trishula.errors import MessageUnknown, NodeBusy
from trishula_router.archiving import archiver, tracing
from trishula_router.archiving.segment_index import index_path
from trishula_router.mail import archived_lives
from trishula_router.mail.audit import Audit
from trishula_router.store.messages import Draft, State


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.subject.close()


def audit_of(node: Node) -> Audit:
    unused: Any = None
    return Audit(
        "single",
        node.subject.store,
        unused,
        missing=list,
        ahead_ms=lambda name: None,
        warning=lambda capability: None,
        unread=lambda position: None,
        archived_in=node.segments.name_of,
        archive=node.archive,
        in_thread=_at_once,
    )


def page(node: Node, audit: Audit, message_id: str, agent: str = "", after: int = 0, **more: Any) -> dict[str, Any]:
    operator = not agent
    coroutine = audit.archived_lives.page(agent, message_id, more.get("sender"), after, operator=operator)
    told: dict[str, Any] = node.subject.calls.wait(Deferred.fromCoroutine(coroutine))
    return told


def lives(node: Node, audit: Audit, message_id: str, agent: str = "", **more: Any) -> list[dict[str, Any]]:
    """All that the archive tells, put together."""
    told: dict[str, Any] = {"messages": []}
    after, goes_on = 0, True
    while goes_on:
        answer = page(node, audit, message_id, agent, after, **more)
        add_archived(told, copy.deepcopy(answer))
        assert answer["after"] > after or not answer["more"]
        after, goes_on = answer["after"], answer["more"]
    found: list[dict[str, Any]] = told["messages"]
    return found


def live(node: Node, audit: Audit, message_id: str) -> list[dict[str, Any]]:
    coroutine = audit.why("boss", message_id, None, operator=True)
    told: dict[str, Any] = node.subject.calls.wait(Deferred.fromCoroutine(coroutine))
    found: list[dict[str, Any]] = told["messages"]
    return found


def slow_message(node: Node) -> None:
    """A message that is delivered twice and done, each in another segment; one to a capability; a broadcast."""
    wait, store = node.subject.calls.wait, node.subject.store
    (slow,) = append(node.subject, draft("slow"), at=1000)[0].positions
    (work,) = append(node.subject, Draft("dc", "work", ("capability:x",), "COMMAND", 3, 10**9, b"{}"), at=1000)[
        0
    ].positions
    cast = append(node.subject, Draft("dc", "cast", ("agni", "rushabdev"), "STATUS", 3, 10**9, b"{}"), at=1000)[
        0
    ].positions
    for attempt in (1, 2):
        for number in range(12):
            positions = append(node.subject, draft(f"x{attempt}-{number}"), at=2000 * attempt)[0].positions
            wait(store.settle(positions, State.DONE, None, 2000 * attempt))
        wait(store.deliver([(slow, attempt), (work, attempt)], "agni", 7, 2000 * attempt))
    for number in range(12):
        positions = append(node.subject, draft(f"x3-{number}"), at=6000)[0].positions
        wait(store.settle(positions, State.DONE, None, 6000))
    wait(store.settle([slow, work, cast[0]], State.DONE, None, 6000))
    wait(store.settle([cast[1]], State.DEAD, "no", 6000))
    wait(store.forget(0, 1000, before=10**9, dead_before=10**9, at=7000))


@pytest.mark.parametrize("now", [EARLY, LATE], ids=["known", "forgotten"])
@pytest.mark.parametrize("message_id", ["slow", "work", "cast"])
def test_a_life_is_told_as_it_was(node: Node, monkeypatch: pytest.MonkeyPatch, now: int, message_id: str) -> None:
    slow_message(node)
    audit = audit_of(node)
    before = live(node, audit, message_id)
    monkeypatch.setattr(archiver, "SEGMENT_RECORDS", 20)
    node.cut(now)
    assert len(node.archive.segments()) >= 4
    if now == LATE:
        with pytest.raises(MessageUnknown, match="are in its archive alone"):
            live(node, audit, message_id)
        found = lives(node, audit, message_id)
    else:
        told = {"messages": live(node, audit, message_id)}
        assert all(one["archived_here"] for one in told["messages"])
        add_archived(told, {"messages": lives(node, audit, message_id)})
        found = told["messages"]
        assert not any("archived" in one for one in found)
    keys = ("id", "from", "to", "type", "state", "seq", "node", "attempts", "accepted_at", "settled_at", "events")
    assert [{key: one[key] for key in keys} for one in found] == [{key: one[key] for key in keys} for one in before]


def test_who_is_no_party_learns_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_message(node)
    monkeypatch.setattr(archiver, "SEGMENT_RECORDS", 20)
    node.cut(LATE)
    audit = audit_of(node)
    assert len(lives(node, audit, "slow")) == 1
    assert lives(node, audit, "slow", "rushabdev") == []
    assert len(lives(node, audit, "slow", "dc")) == 1
    assert len(lives(node, audit, "slow", "dc", sender="dc")) == 1
    assert lives(node, audit, "slow", "dc", sender="agni") == []
    # Of a broadcast each knows its own, and its sender all.
    assert [one["to"] for one in lives(node, audit, "cast", "rushabdev")] == ["rushabdev"]
    assert len(lives(node, audit, "cast", "dc")) == 2
    # Who worked on it knows it by its delivery.
    assert [one["kind"] for one in lives(node, audit, "work", "agni")[0]["events"]][-1] == "done"
    assert lives(node, audit, "work", "rushabdev") == []


def test_a_call_reads_one_segment(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    read = opened(monkeypatch)
    told = page(node, audit_of(node), "m25", "dc")
    _, _, third, *_ = node.archive.segments()
    assert read == [third.path], "the one that has it, by their indexes"
    assert ([one["id"] for one in told["messages"]], told["after"], told["more"]) == (["m25"], third.last, True)
    again = page(node, audit_of(node), "m25", "dc", after=third.last)
    assert (read, again["messages"], again["more"]) == ([third.path, third.path], told["messages"], True)


def test_without_indexes_it_reads_one_segment_a_call_and_makes_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    some(node, monkeypatch)
    segments = node.archive.segments()
    for one in segments:
        index_path(one.path).unlink()
    read = opened(monkeypatch)
    audit, after = audit_of(node), 0
    for number in range(2):
        told = page(node, audit, "m25", "dc", after=after)
        after = told["after"]
        assert (read, after, told["messages"]) == (
            [one.path for one in segments[: number + 1]],
            segments[number].last,
            [],
        )
    assert len(lives(node, audit, "m25")) == 1
    # Twice: for the index, and for what it says is there.
    assert read == [one.path for one in (*segments[:3], segments[2], *segments[3:])]
    assert all(index_path(one.path).stat().st_mode & 0o777 == 0o600 for one in segments)


def test_a_call_looks_at_some_indexes_alone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    monkeypatch.setattr(tracing, "_MOST_INDEXES", 1)
    read = opened(monkeypatch)
    told = page(node, audit_of(node), "m25", "dc")
    assert (told["after"], told["more"], told["messages"], read) == (20, True, [], [])
    assert len(lives(node, audit_of(node), "m25")) == 1


def test_one_agent_takes_no_place_of_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    audit = audit_of(node)
    held: Deferred[Any] = Deferred()
    audit.archived_lives._in_thread = lambda work: held.addCallback(lambda _: work())
    page_of = audit.archived_lives.page
    asked = [Deferred.fromCoroutine(page_of("dc", f"m{it}", None, 0, operator=False)) for it in range(4)]
    # The first one looks into the store before it reads.
    node.subject.calls.wait(node.subject.store.with_ids(["m1"]))
    with pytest.raises(NodeBusy, match="ask one by one"):
        node.subject.calls.wait(Deferred.fromCoroutine(page_of("dc", "m9", None, 0, operator=False)))
    other = Deferred.fromCoroutine(page_of("agni", "m1", None, 0, operator=False))
    held.callback(None)
    for one in (*asked, other):
        node.subject.calls.wait(one)
    assert node.subject.calls.wait(Deferred.fromCoroutine(page_of("dc", "m9", None, 0, operator=False)))["more"]


def test_a_node_that_forgot_how_far_it_was_begins_anew(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    monkeypatch.setattr(archived_lives, "_SEARCHES", 1)
    audit = audit_of(node)
    after = page(node, audit, "m1")["after"]
    page(node, audit, "m2")
    assert page(node, audit, "m1", after=after)["after"] == after, "the first segment again"
    # Nobody's word counts of how far it was, nor of what was found there.
    assert page(node, audit, "m3", after=10**6)["after"] == after


def test_a_missing_and_a_damaged_segment_are_named(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    some(node, monkeypatch)
    first, second, *_ = node.archive.segments()
    first.path.unlink()
    second.path.write_bytes(second.path.read_bytes()[:300])
    told = page(node, audit_of(node), "m1")
    gone, damaged = told["archive_faults"]
    assert gone.startswith(f"records 1 to {first.last} are in no segment")
    assert str(second.path) in damaged and "left out" in damaged
    assert told["after"] == second.last and told["more"]
