"""One mailbox, by itself: order, pauses, what memory holds and what it leaves to the store."""

from __future__ import annotations

from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import BEFORE_ALL, Mailbox


def entry(position: int, priority: int = 3, *, due_at: int = 0, expires_at: int = 10**15, size: int = 10) -> Entry:
    return Entry(
        position,
        "dc",
        f"m{position}",
        "agni",
        "STATUS",
        priority,
        expires_at,
        size_bytes=size,
        due_at=due_at,
        arrival=position,
    )


def filled(*entries: Entry, capacity: int = 8) -> Mailbox:
    mailbox = Mailbox("agni", capacity=capacity)
    for one in entries:
        mailbox.reserve(one.size_bytes)
        mailbox.add(one)
    return mailbox


def taken(mailbox: Mailbox, room: int = 100, now: int = 0) -> list[int]:
    return [one.position for one in mailbox.take(room, now).ready]


def restarted(count: int, capacity: int = 8) -> Mailbox:
    return Mailbox("agni", open_messages=count, open_bytes=10 * count, capacity=capacity)


# -- order and pauses --------------------------------------------------------------------------------------------------


def test_order_is_by_urgency_then_age() -> None:
    assert taken(filled(entry(1), entry(2, 5), entry(3, 1), entry(4), entry(5, 1))) == [3, 5, 1, 4, 2]


def test_take_has_room_for_so_many() -> None:
    mailbox = filled(entry(1), entry(2), entry(3))
    assert taken(mailbox, 2) == [1, 2]
    assert set(mailbox.in_flight) == {1, 2}
    assert taken(mailbox, 0) == []
    assert taken(mailbox) == [3]


def test_take_leaves_room_to_urgent_ones() -> None:
    mailbox = filled(entry(1), entry(2), entry(3, 1), entry(4, 2), entry(5))
    assert [one.position for one in mailbox.take(4, 0, None, 2).ready] == [3, 4]
    assert [one.position for one in mailbox.take(2, 0, None, 2).ready] == []
    mailbox.reserve(10)
    mailbox.add(entry(6, 1))
    assert [one.position for one in mailbox.take(1, 0, None, 2).ready] == [6]
    assert taken(mailbox) == [1, 2, 5]


def test_take_stops_at_the_limit_of_bytes_and_takes_at_least_one() -> None:
    mailbox = filled(entry(1, size=50), entry(2, size=50), entry(3, size=500), entry(4, size=1))
    assert [one.position for one in mailbox.take(9, 0, 100).ready] == [1, 2]
    assert [one.position for one in mailbox.take(9, 0, 100).ready] == [3]
    assert [one.position for one in mailbox.take(9, 0, 100).ready] == [4]


def test_what_pauses_is_not_due_before_its_time() -> None:
    mailbox = filled(entry(1), entry(2))
    first, second = mailbox.take(2, 0).ready
    mailbox.give_back(first, 500)
    mailbox.give_back(second, 0)
    assert taken(mailbox, now=499) == [2]
    assert taken(mailbox, now=500) == [1]


def test_what_comes_back_takes_its_old_place() -> None:
    mailbox = filled(entry(1), entry(2), entry(3))
    first = mailbox.take(1, 0).ready[0]
    mailbox.give_back(first, 0)
    assert taken(mailbox) == [1, 2, 3]


def test_a_second_pause_counts_and_not_the_first() -> None:
    mailbox = filled(entry(1))
    for due_at in (100, 50, 900):
        (one,) = mailbox.take(1, 10**6).ready
        mailbox.give_back(one, due_at)
    assert taken(mailbox, now=899) == []
    assert taken(mailbox, now=900) == [1]
    assert taken(mailbox, now=10**6) == []


def test_what_is_over_is_handed_out_apart_and_takes_no_room() -> None:
    mailbox = filled(entry(1, expires_at=100), entry(2, expires_at=101), entry(3, expires_at=100), entry(4))
    found = mailbox.take(2, 100)
    assert [one.position for one in found.ready] == [2, 4]
    assert [one.position for one in found.expired] == [1, 3]
    assert set(mailbox.in_flight) == {1, 2, 3, 4}


def test_hold_takes_one_out_of_its_turn() -> None:
    mailbox = filled(entry(1), entry(2))
    held = mailbox.take_out(2)
    assert held is not None
    assert held.position == 2
    assert mailbox.take_out(2) is None
    assert mailbox.take_out(99) is None
    assert taken(mailbox) == [1]


def test_counts() -> None:
    mailbox = filled(entry(1, size=5), entry(2, size=7))
    assert (mailbox.open_messages, mailbox.open_bytes, mailbox.is_empty) == (2, 12, False)
    first, second = mailbox.take(2, 0).ready
    mailbox.settled(first)
    mailbox.settled(first)
    assert (mailbox.open_messages, mailbox.open_bytes) == (1, 7)
    mailbox.settled(second)
    assert (mailbox.open_messages, mailbox.open_bytes, mailbox.is_empty) == (0, 0, True)


# -- memory and store --------------------------------------------------------------------------------------------------


def test_a_new_mailbox_needs_nothing_from_the_store() -> None:
    assert not Mailbox("agni").wants_refill
    assert restarted(1).wants_refill


