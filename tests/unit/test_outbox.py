"""The outbox: batches, receipts, what goes out again, and what doesn't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trishula.contract.receipts import Receipt
from trishula.errors import (
    BusUnreachable,
    CopiesUnavailable,
    MailboxFull,
    MessageSetAside,
    NodeStopping,
    OutboxFull,
    OutcomeUnknown,
    PayloadTooLarge,
    RemoteError,
    TrishulaError,
)
from trishula.messaging.entries import Batch, Entry, Limits
from trishula.messaging.outbox import Outbox
from trishula.runtime.backoff import Backoff
from trishula.session.transport import Ending, LinkLost

FULL = "trishula.error.mailbox_full"


class Sender:
    """An outbox and what its entries got."""

    def __init__(self, online: bool = True, **limits: int) -> None:
        self.outbox = Outbox(
            random=lambda: 0.0, limits=Limits(**limits), retry=Backoff(first_s=1.0, factor=2.0, cap_s=8.0, jitter=0.0)
        )
        self.got: dict[str, list[Any]] = {}
        if online:
            self.outbox.connected()

    def add(self, *ids: str, to: str = "agni", copies: int | None = None, size_bytes: int = 1) -> None:
        for message_id in ids:
            self.got[message_id] = []
            message = b"x" * size_bytes
            self.outbox.add(Entry(message_id, to, message, self.got[message_id].append, copies=copies))

    def take(self, now_s: float = 0.0) -> Batch:
        batch = self.outbox.take(now_s)
        assert batch is not None
        return batch

    def nothing(self, now_s: float = 0.0) -> bool:
        return self.outbox.take(now_s) is None

    def accept(self, batch: Batch, now_s: float = 0.0) -> None:
        self.outbox.answered(batch, [Receipt(entry.id, "accepted", "n", 1, 1) for entry in batch.entries], now_s)


def ids(batch: Batch) -> list[str]:
    return [entry.id for entry in batch.entries]


def refused(message_id: str, error: str = FULL, retry_after_s: float | None = None) -> Receipt:
    return Receipt(message_id, "refused", "n", None, 0, error, "it is full", retry_after_s)


def test_what_was_added_in_one_turn_travels_in_one_call() -> None:
    sender = Sender()
    sender.add("a", "b", "c")
    batch = sender.take()
    assert ids(batch) == ["a", "b", "c"]
    assert sender.nothing()
    sender.accept(batch)
    assert [got[0].status for got in sender.got.values()] == ["accepted"] * 3
    assert len(sender.outbox) == 0


def test_nothing_goes_out_while_there_is_no_session() -> None:
    sender = Sender(online=False)
    sender.add("a")
    assert sender.nothing()
    sender.outbox.connected()
    assert ids(sender.take()) == ["a"]


def test_batches_are_bounded_by_count_and_bytes() -> None:
    sender = Sender(batch_messages=3, batch_bytes=10)
    sender.add("a", "b", "c", "d")
    sender.add("big", size_bytes=50)
    sender.add("e", size_bytes=6)
    sender.add("f", size_bytes=6)
    assert [ids(sender.take()) for _ in range(4)] == [["a", "b", "c"], ["d"], ["big"], ["e"]]


def test_calls_in_flight_are_bounded_and_entries_gather_meanwhile() -> None:
    sender = Sender(calls=2)
    batches = []
    for message_id in ("a", "b"):
        sender.add(message_id)
        batches.append(sender.take())
    sender.add("c")
    sender.add("d")
    assert sender.nothing()
    sender.accept(batches[0])
    assert ids(sender.take()) == ["c", "d"]


def test_messages_that_want_another_number_of_copies_travel_apart() -> None:
    sender = Sender()
    sender.add("a")
    sender.add("b", "c", copies=2)
    sender.add("d")
    batches = [sender.take() for _ in range(3)]
    assert [(ids(batch), batch.copies) for batch in batches] == [(["a"], None), (["b", "c"], 2), (["d"], None)]


def test_everything_without_a_receipt_goes_out_again_in_the_old_order() -> None:
    sender = Sender(batch_messages=2)
    sender.add("a", "b", "c", "d", "e")
    first, second = sender.take(), sender.take()
    sender.accept(first)
    sender.outbox.disconnected()
    assert sender.nothing()
    sender.outbox.connected()
    assert [ids(sender.take()) for _ in range(2)] == [["c", "d"], ["e"]]
    # What is told of a call of the lost session comes too late to count.
    sender.outbox.failed(second, LinkLost("gone"), 0.0)
    sender.accept(second)
    assert sender.got["c"] == []


def test_a_loss_that_the_call_tells_before_the_connection_does() -> None:
    sender = Sender()
    sender.add("a", "b")
    sender.outbox.failed(sender.take(), LinkLost("gone"), 0.0)
    assert sender.nothing(0.5)
    sender.outbox.disconnected()
    sender.outbox.connected()
    assert ids(sender.take(0.5)) == ["a", "b"]


def test_a_call_that_failed_for_now_is_tried_again_after_a_pause() -> None:
    sender = Sender()
    sender.add("a")
    sender.outbox.failed(sender.take(10.0), NodeStopping("stopping"), 10.0)
    assert sender.outbox.due_s() == 11.0
    assert sender.nothing(10.9)
    again = sender.take(11.0)
    sender.outbox.failed(again, NodeStopping("stopping", retry_after_s=0.25), 11.0)
    assert sender.outbox.due_s() == 11.25


def test_a_call_that_failed_for_good_fails_its_messages() -> None:
    sender = Sender()
    sender.add("a", "b")
    error = PayloadTooLarge("too large")
    sender.outbox.failed(sender.take(), error, 0.0)
    assert sender.got == {"a": [error], "b": [error]}
    assert len(sender.outbox) == 0


def test_a_refusal_for_good_reaches_its_sender_alone_and_speaks_of_its_message() -> None:
    sender = Sender()
    sender.add("a", "b")
    refusal = Receipt("b", "refused", "n", None, 0, PayloadTooLarge.uri, "messages[1].payload has 5 bytes")
    sender.outbox.answered(sender.take(), [Receipt("a", "accepted", "n", 1, 1), refusal], 0.0)
    assert sender.got["a"][0].status == "accepted"
    assert isinstance(sender.got["b"][0], PayloadTooLarge)
    assert str(sender.got["b"][0]) == "message.payload has 5 bytes"


def test_a_refusal_for_now_is_tried_again_after_what_the_node_said() -> None:
    sender = Sender()
    sender.add("a")
    sender.outbox.answered(sender.take(100.0), [refused("a", retry_after_s=3.0)], 100.0)
    assert sender.got["a"] == []
    assert sender.outbox.due_s() == 103.0
    assert sender.nothing(102.9)
    sender.accept(sender.take(103.0))
    assert sender.got["a"][0].status == "accepted"


def test_refusals_without_a_word_when_are_tried_again_at_growing_pauses() -> None:
    sender = Sender()
    sender.add("a")
    now_s = 0.0
    pauses = []
    for _ in range(5):
        sender.outbox.answered(sender.take(now_s), [refused("a")], now_s)
        due_s = sender.outbox.due_s()
        assert due_s is not None
        pauses.append(due_s - now_s)
        now_s = due_s
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_later_messages_wait_behind_a_held_one_of_the_same_recipient_only() -> None:
    sender = Sender()
    sender.add("a1")
    sender.outbox.answered(sender.take(), [refused("a1", retry_after_s=5.0)], 0.0)
    sender.add("a2")
    sender.add("r1", to="rushabdev")
    assert ids(sender.take(1.0)) == ["r1"]
    assert sender.nothing(4.9)
    assert ids(sender.take(5.0)) == ["a1", "a2"]


def test_what_was_refused_waits_until_later_ones_to_its_recipient_are_answered() -> None:
    sender = Sender(batch_messages=2, calls=3)
    sender.add("a1", "a2", "a3", "a4", "a5")
    first, second = sender.take(), sender.take()
    sender.add("r1", to="rushabdev")
    sender.outbox.answered(first, [refused("a1", retry_after_s=1.0), refused("a2", retry_after_s=1.0)], 0.0)
    # The time is over, and what the node says to a3 and a4 is not known: a5 must not go along with a1.
    assert ids(sender.take(2.0)) == ["r1"]
    assert sender.nothing(2.0)
    assert sender.outbox.due_s() is None
    sender.outbox.answered(second, [refused("a3", retry_after_s=9.0), refused("a4", retry_after_s=9.0)], 2.0)
    # The first one's time counts: the others are refused for no other reason than that it was.
    assert [ids(sender.take(2.0)) for _ in range(2)] == [["a1", "a2"], ["a3", "a4"]]


def test_the_time_of_the_first_counts_also_if_it_is_told_last() -> None:
    sender = Sender(batch_messages=1)
    sender.add("a1", "a2")
    first, second = sender.take(), sender.take()
    sender.outbox.answered(second, [refused("a2", retry_after_s=9.0)], 0.0)
    assert sender.outbox.due_s() is None
    sender.outbox.answered(first, [refused("a1", retry_after_s=1.0)], 0.0)
    assert sender.outbox.due_s() == 1.0


def test_after_a_call_that_failed_nothing_goes_out_before_the_others_are_answered() -> None:
    sender = Sender(batch_messages=1, calls=3)
    sender.add("a", "b", "c", "d")
    first, second = sender.take(), sender.take()
    sender.outbox.failed(first, NodeStopping("it failed", retry_after_s=0.5), 0.0)
    assert sender.nothing(1.0)
    assert sender.outbox.due_s() is None
    sender.accept(second, 1.0)
    assert [ids(sender.take(1.0)) for _ in range(3)] == [["a"], ["c"], ["d"]]


def test_on_a_new_session_nothing_waits_for_answers_to_the_old_one() -> None:
    sender = Sender(batch_messages=1)
    sender.add("a1", "a2")
    first, _ = sender.take(), sender.take()
    sender.outbox.answered(first, [refused("a1", retry_after_s=1.0)], 0.0)
    sender.outbox.disconnected()
    sender.outbox.connected()
    assert [ids(sender.take(0.1)) for _ in range(2)] == [["a1"], ["a2"]]


def test_held_ones_survive_a_loss() -> None:
    sender = Sender()
    sender.add("a")
    sender.outbox.answered(sender.take(), [refused("a", retry_after_s=5.0)], 0.0)
    sender.outbox.disconnected()
    assert sender.outbox.due_s() is None
    sender.outbox.connected()
    assert ids(sender.take(6.0)) == ["a"]


def test_receipts_that_match_no_message_are_a_fault_and_not_a_loss() -> None:
    sender = Sender()
    sender.add("a", "b")
    sender.outbox.answered(sender.take(), [Receipt("a", "accepted")], 0.0)
    assert [type(got[0]) for got in sender.got.values()] == [RemoteError, RemoteError]


def test_only_what_no_node_has_seen_can_be_withdrawn() -> None:
    sender = Sender(calls=1)
    sender.add("a")
    sender.take()
    sender.add("b")
    assert sender.outbox.withdraw("b")
    assert not sender.outbox.withdraw("a")
    assert not sender.outbox.withdraw("b")
    assert len(sender.outbox) == 1
    sender.outbox.disconnected()
    assert not sender.outbox.withdraw("a")


def test_what_every_node_refused_before_writing_it_can_be_withdrawn() -> None:
    sender = Sender()
    sender.add("a")
    sender.outbox.answered(sender.take(), [refused("a", retry_after_s=1.0)], 0.0)
    again = sender.take(1.0)
    assert not sender.outbox.withdraw("a"), "it is under way"
    sender.outbox.answered(again, [refused("a", "trishula.error.copies_unavailable", 1.0)], 1.0)
    entry = sender.outbox.withdraw("a")
    assert entry is not None
    assert isinstance(entry.refusal, CopiesUnavailable)
    assert (len(sender.outbox), sender.got["a"]) == (0, [])


@pytest.mark.parametrize("first", ["lost", "failed"])
def test_what_may_be_there_all_the_same_can_not_be_withdrawn(first: str) -> None:
    sender = Sender()
    sender.add("a")
    batch = sender.take()
    if first == "lost":
        # Another node's refusal says nothing of the first one.
        sender.outbox.disconnected()
        sender.outbox.connected()
    else:
        sender.outbox.answered(batch, [refused("a", "trishula.error.storage_failed", 1.0)], 0.0)
    sender.outbox.answered(sender.take(1.0), [refused("a", retry_after_s=1.0)], 1.0)
    assert not sender.outbox.withdraw("a")


def test_the_end_tells_what_may_have_been_accepted_from_what_was_not_sent() -> None:
    sender = Sender(calls=1)
    sender.add("a")
    sender.take()
    sender.add("b")
    error = BusUnreachable("dc has left the bus")
    sender.outbox.close(error)
    assert sender.got["b"] == [error]
    unknown = sender.got["a"][0]
    assert isinstance(unknown, OutcomeUnknown)
    assert unknown.message_id == "a"
    assert str(unknown).startswith(
        "dc has left the bus, before a node confirmed the message a to agni; it may have been"
    )
    assert len(sender.outbox) == 0


def test_it_is_full_at_its_limit() -> None:
    sender = Sender(messages=2)
    sender.add("a", "b")
    with pytest.raises(
        OutboxFull, match=r"^2 messages \(2 bytes\) wait for a node's receipt, and the limits are 2 messages"
    ):
        sender.add("c")
    sender.accept(sender.take())
    sender.add("c")


def test_a_callback_may_send_again() -> None:
    outbox = Outbox(random=lambda: 0.0)
    outbox.connected()
    outbox.add(Entry("a", "x", b"", lambda _: outbox.add(Entry("b", "x", b"", lambda _: None))))
    batch = outbox.take(0.0)
    assert batch is not None
    outbox.answered(batch, [Receipt("a", "accepted")], 0.0)
    after = outbox.take(0.0)
    assert after is not None
    assert ids(after) == ["b"]


def test_the_error_of_a_full_mailbox_is_one_that_is_tried_again() -> None:
    assert MailboxFull.uri == FULL
    assert MailboxFull.temporary


# -- on record ---------------------------------------------------------------------------------------------------------


class Paper:
    """A record in memory."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[bytes, int | None]] = {}
        self.aside: list[tuple[bytes, str]] = []

    def put(self, number: int, message: bytes, copies: int | None) -> None:
        self.held[number] = (message, copies)

    def drop(self, number: int) -> None:
        del self.held[number]

    def set_aside(self, message: bytes, reason: str) -> None:
        self.aside.append((message, reason))


