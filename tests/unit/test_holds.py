"""What waits behind a message that was refused for now: integers of time, no node."""

from __future__ import annotations

import pytest

from trishula.errors import MailboxFull, RateLimited, StorageFailed, TrishulaError
from trishula_router.mail import send_order as holds_module
from trishula_router.mail.send_order import PATIENCE_S, Holds, Place, Turn, place_of

FULL = MailboxFull("the mailbox of agni is full", retry_after_s=1.0)


class Session:
    """One session's calls, each message by its id: what passes a check is admitted, unless it is to be refused."""

    def __init__(self, holds: Holds | None = None, number: int = 1) -> None:
        self.holds = Holds() if holds is None else holds
        self.number = number

    def turn(self) -> Turn:
        return self.holds.turn(self.number)

    def offer(
        self,
        ids: str,
        now_s: float,
        *,
        to: str = "agni",
        priority: int = 3,
        refuse: str = "",
        error: TrishulaError = FULL,
        turn: Turn | None = None,
    ) -> str:
        """Offer messages in one call; the ids of those that were admitted."""
        mine = turn or self.turn()
        admitted = ""
        for index, message_id in enumerate(ids):
            place = Place(index, to, message_id, priority)
            try:
                mine.check(to, message_id, priority, now_s)
                if message_id in refuse:
                    raise error
            except TrishulaError as fault:
                mine.refused(place, fault, now_s)
            else:
                mine.passed(to, message_id)
                admitted += message_id
        if turn is None:
            mine.answered(now_s)
        return admitted

    def refusal(self, message_id: str, now_s: float, *, priority: int = 3) -> TrishulaError:
        with pytest.raises(TrishulaError) as caught:
            self.turn().check("agni", message_id, priority, now_s)
        return caught.value


@pytest.fixture
def dc() -> Session:
    return Session()


def test_nothing_waits_where_nothing_was_refused(dc: Session) -> None:
    assert dc.offer("abc", 0.0) == "abc"


def test_what_follows_a_refused_message_waits_within_its_call_and_in_later_ones(dc: Session) -> None:
    assert dc.offer("abc", 0.0, refuse="b") == "a"
    assert dc.offer("de", 0.5) == ""


def test_the_refused_message_comes_again_and_all_behind_it(dc: Session) -> None:
    dc.offer("abc", 0.0, refuse="b")
    dc.offer("d", 0.5)
    assert dc.offer("bcde", 1.0) == "bcde"
    assert dc.offer("f", 1.0) == "f"