def test_too_many_spill_the_later_half() -> None:
    mailbox = Mailbox("agni", capacity=2)
    dropped = [mailbox.add(entry(position)) for position in range(1, 6)]
    assert [[one.position for one in each] for each in dropped] == [[], [], [], [], [3, 4, 5]]
    # What is beyond is not kept, what is before is.
    assert [one.position for one in mailbox.add(entry(6))] == [6]
    assert mailbox.add(entry(7, 1)) == []
    assert taken(mailbox) == [7, 1, 2]
    assert mailbox.wants_refill


def test_a_refill_reads_on_where_memory_ends() -> None:
    mailbox = restarted(5, capacity=2)
    assert mailbox.begin_refill() == (BEFORE_ALL, 2)
    mailbox.refill([entry(1), entry(2)], 2)
    assert taken(mailbox) == [1, 2]
    after, limit = mailbox.begin_refill()
    assert (after, limit) == ((3, 2), 4)
    mailbox.refill([entry(3), entry(4), entry(5)], limit)
    assert not mailbox.wants_refill
    assert mailbox.add(entry(6)) == []
    assert taken(mailbox) == [3, 4, 5, 6]


def test_a_refill_leaves_out_what_is_held() -> None:
    mailbox = restarted(3)
    held = entry(2)
    mailbox.in_flight[2] = held
    _, limit = mailbox.begin_refill()
    mailbox.refill([entry(1), entry(2), entry(3)], limit)
    assert mailbox.in_flight == {2: held}
    assert taken(mailbox) == [1, 3]


def test_what_passes_by_during_a_refill_is_read_with_the_next() -> None:
    mailbox = restarted(2, capacity=4)
    _, limit = mailbox.begin_refill()
    assert [one.position for one in mailbox.add(entry(3))] == [3]
    mailbox.refill([entry(1), entry(2)], limit)
    assert taken(mailbox) == [1, 2]
    assert mailbox.wants_refill
    after, limit = mailbox.begin_refill()
    assert after == (3, 2)
    mailbox.refill([entry(3)], limit)
    assert taken(mailbox) == [3]
    assert not mailbox.wants_refill


def test_an_answer_is_used_only_up_to_what_passed_by() -> None:
    # One comes back while the store is asked: its answer has it as it was before.
    mailbox = restarted(3, capacity=4)
    back = entry(2)
    mailbox.in_flight[2] = back
    _, limit = mailbox.begin_refill()
    back.failures = 1
    mailbox.give_back(back, 700)
    mailbox.refill([entry(1), entry(2), entry(3)], limit)
    assert taken(mailbox) == [1]
    after, limit = mailbox.begin_refill()
    assert after == (3, 1)
    mailbox.refill([entry(2, due_at=700), entry(3)], limit)
    assert taken(mailbox, now=699) == [3]
    assert taken(mailbox, now=700) == [2]


def test_an_answer_is_void_if_memory_let_go_of_something_since() -> None:
    mailbox = restarted(20, capacity=2)
    _, limit = mailbox.begin_refill()
    mailbox.refill([entry(position) for position in range(10, 12)], limit)
    # (3, 11) is where memory ends; now urgent ones come while the store is asked for what is behind.
    after, limit = mailbox.begin_refill()
    assert after == (3, 11)
    for position in range(20, 24):
        mailbox.add(entry(position, 1))
    mailbox.refill([entry(12), entry(13)], limit)
    # 10 and 11 were let go of, and must not be left out between what is kept and 12.
    assert taken(mailbox) == [20, 21]
    after, limit = mailbox.begin_refill()
    assert after == (1, 21)
    mailbox.refill([entry(22, 1), entry(23, 1), entry(10), entry(11)], limit)
    assert taken(mailbox) == [22, 23, 10, 11]


def test_those_that_pause_do_not_hide_those_on_disk() -> None:
    mailbox = restarted(20, capacity=4)
    _, limit = mailbox.begin_refill()
    mailbox.refill([entry(position) for position in range(1, 5)], limit)
    for one in mailbox.take(4, 0).ready:
        mailbox.give_back(one, 1000)
    assert mailbox.wants_refill
    _, limit = mailbox.begin_refill()
    mailbox.refill([entry(position) for position in range(5, 9)], limit)
    assert taken(mailbox) == [5, 6, 7, 8]


def test_what_comes_back_beyond_memory_is_left_to_the_store() -> None:
    mailbox = Mailbox("agni", capacity=2)
    for position in range(1, 5):
        mailbox.add(entry(position))
    far = mailbox.take_out(4)
    assert far is not None
    for position in (5, 6):
        mailbox.add(entry(position))
    mailbox.give_back(far, 0)
    assert taken(mailbox) == [1, 2]
    _, limit = mailbox.begin_refill()
    mailbox.refill([entry(3), entry(4), entry(5), entry(6)], limit)
    assert taken(mailbox) == [3, 4, 5, 6]


def test_what_is_taken_out_of_its_turn_leaves_nothing_behind() -> None:
    # The mailbox of an agent at another node: each message arrives and is settled, and none is ever taken.
    mailbox = Mailbox("agni")
    for position in range(1, 5001):
        mailbox.reserve(10)
        mailbox.add(entry(position))
        held = mailbox.take_out(position)
        assert held is not None
        mailbox.settled(held)
    assert len(mailbox._ready) < 100
    mailbox.reserve(10)
    mailbox.add(entry(6000))
    assert [one.position for one in mailbox.take(10, 0).ready] == [6000]