def on_record(sender: Sender) -> Paper:
    paper = Paper()
    sender.outbox.write_to(paper, 0)
    return paper


def test_an_entry_is_on_record_until_it_is_settled() -> None:
    sender = Sender()
    paper = on_record(sender)
    sender.add("a", "b", "c", "d")
    assert sorted(paper.held) == [1, 2, 3, 4]
    assert sender.outbox.withdraw("d")
    batch = sender.take()
    sender.outbox.answered(
        batch,
        [Receipt("a", "accepted", "n", 1, 1), refused("b", "trishula.error.recipient_unknown"), refused("c")],
        0.0,
    )
    assert list(paper.held) == [3]
    sender.accept(sender.take(1.0))
    assert paper.held == {}


def test_what_is_on_record_stays_there_at_the_end_and_its_outcome_is_unknown() -> None:
    sender = Sender(online=False)
    paper = on_record(sender)
    sender.add("a")
    sender.outbox.close(BusUnreachable("dc has left the bus"))
    assert list(paper.held) == [1]
    assert isinstance(sender.got["a"][0], OutcomeUnknown)
    assert str(sender.got["a"][0]).endswith("it is on record and goes out when the agent runs again")


def test_what_was_queued_before_there_was_a_record_stands_behind_what_an_earlier_run_left() -> None:
    sender = Sender()
    sender.add("new")
    paper = Paper()
    sender.outbox.write_to(paper, 7)
    got: list[Any] = []
    for number, name in ((3, "old"), (7, "older run's last")):
        sender.outbox.restore(Entry(name, "agni", b"", got.append), number)
    sender.outbox.sort()
    assert paper.held == {8: (b"x", None)}
    batch = sender.take()
    assert [(entry.number, entry.id) for entry in batch.entries] == [(3, "old"), (7, "older run's last"), (8, "new")]
    # A node may have seen what an earlier run left.
    assert not sender.outbox.withdraw("old")
    sender.add("newest")
    assert list(paper.held) == [8, 9]


