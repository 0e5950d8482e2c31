"""Stores of nodes whose clocks differ: instants that are counted with are in the clock of the node that holds them."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.subjects import Peer, Subject, append, draft
from trishula_router.store.interface import Copied
from trishula_router.store.messages import Draft, Return, State, StoredMessage
from trishula_router.store.runs import Extract

#: By how much the clock of the node "agni" is ahead of that of "here", and that of "rush" of that of "agni".
AHEAD_MS, FURTHER_MS = 1_000_000, 20_000_000


def expiring(at: int) -> Draft:
    return msgspec.structs.replace(draft("m1"), expires_at=at)


def run(source: Subject, number: int = 0, after: int = 0) -> Extract:
    return source.do(lambda store: store.extract(number, after, limit=100, limit_bytes=10**6))


def copy(target: Subject, node: str, extract: Extract, ahead_ms: int) -> Copied:
    return target.do(lambda store: store.copy(node, extract, ahead_ms))


def message(subject: Subject, message_id: str) -> StoredMessage:
    (found,) = subject.do(lambda store: store.with_ids([message_id]))
    return found


def test_what_a_node_copies_is_by_its_own_clock(here: Subject, agni: Peer) -> None:
    append(agni, expiring(AHEAD_MS + 5000), at=AHEAD_MS + 100)
    (arrived,) = copy(here, "agni", run(agni), AHEAD_MS).arrived
    assert (arrived.accepted_at, arrived.expires_at) == (100, 5000)
    assert message(here, "m1") == arrived
    # The record is as it was written: it is proven by its digest.
    (record, *_) = here.do(lambda store: store.records(after=0, limit=10, origin=1))
    assert record.at == AHEAD_MS + 100
    assert here.do(lambda store: store.verify()).damages == ()


def test_what_a_node_passes_on_is_by_the_clock_of_that_node(here: Subject, agni: Peer, rush: Peer) -> None:
    append(rush, expiring(AHEAD_MS + FURTHER_MS + 5000), at=AHEAD_MS + FURTHER_MS + 100)
    copy(here, "rush", run(rush), AHEAD_MS + FURTHER_MS)
    passed_on = run(here, 1)
    (arrived,) = copy(agni, "rush", passed_on, -AHEAD_MS).arrived
    assert (arrived.accepted_at, arrived.expires_at) == (AHEAD_MS + 100, AHEAD_MS + 5000)


def test_a_replay_is_by_the_clock_of_whoever_holds_it(here: Subject, agni: Peer, rush: Peer) -> None:
    append(rush, expiring(AHEAD_MS + FURTHER_MS + 5000), at=AHEAD_MS + FURTHER_MS + 100)
    copy(here, "rush", run(rush), AHEAD_MS + FURTHER_MS)
    copy(agni, "rush", run(here, 1), -AHEAD_MS)
    rush.do(lambda store: store.settle([1], State.DEAD, "why", AHEAD_MS + FURTHER_MS + 200))
    rush.do(lambda store: store.replay({1: AHEAD_MS + FURTHER_MS + 7000}, AHEAD_MS + FURTHER_MS + 300))
    (reopened,) = copy(here, "rush", run(rush, after=1), AHEAD_MS + FURTHER_MS).reopened or [message(here, "m1")]
    assert (reopened.state, reopened.expires_at) == (State.OPEN, 7000)
    # Who passes the record on knows it by its own clock, and the record itself by another one.
    copy(agni, "rush", run(here, 1, 1), -AHEAD_MS)
    assert message(agni, "m1").expires_at == AHEAD_MS + 7000


# -- a clock that is set -----------------------------------------------------------------------------------------------


def follow(subject: Subject, by_ms: int, after: int = 0, at: int = 500) -> None:
    subject.do(lambda store: store.follow_clock(by_ms, after, {"clock": "a note"}, at))


@pytest.mark.parametrize("by_ms", [AHEAD_MS, -AHEAD_MS])
def test_what_is_open_follows_a_clock_that_is_set(here: Subject, by_ms: int) -> None:
    append(here, *(msgspec.structs.replace(draft(name), expires_at=5000) for name in ("m1", "m2", "m3")), at=100)
    here.do(lambda store: store.give_back([Return(1, 1, 250)], "it failed", 200))
    here.do(lambda store: store.settle([3], State.DONE, None, 300))
    follow(here, by_ms)
    told = [(it.accepted_at, it.expires_at, it.due_at) for it in (message(here, name) for name in ("m1", "m2", "m3"))]
    assert told == [(100 + by_ms, 5000 + by_ms, 250 + by_ms), (100 + by_ms, 5000 + by_ms, 0), (100, 5000, 0)]
    assert here.do(lambda store: store.expired(5000 + by_ms, 10)) == [1, 2]
    assert here.do(lambda store: store.expired(4999 + by_ms, 10)) == []
    assert here.do(lambda store: store.remembered("clock")) == {"clock": "a note"}
    (record,) = here.do(lambda store: store.records(after=0, limit=10, kind="clock_set"))
    assert (record.at, msgspec.json.decode(record.facts)) == (500, {"by_ms": by_ms})
    assert here.do(lambda store: store.verify()).damages == ()


def test_what_another_clock_wrote_stays(here: Subject) -> None:
    append(here, msgspec.structs.replace(draft("m1"), expires_at=5000), at=100)
    append(here, msgspec.structs.replace(draft("m2"), expires_at=5000), at=100)
    follow(here, AHEAD_MS, after=1)
    assert (message(here, "m1").expires_at, message(here, "m2").expires_at) == (5000, 5000 + AHEAD_MS)


def test_what_was_copied_follows_as_well(here: Subject, agni: Peer) -> None:
    append(agni, expiring(AHEAD_MS + 5000), at=AHEAD_MS + 100)
    copy(here, "agni", run(agni), AHEAD_MS)
    follow(here, 7000)
    assert (message(here, "m1").accepted_at, message(here, "m1").expires_at) == (7100, 12_000)


@pytest.mark.parametrize("keeps_recent", [False, True])
def test_what_is_handed_out_afterwards_is_by_the_new_time(here: Subject, agni: Peer, keeps_recent: bool) -> None:
    if keeps_recent:
        # Who hears of records asks for them: so the newest are handed out from memory.
        here.store.on_advance(lambda: None)
    append(here, expiring(5000), at=100)
    follow(here, AHEAD_MS, at=AHEAD_MS + 500)
    append(here, msgspec.structs.replace(draft("m2"), expires_at=AHEAD_MS + 6000), at=AHEAD_MS + 600)
    copy(agni, "here", run(here), 0)
    told = [(it.accepted_at, it.expires_at) for it in (message(agni, name) for name in ("m1", "m2"))]
    assert told == [(AHEAD_MS + 100, AHEAD_MS + 5000), (AHEAD_MS + 600, AHEAD_MS + 6000)]
