"""What waits in an outbox: the more urgent overtakes, what was offered before comes first."""

from __future__ import annotations

from collections.abc import Iterable

from trishula.contract.receipts import Receipt
from trishula.errors import BusUnreachable, MailboxFull
from trishula.messaging.entries import Batch, Entry, Limits
from trishula.messaging.outbox import Outbox
from trishula.messaging.urgency import ByUrgency


def entry(message_id: str, priority: int = 3, to: str = "agni") -> Entry:
    return Entry(message_id, to, b"x" * 100, lambda _: None, priority=priority)


def numbered(*entries: Entry) -> list[Entry]:
    for number, one in enumerate(entries, 1):
        one.number = number
    return list(entries)


def drained(waiting: ByUrgency) -> list[str]:
    found = []
    while (queue := waiting.first()) is not None:
        found.append(queue.popleft().id)
    return found


def filled(entries: Iterable[Entry]) -> ByUrgency:
    waiting = ByUrgency()
    for one in entries:
        waiting.append(one)
    return waiting


def test_the_more_urgent_overtakes_and_equal_urgency_keeps_the_order() -> None:
    waiting = filled(numbered(entry("a"), entry("b", 5), entry("c", 1), entry("d"), entry("e", 1), entry("f", 2)))
    assert waiting
    assert {one.id for one in waiting} == set("abcdef")
    assert drained(waiting) == ["c", "e", "f", "a", "d", "b"]
    assert not waiting


def test_what_goes_out_again_comes_first_in_the_order_of_its_first_offers() -> None:
    a, b, c, d = numbered(entry("a"), entry("b", 1), entry("c"), entry("d", 1))
    waiting = filled([d])
    # An urgent one had overtaken those before it.
    b.place, a.place, c.place = 1, 2, 3
    waiting.put_back([c])
    waiting.put_back([a, b])
    assert drained(waiting) == ["b", "a", "c", "d"]


def test_what_was_never_offered_returns_to_its_urgency_in_the_order_of_sending() -> None:
    a, b, c, d, e = numbered(entry("a"), entry("b", 1), entry("c"), entry("d", 1), entry("e"))
    waiting = filled([e])
    a.place = 1
    waiting.put_back([d, c, b, a])
    assert drained(waiting) == ["a", "b", "d", "c", "e"]


def test_what_is_taken_out_or_cleared_waits_no_more() -> None:
    a, b, c = numbered(entry("a"), entry("b", 1), entry("c"))
    waiting = filled([a, b])
    c.place = 1
    waiting.put_back([c])
    waiting.remove(b)
    waiting.remove(c)
    assert drained(waiting) == ["a"]
    waiting.append(a)
    waiting.clear()
    assert not waiting
    assert waiting.first() is None


def test_what_an_earlier_run_left_is_sorted_within_its_urgency() -> None:
    a, b, c, d = numbered(entry("a"), entry("b", 1), entry("c"), entry("d", 1))
    waiting = filled([d, c, b, a])
    waiting.sort()
    assert drained(waiting) == ["b", "d", "a", "c"]


# -- in the outbox -----------------------------------------------------------------------------------------------------


def outbox(calls: int = 1) -> Outbox:
    made = Outbox(random=lambda: 0.0, limits=Limits(batch_messages=4, calls=calls))
    made.connected()
    return made


def ids(batch: Batch | None) -> list[str]:
    return [] if batch is None else [one.id for one in batch.entries]


def accepted(batch: Batch) -> list[Receipt]:
    return [Receipt(id=one.id, status="accepted", node="n", seq=1, copies=1) for one in batch.entries]


def test_an_urgent_message_goes_with_the_next_call_however_many_wait() -> None:
    made = outbox()
    for number in range(1000):
        made.add(entry(f"m{number}"))
    first = made.take(0.0)
    made.add(entry("soon", 2))
    made.add(entry("now", 1))
    assert first is not None
    made.answered(first, accepted(first), 0.0)
    assert ids(made.take(0.0)) == ["now", "soon", "m4", "m5"]


def test_after_a_call_that_failed_its_messages_come_before_later_urgent_ones() -> None:
    made = outbox()
    for number in range(6):
        made.add(entry(f"m{number}"))
    first = made.take(0.0)
    made.add(entry("now", 1))
    assert first is not None
    made.failed(first, BusUnreachable("no"), 0.0)
    again = made.take(60.0)
    assert ids(again) == ["m0", "m1", "m2", "m3"]
    assert again is not None
    made.answered(again, accepted(again), 60.0)
    assert ids(made.take(60.0)) == ["now", "m4", "m5"]


def refused_line(calls: int = 1) -> Outbox:
    """An outbox in which ``m0``, and ``low`` behind it, wait for agni until second 1."""
    made = outbox(calls)
    made.add(entry("m0"))
    made.add(entry("m1", 1, to="dc"))
    first = made.take(0.0)
    assert ids(first) == ["m1", "m0"]
    assert first is not None
    full = MailboxFull("full", retry_after_s=1.0)
    made.answered(first, [accepted(first)[0], refusal("m0", full)], 0.0)
    made.add(entry("low", 5))
    return made


def test_behind_a_message_that_was_refused_for_now_only_a_more_urgent_one_to_its_recipient_passes() -> None:
    made = refused_line()
    made.add(entry("same", 3))
    made.add(entry("now", 1))
    made.add(entry("m2", to="dc"))
    second = made.take(0.0)
    assert ids(second) == ["now", "m2"]
    assert second is not None
    made.answered(second, accepted(second), 0.0)
    assert ids(made.take(0.5)) == []
    assert ids(made.take(2.0)) == ["m0", "same", "low"]


def test_when_a_more_urgent_one_was_refused_too_those_that_are_as_urgent_wait_behind_it() -> None:
    made = refused_line()
    made.add(entry("now", 1))
    second = made.take(0.0)
    assert ids(second) == ["now"]
    assert second is not None
    made.answered(second, [refusal("now", MailboxFull("full", retry_after_s=9.0))], 0.5)
    made.add(entry("later", 1))
    assert ids(made.take(0.5)) == []
    # In the order of the first offers: the node waits for m0. What it said of m0 counts.
    assert ids(made.take(1.0)) == ["m0", "now", "later", "low"]


def test_urgent_messages_without_end_keep_nothing_from_its_next_try() -> None:
    made = refused_line()
    made.add(entry("now", 1))
    second = made.take(0.9)
    assert second is not None
    made.add(entry("later", 1))
    made.answered(second, accepted(second), 1.1)
    assert ids(made.take(1.1)) == ["m0", "later", "low"]


def test_nor_do_they_pass_when_it_is_due_and_waits_for_a_call_that_is_under_way() -> None:
    made = refused_line(calls=2)
    made.add(entry("now", 1))
    second = made.take(0.9)
    assert ids(second) == ["now"]
    assert second is not None
    made.add(entry("later", 1))
    assert ids(made.take(1.1)) == []
    made.answered(second, accepted(second), 1.2)
    assert ids(made.take(1.2)) == ["m0", "later", "low"]


def refusal(message_id: str, error: MailboxFull) -> Receipt:
    return Receipt(id=message_id, status="refused", node="n", error=error.uri, detail="full", retry_after_s=1.0)
