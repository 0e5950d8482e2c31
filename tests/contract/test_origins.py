"""Journals of other nodes in a store: every promise of ``copy``, ``extract``, ``origins`` and ``place``, on each store.

``here`` is the store under test; the others play the peers' stores. That all converge is in ``test_convergence.py``.
"""

from __future__ import annotations

import queue
import random
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.stores import GIB, ReactorQueue, open_sqlite, result_of
from tests.support.subjects import (
    FAR,
    KINDS,
    InMemory,
    InSqlite,
    Peer,
    Subject,
    append,
    copy,
    draft,
    head,
    is_sound,
    made,
    run,
    state_of,
    told,
)
from trishula.contract.message import DEFAULT_TTL_MS
from trishula.errors import StorageFull
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import GENESIS, Kind, digest_of
from trishula_router.store.messages import Accepted, MailboxSize, OpenSize, Return, State
from trishula_router.store.origins import read_numbering
from trishula_router.store.runs import Extract, JournalForked, Origin
from trishula_router.store.sqlite import recent_runs
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import back_up, restore, verify_file
from trishula_router.store.sqlite.migrate import SCHEMA_DIRECTORY
from trishula_router.store.sqlite.opening import open_store
from trishula_router.store.sqlite.read_runs import read_run
from trishula_router.store.telling import accepted_facts


@pytest.fixture(params=[*KINDS, "with peers"])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    is_asked = request.param == "with peers"
    with made("sqlite" if is_asked else request.param, tmp_path) as one:
        if is_asked:
            # Who hears of records asks for them: so the newest are handed out from memory.
            one.store.on_advance(lambda: None)
        yield one


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_a_store_holds_its_own_journal(here: Subject) -> None:
    append(here, draft("m1"))
    assert here.store.origins() == [Origin(0, "", "epoch-1", 1)]
    assert here.store.place(7) == ("", 7)


def test_a_message_of_another_node_is_there(here: Subject, agni: Peer) -> None:
    append(agni, draft("m0"), draft("m1", body=b'{"a":1}', priority=2), at=123)
    copied = copy(here, agni)
    (_, it) = copied.arrived
    assert (copied.sequence, copied.settled, copied.reopened) == (2, [], [])
    assert (it.position, it.sender, it.id, it.recipient) == (FAR | 2, "dc", "m1", "agni")
    assert (it.priority, it.accepted_at, it.expires_at, it.size_bytes, it.arrival) == (2, 123, 10_000, 7, 2)
    assert here.do(lambda store: store.at_positions([FAR | 2])) == {FAR | 2: it}
    assert here.do(lambda store: store.bodies([FAR | 2])) == {FAR | 2: b'{"a":1}'}
    assert here.do(lambda store: store.open_mailboxes()) == {"agni": MailboxSize({"dc": OpenSize(2, 9)})}
    assert here.store.origins() == [Origin(0, "", "epoch-1", 0), Origin(1, "agni", "epoch-of-agni", 2)]
    assert here.store.place(FAR | 2) == ("agni", 2)
    assert is_sound(here)


def test_records_keep_their_facts_and_digests(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    agni.do(lambda store: store.settle([1], State.DONE, None, 200))
    copy(here, agni)
    assert run(here, number=1).records == run(agni).records
    assert [record.kind for record in here.do(lambda store: store.records(after=0, limit=9, origin=1))] == [
        "accepted",
        "done",
    ]
    assert here.do(lambda store: store.records(after=0, limit=9)) == []


def test_records_of_all_origins_and_what_they_name(here: Subject, agni: Peer) -> None:
    append(here, draft("own"))
    append(agni, draft("m1"))
    agni.do(lambda store: store.settle([1], State.DEAD, "why", 200))
    copy(here, agni)
    all_of_them = here.do(lambda store: store.records(after=0, limit=9, origin=None))
    assert [record.position for record in all_of_them] == [1, FAR | 1, FAR | 2]
    assert msgspec.json.decode(all_of_them[-1].facts) == {"messages": [FAR | 1], "reason": "why"}


def test_the_life_of_a_message_is_told_from_all_journals_by_time(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), at=100)
    copy(here, agni)
    here.do(lambda store: store.deliver([(FAR | 1, 1)], "agni", 1, 150))
    agni.do(lambda store: store.give_back([Return(1, 2, 400)], "it failed", 120))
    copy(here, agni)
    here.do(lambda store: store.settle([FAR | 1], State.DONE, None, 300))
    assert [kind for _, kind in told(here, "m1")] == ["accepted", "returned", "delivered", "done"]
    (it,) = here.do(lambda store: store.with_ids(["m1"]))
    assert (it.attempts, it.failures, it.due_at, it.delivered_at, it.settled_at) == (1, 2, 0, 150, 300)


# -- portions ----------------------------------------------------------------------------------------------------------