def test_refused_again_it_holds_the_rest_again(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    assert dc.offer("ab", 1.0, refuse="a") == ""
    assert dc.offer("c", PATIENCE_S + 0.9) == ""
    assert dc.offer("c", PATIENCE_S + 1.0) == "c"


def test_a_late_call_waits_also_when_the_time_to_retry_is_over(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    assert dc.offer("b", 1.5) == ""
    assert dc.offer("ab", 1.6) == "ab"


def test_who_gives_the_refused_message_up_waits_for_a_while(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    assert dc.offer("b", PATIENCE_S - 0.1) == ""
    assert dc.offer("b", PATIENCE_S) == "b"


def test_refusals_of_what_waits_do_not_make_it_wait_longer(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    for tenth in range(int(PATIENCE_S * 10)):
        assert dc.offer("b", tenth / 10) == ""
    assert dc.offer("b", PATIENCE_S) == "b"


def test_it_lasts_as_long_as_the_sender_was_told_to_wait(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a", error=StorageFailed("away", retry_after_s=5.0))
    assert dc.offer("b", 4.9) == ""
    assert dc.offer("b", 5.0) == "b"


def test_its_time_begins_when_its_call_is_answered(dc: Session) -> None:
    slow = dc.turn()
    dc.offer("a", 0.0, refuse="a", turn=slow)
    assert dc.offer("b", 100.0) == ""
    slow.answered(100.0)
    assert dc.offer("b", 100.0 + PATIENCE_S - 0.1) == ""
    assert dc.offer("b", 100.0 + PATIENCE_S) == "b"


def test_the_more_urgent_passes_and_the_less_urgent_waits(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    assert dc.offer("u", 0.1, priority=1) == "u"
    assert dc.offer("l", 0.1, priority=5) == ""


def test_a_more_urgent_one_that_is_refused_too_waits_in_the_same_line(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    dc.offer("u", 0.1, priority=1, refuse="u")
    assert dc.offer("v", 0.2, priority=1) == ""
    assert dc.offer("a", 1.0) == "a"
    assert dc.offer("uv", 1.0, priority=1) == "uv"


def test_other_recipients_and_other_sessions_do_not_wait(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    assert dc.offer("r", 0.1, to="rushabdev") == "r"
    assert dc.offer("i", 0.1, to="agni/x") == "i"
    assert dc.offer("b", 0.1, to="broadcast") == "b"
    assert Session(dc.holds, 2).offer("ab", 0.1) == "ab"


def test_messages_to_a_capability_are_in_no_order(dc: Session) -> None:
    assert dc.offer("ab", 0.0, to="capability:deploy", refuse="a") == "b"


def test_a_session_that_left_leaves_nothing(dc: Session) -> None:
    late = dc.turn()
    dc.offer("a", 0.0, refuse="a")
    dc.holds.left(dc.number)
    late.refused(Place(0, "agni", "z", 3), FULL, 0.1)
    assert dc.offer("b", 0.1) == "b"
    dc.holds.left(dc.number)
    dc.holds.left(77)


# -- the head ----------------------------------------------------------------------------------------------------------


def test_a_call_that_the_store_refuses_after_that_time_does_not_begin_another_line(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    late = dc.turn()
    assert dc.offer("b", 1.0, turn=late) == ""
    assert dc.offer("u", 1.0, priority=1, turn=late) == "u"
    # The client waits for that call before it offers anything again.
    late.refused(Place(1, "agni", "u", 1), FULL, PATIENCE_S + 1.0)
    late.answered(PATIENCE_S + 1.0)
    assert dc.offer("a", PATIENCE_S + 1.5) == "a"
    assert dc.offer("bu", PATIENCE_S + 1.5) == "bu"


def test_calls_that_come_after_that_time_keep_nobody_out(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    early, late = dc.turn(), dc.turn()
    assert dc.offer("b", PATIENCE_S - 0.5, turn=early) == ""
    assert dc.offer("c", PATIENCE_S + 0.5, turn=late) == ""
    assert dc.refusal("c", PATIENCE_S + 0.5).retry_after_s == 0.001
    early.answered(PATIENCE_S + 1.0)
    assert dc.offer("d", PATIENCE_S + 1.0) == "d"


def test_what_the_store_refuses_late_stands_where_it_was_sent(dc: Session) -> None:
    first = dc.turn()
    assert dc.offer("ab", 0.0, turn=first) == "ab"
    dc.offer("cd", 0.1, refuse="c")
    for index, message_id in enumerate("ab"):
        first.refused(Place(index, "agni", message_id, 3), StorageFailed("away"), 0.2)
    first.answered(0.2)
    assert dc.offer("c", 0.3) == ""
    assert dc.offer("abcd", 0.4) == "abcd"


def test_what_the_store_refuses_late_stands_before_what_was_refused_at_once_in_the_same_call(dc: Session) -> None:
    call = dc.turn()
    assert dc.offer("abc", 0.0, refuse="c", turn=call) == "ab"
    for index, message_id in enumerate("ab"):
        call.refused(Place(index, "agni", message_id, 3), StorageFailed("away"), 0.2)
    call.answered(0.2)
    assert dc.offer("abc", 0.3) == "abc"


def test_a_repeat_is_not_waited_for(dc: Session) -> None:
    call = dc.turn()
    dc.offer("abc", 0.0, refuse="a", turn=call)
    call.repeats({"a", "b"}, 0.1)
    call.answered(0.1)
    # The client has receipts of a and b, and comes with c.
    assert dc.offer("d", 0.2) == ""
    assert dc.offer("cd", 1.0) == "cd"


def test_behind_repeats_alone_the_next_call_is_waited_for(dc: Session) -> None:
    call = dc.turn()
    dc.offer("ab", 0.0, refuse="a", turn=call)
    dc.offer("cd", 0.1)
    call.repeats({"a", "b"}, 0.2)
    call.answered(0.2)
    assert dc.offer("e", 0.3) == ""
    assert dc.offer("cde", 1.0) == "cde"


def test_where_all_were_repeats_nothing_waits(dc: Session) -> None:
    call = dc.turn()
    dc.offer("ab", 0.0, refuse="a", turn=call)
    call.repeats({"a", "b"}, 0.1)
    assert dc.offer("c", 0.2) == "c"


# -- what is said ------------------------------------------------------------------------------------------------------


def test_the_refusal_names_what_it_waits_for_and_for_how_long(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    error = dc.refusal("b", 0.25)
    assert isinstance(error, MailboxFull)
    assert error.retry_after_s == 0.75
    assert error.sentence == (
        "the message b to agni waits behind a, which this node refused for now: the mailbox of agni is full; offer a "
        "first, or, if it was given up, try again in 0.75 s"
    )
    # Who comes again without it is told the end.
    assert dc.refusal("b", 1.5).retry_after_s == PATIENCE_S - 1.5


def test_the_error_is_that_of_the_first(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a", error=RateLimited("too fast", retry_after_s=0.1))
    assert isinstance(dc.refusal("b", 0.05), RateLimited)


def test_a_clock_that_is_set_back_keeps_nobody_out(dc: Session) -> None:
    dc.offer("a", 1000.0, refuse="a")
    assert dc.offer("b", 10.0) == "b"


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_session_has_so_many_holds_and_the_oldest_goes_first(dc: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds_module, "HOLDS_LIMIT", 3)
    for number in range(4):
        dc.offer("a", float(number) / 10, to=f"agent{number}", refuse="a")
    assert [dc.offer("b", 0.5, to=f"agent{number}") for number in range(4)] == ["b", "", "", ""]


def test_holds_that_are_over_make_room_first(dc: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds_module, "HOLDS_LIMIT", 2)
    dc.offer("a", 0.0, to="agent0", refuse="a", error=StorageFailed("away", retry_after_s=60.0))
    dc.offer("a", 0.0, to="agent1", refuse="a")
    dc.offer("a", 10.0, to="agent2", refuse="a")
    assert [dc.offer("b", 10.0, to=f"agent{number}") for number in range(3)] == ["", "b", ""]


def test_a_flood_of_refused_calls_is_not_remembered(dc: Session) -> None:
    dc.offer("a", 0.0, refuse="a")
    for _ in range(1000):
        dc.offer("b", 0.1)
    (hold,) = dc.holds._sessions[dc.number].values()
    assert len(hold.heads) <= 16
    assert dc.offer("ab", 0.2) == "ab"


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ({"to": "agni", "id": "m1"}, Place(7, "agni", "m1", 3)),
        ({"to": "broadcast", "id": "m1", "priority": 1}, Place(7, "broadcast", "m1", 1)),
        ({"to": "agni/x", "id": "m1", "priority": "no"}, Place(7, "agni/x", "m1", 3)),
        ({"to": "capability:deploy", "id": "m1"}, None),
        ({"to": "agni", "id": "m1", "type": "HEARTBEAT"}, None),
        ({"to": "agni", "id": "m1", "type": "ACK"}, None),
        ({"to": "Not an address", "id": "m1"}, None),
        ({"to": "agni", "id": ["m1"]}, None),
        ({"to": 7, "id": "m1"}, None),
        ({}, None),
        (None, None),
        ("text", None),
    ],
)
def test_the_place_of_what_was_not_checked(raw: object, place: Place | None) -> None:
    assert place_of(7, raw) == place


@pytest.mark.parametrize(("priority", "known"), [(1, 1), (1.0, 1), (1.5, 3), (float("nan"), 3), ("1", 3), (None, 3)])
def test_the_urgency_of_a_message_that_is_not_checked_yet(priority: object, known: int) -> None:
    place = place_of(0, {"to": "agni", "id": "a", "priority": priority})
    assert place is not None
    assert place.priority == known
