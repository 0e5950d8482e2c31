"""What a bridge does with each file of an outbox, by the table alone."""

from __future__ import annotations

import pytest

from trishula.contract.message import Message
from trishula.errors import (
    AnswerEarly,
    AnswerRefused,
    BusUnreachable,
    IdReused,
    MailboxFull,
    MessageSetAside,
    NotAllowed,
    OutboxFull,
    OutcomeUnknown,
    PayloadTooLarge,
    RecipientUnknown,
    TakenOver,
    TokenInvalid,
    TrishulaError,
)
from trishula.files import bridging
from trishula.files.bridging import PATIENCE_S, PAUSE_S, WINDOW, Bridging, Ending, is_for_good


@pytest.fixture
def table() -> Bridging:
    return Bridging("agni")


@pytest.mark.parametrize(
    ("kind", "for_good"),
    [
        (IdReused, True), (PayloadTooLarge, True), (RecipientUnknown, True), (AnswerRefused, True),
        (MessageSetAside, True),
        (MailboxFull, False), (OutboxFull, False), (BusUnreachable, False), (AnswerEarly, False),
        (TakenOver, False), (TokenInvalid, False), (NotAllowed, False), (OutcomeUnknown, False), (TrishulaError, False),
    ],
)  # fmt: skip
def test_only_what_is_the_message_s_own_fault_is_for_good(kind: type[TrishulaError], for_good: bool) -> None:
    assert is_for_good(kind("no")) is for_good


def test_a_file_is_archived_when_its_receipt_is_there_and_not_before(table: Bridging) -> None:
    assert table.due(["outbox/x.json"], 0.0) == ["outbox/x.json"]
    table.sending("outbox/x.json")
    assert table.due(["outbox/x.json"], 1000.0) == []
    assert table.endings() == []
    table.answered("outbox/x.json", None, 1.0)
    assert table.endings() == [Ending("outbox/x.json")]
    # The folder couldn't take it: it is tried again, and not sent again.
    assert table.due(["outbox/x.json"], 1000.0) == []
    assert table.endings() == [Ending("outbox/x.json")]
    assert table.wait_s is not None
    table.ended("outbox/x.json")
    assert table.endings() == []
    assert table.wait_s is None


def test_what_is_refused_for_good_is_rejected_with_the_node_s_sentence(table: Bridging) -> None:
    table.sending("outbox/x.json")
    table.answered("outbox/x.json", RecipientUnknown("there is no agent 'nobody'"), 1.0)
    assert table.endings() == [Ending("outbox/x.json", "there is no agent 'nobody'")]


def test_what_could_not_be_sent_stays_and_is_tried_again(table: Bridging) -> None:
    table.sending("outbox/x.json")
    table.answered("outbox/x.json", OutboxFull("full"), 1.0)
    assert table.endings() == []
    assert table.due(["outbox/x.json"], 1.0) == []
    assert table.wait_s is not None
    assert table.due(["outbox/x.json"], 1.0 + PAUSE_S) == ["outbox/x.json"]


def test_a_file_that_is_no_message_yet_has_time_to_become_one(table: Bridging) -> None:
    half, name = b'{"id": "x', "outbox/x.json"
    table.unreadable(name, half, "it ends early", 0.0)
    assert table.due([name], PAUSE_S / 2) == []
    assert table.due([name], PAUSE_S) == [name]
    # It grows: it has its time anew.
    table.unreadable(name, half + b'"', "it ends early", PATIENCE_S)
    assert table.endings() == []
    table.unreadable(name, half + b'"', "it ends early", 2 * PATIENCE_S - 1)
    assert table.endings() == []
    table.unreadable(name, half + b'"', "it ends early", 2 * PATIENCE_S)
    assert table.endings() == [Ending(name, "it ends early")]


def test_a_file_that_is_gone_is_forgotten(table: Bridging) -> None:
    name = "outbox/x.json"
    table.unreadable(name, b"", "it is empty", 0.0)
    table.due([], 1.0)
    assert table.due([name], 1.0) == [name]
    # Not what is on its way: it gets its receipt.
    table.sending(name)
    table.due([], 1.0)
    table.answered(name, None, 2.0)
    assert table.endings() == [Ending(name)]


@pytest.mark.parametrize("sender", [None, "dc", "agni/7f3a"])
def test_somebody_else_s_messages_are_not_sent(table: Bridging, sender: str | None) -> None:
    fault = table.fault_of(Message(type="STATUS", id="x", to="dc", sender=sender))
    assert fault is not None
    assert "only messages from agni are sent from here" in fault
    assert table.fault_of(Message(type="STATUS", id="x", to="dc", sender="agni")) is None


def test_what_is_held_for_one_recipient_does_not_hold_back_the_others(
    table: Bridging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridging, "MOST_HELD", 3)
    names = [f"outbox/{number:04}.json" for number in range(WINDOW + 10)]
    first = table.due(names, 0.0)
    assert first == names[:WINDOW]
    for name in first:
        table.sending(name)
    assert table.due(names, 0.0) == []
    table.held(names[0])
    table.held(names[1])
    assert table.due(names, 0.0) == names[WINDOW : WINDOW + 2]
    for name in names[2:20]:
        table.held(name)
    # Not without end: each of them takes memory.
    assert len(table.due(names, 0.0)) == 3
