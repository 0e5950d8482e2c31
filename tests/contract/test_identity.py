"""Ids belong to agents and stand for one message: each rule of ``store/identity.py``, on each store, over two nodes."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.subjects import (
    FAR,
    InSqlite,
    Peer,
    Subject,
    append,
    copy,
    head,
    is_sound,
    run,
    state_of,
)
from trishula_router.store.identity import content_digest
from trishula_router.store.journal import GENESIS, digest_of
from trishula_router.store.messages import Accepted, Draft, Earlier, State
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import back_up, restore, verify_file
from trishula_router.store.sqlite.migrate import SCHEMA_DIRECTORY


def message(
    message_id: str = "m1",
    to: str = "agni",
    *,
    sender: str = "dc",
    type: str = "STATUS",
    payload: object = None,
    recipients: tuple[str, ...] | None = None,
    expires_at: int = 10_000,
    timestamp: int = 1,
    **more: Any,
) -> Draft:
    """A draft as the intake makes it."""
    wire = {
        "type": type,
        "id": message_id,
        "from": sender,
        "to": to,
        "payload": payload,
        "timestamp": timestamp,
        **more,
    }
    return Draft(
        sender,
        message_id,
        recipients or (to,),
        type,
        3,
        expires_at,
        msgspec.json.encode(wire),
        digest=content_digest(wire),
        reply_to=more.get("reply_to"),
    )


def known(subject: Subject, draft: Draft, at: int = 100, *, ids_since: int = 0) -> Accepted:
    (accepted,) = subject.do(lambda store: store.append([draft], at, ids_since=ids_since))
    return accepted


# -- what is equal -----------------------------------------------------------------------------------------------------


def test_the_order_of_keys_and_the_time_make_no_other_message() -> None:
    one = {"type": "STATUS", "to": "agni", "payload": {"a": 1, "b": [{"x": 1, "y": 2}]}, "timestamp": 1, "priority": 1}
    two = {"type": "STATUS", "to": "agni", "payload": {"b": [{"y": 2, "x": 1}], "a": 1}, "timestamp": 2, "ttl_ms": 5}
    assert content_digest(one) == content_digest(two)
    assert len({content_digest({**one, key: "other"}) for key in ("type", "to", "payload", "procedure")}) == 4


def test_an_equal_message_of_another_instance_is_a_repeat(subject: Subject) -> None:
    first = known(subject, message(sender="dc/7f3a", payload=[1]))
    assert not first.duplicate
    for sender in ("dc/7f3a", "dc/91bc", "dc"):
        again = known(subject, message(sender=sender, payload=[1], timestamp=9))
        assert again == Accepted(first.positions, True), sender
    # Whose name only begins alike is somebody else.
    assert not known(subject, message(sender="dc0/7f3a", payload=[1])).duplicate
    assert not known(subject, message(sender="d", payload=[1])).duplicate


@pytest.mark.parametrize(
    "other",
    [
        {"payload": [2]},
        {"to": "rushabdev"},
        {"type": "COMMAND"},
        {"procedure": "deploy"},
        {"to": "broadcast", "recipients": ("agni", "rushabdev")},
        {"to": "capability:deploy"},
    ],
)
def test_another_message_under_the_id_is_not_stored_and_the_first_is_named(
    subject: Subject,
    other: dict[str, Any],
) -> None:
    first = known(subject, message(sender="dc/1", payload=[1]), at=123)
    refused = known(subject, message(**{"sender": "dc/2", "payload": [1], **other}), at=200)
    assert refused == Accepted((), False, earlier=Earlier("STATUS", "agni", 123))
    assert subject.do(lambda store: store.with_ids(["m1"]))[0].position == first.positions[0]
    assert len(subject.do(lambda store: store.with_ids(["m1"]))) == 1


def test_both_are_told_apart_within_a_batch(subject: Subject) -> None:
    first, again, other, same_as_other = append(
        subject,
        message(payload=1),
        message(payload=1, sender="dc/x"),
        message(payload=2),
        message(payload=2),
        at=123,
    )
    assert again == Accepted(first.positions, True)
    assert other == same_as_other == Accepted((), False, earlier=Earlier("STATUS", "agni", 123))


def test_a_broadcast_and_a_message_to_a_capability_are_told_apart(subject: Subject) -> None:
    broadcast = known(subject, message("b", "broadcast", recipients=("agni", "rushabdev")), at=50)
    # Who is registered has changed since.
    assert known(subject, message("b", "broadcast", recipients=("agni", "x"))) == Accepted(broadcast.positions, True)
    assert known(subject, message("b", "agni")).earlier == Earlier("STATUS", "broadcast", 50)
    capable = known(subject, message("c", "capability:deploy"), at=60)
    assert known(subject, message("c", "capability:deploy", sender="dc/1")) == Accepted(capable.positions, True)
    assert known(subject, message("c", "capability:other")).earlier == Earlier("STATUS", "capability:deploy", 60)


def test_a_broadcast_may_come_recipient_by_recipient(subject: Subject) -> None:
    def part(to: str, payload: object = None) -> Draft:
        return msgspec.structs.replace(message(to="broadcast", payload=payload, recipients=(to,)), apart=True)

    first, other, again = append(subject, part("agni"), part("rushabdev"), part("agni"))
    assert first.positions != other.positions
    assert again == Accepted(first.positions, True)
    (third,) = append(subject, part("mac"))
    assert not third.duplicate
    assert append(subject, part("rushabdev"), part("mac")) == [
        Accepted(other.positions, True),
        Accepted(third.positions, True),
    ]
    (refused,) = append(subject, part("agni", "another text"))
    assert refused.earlier is not None
    found = subject.do(lambda store: store.with_ids(["m1"]))
    assert {(one.recipient, one.use) for one in found} == {("agni", 0), ("rushabdev", 0), ("mac", 0)}
    # Who sends it as a whole repeats what there is.
    assert append(subject, message(to="broadcast", recipients=("agni", "mac")))[0].duplicate
    assert is_sound(subject)


def test_a_repeat_is_known_when_its_body_is_gone(subject: Subject) -> None:
    (position,) = known(subject, message(payload=1)).positions
    subject.do(lambda store: store.settle([position], State.DONE, None, 200))
    subject.do(lambda store: store.forget(0, 100, before=1000, dead_before=1000, at=1000))
    assert subject.do(lambda store: store.bodies([position])) == {}
    assert known(subject, message(payload=1)) == Accepted((position,), True)
    assert known(subject, message(payload=2)).earlier is not None
    assert is_sound(subject)


def test_notices_of_one_end_are_one_whatever_they_say(subject: Subject) -> None:
    """Another node ends the same message for another reason."""
    notice = Draft("agni", "node:n:e:1:dead", ("dc",), "ERROR", 3, 9999, b'{"why":1}')
    first = known(subject, notice)
    assert known(subject, msgspec.structs.replace(notice, envelope=b'{"why":2}')) == Accepted(first.positions, True)


# -- for how long ------------------------------------------------------------------------------------------------------


def settled(subject: Subject, draft: Draft, at: int = 100) -> int:
    (position,) = known(subject, draft, at).positions
    subject.do(lambda store: store.settle([position], State.DONE, None, at + 1))
    return position


def test_an_id_is_free_again_when_it_is_old_settled_and_over(subject: Subject) -> None:
    first = settled(subject, message(payload=1))
    # Too young; its time is not over.
    assert known(subject, message(payload=1), 20_000, ids_since=100).duplicate
    assert known(subject, message(payload=1), 9_999, ids_since=101).duplicate
    again = known(subject, message(payload=2, expires_at=90_000), 20_000, ids_since=101)
    assert not again.duplicate
    assert again.earlier is None
    # The later one counts from now on.
    assert known(subject, message(payload=2), 20_001, ids_since=101) == Accepted(again.positions, True)
    assert known(subject, message(payload=1), 20_001, ids_since=101).earlier == Earlier("STATUS", "agni", 20_000)
    both = subject.do(lambda store: store.with_ids(["m1"]))
    assert [(it.position, it.use, it.state) for it in both] == [
        (first, 0, State.DONE),
        (again.positions[0], 1, State.OPEN),
    ]
    assert is_sound(subject)


def test_an_id_whose_message_is_open_is_not_free(subject: Subject) -> None:
    known(subject, message(payload=1))
    assert known(subject, message(payload=1), 20_000, ids_since=10_000).duplicate
    assert known(subject, message(payload=2), 20_000, ids_since=10_000).earlier is not None


def test_forgetting_a_body_looks_at_its_own_use_only(subject: Subject) -> None:
    first = settled(subject, message(payload=1))
    again = known(subject, message(payload=2, expires_at=90_000), 20_000, ids_since=10_000).positions[0]
    subject.do(lambda store: store.forget(0, 100, before=15_000, dead_before=15_000, at=20_000))
    bodies = subject.do(lambda store: store.bodies([first, again]))
    assert list(bodies) == [again]


# -- over two nodes ----------------------------------------------------------------------------------------------------


def test_a_repeat_of_what_another_node_accepted_is_one(subject: Subject, agni: Peer) -> None:
    append(agni, message(payload=1, sender="dc/1"), at=123)
    copy(subject, agni)
    assert known(subject, message(payload=1, sender="dc/2")) == Accepted((FAR | 1,), True)
    assert known(subject, message(payload=2, sender="dc/2")).earlier == Earlier("STATUS", "agni", 123)


def test_what_two_nodes_accepted_of_two_instances_is_one_message(subject: Subject, agni: Peer) -> None:
    append(subject, message(payload=1, sender="dc/1"))
    append(agni, message(payload=1, sender="dc/2"))
    agni.do(lambda store: store.settle([1], State.DONE, None, 200))
    copied = copy(subject, agni)
    assert copied.arrived == []
    assert [(it.position, state_of(subject, it.position)) for it, _ in copied.settled] == [(1, State.DONE)]
    assert is_sound(subject)


def test_what_two_nodes_accepted_under_one_id_and_differs_is_two(subject: Subject, agni: Peer) -> None:
    """Apart from each other neither can know; nothing that was accepted may be lost for that."""
    append(subject, message(payload=1))
    append(agni, message(payload=2))
    copied = copy(subject, agni)
    assert [it.position for it in copied.arrived] == [FAR | 1]
    agni.do(lambda store: store.copy("here", run(subject)))
    for side in (subject, agni):
        assert len(head(side)) == 2
        assert known(side, message(payload=1)).duplicate
        assert known(side, message(payload=2)).duplicate
        assert known(side, message(payload=3)).earlier is not None
        assert is_sound(side)


def test_a_further_use_of_an_id_arrives_at_a_node_that_remembers_longer(subject: Subject, agni: Peer) -> None:
    settled(agni, message(payload=1))
    copy(subject, agni)
    append_again = known(agni, message(payload=1, expires_at=90_000), 20_000, ids_since=10_000)
    assert not append_again.duplicate
    copied = copy(subject, agni)
    assert [(it.position, it.use) for it in copied.arrived] == [(FAR | 3, 1)]
    assert state_of(subject, FAR | 1) is State.DONE
    assert is_sound(subject)


def test_records_of_a_node_without_digests_are_told_apart_as_it_does(subject: Subject, agni: Peer) -> None:
    """Each script of an agent had ids of its own there, and what each of them sent was accepted."""
    one = msgspec.structs.replace(message(payload=1, sender="dc/1"), digest="")
    two = msgspec.structs.replace(message(payload=2, sender="dc/2"), digest="")
    append(subject, message(payload=3, sender="dc/3"))
    for draft in (one, two):
        # As if each was alone: this program would not accept the second.
        source = Peer("agni") if draft is one else Peer("rush")
        append(source, draft)
        assert [it.sender for it in copy(subject, source).arrived] == [draft.sender]
    assert len(head(subject)) == 3


# -- answers -----------------------------------------------------------------------------------------------------------


def test_answers_are_found_by_what_they_answer(subject: Subject, agni: Peer) -> None:
    append(subject, message("c1", "agni", type="COMMAND", procedure="deploy"))
    append(subject, message("r1", "dc/1", sender="agni", type="RESULT", reply_to="c1"))
    append(agni, message("r2", "dc/2", sender="agni", type="RESULT", reply_to="c1"))
    append(agni, message("r3", "dc/2", sender="agni", type="RESULT", reply_to="c2"))
    copy(subject, agni)
    found = subject.do(lambda store: store.answers(["c1"]))
    assert [(it.id, it.reply_to) for it in found] == [("r1", "c1"), ("r2", "c1")]
    assert subject.do(lambda store: store.answers(["c3"])) == []
    both = ["c1", "c2"]
    assert [it.id for it in subject.do(lambda store: store.answers(both))] == ["r1", "r2", "r3"]
    assert [it.id for it in subject.do(lambda store: store.answers(both, limit=2))] == ["r2", "r3"]
    last = subject.do(lambda store: store.answers(both))[-1].position
    assert [it.id for it in subject.do(lambda store: store.answers(both, before=last, limit=1))] == ["r2"]


def test_who_was_ever_given_a_message_is_told(subject: Subject, agni: Peer) -> None:
    append(agni, message("c1", "capability:deploy", type="COMMAND", procedure="deploy"))
    copy(subject, agni)
    (c1,) = subject.do(lambda store: store.with_ids(["c1"]))
    assert subject.do(lambda store: store.holders([c1.position])) == {c1.position: set()}

    def given(node: Subject, position: int, attempt: int, to: str) -> None:
        node.do(lambda store: store.deliver([(position, attempt)], to, 1, 200))

    # Each node counts the attempts that it knows of.
    given(subject, c1.position, 1, "agni")
    given(agni, 1, 1, "dc")
    given(agni, 1, 2, "rush/7f")
    copy(subject, agni)
    assert subject.do(lambda store: store.holders([c1.position, 999])) == {
        c1.position: {"dc", "rush/7f", "agni"},
        999: set(),
    }


# -- stores of before --------------------------------------------------------------------------------------------------


def as_of_version_4(directory: Path, *bodies: tuple[str, str, bytes | None]) -> None:
    """A store of the schema before, with messages of (sender, id, envelope)."""
    connection = sqlite3.connect(directory / FILE_NAME)
    for step in sorted(SCHEMA_DIRECTORY.glob("00[1-4]-*.sql")):
        connection.executescript(step.read_text())
    previous = GENESIS
    for position, (sender, message_id, envelope) in enumerate(bodies, 1):
        told = {"from": sender, "id": message_id, "to": "agni", "type": "STATUS", "priority": 3}
        digest = hashlib.sha256(envelope or b"").hexdigest()
        facts = msgspec.json.encode({**told, "bytes": len(envelope or b""), "sha256": digest})
        previous = digest_of(previous, position, 100, "accepted", facts)
        connection.execute("INSERT INTO journal VALUES (?, 100, 'accepted', ?, ?)", (position, facts, previous))
        connection.execute(
            "INSERT INTO message (position, sender, id, recipient, type, priority, accepted_at, expires_at, size_bytes,"
            " body, arrival) VALUES (?, ?, ?, 'agni', 'STATUS', 3, 100, 10000, ?, ?, ?)",
            (position, sender, message_id, len(envelope or b""), position, position),
        )
        if envelope is not None:
            connection.execute("INSERT INTO body VALUES (?, ?)", (position, envelope))
    connection.execute("INSERT INTO property VALUES ('epoch', 'epoch-1')")
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()


def test_of_messages_of_before_the_body_is_asked_and_else_what_is_known(tmp_path: Path) -> None:
    whole = message("m1", payload={"a": 1})
    as_of_version_4(tmp_path, ("dc/1", "m1", whole.envelope), ("dc/1", "m2", None), ("dc/1", "m3", b"not JSON"))
    here = InSqlite(tmp_path)
    assert known(here, message("m1", payload={"a": 1}, sender="dc/2")) == Accepted((1,), True)
    assert known(here, message("m1", payload={"a": 2}, sender="dc/2")).earlier == Earlier("STATUS", "agni", 100)
    for message_id, position in (("m2", 2), ("m3", 3)):
        assert known(here, message(message_id, payload="?")) == Accepted((position,), True)
        assert known(here, message(message_id, "rushabdev")).earlier == Earlier("STATUS", "agni", 100)
        assert known(here, message(message_id, type="COMMAND")).earlier is not None
    here.close()


def test_ids_of_two_instances_of_before_stay_two_messages(tmp_path: Path) -> None:
    one, two = message("1", payload=1, sender="dc/1"), message("1", payload=2, sender="dc/2")
    as_of_version_4(tmp_path, ("dc/1", "1", one.envelope), ("dc/2", "1", two.envelope))
    here = InSqlite(tmp_path)
    assert len(head(here)) == 2
    assert known(here, message("1", payload=1, sender="dc/9")) == Accepted((1,), True)
    assert known(here, message("1", payload=2, sender="dc/9")) == Accepted((2,), True)
    assert known(here, message("1", payload=3, sender="dc/9")).earlier is not None
    here.close()


def test_a_backup_of_before_is_checked_and_restored(tmp_path: Path) -> None:
    old, state = tmp_path / "old", tmp_path / "state"
    old.mkdir()
    state.mkdir()
    as_of_version_4(old, ("dc", "m1", None))
    said = [damage.what for damage in verify_file(old / FILE_NAME).damages]
    assert said == ["the body of message m1 from dc (record 1) is missing"]
    back_up(old / FILE_NAME, tmp_path / "backup")
    restore(tmp_path / "backup", state, new_epoch=lambda: "epoch-2", at=300, kept_as="old", allow_damage=True)
    here = InSqlite(state)
    assert known(here, message("m1")).duplicate
    here.close()


# -- damage ------------------------------------------------------------------------------------------------------------


def test_ids_are_told_around_a_damaged_row(tmp_path: Path) -> None:
    """A batch that was accepted is answered as such, whatever one row of it looks like by now."""
    here = InSqlite(tmp_path)
    append(here, *(message(f"m{number}", payload=number) for number in range(1, 4)))
    append(here, message("r1", "dc", sender="agni", type="RESULT", reply_to="m2"))
    here.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    # What a flipped bit makes of it.
    connection.execute("UPDATE message SET state = 64 WHERE id = 'm2'")
    connection.commit()
    connection.close()
    here = InSqlite(tmp_path)
    assert 2 not in here.do(lambda store: store.at_positions([1, 2, 3]))
    assert [it.id for it in here.do(lambda store: store.with_ids(["m1", "m2", "m3"]))] == ["m1", "m2", "m3"]
    assert [it.id for it in here.do(lambda store: store.answers(["m2"]))] == ["r1"]
    assert [it.duplicate for it in append(here, *(message(f"m{number}", payload=number) for number in (1, 2, 3)))] == [
        True,
        True,
        True,
    ]
    assert known(here, message("m2", payload=9)).earlier == Earlier("STATUS", "agni", 100)
    here.close()