def test_it_is_full_by_size_and_takes_replies_all_the_same() -> None:
    sender = Sender(total_bytes=10)
    sender.add("a", size_bytes=10)
    with pytest.raises(OutboxFull, match=r"^1 messages \(10 bytes\) wait .* and 10 bytes: wait for some"):
        sender.add("b")
    full = [sender.outbox.is_full]
    got: list[Any] = []
    sender.outbox.add(Entry("r", "dc", b"", got.append, is_reply=True))
    sender.accept(sender.take())
    full.append(sender.outbox.is_full)
    assert (full, len(got)) == ([True, False], 1)
    sender.add("b", size_bytes=10)


def test_a_refusal_for_now_is_told_to_an_entry_that_wants_to_know() -> None:
    sender = Sender()
    told: list[TrishulaError] = []
    got: list[Any] = []
    sender.outbox.add(Entry("r", "dc", b"", got.append, held=told.append))
    sender.outbox.answered(sender.take(), [refused("r")], 0.0)
    assert ([str(error) for error in told], got) == (["it is full"], [])


# -- copies ------------------------------------------------------------------------------------------------------------


def test_a_receipt_with_fewer_copies_than_asked_for_is_kept_until_it_is_settled() -> None:
    sender = Sender()
    paper = on_record(sender)
    sender.add("a", "b", copies=2)
    sender.accept(sender.take())
    # The sender knows where it stands; the message is offered to every node that we meet.
    assert [got[0].copies for got in sender.got.values()] == [1, 1]
    assert (len(sender.outbox), sender.outbox.under_replicated.ids, list(paper.held)) == (0, ["a", "b"], [1, 2])
    sender.outbox.under_replicated.settled(["a", "unknown"])
    assert (sender.outbox.under_replicated.ids, list(paper.held)) == (["b"], [2])
    sender.outbox.disconnected()
    sender.outbox.connected()
    batch = sender.take()
    assert (ids(batch), batch.copies) == (["b"], None)
    sender.outbox.answered(batch, [Receipt("b", "duplicate", "m", 1, 2)], 0.0)
    assert (sender.outbox.under_replicated.ids, paper.held, len(sender.got["b"])) == ([], {}, 1)
    sender.add("big", size_bytes=1)
    assert not sender.outbox.is_full


