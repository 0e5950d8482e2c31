"""Jobs that share a transaction leave their rows to be inserted together: what comes of it is what each by itself does.

The store in memory does one thing after the other, so each test has both do the same; of SQLite all in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.subjects import Gate, InMemory, InSqlite, draft, is_sound, state_of
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State
from trishula_router.store.sqlite.gathered_rows import Rows

Verb = Callable[[Store], Deferred[Any]]


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[InSqlite]:
    subject = InSqlite(tmp_path)
    yield subject
    subject.close()


def together(subject: InSqlite, *verbs: Verb) -> tuple[list[Any], list[str]]:
    """What each verb gave, all of them in one transaction, and the statements of that."""
    gate, statements = Gate(subject), []  # type: tuple[Gate, list[str]]
    asked = [verb(subject.store) for verb in verbs]
    connection = subject.store._writer._connection
    connection.set_trace_callback(statements.append)
    gate.open()
    outcomes = [subject.calls.wait(one.addErrback(lambda failure: failure.value)) for one in asked]
    connection.set_trace_callback(None)
    return outcomes, statements


def sent(message_id: str, sender: str, to: str = "agni", *, body: bytes = b"{}") -> Verb:
    return lambda store: store.append([draft(message_id, to, sender=sender, body=body)], 100)


def done(*positions: int, state: State = State.DONE) -> Verb:
    return lambda store: store.settle(positions, state, None, 300)


def out(*positions: int, attempt: int = 1) -> Verb:
    return lambda store: store.deliver([(position, attempt) for position in positions], "agni", 7, 200)


def told(store: InSqlite | InMemory) -> tuple[Any, ...]:
    """All that a store tells of its messages, and of its journal, whose digests chain what came in which order."""
    records = store.do(lambda one: one.records(after=0, limit=1000))
    positions = [record.position for record in records if record.kind == "accepted"]
    messages = store.do(lambda one: one.at_positions(positions))
    histories = [store.do(partial(_history, message.id)) for message in messages.values()]
    return [msgspec.structs.asdict(record) for record in records], messages, histories


def _history(message_id: str, store: Store) -> Deferred[Any]:
    return store.history(message_id)


def compare(subject: InSqlite, *verbs: Verb) -> list[str]:
    """Have both stores do it, and see that nothing differs; the statements of the one in SQLite."""
    outcomes, statements = together(subject, *verbs)
    memory = InMemory()
    assert outcomes == [memory.do(verb) for verb in verbs]
    assert told(subject) == told(memory)
    assert is_sound(subject)
    return statements


def test_sends_of_many_agents_notes_and_acks_are_a_few_inserts(subject: InSqlite) -> None:
    for number in range(20):
        subject.do(sent(f"before{number}", "dc"))
    verbs: list[Verb] = []
    for number in range(20):
        verbs += [sent(f"m{number}", f"a{number}"), out(number + 1), done(number + 1)]
    outcomes, statements = together(subject, *verbs)
    assert [outcome[0].positions for outcome in outcomes[::3]] == [(21 + 3 * number,) for number in range(20)]
    inserts = [statement for statement in statements if statement.startswith("INSERT INTO")]
    # Of 60 records, 20 messages and 20 bodies, in runs of 16 and 4.
    assert len(inserts) == 6 + 2 + 2, inserts
    memory = InMemory()
    for number in range(20):
        memory.do(sent(f"before{number}", "dc"))
    for verb in verbs:
        memory.do(verb)
    assert told(subject) == told(memory)


def test_a_message_that_was_left_by_a_send_is_found_by_its_repeat(subject: InSqlite) -> None:
    compare(subject, sent("m", "dc"), sent("m", "dc/7f3a"), sent("m", "dc", "rush"), sent("m", "rush"))


def test_a_message_that_was_left_by_a_send_is_found_by_what_becomes_of_it(subject: InSqlite) -> None:
    compare(subject, sent("m", "dc"), out(1), sent("n", "dc"), out(3, attempt=2), done(1), done(1), done(3))


def test_a_message_that_was_left_by_a_send_is_found_by_its_end(subject: InSqlite) -> None:
    compare(subject, sent("m", "dc"), done(1), sent("n", "dc"), done(3, state=State.EXPIRED))


def test_an_end_behind_another_one_is_told_as_ever(subject: InSqlite) -> None:
    ends = [done(1, state=State.DEAD), done(2, state=State.EXPIRED), done(1, 2, 3), done(1, 3, state=State.DEAD)]
    compare(subject, sent("a", "dc"), sent("b", "dc"), sent("c", "dc"), *ends)


def test_who_looks_sees_what_was_left(subject: InSqlite) -> None:
    compare(
        subject, sent("m", "dc"), lambda store: store.head("agni", (0, 0), 10), lambda store: store.at_positions([1])
    )


def test_notices_with_an_end_and_other_records_keep_their_order(subject: InSqlite) -> None:
    notice = draft("notice", "dc", sender="node")
    compare(
        subject,
        sent("m", "dc"),
        lambda store: store.settle([1], State.DEAD, "it failed", 300, [notice]),
        lambda store: store.note(Kind.NODE_STARTED, {"node": "n"}, 300),
        sent("n", "dc"),
    )


def test_of_a_transaction_that_fails_nothing_is_left_for_the_next_one(subject: InSqlite) -> None:
    def fails(store: Any) -> Any:
        return store._writer.submit(lambda it: it.execute("INSERT INTO nowhere VALUES (1)"), gathers=True)

    outcomes, _ = together(subject, sent("m", "dc"), out(1), fails, sent("n", "rush"))
    assert [type(outcome).__name__ for outcome in outcomes] == ["list", "NoneType", "StorageFailed", "list"]
    assert [outcomes[0][0].positions, outcomes[3][0].positions] == [(1,), (3,)]
    assert state_of(subject, 1) is State.OPEN
    assert is_sound(subject)


def test_what_is_left_is_known_until_it_is_written_or_dropped(subject: InSqlite) -> None:
    rows = Rows()
    rows.add_messages([("dc", "m")], [], [], [])
    assert not rows.has_any_of(keys=[("dc", "m")]), "a repeat leaves nothing"
    rows.add_messages([("dc", "m")], [(1,)], [(1, "dc")], [(1, b"")])
    assert rows.has_any_of(keys=[("dc", "m")])
    assert rows.has_any_of(positions=iter([2, 1]))
    assert not rows.has_any_of(keys=[("dc", "n")], positions=[2])
    rows.drop()
    assert not rows.has_any_of(keys=[("dc", "m")], positions=[1])
