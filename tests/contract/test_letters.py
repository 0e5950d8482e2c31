"""Dead letters and notices: what every store promises about them."""

from __future__ import annotations

import msgspec

from tests.support.subjects import InSqlite, Subject, append, draft, is_sound, kinds, one, state_of
from trishula_router.store.messages import Accepted, Draft, State


def die(subject: Subject, *positions: int, reason: str = "it failed", at: int = 200) -> None:
    subject.do(lambda store: store.settle(positions, State.DEAD, reason, at))


def letters(subject: Subject, after: int = 0, limit: int = 100, agent: str | None = None) -> list[int]:
    found = subject.do(lambda store: store.dead_letters(after, limit, agent))
    return [letter.message.position for letter in found]


NOTICE = Draft("agni", "node:n:e:1:dead", ("dc",), "ERROR", 3, 9999, b'{"why":1}')


def test_a_notice_is_stored_with_the_end_it_tells_of(subject: Subject) -> None:
    position = one(subject)
    (accepted,) = subject.do(lambda store: store.settle([position], State.DEAD, "why", 200, [NOTICE]))
    assert accepted == Accepted((3,), False, 3)
    assert kinds(subject) == ["accepted", "dead", "accepted"]
    (stored,) = subject.do(lambda store: store.head("dc", (0, 0), 10))
    assert (stored.id, stored.sender, stored.type, stored.accepted_at) == (NOTICE.id, "agni", "ERROR", 200)
    assert subject.do(lambda store: store.bodies([3])) == {3: b'{"why":1}'}
    assert is_sound(subject)


def test_a_repeated_notice_is_a_duplicate(subject: Subject) -> None:
    first, second = one(subject, "m1"), one(subject, "m2")
    subject.do(lambda store: store.settle([first], State.DEAD, "why", 200, [NOTICE]))
    (again,) = subject.do(lambda store: store.settle([second], State.DEAD, "why", 300, [NOTICE]))
    assert again == Accepted((4,), True)


def test_letters_are_the_dead_with_their_reasons(subject: Subject) -> None:
    positions = [one(subject, f"m{index}") for index in range(5)]
    die(subject, positions[1], positions[3])
    subject.do(lambda store: store.settle([positions[0]], State.DONE, None, 200))
    subject.do(lambda store: store.settle([positions[2]], State.EXPIRED, "too late", 200))
    found = subject.do(lambda store: store.dead_letters(0, 10))
    assert [(it.message.id, it.message.state, it.message.settled_at, it.reason) for it in found] == [
        ("m1", State.DEAD, 200, "it failed"),
        ("m3", State.DEAD, 200, "it failed"),
    ]
    assert letters(subject, after=positions[1]) == [positions[3]]
    assert letters(subject, limit=1) == [positions[1]]


def test_letters_of_one_agent_are_its_instances_too(subject: Subject) -> None:
    mine, other, instance, longer = (
        one(subject, "m1", "agni"),
        one(subject, "m2", "dc"),
        one(subject, "m3", "agni/x"),
        one(subject, "m4", "agni2"),
    )
    die(subject, mine, other, instance, longer)
    assert letters(subject, agent="agni") == [mine, instance]
    assert letters(subject, agent="agni2") == [longer]
    assert letters(subject, agent="nobody") == []


def test_replay_opens_a_dead_letter_anew(subject: Subject) -> None:
    position, other = one(subject, "m1"), one(subject, "m2")
    subject.do(lambda store: store.deliver([(position, 5)], "agni", 1, 150))
    die(subject, position)
    (stored,) = subject.do(lambda store: store.replay({position: 5000, other: 5000, 999: 5000}, 300))
    assert (stored.position, stored.state, stored.failures, stored.due_at) == (position, State.OPEN, 0, 0)
    assert (stored.expires_at, stored.attempts, stored.settled_at) == (5000, 5, None)
    assert [it.position for it in subject.do(lambda store: store.head("agni", (0, 0), 10))] == [position, other]
    assert letters(subject) == []
    (record,) = subject.do(lambda store: store.records(after=0, limit=10, kind="replayed"))
    assert msgspec.json.decode(record.facts) == {"messages": [position], "lives": [1], "expires_at": [5000]}
    (history,) = subject.do(lambda store: store.history("m1"))
    assert [record.kind for record in history.records] == ["accepted", "delivered", "dead", "replayed"]
    assert is_sound(subject)


def test_replay_of_what_is_no_letter_writes_nothing(subject: Subject) -> None:
    position = one(subject)
    subject.do(lambda store: store.settle([position], State.EXPIRED, "too late", 200))
    before = kinds(subject)
    assert subject.do(lambda store: store.replay({position: 5000}, 300)) == []
    assert kinds(subject) == before
    assert state_of(subject, position) is State.EXPIRED


