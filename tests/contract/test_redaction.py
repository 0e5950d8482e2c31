"""Redaction on each store, and what linked stores make of it: the payload goes, the chain and the life of it stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.subjects import FAR, KINDS, InSqlite, Peer, Subject, append, copy, draft, is_sound, made, one, run
from trishula.errors import ArgumentInvalid, MessageUnknown
from trishula_router.mail.redaction import Redaction
from trishula_router.store.facts import RedactedFacts
from trishula_router.store.journal import Kind
from trishula_router.store.messages import State
from trishula_router.store.sqlite.connection import FILE_NAME

SECRET = b'{"payload":"the number of a card is 4711-0815"}'


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with made(request.param, tmp_path, "here") as subject:
        yield subject


async def _nothing(messages: object) -> None:
    pass


def redact(subject: Subject, message_id: str = "m1", sender: str | None = None, at: int = 900) -> dict[str, Any]:
    return subject.do(
        lambda store: Deferred.fromCoroutine(
            Redaction(store, lambda: at, _nothing).redact(message_id, sender, "a card's number", "office")
        )
    )


def settled(subject: Subject, state: State = State.DONE, *recipients: str) -> list[int]:
    (accepted,) = append(subject, draft("m1", *recipients, body=SECRET))
    subject.do(lambda store: store.settle(list(accepted.positions), state, None, 200))
    return list(accepted.positions)


def bodies(subject: Subject, *positions: int) -> dict[int, bytes]:
    return subject.do(lambda store: store.bodies(list(positions)))


def kinds_of(subject: Subject, message_id: str = "m1") -> list[str]:
    return [
        record.kind
        for life in subject.do(lambda store: store.history(message_id))
        for record in life.records
        if record.kind != "delivered"
    ]


@pytest.mark.parametrize("state", [State.DONE, State.EXPIRED, State.CANCELLED])
def test_the_payload_goes_and_all_else_stays(here: Subject, state: State) -> None:
    positions = settled(here, state)
    assert redact(here) == {
        "redacted": True,
        "already": False,
        "messages": 1,
        "at": 900,
        "by": "office",
        "reason": "a card's number",
    }
    assert bodies(here, *positions) == {}
    assert kinds_of(here) == ["accepted", state.name.lower(), "redacted"]
    assert is_sound(here)
    (message,) = here.do(lambda store: store.with_ids(["m1"]))
    assert message.state is state


def test_what_was_asked_before_changes_nothing(here: Subject) -> None:
    settled(here)
    redact(here)
    before = here.store.high_water
    assert redact(here, at=1000) == {
        "redacted": False,
        "already": True,
        "messages": 1,
        "at": 900,
        "by": "office",
        "reason": "a card's number",
    }
    assert here.store.high_water == before


def test_a_dead_letter_is_one_no_more(here: Subject) -> None:
    positions = settled(here, State.DEAD)
    redact(here)
    assert here.do(lambda store: store.dead_letters(0, 9)) == []
    assert here.do(lambda store: store.replay({positions[0]: 10_000}, 1000)) == []
    assert kinds_of(here) == ["accepted", "dead", "purged", "redacted"]
    assert is_sound(here)


def test_a_broadcast_goes_at_all_its_recipients(here: Subject) -> None:
    positions = settled(here, State.DONE, "agni", "rushabdev")
    assert redact(here)["messages"] == 2
    assert bodies(here, *positions) == {}
    assert is_sound(here)


def test_what_retention_deleted_is_redacted_all_the_same(here: Subject) -> None:
    settled(here)
    here.do(lambda store: store.forget(0, 9, before=10**9, dead_before=10**9, at=300))
    told = redact(here)
    assert (told["redacted"], told["already"]) == (False, False)
    assert "redacted" in kinds_of(here)


def test_what_is_not_settled_is_refused(here: Subject) -> None:
    (accepted,) = append(here, draft("m1", "agni", "rushabdev", body=SECRET))
    here.do(lambda store: store.settle([accepted.positions[0]], State.DONE, None, 200))
    with pytest.raises(ArgumentInvalid) as caught:
        redact(here)
    assert caught.value.sentence == (
        "message m1 is not settled: rushabdev is still to get its payload; wait for its end, have its sender "
        "cancel it, or purge the mailbox"
    )
    assert len(bodies(here, *accepted.positions)) == 2


def test_whose_it_is_must_be_clear(here: Subject) -> None:
    settled(here)
    (other,) = append(here, draft("m1", sender="agni", body=b'{"payload":"of another"}'))
    here.do(lambda store: store.settle(list(other.positions), State.DONE, None, 200))
    with pytest.raises(ArgumentInvalid, match="several senders used the id m1: agni, dc"):
        redact(here)
    with pytest.raises(MessageUnknown):
        redact(here, sender="nobody")
    redact(here, sender="dc")
    assert list(bodies(here, *other.positions).values()) == [b'{"payload":"of another"}']


# -- linked nodes ------------------------------------------------------------------------------------------------------


def test_a_copy_goes_with_it(here: Subject) -> None:
    agni = Peer("agni")
    settled(agni)
    copy(here, agni)
    assert list(bodies(here, FAR | 1).values()) == [SECRET]
    redact(agni)
    copy(here, agni)
    assert bodies(here, FAR | 1) == {}
    assert kinds_of(here)[-1] == "redacted"
    assert is_sound(here)


def test_who_was_away_never_gets_it(here: Subject) -> None:
    agni = Peer("agni")
    settled(agni)
    kept = run(agni)
    redact(agni)
    # The run of before still has the body; what follows takes it away.
    copy(here, agni, kept)
    copy(here, agni)
    assert bodies(here, FAR | 1) == {}
    assert is_sound(here)


def test_a_redaction_that_comes_before_its_message(here: Subject) -> None:
    """The node that redacted is not the one that accepted; its journal may be copied first."""
    agni, dc = Peer("agni"), Peer("dc")
    settled(agni)
    copy(dc, agni)
    late = run(agni)
    redact(dc)
    copy(here, dc)
    copy(here, agni, late)
    (message,) = here.do(lambda store: store.with_ids(["m1"]))
    assert bodies(here, message.position) == {}
    assert is_sound(here)


def test_a_newer_node_redacts_and_the_file_has_none_of_its_bytes(tmp_path: Path) -> None:
    with made("sqlite", tmp_path, "here") as subject:
        assert isinstance(subject, InSqlite)
        settled(subject)
        for number in range(50):
            one(subject, f"o{number}")
        redact(subject)
    # Closed: what was in the log is in the file.
    raw = b"".join(file.read_bytes() for file in tmp_path.glob(f"{FILE_NAME}*"))
    assert b"m1" in raw
    assert b"4711-0815" not in raw


def test_what_an_older_node_copied_and_passed_over_is_deleted_when_asked_there(here: Subject) -> None:
    settled(here)
    # As if it had been in the journal while nobody here knew what it means.
    raw: dict[str, Any] = {"messages": [1], "by": "agni", "reason": "before"}
    here.do(lambda store: store.note(Kind.REDACTED, raw, 300))
    assert list(bodies(here, 1).values()) == [SECRET]
    assert redact(here)["redacted"]
    assert bodies(here, 1) == {}
    assert RedactedFacts([1], "agni", "before").messages == [1]