def test_two_nodes_that_have_a_message_are_two_copies() -> None:
    sender = Sender()
    sender.add("a", copies=2)
    for node, kept in (("n", ["a"]), ("n", ["a"]), ("m", [])):
        sender.outbox.answered(sender.take(), [Receipt("a", "accepted", node, 1, 1)], 0.0)
        assert sender.outbox.under_replicated.ids == kept
        sender.outbox.disconnected()
        sender.outbox.connected()
    assert [receipt.node for receipt in sender.got["a"]] == ["n"]


def test_a_later_copy_lets_go_what_was_kept() -> None:
    sender = Sender()
    paper = on_record(sender)
    sender.add("a", copies=2)
    sender.accept(sender.take())
    for copies, kept in ((1, ["a"]), (2, [])):
        sender.outbox.under_replicated.copied("a", copies)
        assert sender.outbox.under_replicated.ids == kept
    assert paper.held == {}


def test_a_broadcast_is_not_at_its_end_when_one_recipient_has_it() -> None:
    sender = Sender()
    sender.add("a", to="broadcast", copies=2)
    sender.accept(sender.take())
    sender.outbox.under_replicated.settled(["a"], by_one=True)
    assert sender.outbox.under_replicated.ids == ["a"]
    sender.outbox.under_replicated.settled(["a"])
    assert sender.outbox.under_replicated.ids == []


