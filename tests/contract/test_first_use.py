"""Rows of messages go from the stores of linked nodes, and no message is taken for one that was forgotten."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.subjects import FAR, InSqlite, Peer, Subject, cut_all, is_sound, one, run, state_of
from trishula_router.store.bases import Dropped, Shared
from trishula_router.store.first_use import FIRST_USE, MOST_FIRST_USE
from trishula_router.store.messages import Accepted, Draft, State
from trishula_router.store.runs import Extract
from trishula_router.store.sqlite.connection import FILE_NAME

#: Everything is shared.
ALL = Shared({0: 1000, 1: 1000}, {0: 1000, 1: 1000})


def message(message_id: str = "m1", digest: str = "d" * 32) -> Draft:
    return Draft("dc", message_id, ("agni",), "STATUS", 3, 10_000, b"{}", digest=digest)


def send(subject: Subject, at: int = 100, ids_since: int = 0, message_id: str = "m1") -> Accepted:
    (accepted,) = subject.do(lambda store: store.append([message(message_id)], at, ids_since=ids_since))
    return accepted


def settle(subject: Subject, *positions: int, state: State = State.DONE) -> None:
    subject.do(lambda store: store.settle(positions, state, None, 200))


def forget(subject: Subject, *, dead: bool = True) -> None:
    subject.do(lambda store: store.forget(0, 100, before=20_000, dead_before=20_000 if dead else 0, at=20_000))


def held(target: Subject, source: Subject) -> int:
    return next((it.sequence for it in target.store.origins() if it.epoch == source.store.epoch), 0)


def exchange(here: Subject, there: Peer) -> None:
    for target, source, node in ((here, there, there.node), (there, here, "here")):
        while held(target, source) < source.store.high_water:
            extract = over_the_wire(run(source, held(target, source)))
            target.do(lambda store, it=extract, of=node: store.copy(of, it))  # type: ignore[misc]
        assert is_sound(target)


def over_the_wire(extract: Extract) -> Extract:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(extract), type=Extract)


def cut(here: Subject, there: Peer) -> None:
    """Both archive all that they have, and cut their copies."""
    exchange(here, there)
    for subject in (here, there):
        forget(subject)
    exchange(here, there)
    cut_both(here, there)


def cut_both(here: Subject, there: Peer) -> None:
    for subject in (here, there):
        if subject.store.base().sequence < subject.store.high_water:
            cut_all(subject)
    exchange(here, there)
    for subject, other in ((here, there), (there, here)):
        until = other.store.base().sequence
        subject.do(lambda store, it=until: store.cut_copy(1, it, 1000))  # type: ignore[misc]
        subject.do(lambda store: store.let_go(0, 1000))


def drop(subject: Subject, shared: Shared = ALL, ids_since: int = 50_000, limit: int = 100) -> int:
    """Drop what goes of all journals; how many messages went."""
    gone = 0
    for number in (0, 1):
        after = number << 48
        while True:
            done = subject.do(
                lambda store, it=after: store.drop(it, limit, ids_since=ids_since, at=90_000, shared=shared)  # type: ignore[misc]
            )
            gone += done.messages
            if not done.after:
                break
            after = done.after
    assert is_sound(subject)
    return gone


def ids_open(subject: Subject) -> list[tuple[str, int]]:
    return [(it.id, it.use) for it in subject.do(lambda store: store.head("agni", (0, 0), 100))]


def rows(subject: Subject) -> int:
    return len(subject.do(lambda store: store.with_ids([f"m{number}" for number in range(9)])))


def left_in_file(subject: InSqlite) -> dict[str, int]:
    connection = sqlite3.connect(subject.directory / FILE_NAME)
    found = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("message", "alias", "trace", "early", "held", "body")
    }
    connection.close()
    return found


def test_rows_go_and_the_same_message_is_new_and_done_once_at_each(here: Subject, agni: Peer) -> None:
    first = send(here).positions[0]
    exchange(here, agni)
    settle(agni, FAR + first)
    cut(here, agni)
    assert (drop(here), drop(agni)) == (1, 1)
    assert (rows(here), rows(agni)) == (0, 0)
    assert here.store.first_use == agni.store.first_use == 1
    again = send(here, at=60_000, ids_since=50_000)
    assert not again.duplicate
    exchange(here, agni)
    assert ids_open(here) == ids_open(agni) == [("m1", 1)]
    settle(agni, FAR + again.positions[0])
    exchange(here, agni)
    assert ids_open(here) == ids_open(agni) == []
    # And a repeat of that is one, at either.
    assert send(here, at=60_001, ids_since=50_000).duplicate
    assert send(agni, at=60_001, ids_since=50_000).duplicate


@pytest.mark.parametrize("forgets", ["here", "agni"])
def test_where_one_forgot_and_the_other_did_not_it_is_new_at_both(here: Subject, agni: Peer, forgets: str) -> None:
    first = send(here).positions[0]
    exchange(here, agni)
    settle(agni, FAR + first)
    cut(here, agni)
    one_of, other = (here, agni) if forgets == "here" else (agni, here)
    assert drop(one_of) == 1
    again = send(one_of, at=60_000, ids_since=50_000)
    assert not again.duplicate
    exchange(here, agni)
    # Not taken for the one of long ago, that is done.
    assert ids_open(here) == ids_open(agni) == [("m1", 1)]
    assert rows(other) == 2
    assert send(other, at=60_001, ids_since=50_000).duplicate


def test_both_give_it_the_same_use_whether_they_count_on_or_anew(here: Subject, agni: Peer) -> None:
    first = send(here).positions[0]
    exchange(here, agni)
    settle(here, first)
    cut(here, agni)
    assert drop(here) == 1
    # Nobody has told the other one; its row tells it the same.
    mine, theirs = send(here, 60_000, 50_000), send(agni, 60_000, 50_000)
    assert not mine.duplicate and not theirs.duplicate
    exchange(here, agni)
    assert ids_open(here) == ids_open(agni) == [("m1", 1)]
    settle(here, mine.positions[0])
    exchange(here, agni)
    assert ids_open(here) == ids_open(agni) == []


def test_what_two_accepted_goes_with_all_that_it_is_known_by(here: Subject, agni: Peer) -> None:
    mine, theirs = send(here).positions[0], send(agni).positions[0]
    exchange(here, agni)
    subject_of = {here: mine, agni: theirs}
    for subject, position in subject_of.items():
        subject.do(lambda store, it=position: store.deliver([(it, 1)], "agni", 7, 150))  # type: ignore[misc]
        subject.do(lambda store, it=position: store.surface([(it, 1)], "agni", 7, 150))  # type: ignore[misc]
        settle(subject, position)
    cut(here, agni)
    # Nothing goes that is not shared whole.
    everything = {0: 1000, 1: 1000}
    for short in ({0: 1000, 1: 0}, {0: 0, 1: 1000}, {0: mine, 1: 1000}, {0: 1000, 1: theirs}):
        assert drop(here, Shared(short, everything)) == 0
    assert drop(here) == drop(agni) == 1
    assert rows(here) == rows(agni) == 0
    if isinstance(here, InSqlite):
        assert set(left_in_file(here).values()) == {0}


def test_what_still_has_a_body_or_a_record_stays(here: Subject, agni: Peer) -> None:
    first, second = send(here, message_id="m1").positions[0], send(here, message_id="m2").positions[0]
    exchange(here, agni)
    settle(agni, FAR + first)
    exchange(here, agni)
    assert drop(here) == drop(agni) == 0
    cut(here, agni)
    # The other one waits.
    assert drop(here) == drop(agni) == 1
    assert ids_open(here) == ids_open(agni) == [("m2", 0)]
    settle(here, second)
    cut(here, agni)
    assert drop(here, ids_since=0) == drop(agni, ids_since=100) == 0
    assert drop(here) == drop(agni) == 1


def test_a_dead_letter_stays_while_somebody_has_its_body(here: Subject, agni: Peer) -> None:
    first = send(here).positions[0]
    exchange(here, agni)
    settle(here, first, state=State.DEAD)
    exchange(here, agni)
    forget(here)
    assert [it.message.id for it in agni.do(lambda store: store.dead_letters(0, 9))] == ["m1"]
    exchange(here, agni)
    cut_both(here, agni)
    bare = agni.do(lambda store: store.bare())
    assert bare[here.store.epoch] == first - 1
    assert here.do(lambda store: store.bare())[here.store.epoch] == here.store.base().sequence
    shared = Shared({0: 1000, 1: 1000}, {0: bare[here.store.epoch], 1: 1000})
    assert drop(here, shared) == 0
    # So it comes back, with its body, where it is wanted.
    agni.do(lambda store: store.replay({FAR + first: 80_000}, 70_000))
    exchange(here, agni)
    assert ids_open(here) == ids_open(agni) == [("m1", 0)]
    settle(here, first, state=State.DEAD)
    cut(here, agni)
    assert agni.do(lambda store: store.bare())[here.store.epoch] == here.store.base().sequence
    assert drop(here) == 1


def test_one_recipients_stays_while_a_further_ones_is_known(here: Subject, agni: Peer) -> None:
    first = send(here).positions[0]
    further = msgspec.structs.replace(message(), recipients=("rush",), apart=True)
    (accepted,) = here.do(lambda store: store.append([further], 55_000))
    exchange(here, agni)
    settle(here, first, accepted.positions[0])
    cut(here, agni)
    # Else it would be sent anew with the use of the further one, and be the old one to whoever knows that.
    assert drop(here) == drop(agni) == 0
    assert drop(here, ids_since=60_000) == drop(agni, ids_since=60_000) == 2


def test_what_another_one_still_tells_of_it_is_passed_over(here: Subject, agni: Peer) -> None:
    first = send(here).positions[0]
    exchange(here, agni)
    settle(here, first, state=State.EXPIRED)
    cut(here, agni)
    assert drop(here) == 1
    # An ack that comes late, and its agent's word.
    settle(agni, FAR + first)
    agni.do(lambda store: store.surface([(FAR + first, 1)], "agni", 7, 300))
    exchange(here, agni)
    assert rows(here) == 0
    if isinstance(here, InSqlite):
        assert left_in_file(here)["early"] == 0
    cut(here, agni)
    assert drop(agni) == 1
    if isinstance(here, InSqlite):
        assert set(left_in_file(here).values()) == {0}


def test_one_that_begins_anew_counts_as_who_told_it_what_is_left(here: Subject, agni: Peer) -> None:
    for number in range(3):
        settle(here, send(here, message_id=f"m{number}").positions[0])
    cut(here, agni)
    assert drop(here, limit=2) == 3
    new = Peer("new")
    new.do(lambda store: store.copy("here", over_the_wire(run(here))))
    assert new.store.first_use == 1
    # What the other one has not forgotten isn't taken for what is sent now.
    accepted = send(new, 60_000, 50_000)
    agni.do(lambda store: store.copy("new", over_the_wire(run(new))))
    assert ids_open(agni) == [("m1", 1)]
    # Also in the other direction, and it is never lowered.
    here.do(lambda store: store.raise_first_use(7))
    old = Peer("old")
    settle(old, one(old, "x"))
    forget(old)
    old.do(lambda store: store.raise_first_use(3))
    cut_all(old)
    here.do(lambda store: store.copy("old", over_the_wire(run(old))))
    assert here.store.first_use == 7
    assert state_of(new, accepted.positions[0]) is State.OPEN


def test_it_is_kept_and_bounded(here: Subject) -> None:
    for given, kept in ((3, 3), (2, 3), (2**60, MOST_FIRST_USE), (2**70, MOST_FIRST_USE)):
        here.do(lambda store, it=given: store.raise_first_use(it))  # type: ignore[misc]
        assert here.store.first_use == kept
    assert here.do(lambda store: store.remembered(FIRST_USE)) == {FIRST_USE: str(MOST_FIRST_USE)}
    position = send(here).positions[0]
    assert here.do(lambda store: store.at_positions([position]))[position].use == MOST_FIRST_USE
    settle(here, position)
    forget(here)
    cut_all(here)
    # There is no use above it.
    assert drop(here) == 0


def test_of_a_node_by_itself_nothing_is_counted_anew(here: Subject) -> None:
    settle(here, send(here).positions[0])
    forget(here)
    cut_all(here)
    done: Deferred[Dropped] | Dropped = here.do(lambda store: store.drop(0, 9, ids_since=50_000, at=90_000))
    assert done == Dropped(0, 1)
    assert here.store.first_use == 0


@pytest.mark.parametrize("text", ["", "x", "-1", "²", "9" * 5000])
def test_a_note_that_is_no_number_is_none(here: Subject, agni: Peer, text: str) -> None:
    settle(agni, send(agni).positions[0])
    forget(agni)
    cut_all(agni)
    good = run(agni)
    assert good.rest is not None
    rest = msgspec.structs.replace(good.rest, notes={FIRST_USE: text})
    here.do(lambda store: store.copy("agni", msgspec.structs.replace(good, rest=rest)))
    assert here.store.first_use == 0
    assert is_sound(here)