def test_what_was_replayed_can_die_again(subject: Subject) -> None:
    position = one(subject)
    die(subject, position, reason="first")
    subject.do(lambda store: store.replay({position: 5000}, 300))
    die(subject, position, reason="second", at=400)
    (letter,) = subject.do(lambda store: store.dead_letters(0, 10))
    assert (letter.reason, letter.message.settled_at) == ("second", 400)
    (history,) = subject.do(lambda store: store.history("m1"))
    assert [record.kind for record in history.records] == ["accepted", "dead", "replayed", "dead"]


def test_purge_deletes_the_body_and_keeps_the_life(subject: Subject) -> None:
    position, other = one(subject, "m1"), one(subject, "m2")
    die(subject, position)
    assert subject.do(lambda store: store.purge([position, other, 999], 300)) == [position]
    assert subject.do(lambda store: store.bodies([position, other])) == {other: b"{}"}
    assert letters(subject) == []
    assert state_of(subject, position) is State.DEAD
    (history,) = subject.do(lambda store: store.history("m1"))
    assert [record.kind for record in history.records] == ["accepted", "dead", "purged"]
    assert subject.do(lambda store: store.purge([position], 400)) == []
    assert subject.do(lambda store: store.replay({position: 5000}, 400)) == []
    assert append(subject, draft("m1")) == [Accepted((position,), True)]
    assert is_sound(subject)


def test_purge_of_one_recipients_broadcast_keeps_the_others(subject: Subject) -> None:
    (accepted,) = append(subject, draft("b1", "agni", "rushabdev", body=b"[1]"))
    first, second = accepted.positions
    die(subject, first)
    assert subject.do(lambda store: store.purge([first], 300)) == [first]
    assert subject.do(lambda store: store.bodies([second])) == {second: b"[1]"}
    die(subject, second)
    assert subject.do(lambda store: store.purge([second], 400)) == [second]
    assert subject.do(lambda store: store.bodies([first, second])) == {}
    assert is_sound(subject)


def test_a_late_done_overrides_a_purged_death(subject: Subject) -> None:
    position = one(subject)
    die(subject, position)
    subject.do(lambda store: store.purge([position], 300))
    subject.do(lambda store: store.settle([position], State.DONE, None, 400))
    assert state_of(subject, position) is State.DONE


def test_whether_a_message_ends_by_its_deadline_is_kept(subject: Subject) -> None:
    append(subject, Draft("dc", "m1", ("agni",), "COMMAND", 3, 500, b"{}", True), draft("m2"))
    stored = subject.do(lambda store: store.at_positions([1, 2]))
    assert [(it.by_deadline, it.expires_at) for it in stored.values()] == [(True, 500), (False, 10_000)]


def test_who_holds_a_message_to_a_capability_is_kept(subject: Subject) -> None:
    position, other = one(subject, "m1", "capability:deploy"), one(subject, "m2", "agni")
    assert subject.do(lambda store: store.at_positions([position]))[position].holder is None
    for attempt, agent in enumerate(("agni", "rushabdev"), start=1):
        subject.do(lambda store, to=agent, attempt=attempt: store.deliver([(position, attempt)], to, 7, 200))  # type: ignore[misc]
        assert subject.do(lambda store: store.at_positions([position]))[position].holder == agent
    subject.do(lambda store: store.deliver([(other, 1)], "agni", 7, 200))
    assert subject.do(lambda store: store.at_positions([other]))[other].holder is None


def test_nothing_is_left_of_purged_bodies_in_the_file(sqlite: InSqlite) -> None:
    (accepted,) = append(sqlite, draft("b1", "agni", "dc", "rushabdev"))
    die(sqlite, *accepted.positions)
    sqlite.do(lambda store: store.purge(accepted.positions, 300))
    assert sqlite.do(lambda store: store.verify()).bodies == 0


def test_what_is_remembered_is_there(subject: Subject) -> None:
    subject.do(lambda store: store.remember({"seen:agni": "1", "seen:dc": "2", "other:x": "3"}))
    subject.do(lambda store: store.remember({"seen:agni": "ü"}))
    assert subject.do(lambda store: store.remembered("seen:")) == {"seen:agni": "ü", "seen:dc": "2"}
    assert subject.do(lambda store: store.remembered("nothing:")) == {}
    assert kinds(subject) == []


def test_a_letter_whose_body_went_with_its_time_is_none_any_more(subject: Subject) -> None:
    position = one(subject)
    die(subject, position)
    subject.do(lambda store: store.forget(0, 100, before=0, dead_before=300, at=400))
    assert subject.do(lambda store: store.bodies([position])) == {}
    assert letters(subject) == []
    assert subject.do(lambda store: store.replay({position: 5000}, 500)) == []
    assert subject.do(lambda store: store.purge([position], 500)) == []