def test_what_one_node_refused_for_now_is_offered_to_the_next_one_at_once() -> None:
    sender = Sender()
    sender.add("a", copies=2)
    sender.outbox.answered(sender.take(), [refused("a", CopiesUnavailable.uri, 30.0)], 0.0)
    sender.add("b")
    assert sender.nothing(1.0)
    sender.outbox.disconnected()
    sender.outbox.connected()
    assert [ids(sender.take(1.0)) for _ in range(2)] == [["a"], ["b"]]


def test_what_is_in_flight_at_a_pause_is_settled_and_nothing_else_goes_out() -> None:
    sender = Sender(calls=2)
    sender.add("a")
    batch = sender.take()
    sender.add("b")
    sender.outbox.pause()
    assert (sender.outbox.is_flying, sender.nothing()) == (True, True)
    sender.accept(batch)
    assert (sender.outbox.is_flying, sender.nothing(), len(sender.got["a"])) == (False, True, 1)
    sender.outbox.resume()
    assert ids(sender.take()) == ["b"]


def test_what_is_kept_counts_for_the_limit() -> None:
    sender = Sender(messages=1)
    sender.add("a", copies=2)
    sender.accept(sender.take())
    with pytest.raises(OutboxFull):
        sender.add("b")
    sender.outbox.under_replicated.settled(["a"])
    sender.add("b")