def test_a_repeat_changes_nothing(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    first = run(agni)
    copy(here, agni, first)
    assert copy(here, agni, first) == Copied(2, [], [], [])
    append(agni, draft("m3"))
    overlapping = copy(here, agni, run(agni, 1))
    assert ([it.id for it in overlapping.arrived], overlapping.sequence) == (["m3"], 3)
    assert is_sound(here)


def test_a_gap_changes_nothing(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    assert copy(here, agni, run(agni, 1)) == Copied(0, [], [], [])
    assert head(here) == []


def test_nothing_is_an_empty_run(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    assert run(agni, 1).records == []
    assert run(agni, 5).records == []
    copy(here, agni)
    assert copy(here, agni, run(agni, 1)) == Copied(1, [], [], [])
    assert run(here, 9).records == []


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit_bytes": 500}])
def test_a_run_has_its_limits(here: Subject, limits: dict[str, int]) -> None:
    append(here, *(draft(f"m{number}", body=b"{}" + b" " * 100) for number in range(5)))
    sizes = []
    after = 0
    while made := run(here, after, **limits).records:
        sizes.append(len(made))
        after += len(made)
    assert (sum(sizes), sizes[0]) == (5, 2 if "limit" in limits else sizes[0])
    assert 1 <= sizes[0] < 5


def test_the_first_record_may_be_larger_than_a_run(here: Subject) -> None:
    append(here, draft("m1", body=b"{}" + b" " * 5000), draft("m2"))
    assert len(run(here, limit_bytes=100).records) == 1


def test_a_broadcast_comes_whole_and_its_body_once(here: Subject, rush: Peer) -> None:
    append(here, draft("m0"), draft("b1", "agni", "dc", "web", body=b'{"b":1}'), draft("m2"))
    made = run(here, limit=2)
    assert len(made.records) == 4
    if isinstance(here, InSqlite):
        assert sorted(made.bodies) == [1, 2]
    copied = rush.do(lambda store: store.copy("here", made))
    assert [it.recipient for it in copied.arrived] == ["agni", "agni", "dc", "web"]
    positions = [it.position for it in copied.arrived[1:]]
    assert set(rush.do(lambda store: store.bodies(positions)).values()) == {b'{"b":1}'}


def test_a_record_that_is_not_of_the_chain_is_refused(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    made = run(agni)
    at, kind, facts, digest = made.records[1]
    changed = msgspec.structs.replace(made, records=[made.records[0], (at + 1, kind, facts, digest)])
    with pytest.raises(JournalForked, match=r"record 2 of node agni .*doesn't match its digest") as caught:
        copy(here, agni, changed)
    assert (caught.value.node, caught.value.epoch, caught.value.sequence) == ("agni", "epoch-of-agni", 2)
    assert here.store.origins() == [Origin(0, "", "epoch-1", 0)]
    assert copy(here, agni, made).sequence == 2


def test_a_run_that_lacks_what_its_records_need_is_refused(here: Subject, agni: Peer, rush: Peer) -> None:
    append(rush, draft("m1"))
    without = msgspec.structs.replace(run(rush), messages={})
    with pytest.raises(JournalForked, match=r"record 1 of node rush .* came without what belongs to its message"):
        copy(here, rush, without)
    agni.do(lambda store: store.copy("rush", run(rush)))
    agni.do(lambda store: store.settle([FAR | 1], State.DONE, None, 200))
    without = msgspec.structs.replace(run(agni), origins={})
    with pytest.raises(JournalForked, match=r"record 1 of node agni .* names a journal that nobody told of"):
        copy(here, agni, without)
    assert here.store.origins()[1:] == []
    assert copy(here, agni).sequence == 1


def test_another_journal_under_the_same_epoch_is_refused(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    copy(here, agni)
    other = Peer("agni")
    append(other, draft("x1"), draft("x2"), draft("x3"))
    with pytest.raises(JournalForked, match="is not of the journal that is held here"):
        copy(here, agni, run(other))
    with pytest.raises(JournalForked, match="record 3 of node agni"):
        copy(here, agni, run(other, 2))
    assert [it.id for it in head(here)] == ["m1", "m2"]


def test_the_own_journal_is_not_copied(here: Subject, agni: Peer) -> None:
    append(here, draft("m1"))
    agni.do(lambda store: store.copy("here", run(here)))
    assert here.do(lambda store: store.copy("here", run(agni, number=1))) == Copied(1, [], [], [])
    assert here.store.origins() == [Origin(0, "", "epoch-1", 1)]


def test_a_peer_that_knows_more_of_the_own_journal_is_told_of(here: Subject) -> None:
    other = InMemory()
    append(other, draft("m1"))
    with pytest.raises(JournalForked, match=r"record 1 of node here .*is missing from the node's own journal"):
        here.do(lambda store: store.copy("here", run(other)))


# -- states ------------------------------------------------------------------------------------------------------------


def test_what_is_settled_elsewhere_is_settled_here(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    copy(here, agni)
    agni.do(lambda store: store.settle([1], State.DEAD, "it failed", 300))
    copied = copy(here, agni)
    ((it, reason),) = copied.settled
    assert (it.id, it.state, it.settled_at, reason) == ("m1", State.DEAD, 300, "it failed")
    assert [it.id for it in head(here)] == ["m2"]
    (letter,) = here.do(lambda store: store.dead_letters(0, 10))
    assert (letter.message, letter.reason) == (it, "it failed")
    assert is_sound(here)


def test_an_own_message_that_is_settled_elsewhere(here: Subject, agni: Peer) -> None:
    append(here, draft("m1"))
    agni.do(lambda store: store.copy("here", run(here)))
    agni.do(lambda store: store.settle([FAR | 1], State.DONE, None, 300))
    ((it, _),) = copy(here, agni).settled
    assert (it.position, it.state) == (1, State.DONE)
    assert is_sound(here)


ENDS = [State.DONE, State.DEAD, State.CANCELLED, State.EXPIRED]


@pytest.mark.parametrize("elsewhere", ENDS)
@pytest.mark.parametrize("own", ENDS)
def test_two_ends_are_one_in_the_end(here: Subject, agni: Peer, own: State, elsewhere: State) -> None:
    append(here, draft("m1"))
    agni.do(lambda store: store.copy("here", run(here)))
    here.do(lambda store: store.settle([1], own, "own", 200))
    agni.do(lambda store: store.settle([FAR | 1], elsewhere, "elsewhere", 100))
    copied = copy(here, agni)
    agni.do(lambda store: store.copy("here", run(here, 1)))
    highest = min(own, elsewhere, key=ENDS.index)
    assert state_of(here, 1) == state_of(agni, FAR | 1) == highest
    assert (copied.arrived, copied.settled, copied.reopened) == ([], [], [])
    assert [kind for _, kind in told(here, "m1")] == ["accepted", elsewhere.name.lower(), own.name.lower()]
    assert is_sound(here)


def test_an_end_that_came_too_late_is_told_to_nobody(here: Subject) -> None:
    append(here, draft("m1"), draft("m2"))
    here.do(lambda store: store.settle([1], State.EXPIRED, "why", 200))
    here.do(lambda store: store.settle([1, 2], State.DEAD, "why", 300))
    here.do(lambda store: store.settle([1, 2], State.CANCELLED, "why", 400))
    ends = here.do(lambda store: store.records(after=2, limit=9))
    assert [(one.kind, msgspec.json.decode(one.facts)["messages"]) for one in ends] == [("expired", [1]), ("dead", [2])]


def test_a_replay_elsewhere_reopens(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    agni.do(lambda store: store.settle([1], State.DEAD, "why", 200))
    copy(here, agni)
    agni.do(lambda store: store.replay({1: 20_000}, 300))
    (it,) = copy(here, agni).reopened
    assert (it.state, it.expires_at, it.failures, it.settled_at) == (State.OPEN, 20_000, 0, None)
    agni.do(lambda store: store.settle([1], State.DEAD, "again", 400))
    ((it, reason),) = copy(here, agni).settled
    assert (it.state, reason) == (State.DEAD, "again")
    assert is_sound(here)


def test_a_replay_brings_the_body_where_it_was_deleted(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1", body=b'{"a":1}'))
    agni.do(lambda store: store.settle([1], State.DEAD, "why", 200))
    copy(here, agni)
    here.do(lambda store: store.forget(0, 10, before=10_000, dead_before=10_000, at=10_000))
    assert here.do(lambda store: store.bodies([FAR | 1])) == {}
    agni.do(lambda store: store.replay({1: 20_000}, 300))
    copy(here, agni)
    assert here.do(lambda store: store.bodies([FAR | 1])) == {FAR | 1: b'{"a":1}'}
    assert is_sound(here)


def test_a_purge_elsewhere_deletes_the_body(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    agni.do(lambda store: store.settle([1, 2], State.DEAD, "why", 200))
    copy(here, agni)
    here.do(lambda store: store.replay({FAR | 2: 20_000}, 250))
    agni.do(lambda store: store.purge([1, 2], 300))
    copied = copy(here, agni)
    assert [it.id for it, _ in copied.settled] == ["m2"]
    assert here.do(lambda store: store.bodies([FAR | 1, FAR | 2])) == {}
    assert here.do(lambda store: store.dead_letters(0, 10)) == []
    assert is_sound(here)


def test_what_was_settled_before_it_came_is_delivered_to_nobody(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"), draft("m2"))
    agni.do(lambda store: store.settle([1], State.DONE, None, 200))
    copied = copy(here, agni, run(agni, limit=2))
    assert [it.id for it in copied.arrived] == ["m2"]
    assert (copied.settled, state_of(here, FAR | 1)) == ([], State.DONE)
    assert is_sound(here)
    assert copy(here, agni).settled == []
    (it, _) = here.do(lambda store: store.with_ids(["m1", "m2"]))
    assert it.settled_at == 200
    assert is_sound(here)


def test_a_message_whose_body_is_gone_comes_settled(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    agni.do(lambda store: store.settle([1], State.DONE, None, 200))
    agni.do(lambda store: store.forget(0, 10, before=10_000, dead_before=10_000, at=10_000))
    copied = copy(here, agni)
    assert (copied.arrived, state_of(here, FAR | 1)) == ([], State.DONE)
    assert here.do(lambda store: store.bodies([FAR | 1])) == {}
    assert is_sound(here)


def test_records_of_kinds_to_come_are_kept(here: Subject, agni: Peer) -> None:
    append(agni, draft("m1"))
    made = run(agni)
    unknown = [
        ("a_kind_to_come", b'{"messages":[1]}'),
        ("a_kind_to_come", b'{"messages":{"not":"a list"}}'),
        ("dead", b'{"messages":"nonsense"}'),
        ("done", b'{"messages":[["a"],{}]}'),
    ]
    for sequence, (kind, facts) in enumerate(unknown, 2):
        digest = digest_of(made.records[-1][3], sequence, 200, kind, facts)
        made.records.append((200, kind, facts, digest))
    assert copy(here, agni, made).sequence == 5
    assert state_of(here, FAR | 1) is State.OPEN
    assert run(here, number=1).records == made.records
    shown = here.do(lambda store: store.records(after=0, limit=9, origin=None))
    assert [record.kind for record in shown] == [record[1] for record in made.records]
    assert msgspec.json.decode(shown[1].facts) == {"messages": [FAR | 1]}
    assert is_sound(here)


# -- one message, several nodes ----------------------------------------------------------------------------------------


def test_a_message_that_two_nodes_accepted_is_one(here: Subject, agni: Peer) -> None:
    append(here, draft("m1", body=b'{"at":1}'))
    append(agni, draft("m1", body=b'{"at":2}'), draft("m2"))
    copied = copy(here, agni)
    assert [it.id for it in copied.arrived] == ["m2"]
    assert here.do(lambda store: store.bodies([1])) == {1: b'{"at":1}'}
    assert told(here, "m1") == [(1, "accepted"), (FAR | 1, "accepted")]
    agni.do(lambda store: store.settle([1], State.DONE, None, 300))
    ((it, _),) = copy(here, agni).settled
    assert (it.position, state_of(here, 1)) == (1, State.DONE)
    shown = here.do(lambda store: store.records(after=0, limit=9, kind="done", origin=1))
    assert msgspec.json.decode(shown[0].facts) == {"messages": [1]}
    assert is_sound(here)


def test_a_repeat_of_what_came_from_another_node_is_a_repeat(here: Subject, agni: Peer) -> None:
    append(agni, draft("b1", "agni", "web"))
    copy(here, agni)
    assert append(here, draft("b1", "agni", "web")) == [Accepted((FAR | 1, FAR | 2), True)]
    assert here.store.high_water == 0


def test_a_third_node_gets_the_body_that_only_an_alias_has(here: Subject, agni: Peer, rush: Peer) -> None:
    append(here, draft("m1", "dc", "web", body=b'{"at":1}'))
    append(agni, draft("m1", "dc", "web", body=b'{"at":2}'))
    copy(here, agni)
    copied = rush.do(lambda store: store.copy("agni", run(here, number=1)))
    positions = [it.position for it in copied.arrived]
    assert set(rush.do(lambda store: store.bodies(positions)).values()) == {b'{"at":2}'}
    here.do(lambda store: store.settle([1, 2], State.DONE, None, 300))
    forgotten = here.do(lambda store: store.forget(0, 10, before=10_000, dead_before=10_000, at=10_000))
    assert (forgotten.after, forgotten.bodies >= 1) == (0, True)
    assert run(here, number=1).bodies == {}


def _take(extract: Extract, store: Store) -> Deferred[Copied]:
    return store.copy("agni", extract)


@pytest.fixture
def agni_in_a_file(tmp_path: Path) -> Iterator[Subject]:
    """Whose broadcasts have one body for all recipients."""
    (tmp_path / "agni").mkdir()
    one = InSqlite(tmp_path / "agni", epoch="epoch-of-agni", node="agni")
    yield one
    one.close()


def test_a_third_node_gets_the_body_of_a_broadcast_of_which_one_recipient_is_an_alias(
    here: Subject, agni_in_a_file: Subject, rush: Peer
) -> None:
    append(here, draft("m1", "web", body=b'{"at":1}'))
    append(agni_in_a_file, draft("m1", "dc", "web", body=b'{"at":2}'))
    here.do(lambda store: store.copy("agni", run(agni_in_a_file)))
    # As long runs are cut: the recipient that is an alias comes in a run of its own.
    for after, limit in ((0, 1), (1, 9)):
        extract = run(here, number=1, after=after, limit=limit)
        rush.do(partial(_take, extract))
    found = rush.do(lambda store: store.with_ids(["m1"]))
    bodies = rush.do(lambda store: store.bodies([it.position for it in found]))
    assert list(bodies.values()) == [b'{"at":2}'] * 2
    assert is_sound(here)
    # It goes with the message.
    here.do(lambda store: store.settle([1, FAR | 1], State.DONE, None, 300))
    here.do(lambda store: store.forget(0, 10, before=10_000, dead_before=10_000, at=10_000))
    assert run(here, number=1).bodies == {}
    assert is_sound(here)


def test_the_rest_of_a_broadcast_may_come_with_what_is_here_of_it(here: Subject, agni_in_a_file: Subject) -> None:
    append(agni_in_a_file, draft("m1", "agni", "web", "dc", body=b'{"at":2}'))
    whole = run(agni_in_a_file)
    # Whoever has another message for the second recipient hands them out apart.
    first = msgspec.structs.replace(whole, records=whole.records[:1], messages={1: whole.messages[1]})
    for extract in (first, whole):
        here.do(partial(_take, extract))
    found = here.do(lambda store: store.with_ids(["m1"]))
    assert list(here.do(lambda store: store.bodies([it.position for it in found])).values()) == [b'{"at":2}'] * 3
    assert is_sound(here)


def test_a_record_may_come_before_the_message_that_it_tells_of(here: Subject, agni: Peer, rush: Peer) -> None:
    append(agni, draft("m1"))
    rush.do(lambda store: store.copy("agni", run(agni)))
    rush.do(lambda store: store.deliver([(FAR | 1, 3)], "agni", 1, 150))
    rush.do(lambda store: store.settle([FAR | 1], State.DONE, None, 200))
    assert copy(here, rush).sequence == 2
    # Both origins have their numbers; the one is only heard of yet.
    assert here.store.origins()[1:] == [Origin(1, "rush", "epoch-of-rush", 2), Origin(2, "agni", "epoch-of-agni", 0)]
    copied = copy(here, agni)
    assert (copied.arrived, copied.settled) == ([], [])
    (it,) = here.do(lambda store: store.with_ids(["m1"]))
    assert (it.state, it.attempts, it.delivered_at, it.settled_at) == (State.DONE, 3, 150, 200)
    assert [kind for _, kind in told(here, "m1")] == ["accepted", "delivered", "done"]
    assert is_sound(here)


def test_a_journal_passed_on_by_another_node_is_the_same(here: Subject, agni: Peer, rush: Peer) -> None:
    append(rush, draft("r1"))
    agni.do(lambda store: store.copy("rush", run(rush)))
    agni.do(lambda store: store.settle([FAR | 1], State.CANCELLED, "why", 200))
    copy(here, agni)
    through = run(agni, number=1)
    assert through.epoch == "epoch-of-rush"
    here.do(lambda store: store.copy("rush", through))
    assert [it.state for it in here.do(lambda store: store.with_ids(["r1"]))] == [State.CANCELLED]
    # And on to a fourth, which learns what the numbers in it mean.
    fourth = Peer("fourth")
    for number, node in ((1, "agni"), (2, "rush")):
        passed = run(here, number=number)
        fourth.do(lambda store, node=node, passed=passed: store.copy(node, passed))  # type: ignore[misc]
    assert [it.state for it in fourth.do(lambda store: store.with_ids(["r1"]))] == [State.CANCELLED]
    assert is_sound(here)


def test_the_order_of_delivery_is_that_of_arrival(here: Subject, agni: Peer) -> None:
    append(agni, draft("a1"), draft("a2", priority=1))
    copy(here, agni)
    (own,) = append(here, draft("own"))
    append(agni, draft("a3"))
    copy(here, agni)
    assert [it.id for it in head(here)] == ["a2", "a1", "own", "a3"]
    assert [it.arrival for it in head(here)] == [2, 1, 3, 4]
    assert own.arrival == 3
    behind = here.do(lambda store: store.head("agni", (3, 1), 10))
    assert [it.id for it in behind] == ["own", "a3"]


@pytest.mark.parametrize("here", ["memory", "sqlite"], indirect=True)
def test_whoever_wants_to_know_is_told_of_new_records(here: Subject, agni: Peer) -> None:
    grown: list[list[int]] = []
    here.store.on_advance(lambda: grown.append([one.sequence for one in here.store.origins()]))
    append(here, draft("m1"))
    assert grown[-1] == [1]
    append(agni, draft("a1"), draft("a2"))
    copy(here, agni)
    assert grown[-1] == [1, 2]
    times = len(grown)
    head(here)
    copy(here, agni)
    assert len(grown) == times


def test_a_run_ends_with_what_the_node_was_told_of(tmp_path: Path) -> None:
    # Else the peer acknowledges records that the node doesn't know to be durable yet, and is taken for one that knows
    # more of this journal than the store does.
    told: queue.Queue[Callable[[], None]] = queue.Queue()
    store = open_store(tmp_path, new_epoch=lambda: "epoch-1", call_in_reactor=told.put, limit_bytes=GIB)
    store.append([draft("m1")], 1000)
    told.get(timeout=20)()
    store.append([draft("m2")], 1001)
    news_of_m2 = told.get(timeout=20)
    extracted = store.extract(0, 0, limit=100, limit_bytes=10**6)
    told.get(timeout=20)()
    assert len(result_of(extracted).records) == store.high_water == 1
    news_of_m2()
    extracted = store.extract(0, 0, limit=100, limit_bytes=10**6)
    told.get(timeout=20)()
    assert len(result_of(extracted).records) == store.high_water == 2
    closed = store.close()
    while not closed.called:
        told.get(timeout=20)()


@pytest.mark.parametrize("seed", range(10))
def test_a_run_from_memory_is_that_from_the_file(
    tmp_path: Path, agni: Peer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is.
    monkeypatch.setattr(recent_runs, "FRESH_S", 1e9)
    chance = random.Random(seed)
    here = InSqlite(tmp_path, node="rush")
    here.store.on_advance(lambda: None)
    file = sqlite3.connect(tmp_path / FILE_NAME)
    from_memory = 0
    for number in range(80):
        _do_anything(chance, here, agni, number)
        own = here.store.origins()[0]
        after = chance.randint(max(0, own.sequence - 20), own.sequence)
        limit, limit_bytes = chance.choice([1, 3, 100]), chance.choice([1, 2000, 10**6])
        answer = here.store.extract(0, after, limit=limit, limit_bytes=limit_bytes)
        if not answer.called:
            here.calls.wait(answer)
            continue
        from_memory += 1
        expected = read_run(file, read_numbering(file, "rush"), own, after, limit, limit_bytes)
        # That a message was settled, or handed over, in the meantime stands in a record behind its own.
        told = {
            sequence: msgspec.structs.replace(one, state=0, hop=0, keeper="")
            for sequence, one in expected.messages.items()
        }
        assert result_of(answer) == msgspec.structs.replace(expected, messages=told)
    assert from_memory > 30
    file.close()
    here.close()


def _do_anything(chance: random.Random, here: InSqlite, agni: Peer, number: int) -> None:
    newest = here.store.high_water
    some = sorted({chance.randint(1, newest) for _ in range(3)}) if newest else []
    match chance.randrange(10):
        case 0:
            here.do(lambda store: store.note(Kind.JOINED, {"agent": "dc"}, 7))
        case 1:
            append(agni, draft(f"a{number}"), draft(f"m{number + 1}"))
            copy(here, agni)
        case 2:
            here.do(lambda store: store.deliver([(one, 1) for one in some], "agni", None, 8))
        case 3:
            here.do(lambda store: store.settle(some, chance.choice([State.DONE, State.DEAD]), "why", 9))
        case 4:
            here.do(lambda store: store.replay(dict.fromkeys(some, 10_000), 9))
        case 5:
            here.do(lambda store: store.hand_over(some, "agni", 9))
        case 6 | 7:
            append(here, draft(f"b{number}", *(f"to{n}" for n in range(chance.randint(1, 5))), body=b"[%d]" % number))
        case _:
            to = chance.choice(["agni", "capability:sums"])
            append(here, *(draft(f"m{number}.{n}", to) for n in range(3)), draft(f"m{number}", to, body=b"1" * 999))


def test_bodies_of_all_journals_are_forgotten(here: Subject, agni: Peer) -> None:
    append(here, draft("young"), at=9_000)
    append(agni, draft("a1"), draft("a2"), at=100)
    agni.do(lambda store: store.settle([1], State.DONE, None, 200))
    copy(here, agni)
    after, bodies = 0, 0
    while True:
        step = here.do(lambda store, after=after: store.forget(after, 10, before=1_000, dead_before=1_000, at=10_000))  # type: ignore[misc]
        bodies += step.bodies
        if not (after := step.after):
            break
    assert bodies == 1
    assert here.do(lambda store: store.bodies([1, FAR | 1, FAR | 2])).keys() == {1, FAR | 2}


# -- what only a file can do -------------------------------------------------------------------------------------------


def test_a_full_store_copies_nothing(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path, limit_bytes=1024 * 1024)
    append(agni, *(draft(f"m{number}", body=b"{}" + b" " * 100_000) for number in range(20)))
    with pytest.raises(StorageFull):
        copy(here, agni, run(agni, limit_bytes=10**8))
    assert here.store.origins()[1:] == []
    assert copy(here, agni, run(agni, limit=1)).sequence == 1
    here.close()


def test_damage_in_a_copied_record_names_its_node(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path)
    append(agni, draft("m1"), draft("m2"))
    copy(here, agni)
    here.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE journal SET at = at + 1 WHERE position = ?", (FAR | 2,))
    verdict = verify_file(tmp_path / FILE_NAME)
    (damage,) = verdict.damages
    assert (damage.position, damage.id, verdict.records) == (FAR | 2, "m2", 2)
    assert damage.what == "record 2 of node agni (accepted) doesn't match its digest"
    here = InSqlite(tmp_path)
    with pytest.raises(JournalForked):
        append_to = Peer("rush")
        append_to.do(lambda store: store.copy("agni", run(here, number=1)))
    here.close()


def test_a_removed_copied_record_is_missed(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path)
    append(agni, draft("m1"), draft("m2"), draft("m3"))
    copy(here, agni)
    # What is left can be passed on up to the gap.
    here.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DELETE FROM journal WHERE position = ?", (FAR | 2,))
    assert "records 2 to 2 of node agni are missing" in [one.what for one in verify_file(tmp_path / FILE_NAME).damages]
    here = InSqlite(tmp_path)
    assert len(run(here, number=1).records) == 1
    here.close()


def test_a_damaged_body_is_not_passed_on(tmp_path: Path, rush: Peer) -> None:
    here = InSqlite(tmp_path)
    append(here, draft("m1", body=b'{"a":1}'), draft("m2", body=b'{"a":2}'))
    here.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("UPDATE body SET envelope = x'7bff7d' WHERE position = 1")
    here = InSqlite(tmp_path)
    made = run(here)
    assert (len(made.records), made.bodies) == (2, {2: b'{"a":2}'})
    here.close()


def test_what_comes_back_after_a_restore(tmp_path: Path, agni: Peer) -> None:
    """A backup, then more life, then the restore: what was lost comes back from the peer under the former epoch."""
    here = InSqlite(tmp_path)
    append(here, draft("before"), draft("done_later"))
    agni.do(lambda store: store.copy("here", run(here)))
    agni.do(lambda store: store.settle([FAR | 1], State.CANCELLED, "by agni", 150))
    copy(here, agni)
    back_up(tmp_path / FILE_NAME, tmp_path / "backup")
    append(here, draft("after", body=b'{"late":1}'))
    here.do(lambda store: store.settle([2], State.DONE, None, 200))
    agni.do(lambda store: store.copy("here", run(here, 2)))
    here.close()
    restore(tmp_path / "backup", tmp_path, new_epoch=lambda: "epoch-2", at=300, kept_as="old")
    again = InSqlite(tmp_path)
    assert is_sound(again)
    # The same sequences are given out again, for others.
    append(again, draft("other"), draft("other2"))
    former = next(one for one in again.store.origins() if one.epoch == "epoch-1")
    assert (former.node, former.sequence) == ("here", 2)
    back = run(agni, former.sequence, number=1)
    copied = again.do(lambda store: store.copy("here", back))
    assert [it.id for it in copied.arrived] == ["after"]
    assert [it.id for it, _ in copied.settled] == ["done_later"]
    agni.do(lambda store: store.settle([FAR | 3], State.DEAD, "by agni", 350))
    ((it, reason),) = copy(again, agni).settled
    assert (it.id, it.state, reason) == ("after", State.DEAD, "by agni")
    states = {
        it.id: it.state for it in again.do(lambda store: store.with_ids(["before", "done_later", "other", "other2"]))
    }
    assert states == {
        "before": State.CANCELLED,
        "done_later": State.DONE,
        "other": State.OPEN,
        "other2": State.OPEN,
    }
    assert is_sound(again)
    # The peer takes the new epoch's journal as one more; what it knows already is not new to it.
    copied = agni.do(lambda store: store.copy("here", run(again)))
    assert [it.id for it in copied.arrived] == ["other", "other2"]
    assert is_sound(agni)
    again.close()


def test_what_comes_back_after_a_restore_of_a_store_that_knew_no_peer(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path)
    append(here, draft("before"))
    back_up(tmp_path / FILE_NAME, tmp_path / "backup")
    append(here, draft("after"))
    here.do(lambda store: store.settle([1], State.DONE, None, 200))
    agni.do(lambda store: store.copy("here", run(here)))
    here.close()
    restore(tmp_path / "backup", tmp_path, new_epoch=lambda: "epoch-2", at=300, kept_as="old")
    again = InSqlite(tmp_path)
    append(again, draft("other"))
    copied = again.do(lambda store: store.copy("here", run(agni, number=1)))
    assert ([it.id for it in copied.arrived], [it.id for it, _ in copied.settled]) == (["after"], ["before"])
    assert is_sound(again)
    again.close()


def test_a_store_made_anew_is_rebuilt_from_a_peer(tmp_path: Path, agni: Peer) -> None:
    append(agni, draft("a1"))
    lost = Peer("here")
    append(lost, draft("m1"), draft("m2"))
    agni.do(lambda store: store.copy("here", run(lost)))
    agni.do(lambda store: store.settle([FAR | 1], State.DONE, None, 200))
    calls = ReactorQueue()
    fresh = open_sqlite(tmp_path, calls, epoch="epoch-2")
    for origin in agni.store.origins():
        made = run(agni, number=origin.number)
        calls.wait(fresh.copy(origin.node or "agni", made))
    states = {it.id: it.state for it in calls.wait(fresh.with_ids(["a1", "m1", "m2"]))}
    assert states == {"a1": State.OPEN, "m1": State.DONE, "m2": State.OPEN}
    assert not calls.wait(fresh.verify()).damages
    calls.wait(fresh.close())


def as_of_version_2(directory: Path, chain: list[tuple[str, dict[str, object]]], rows: str) -> None:
    """A store's file as programs before this one left it."""
    connection = sqlite3.connect(directory / FILE_NAME)
    for step in ("001-first.sql", "002-dead-letters.sql"):
        connection.executescript((SCHEMA_DIRECTORY / step).read_text())
    digest = GENESIS
    for position, (kind, told_facts) in enumerate(chain, 1):
        facts = msgspec.json.encode(told_facts)
        digest = digest_of(digest, position, 100 + position, kind, facts)
        connection.execute(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?)", (position, 100 + position, kind, facts, digest)
        )
    connection.executescript(f"INSERT INTO property VALUES ('epoch', 'epoch-1'); {rows} PRAGMA user_version = 2;")
    connection.close()


def test_a_store_of_an_older_version_is_read_and_copied(tmp_path: Path, agni: Peer) -> None:
    """Replays of that time state neither life nor end; the second death must not be taken for the first."""
    accepted = msgspec.to_builtins(accepted_facts(draft("m1"), "agni"))
    other = msgspec.to_builtins(accepted_facts(draft("m2"), "agni"))
    chain: list[tuple[str, dict[str, object]]] = [
        ("accepted", accepted),
        ("accepted", other),
        ("dead", {"messages": [1], "reason": "first"}),
        ("replayed", {"messages": [1]}),
        ("dead", {"messages": [1], "reason": "second"}),
        ("expired", {"messages": [1], "reason": "too late for that"}),
    ]
    message = (
        "INSERT INTO message VALUES ({0}, 'dc', 'm{0}', 'agni', 'STATUS', 3, 10{0}, 10000, 2, {0}, 0, 0, 0, {1}, 0);"
    )
    as_of_version_2(
        tmp_path,
        chain,
        message.format(1, "2, NULL, 5")
        + message.format(2, "0, NULL, NULL")
        + "INSERT INTO body VALUES (1, CAST('{}' AS BLOB)), (2, CAST('{}' AS BLOB));"
        + "INSERT INTO trace VALUES (1, 3), (1, 4);",
    )
    here = InSqlite(tmp_path)
    assert is_sound(here)
    assert [(it.id, it.arrival) for it in head(here)] == [("m2", 2)]
    assert append(here, draft("m3"))[0].arrival == 7
    copied = agni.do(lambda store: store.copy("here", run(here)))
    assert [it.id for it in copied.arrived] == ["m2", "m3"]
    assert state_of(agni, FAR | 1) is State.DEAD
    # The next replay is the second one, for both.
    here.do(lambda store: store.replay({1: 20_000}, 300))
    assert [it.id for it in agni.do(lambda store: store.copy("here", run(here, 7))).reopened] == ["m1"]
    assert is_sound(here)
    here.close()


def test_a_message_whose_row_is_lost_is_passed_on_from_its_record(tmp_path: Path, agni: Peer) -> None:
    here = InSqlite(tmp_path)
    append(here, draft("m1", body=b'{"a":1}'), draft("m2"), at=123)
    here.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DELETE FROM message WHERE position = 1")
    here = InSqlite(tmp_path)
    copied = agni.do(lambda store: store.copy("here", run(here)))
    assert [(it.id, it.expires_at) for it in copied.arrived] == [("m1", 123 + DEFAULT_TTL_MS), ("m2", 10_000)]
    assert agni.do(lambda store: store.bodies([FAR | 1])) == {FAR | 1: b'{"a":1}'}
    here.close()
