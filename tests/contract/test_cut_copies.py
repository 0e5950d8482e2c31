"""Copies of journals that are cut, on each store: what goes, and what a node gets that comes when much is cut."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.subjects import FAR, Peer, Subject, append, copy, draft, is_sound, one, open_ids, run, state_of
from trishula_router.store.bases import Base
from trishula_router.store.facts import ArchivedFacts, LeftFacts, ModeFacts, TokenFacts
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State
from trishula_router.store.runs import Extract, JournalCut, JournalForked, Remembered

#: A message: sender, id, recipient, type, digest, use.
_KNOWN = ("dc", "m1", "agni", "STATUS", "", 0)


def note(subject: Subject, count: int = 1) -> None:
    for _ in range(count):
        subject.do(lambda store: store.note(Kind.LEFT, LeftFacts("agni", 7), 50))


def settle(subject: Subject, *positions: int, state: State = State.DONE) -> None:
    subject.do(lambda store: store.settle(positions, state, None, 200))


def forget(subject: Subject) -> None:
    subject.do(lambda store: store.forget(0, 100, before=10_000, dead_before=0, at=20_000))


def cut_own(subject: Subject, last: int) -> None:
    """Cut the own journal, as behind a segment."""
    base = subject.store.base()
    records = subject.do(lambda store: store.records(after=base.sequence, limit=1000))
    digest = next(record.digest.hex() for record in records if record.position == last)
    facts = ArchivedFacts(base.sequence + 1, last, base.digest.hex(), digest, 1, "one.jsonl.gz", "00")
    subject.do(lambda store: store.archived(facts, 500))
    subject.do(lambda store: store.cut(1000))


def copy_all(target: Subject, source: Subject, node: str, limit: int = 100) -> None:
    """Copy run after run until nothing is left, as a link does."""
    for _ in range(100):
        before = held(target, source)
        if before >= source.store.high_water:
            return
        extract = over_the_wire(run(source, before, limit=limit))
        copied = target.do(lambda store, it=extract: store.copy(node, it))  # type: ignore[misc]
        assert copied.sequence == extract.last > before
        assert is_sound(target)
    raise AssertionError("it never came to the end")


def over_the_wire(extract: Extract) -> Extract:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(extract), type=Extract)


def held(target: Subject, source: Subject) -> int:
    return next((one.sequence for one in target.store.origins() if one.epoch == source.store.epoch), 0)


def test_a_copy_is_cut_and_goes_on(subject: Subject) -> None:
    source = Peer("dc")
    first = one(source, "m1")
    settle(source, first)
    forget(source)
    note(source, 3)
    copy(subject, source)
    forget(subject)
    before = run(source)
    assert subject.do(lambda store: store.cut_copy(1, 4, 3)).sequence == 3
    assert is_sound(subject)
    assert subject.do(lambda store: store.cut_copy(1, 4, 3)) == Base(4, before.records[3][3], 4)
    assert subject.store.base(1) == Base(4, before.records[3][3], 4)
    assert subject.store.base() == Base()
    assert state_of(subject, FAR + first) is State.DONE
    note(source, 2)
    copy(subject, source)
    assert held(subject, source) == source.store.high_water
    assert is_sound(subject)
    # Never behind what is held.
    assert subject.do(lambda store: store.cut_copy(1, 100, 100)).sequence == source.store.high_water
    note(source)
    copy(subject, source)
    assert held(subject, source) == source.store.high_water
    assert is_sound(subject)


def test_in_a_copy_what_waits_is_held_until_it_ends_here(subject: Subject) -> None:
    source = Peer("dc")
    waits = one(source, "waits")
    note(source, 2)
    copy(subject, source)
    subject.do(lambda store: store.cut_copy(1, 3, 100))
    assert open_ids(subject) == ["waits"]
    assert subject.do(lambda store: store.bodies([FAR + waits])) == {FAR + waits: b"{}"}
    (life,) = subject.do(lambda store: store.history("waits"))
    assert [record.kind for record in life.records] == ["accepted"]
    settle(subject, FAR + waits)
    assert is_sound(subject)
    forget(subject)
    cut_own(subject, 2)
    subject.do(lambda store: store.let_go(0, 100))
    (life,) = subject.do(lambda store: store.history("waits"))
    assert life.records == ()
    assert state_of(subject, FAR + waits) is State.DONE
    assert is_sound(subject)
    # Sent once more through this node it is a repeat.
    (again,) = append(subject, draft("waits"))
    assert again.duplicate


def test_what_the_other_node_settled_keeps_its_state_when_either_journal_is_cut(subject: Subject) -> None:
    source = Peer("dc")
    mine, theirs = one(subject, "mine"), one(source, "theirs")
    source.do(lambda store: store.copy("agni", run(subject)))
    copy(subject, source)
    settle(source, FAR + mine)
    settle(subject, FAR + theirs)
    copy(subject, source)
    forget(subject)
    note(subject, 2)
    assert is_sound(subject)
    cut_own(subject, 4)
    assert is_sound(subject)
    assert (state_of(subject, mine), state_of(subject, FAR + theirs)) == (State.DONE, State.DONE)
    subject.do(lambda store: store.cut_copy(1, source.store.high_water, 100))
    subject.do(lambda store: store.let_go(0, 100))
    assert is_sound(subject)
    assert (state_of(subject, mine), state_of(subject, FAR + theirs)) == (State.DONE, State.DONE)
    assert [it.duplicate for it in append(subject, draft("mine"), draft("theirs"))] == [True, True]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_node_with_an_empty_disk_gets_what_is_left_and_what_follows(subject: Subject, limit: int) -> None:
    for number in range(3):
        settle(subject, one(subject, f"done-{number}"))
    waits, letter = one(subject, "waits"), one(subject, "letter")
    settle(subject, letter, state=State.DEAD)
    facts = ModeFacts("fallback", False, "why", "ops", 3)
    subject.do(lambda store: store.note(Kind.MODE, facts, 3))
    revoked = TokenFacts("mallory", "revoked", "", "ops", before=5, everywhere=True)
    subject.do(lambda store: store.note(Kind.TOKEN, revoked, 4))
    forget(subject)
    note(subject, 2)
    cut_own(subject, subject.store.high_water - 1)
    note(subject, 2)
    empty = Peer("new")
    copy_all(empty, subject, "agni", limit)
    # Its base is where the chain goes on from, and the same as here.
    assert empty.store.base(1)[:2] == subject.store.base()[:2]
    assert not empty.store.base(1).is_behind
    assert open_ids(empty) == ["waits"]
    assert empty.do(lambda store: store.bodies([FAR + waits])) == {FAR + waits: b"{}"}
    assert [it.message.id for it in empty.do(lambda store: store.dead_letters(0, 9))] == ["letter"]
    assert [it.kind for it in empty.do(lambda store: store.modes())] == ["mode"]
    # What was done is known there, with no record: a repeat is one.
    assert [it.duplicate for it in append(empty, *(draft(f"done-{number}") for number in range(3)))] == [True] * 3
    revocations = empty.do(lambda store: store.remembered("revoked:"))
    assert list(revocations) == ["revoked:before:mallory:5"]
    # It goes on like any other copy.
    settle(subject, waits)
    copy_all(empty, subject, "agni")
    assert open_ids(empty) == []
    assert state_of(empty, FAR + waits) is State.DONE


@pytest.mark.parametrize("limit", [1, 100])
def test_any_store_takes_what_is_left_and_hands_it_on(subject: Subject, limit: int) -> None:
    source = Peer("dc")
    settle(source, one(source, "done"))
    one(source, "waits")
    forget(source)
    note(source, 2)
    cut_own(source, 5)
    note(source, 1)
    copy_all(subject, source, "dc")
    assert open_ids(subject) == ["waits"]
    third = Peer("third")
    for _ in range(20):
        extract = over_the_wire(run(subject, held(third, source), number=1, limit=limit))
        third.do(lambda store, it=extract: store.copy("dc", it))  # type: ignore[misc]
    assert held(third, source) == source.store.high_water
    assert open_ids(third) == ["waits"]
    assert is_sound(third)
    for store in (subject, third):
        assert [it.duplicate for it in append(store, draft("done"))] == [True]


def test_what_two_nodes_accepted_ends_where_one_was_told_that_it_did_and_has_cut_that(subject: Subject) -> None:
    source, other = Peer("dc"), Peer("other")
    first = one(source, "both")
    one(other, "both")
    copy_all(subject, other, "other")
    assert open_ids(subject) == ["both"]
    settle(source, first)
    forget(source)
    note(source, 2)
    cut_own(source, source.store.high_water - 1)
    extract = run(source)
    copied = subject.do(lambda store: store.copy("dc", extract))
    assert [message.id for message, _ in copied.settled] == ["both"]
    assert open_ids(subject) == []
    assert is_sound(subject)
    assert [it.duplicate for it in append(subject, draft("both"))] == [True]


def test_a_rest_that_was_told_in_part_is_gone_on_with_by_a_node_that_has_cut_less(subject: Subject) -> None:
    source, other = Peer("dc"), Peer("other")
    settle(source, one(source, "a"), one(source, "b"))
    forget(source)
    note(source, 3)
    whole = run(source)
    copy_all(other, source, "dc")
    cut_own(source, 5)
    good = run(source)
    assert good.rest is not None
    # Of the record there nobody knows the digest any more.
    rest = msgspec.structs.replace(good.rest, last=2, digest=b"", remembered=good.rest.remembered[:2])
    subject.do(lambda store: store.copy("dc", msgspec.structs.replace(good, rest=rest)))
    assert subject.store.base(1).is_behind
    # Who asks this node meanwhile is told that there will be more.
    handed_on = run(subject, number=1).rest
    assert handed_on is not None
    assert (handed_on.last, handed_on.until) == (2, 5)
    copied = subject.do(lambda store: store.copy("dc", run(other, 2, number=1)))
    assert copied.sequence == len(whole.records)
    assert subject.store.base(1) == Base(2, whole.records[1][3], 2)
    assert [it.duplicate for it in append(subject, draft("a"), draft("b"))] == [True, True]
    assert is_sound(subject)
    assert subject.do(lambda store: store.cut_copy(1, 4, 100)).sequence == 4
    assert is_sound(subject)


def test_bodies_of_what_came_settled_go_when_it_has_ended_for_sure(subject: Subject) -> None:
    source = Peer("dc")
    done, dead = one(source, "done"), one(source, "dead")
    settle(source, done)
    settle(source, dead, state=State.DEAD)
    note(source)
    cut_own(source, source.store.high_water)
    copy_all(subject, source, "dc")
    (row,) = subject.do(lambda store: store.with_ids(["done"]))
    assert (row.settled_at, row.ended_by) == (None, row.expires_at)
    for before, left in ((row.expires_at, 2), (row.expires_at + 1, 0)):
        subject.do(lambda store, it=before: store.forget(0, 10, before=it, dead_before=it, at=it + 1))  # type: ignore[misc]
        assert len(subject.do(lambda store: store.bodies([FAR + done, FAR + dead]))) == left
    assert is_sound(subject)


def test_one_that_lacks_what_was_cut_is_told_so_and_copies_nothing(subject: Subject) -> None:
    source = Peer("dc")
    one(source, "open-here")
    copy(subject, source)
    settle(source, 1)
    forget(source)
    note(source, 3)
    cut_own(source, 5)
    extract = run(source, 1)
    with pytest.raises(JournalCut) as caught:
        subject.do(lambda store: store.copy("dc", extract))
    assert str(caught.value) == (
        "records 2 to 5 of node dc (epoch epoch-of-dc) are in its archive alone, and this node lacks them: it was "
        "away, or its store was put back to a backup, while they were cut. Nothing is lost, and nothing more is "
        "copied: stop this node, move its store (node.sqlite) away, and start it; it begins anew with what its peers "
        "hold"
    )
    assert held(subject, source) == 1
    # It isn't done twice, and not forgotten: it stays open here until somebody looks.
    assert open_ids(subject) == ["open-here"]
    assert is_sound(subject)


def test_what_is_left_is_taken_in_order_alone(subject: Subject) -> None:
    source = Peer("dc")
    append(source, draft("a"), draft("b"))
    note(source, 2)
    cut_own(source, 3)
    good = run(source)
    assert good.rest is not None
    assert good.rest.sequences == [1, 2]
    for sequences in ([2, 1], [1], [1, 1], [1, 9]):
        bad = msgspec.structs.replace(good, rest=msgspec.structs.replace(good.rest, sequences=sequences))
        with pytest.raises(JournalForked, match="told out of order"):
            subject.do(lambda store, it=bad: store.copy("dc", it))  # type: ignore[misc]
        assert held(subject, source) == 0
    for bad_one in (Remembered(9, *_KNOWN, 1, 0, 0), Remembered(1, *_KNOWN, 0, 0, 0), Remembered(1, *_KNOWN, 77, 0, 0)):
        bad = msgspec.structs.replace(good, rest=msgspec.structs.replace(good.rest, remembered=[bad_one]))
        with pytest.raises(JournalForked, match="told out of order"):
            subject.do(lambda store, it=bad: store.copy("dc", it))  # type: ignore[misc]
    assert subject.do(lambda store: store.copy("dc", good)).sequence == 3
    # Twice is once.
    assert subject.do(lambda store: store.copy("dc", good)).sequence == 3
    assert is_sound(subject)


def test_while_it_is_taken_over_a_copy_is_not_cut(subject: Subject) -> None:
    source = Peer("dc")
    append(source, draft("a"), draft("b"))
    note(source, 2)
    cut_own(source, 3)
    good = run(source)
    assert good.rest is not None
    rest = msgspec.structs.replace(good.rest, sequences=[1], last=1, digest=good.records[0][3])
    half = msgspec.structs.replace(good, records=good.records[:1], rest=rest)
    assert subject.do(lambda store: store.copy("dc", half)).sequence == 1
    assert subject.store.base(1).is_behind
    assert subject.do(lambda store: store.cut_copy(1, 1, 10)).sequence == 1
    # What follows comes from where it is.
    assert subject.do(lambda store: store.copy("dc", run(source, 1))).sequence == 3
    assert not subject.store.base(1).is_behind
    assert sorted(open_ids(subject)) == ["a", "b"]


def test_a_record_stays_that_also_tells_of_a_message_that_is_not_here_yet(subject: Subject) -> None:
    first, second = Peer("first"), Peer("second")
    late = one(first, "late")
    copy_all(second, first, "first")
    here = one(second, "here")
    settle(second, here, FAR + late)
    copy_all(subject, second, "second")
    number = next(origin.number for origin in subject.store.origins() if origin.epoch == second.store.epoch)
    end = second.store.high_water
    assert subject.do(lambda store: store.cut_copy(number, end, 100)).sequence == end
    forget(subject)
    subject.do(lambda store: store.let_go(0, 100))
    # Its end was told by a record that was cut: it is not done once more.
    copy_all(subject, first, "first")
    assert open_ids(subject) == []
    assert [it.duplicate for it in append(subject, draft("late"))] == [True]
    assert is_sound(subject)