# -- poison ------------------------------------------------------------------------------------------------------------

DROPPED = Ending("it closed the connection", is_told=False)
TOLD = Ending("WAMP Protocol Error (int is not allowed for map key)", is_told=True)


def offer_all(sender: Sender, poison: frozenset[str], ending: Ending | None = DROPPED) -> list[list[str]]:
    """Run sessions against a node that ends each one on which it gets a poisonous message, until all is settled.

    Returns:
        the messages of the call that each session ended with.
    """
    ended: list[list[str]] = []
    while len(sender.outbox):
        sender.outbox.connected()
        while (batch := sender.outbox.take(0.0)) is not None:
            if poison & set(ids(batch)):
                ended.append(ids(batch))
                sender.outbox.disconnected(ending)
                break
            sender.accept(batch)
        assert len(ended) < 100
    return ended


def test_a_message_that_ends_each_session_is_found_among_its_neighbours_and_set_aside() -> None:
    sender = Sender()
    paper = on_record(sender)
    names = [f"m{number}" for number in range(200)]
    sender.add(*names)
    ended = offer_all(sender, frozenset({"m77"}))
    assert [len(call) for call in ended] == [64, 64, 8, 1, 1, 1]
    assert {type(got[0]) for name, got in sender.got.items() if name != "m77"} == {Receipt}
    error = sender.got["m77"][0]
    assert isinstance(error, MessageSetAside)
    assert str(error) == (
        "the message m77 to agni (1 B) was set aside as dead, so that others get through: each time that it was under "
        "way alone the node ended the session (it closed the connection); if a node has it all the same, trishula why "
        "m77 tells"
    )
    assert (paper.held, paper.aside) == ({}, [(b"x", str(error))])
    assert len(sender.outbox) == 0


