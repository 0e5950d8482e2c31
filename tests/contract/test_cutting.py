"""Cutting the journal, on each store: which records go, which are held and for how long, and what stays answerable."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Literal

import msgspec
import pytest

from tests.support.subjects import InSqlite, Subject, append, draft, is_sound, kinds, one, open_ids, state_of
from trishula_router.store.bases import Base, Dropped, NotArchivable
from trishula_router.store.facts import ArchivedFacts, LeftFacts, ModeFacts
from trishula_router.store.journal import Kind, Record, digest_of, verify
from trishula_router.store.messages import Accepted, Return, State
from trishula_router.store.runs import Rest
from trishula_router.store.sqlite.connection import FILE_NAME


def records(subject: Subject) -> list[Record]:
    found: list[Record] = subject.do(lambda store: store.records(after=0, limit=1000))
    return found


def segment(subject: Subject, last: int) -> ArchivedFacts:
    """What a segment up to a record would have; the store checks it against what it has."""
    base = subject.store.base()
    chosen = [record for record in records(subject) if base.sequence < record.position <= last]
    assert verify(chosen, base.digest, base.sequence) == []
    digest = chosen[-1].digest.hex() if chosen else ""
    return ArchivedFacts(base.sequence + 1, last, base.digest.hex(), digest, len(chosen), "one.jsonl.gz", "00")


def archive(subject: Subject, last: int) -> Base:
    facts = segment(subject, last)
    return subject.do(lambda store: store.archived(facts, 500))


def cut(subject: Subject, limit: int = 100) -> Base:
    while True:
        base = subject.do(lambda store: store.cut(limit))
        assert is_sound(subject)
        if not base.is_behind:
            return base


def let_go(subject: Subject) -> None:
    after = _let_go(subject, 0)
    while after:
        after = _let_go(subject, after)


def _let_go(subject: Subject, after: int) -> int:
    return subject.do(lambda store: store.let_go(after, 2))


def drop(subject: Subject, ids_since: int, after: int = 0, limit: int = 100, at: int = 90_000) -> Dropped:
    return subject.do(lambda store: store.drop(after, limit, ids_since=ids_since, at=at))


def settle(subject: Subject, *positions: int, state: State = State.DONE, at: int = 200) -> None:
    subject.do(lambda store: store.settle(positions, state, None, at))


def forget(subject: Subject, before: int = 10_000, dead_before: int = 0) -> None:
    subject.do(lambda store: store.forget(0, 100, before=before, dead_before=dead_before, at=20_000))


def note(subject: Subject, count: int = 1) -> None:
    for _ in range(count):
        subject.do(lambda store: store.note(Kind.LEFT, LeftFacts("agni", 7), 50))


def say(subject: Subject, mode: Literal["live", "fallback"], since: int) -> None:
    subject.do(lambda store: store.note(Kind.MODE, ModeFacts(mode, mode == "live", "why", "ops", since), since))


def positions(subject: Subject) -> list[int]:
    return [record.position for record in records(subject)]


def test_a_journal_begins_with_its_first_record(subject: Subject) -> None:
    assert subject.store.base() == Base(0, bytes(32), 0)
    note(subject)
    assert subject.do(lambda store: store.cut(100)) == Base()
    assert positions(subject) == [1]


def test_what_is_settled_goes_and_the_chain_holds_across_the_cut(subject: Subject) -> None:
    first = one(subject, "m1")
    subject.do(lambda store: store.deliver([(first, 1)], "agni", 7, 110))
    settle(subject, first)
    forget(subject)
    note(subject, 3)
    before = records(subject)
    assert archive(subject, 6) == Base(0, bytes(32), 6)
    assert positions(subject) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert cut(subject) == subject.store.base() == Base(6, before[5].digest, 6)
    assert kinds(subject) == ["left", "archived"]
    after = records(subject)
    assert verify(after, before[5].digest, 6) == []
    facts = msgspec.json.decode(after[-1].facts)
    assert facts == {
        "first": 1,
        "last": 6,
        "previous": "00" * 32,
        "digest": before[5].digest.hex(),
        "records": 6,
        "file": "one.jsonl.gz",
        "sha256": "00",
    }
    assert subject.store.high_water == 8
    note(subject)
    assert subject.store.high_water == 9
    assert is_sound(subject)


def test_the_next_record_continues_the_chain_where_all_but_the_newest_were_cut(subject: Subject) -> None:
    note(subject, 5)
    archive(subject, 5)
    cut(subject)
    note(subject)
    archive(subject, 7)
    cut(subject)
    assert kinds(subject) == ["archived"]
    digest = subject.store.base().digest
    note(subject)
    later = records(subject)
    assert digest_of(digest, 8, later[0].at, later[0].kind, later[0].facts) == later[0].digest
    assert is_sound(subject)


def test_it_goes_in_steps_and_the_base_moves_with_each(subject: Subject) -> None:
    note(subject, 7)
    archive(subject, 5)
    assert subject.do(lambda store: store.cut(2)).sequence == 2
    assert positions(subject) == [3, 4, 5, 6, 7, 8]
    assert subject.do(lambda store: store.cut(2)).sequence == 4
    assert subject.do(lambda store: store.cut(2)) == subject.store.base()
    assert subject.store.base().sequence == 5
    assert not subject.store.base().is_behind
    assert subject.do(lambda store: store.cut(2)).sequence == 5
    assert positions(subject) == [6, 7, 8]


def test_the_records_of_open_messages_are_held_until_they_end(subject: Subject) -> None:
    waits, done = one(subject, "waits"), one(subject, "done")
    subject.do(lambda store: store.deliver([(waits, 1), (done, 1)], "agni", 7, 110))
    settle(subject, done)
    subject.do(lambda store: store.give_back([Return(waits, 1, 0)], "busy", 210))
    forget(subject)
    note(subject, 2)
    archive(subject, 8)
    cut(subject)
    # What was accepted, the batch of both, what came back: the record of the other one's end is gone.
    assert positions(subject) == [waits, 3, 5, 9]
    let_go(subject)
    assert positions(subject) == [waits, 3, 5, 9]
    (history,) = subject.do(lambda store: store.history("waits"))
    assert [record.kind for record in history.records] == ["accepted", "delivered", "returned"]
    assert subject.do(lambda store: store.bodies([waits])) == {waits: b"{}"}
    assert open_ids(subject) == ["waits"]
    settle(subject, waits)
    forget(subject)
    let_go(subject)
    # Its end is not archived.
    assert positions(subject)[:3] == [waits, 3, 5]
    archive(subject, 11)
    cut(subject)
    let_go(subject)
    assert positions(subject) == [12]
    assert is_sound(subject)


def test_what_is_settled_behind_the_segment_is_held(subject: Subject) -> None:
    first = one(subject, "m1")
    note(subject, 2)
    settle(subject, first)
    forget(subject)
    archive(subject, 3)
    cut(subject)
    assert positions(subject) == [1, 4, 5, 6]
    archive(subject, 5)
    cut(subject)
    let_go(subject)
    assert positions(subject) == [6, 7]


def test_a_record_is_held_by_each_message_that_it_lists(subject: Subject) -> None:
    first, second = one(subject, "m1"), one(subject, "m2")
    subject.do(lambda store: store.deliver([(first, 1), (second, 1)], "agni", 7, 110))
    note(subject)
    archive(subject, 3)
    cut(subject)
    settle(subject, first)
    forget(subject)
    archive(subject, 7)
    cut(subject)
    let_go(subject)
    assert positions(subject) == [second, 3, 8]
    settle(subject, second)
    forget(subject)
    archive(subject, 10)
    cut(subject)
    let_go(subject)
    assert positions(subject) == [11]


def test_a_dead_letter_is_held_as_long_as_it_can_be_replayed(subject: Subject) -> None:
    letter = one(subject, "letter")
    settle(subject, letter, state=State.DEAD)
    note(subject)
    archive(subject, 2)
    cut(subject)
    assert positions(subject) == [1, 2, 3, 4]
    assert [it.message.id for it in subject.do(lambda store: store.dead_letters(0, 10))] == ["letter"]
    subject.do(lambda store: store.replay({letter: 9000}, 300))
    assert open_ids(subject) == ["letter"]
    assert is_sound(subject)
    settle(subject, letter, state=State.DEAD, at=400)
    subject.do(lambda store: store.purge([letter], 410))
    archive(subject, 7)
    cut(subject)
    let_go(subject)
    assert positions(subject) == [8]


def test_a_message_done_after_its_end_was_cut_is_done(subject: Subject) -> None:
    late = one(subject, "late")
    settle(subject, late, state=State.EXPIRED)
    forget(subject)
    note(subject)
    archive(subject, 3)
    cut(subject)
    assert state_of(subject, late) is State.EXPIRED
    settle(subject, late, at=600)
    assert state_of(subject, late) is State.DONE
    assert is_sound(subject)


def test_the_newest_word_on_the_mode_is_held_and_no_older_one(subject: Subject) -> None:
    say(subject, "fallback", 1)
    say(subject, "fallback", 2)
    note(subject)
    archive(subject, 2)
    cut(subject)
    assert positions(subject) == [2, 3, 4]
    assert [record.position for record in subject.do(lambda store: store.modes())] == [2]
    say(subject, "live", 3)
    archive(subject, 4)
    cut(subject)
    assert [record.position for record in subject.do(lambda store: store.modes())] == [5]
    assert positions(subject) == [5, 6]


def test_what_became_of_a_message_is_known_until_its_id_is_forgotten(subject: Subject) -> None:
    first = one(subject, "m1")
    settle(subject, first)
    forget(subject)
    note(subject)
    archive(subject, 3)
    assert drop(subject, 200).messages == 0
    cut(subject)
    assert state_of(subject, first) is State.DONE
    assert append(subject, draft("m1")) == [Accepted((first,), True)]
    (history,) = subject.do(lambda store: store.history("m1"))
    assert history.records == ()
    # Too young, or not yet over.
    assert drop(subject, 100) == Dropped(0, 0)
    assert drop(subject, 101, at=9_999) == Dropped(0, 0)
    assert drop(subject, 101) == Dropped(0, 1)
    assert subject.do(lambda store: store.with_ids(["m1"])) == []
    (again,) = append(subject, draft("m1"))
    assert not again.duplicate
    assert is_sound(subject)


def test_a_broadcast_is_known_recipient_by_recipient(subject: Subject) -> None:
    (accepted,) = append(subject, draft("b1", "agni", "rushabdev"))
    settle(subject, accepted.positions[0])
    note(subject)
    archive(subject, 3)
    cut(subject)
    assert drop(subject, 101).messages == 0
    assert is_sound(subject)
    settle(subject, accepted.positions[1])
    forget(subject)
    archive(subject, 7)
    cut(subject)
    let_go(subject)
    assert drop(subject, 101).messages == 2
    assert positions(subject) == [8]


def test_messages_are_dropped_step_by_step(subject: Subject) -> None:
    append(subject, *(draft(f"m{number}") for number in range(5)))
    settle(subject, 1, 2, 4, 5)
    forget(subject)
    note(subject)
    archive(subject, 7)
    cut(subject)
    let_go(subject)
    assert drop(subject, 101, 0, 2) == Dropped(2, 2)
    # The third one is open.
    assert drop(subject, 101, 2, 2) == Dropped(4, 1)
    assert drop(subject, 101, 4, 2) == Dropped(0, 1)
    assert open_ids(subject) == ["m2"]
    assert is_sound(subject)


def test_of_messages_whose_records_are_here_none_is_dropped(subject: Subject) -> None:
    first = one(subject, "m1")
    settle(subject, first)
    forget(subject)
    assert drop(subject, 101) == Dropped(0, 0)
    assert state_of(subject, first) is State.DONE


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"first": 2}, "begins with record 2, and 1 is next"),
        ({"previous": "11" * 32}, "begins with record 1, and 1 is next"),
        ({"last": 9}, "ends with a record 9 that the journal doesn't have"),
        ({"last": 0}, "ends with a record 0 that the journal doesn't have"),
        ({"digest": "11" * 32}, "ends with a record 3 that the journal doesn't have"),
    ],
)
def test_a_segment_that_is_not_of_this_journal_cuts_nothing(
    subject: Subject, changed: dict[str, object], why: str
) -> None:
    note(subject, 4)
    facts = msgspec.structs.replace(segment(subject, 3), **changed)
    with pytest.raises(NotArchivable, match=why):
        subject.do(lambda store: store.archived(facts, 500))
    assert subject.store.base() == Base()
    assert kinds(subject) == ["left"] * 4


def test_one_segment_is_cut_before_the_next_one_is_archived(subject: Subject) -> None:
    note(subject, 4)
    archive(subject, 2)
    facts = segment(subject, 4)
    with pytest.raises(NotArchivable, match="up to 2 are archived and are to be cut first"):
        subject.do(lambda store: store.archived(facts, 500))


@pytest.mark.parametrize("after", [0, 2])
def test_of_what_was_cut_is_told_that_it_was_and_what_follows_is_handed_out(subject: Subject, after: int) -> None:
    note(subject, 5)
    archive(subject, 3)
    cut(subject)
    run = subject.do(lambda store: store.extract(0, after, limit=10, limit_bytes=10_000))
    assert (run.records, run.rest) == ([], Rest([], 3, subject.store.base().digest, 3))
    assert run.last == 3
    run = subject.do(lambda store: store.extract(0, 3, limit=10, limit_bytes=10_000))
    assert (run.first, run.previous, len(run.records)) == (4, subject.store.base().digest, 3)


def test_a_change_of_a_held_message_is_found(sqlite: InSqlite) -> None:
    waits = one(sqlite, "waits")
    note(sqlite, 2)
    archive(sqlite, 2)
    cut(sqlite)
    assert is_sound(sqlite)
    for column, value, was in (("state", "1", "0"), ("recipient", "'mallory'", "'agni'")):
        for new, is_good in ((value, False), (was, True)):
            sqlite.close()
            with contextlib.closing(sqlite3.connect(sqlite.directory / FILE_NAME)) as connection, connection:
                connection.execute(f"UPDATE message SET {column} = {new} WHERE position = {waits}")
            sqlite.reopen_closed()
            assert is_sound(sqlite) is is_good
