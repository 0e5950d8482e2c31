"""Which records a question is about: the judgement of one record, and of one message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.mail.record_filter import Heading, RecordFilter, positions_in, read_heading
from trishula_router.store.messages import State, StoredMessage

ASKED = ("agent", "peer", "id", "type", "outcome", "procedure", "subject")


def the_filter(**asked: str) -> RecordFilter:
    return RecordFilter(SimpleNamespace(**dict.fromkeys(ASKED) | asked))


def message(**facts: Any) -> StoredMessage:
    usual: dict[str, Any] = {
        "position": 7,
        "sender": "dc/7f3a",
        "id": "m1",
        "recipient": "agni",
        "type": "COMMAND",
        "priority": 3,
        "accepted_at": 1,
        "expires_at": 2,
        "size_bytes": 3,
    }
    return StoredMessage(**(usual | facts))


ACCEPTED = {"from": "dc/7f3a", "id": "m1", "to": "agni", "type": "COMMAND"}


@pytest.mark.parametrize(
    ("asked", "kind", "facts", "fits"),
    [
        ({}, "left", {"agent": "agni"}, True),
        ({"agent": "agni"}, "joined", {"agent": "agni"}, True),
        ({"agent": "agn"}, "joined", {"agent": "agni"}, False),
        ({"agent": "boss"}, "mode", {"mode": "live", "by": "boss"}, True),
        ({"agent": "dc"}, "accepted", ACCEPTED, True),
        ({"agent": "dc", "peer": "agni"}, "accepted", ACCEPTED, True),
        ({"agent": "agni", "peer": "dc"}, "accepted", ACCEPTED, True),
        ({"agent": "dc", "peer": "boss"}, "accepted", ACCEPTED, False),
        ({"id": "m1", "type": "COMMAND"}, "accepted", ACCEPTED, True),
        ({"id": "m1", "type": "STATUS"}, "accepted", ACCEPTED, False),
        ({"id": "m2"}, "accepted", ACCEPTED, False),
        # What became of it, no record tells by itself; but what was refused.
        ({"outcome": "dead"}, "accepted", ACCEPTED, False),
        ({"outcome": "dead"}, "dead", {"messages": [7]}, False),
        ({"outcome": "refused"}, "refused", {"agent": "dc", "error": "x"}, True),
        ({"outcome": "refused", "agent": "agni"}, "refused", {"agent": "dc", "error": "x"}, False),
        ({"outcome": "refused"}, "joined", {"agent": "dc"}, False),
        ({"subject": "x"}, "accepted", ACCEPTED, False),
        # A number is nobody's name.
        ({"agent": "5"}, "taken_over", {"agent": "agni", "by": 5}, False),
    ],
)
def test_a_record_by_itself(asked: dict[str, str], kind: str, facts: dict[str, Any], fits: bool) -> None:
    assert the_filter(**asked).fits_by_itself(kind, facts) is fits


@pytest.mark.parametrize(
    ("asked", "facts", "fits"),
    [
        ({"agent": "agni"}, {}, True),
        ({"agent": "dc", "peer": "agni"}, {}, True),
        ({"agent": "dc", "peer": "boss"}, {}, False),
        ({"type": "RESULT"}, {}, False),
        ({"id": "m1", "type": "COMMAND"}, {}, True),
        ({"outcome": "dead"}, {}, False),
        ({"outcome": "dead"}, {"state": State.DEAD}, True),
        ({"outcome": "refused"}, {"state": State.DEAD}, False),
        ({"agent": "agni"}, {"recipient": "capability:plan"}, False),
        ({"agent": "agni"}, {"recipient": "capability:plan", "holder": "agni/7"}, True),
        ({"peer": "capability:plan", "agent": "dc"}, {"recipient": "capability:plan"}, True),
    ],
)
def test_a_message(asked: dict[str, str], facts: dict[str, Any], fits: bool) -> None:
    assert the_filter(**asked).is_asked_for(message(**facts)) is fits


def test_the_row_of_an_accepted_message_is_read_where_it_knows_more() -> None:
    to_able = {**ACCEPTED, "to": "capability:plan"}
    assert the_filter(agent="agni").messages_of("accepted", 7, ACCEPTED) == []
    assert the_filter(agent="agni").messages_of("accepted", 7, to_able) == [7]
    assert the_filter(id="m1").messages_of("accepted", 7, to_able) == []
    assert the_filter(outcome="done").messages_of("accepted", 7, ACCEPTED) == [7]
    assert the_filter(subject="x").messages_of("accepted", 7, ACCEPTED) == [7]
    assert the_filter(agent="agni").messages_of("done", 9, {"messages": [7, 8]}) == [7, 8]


def test_positions() -> None:
    assert positions_in({"messages": [[5, 1], [6, 2]]}) == [5, 6]
    assert positions_in({"bodies": [5, 6], "bytes": 7}) == [5, 6]
    assert positions_in({"agent": "agni"}) == []


def test_what_a_message_is_about() -> None:
    about = Heading("deploy", "The Great Émigré")
    assert the_filter(procedure="deploy").is_about(about)
    assert not the_filter(procedure="deplo").is_about(about)
    assert the_filter(subject="great ÉM").is_about(about)
    assert not the_filter(subject="great", procedure="x").is_about(about)
    assert not the_filter(subject="great").is_about(Heading("deploy"))


def test_headings() -> None:
    assert read_heading(b'{"type":"COMMAND","procedure":"deploy","payload":{"args":[1]}}') == Heading("deploy")
    assert read_heading(None) is None
    assert read_heading(b'{"subject":5}') is None
    assert read_heading(b"\xff") is None