def test_it_takes_fewer_sessions_if_the_node_says_what_it_can_not_take() -> None:
    sender = Sender()
    sender.add("a")
    assert offer_all(sender, frozenset({"a"}), TOLD) == [["a"], ["a"]]
    assert "(WAMP Protocol Error (int is not allowed for map key))" in str(sender.got["a"][0])


def test_it_takes_more_if_it_is_large_for_a_slow_line_may_break_on_the_way() -> None:
    sender = Sender()
    sender.add("a", size_bytes=100_000)
    assert len(offer_all(sender, frozenset({"a"}))) == 5


def test_several_are_found_one_after_the_other_and_the_order_is_kept() -> None:
    sender = Sender()
    got: list[str] = []

    def told(name: str) -> Callable[[Receipt | TrishulaError], object]:
        return lambda outcome: got.append(name if isinstance(outcome, Receipt) else f"aside {name}")

    names = [f"m{number}" for number in range(40)]
    for name in names:
        sender.outbox.add(Entry(name, "agni", b"x", told(name)))
    offer_all(sender, frozenset({"m3", "m4", "m39"}))
    assert [name for name in got if not name.startswith("aside ")] == [n for n in names if n not in ("m3", "m4", "m39")]
    assert sorted(name for name in got if name.startswith("aside ")) == ["aside m3", "aside m39", "aside m4"]


def test_while_suspects_are_under_way_nothing_else_is() -> None:
    sender = Sender()
    sender.add("a", "b")
    for _ in range(2):
        sender.outbox.connected()
        assert ids(sender.take()) == ["a", "b"]
        sender.outbox.disconnected(DROPPED)
    sender.outbox.connected()
    sender.add("c")
    assert ids(sender.take()) == ["a"]
    assert sender.nothing()
    sender.accept(sender.outbox._flying[0])
    batch = sender.take()
    assert ids(batch) == ["b"]
    assert sender.nothing()
    # It got a receipt, so it was not the one; it counts as any other from now on.
    sender.outbox.answered(batch, [refused("b", retry_after_s=1.0)], 0.0)
    sender.add("d", to="dc")
    assert ids(sender.take(0.0)) == ["d"]
    sender.accept(sender.outbox._flying[0])
    assert ids(sender.take(1.0)) == ["b", "c"]


def test_a_session_that_we_gave_up_ourselves_accuses_nobody() -> None:
    sender = Sender()
    sender.add("a", "b")
    for _ in range(20):
        sender.outbox.connected()
        assert ids(sender.take()) == ["a", "b"]
        sender.outbox.disconnected()
    assert sender.got == {"a": [], "b": []}


def test_a_call_that_tells_the_loss_first_counts_as_well() -> None:
    sender = Sender()
    sender.add("a")
    for number in range(3):
        sender.outbox.connected()
        sender.outbox.failed(sender.take(number * 100.0), LinkLost("gone"), number * 100.0, is_cut=True)
        sender.outbox.disconnected(DROPPED)
    assert isinstance(sender.got["a"][0], MessageSetAside)


def test_what_is_too_large_for_the_node_that_we_meet_is_refused_wherever_it_waits() -> None:
    sender = Sender()
    paper = on_record(sender)
    sender.add("held", size_bytes=50)
    sender.outbox.answered(sender.take(), [refused("held")], 0.0)
    sender.add("small", "large", to="dc", size_bytes=10)
    sender.add("larger", to="dc", size_bytes=11)
    sender.outbox.keep_within(10, 1)
    assert [type(got[0]).__name__ for got in sender.got.values() if got] == ["PayloadTooLarge", "PayloadTooLarge"]
    assert str(sender.got["larger"][0]).startswith(
        "the message larger to dc has 11 bytes, and a frame to the node takes"
    )
    assert ids(sender.take()) == ["small"]
    assert sorted(paper.held) == [2, 3]
