"""The inbox: which deliveries run, which are acknowledged, and how its memory is bounded."""

from __future__ import annotations

from trishula.contract.message import Message
from trishula.messaging.deduplication import Inbox, Treatment, content_of


def test_a_new_message_runs_and_its_token_is_acknowledged() -> None:
    inbox = Inbox()
    assert inbox.admit("dc", "1", "t1") is Treatment.RUN
    assert inbox.handled("dc", "1", 0) == ["t1"]


def test_a_repeat_of_a_handled_one_is_dropped() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.handled("dc", "1", 0)
    assert inbox.admit("dc", "1", "t2") is Treatment.HANDLED


def test_ids_belong_to_their_senders() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.handled("dc", "1", 0)
    assert inbox.admit("agni", "1", "t2") is Treatment.RUN
    assert inbox.admit("dc0", "1", "t3") is Treatment.RUN


def test_all_instances_of_an_agent_have_the_same_ids() -> None:
    inbox = Inbox()
    inbox.admit("dc/7f3a", "1", "t1")
    assert inbox.admit("dc/91bc", "1", "t2") is Treatment.RUNNING
    assert inbox.handled("dc/7f3a", "1", 0) == ["t1", "t2"]
    assert inbox.admit("dc", "1", "t3") is Treatment.HANDLED


def test_each_script_is_not_a_sender_of_its_own() -> None:
    inbox = Inbox(senders=2)
    handle(inbox, "agni", "a")
    for number in range(10):
        handle(inbox, f"dc/{number}", str(number))
    assert inbox.admit("agni", "a", "t") is Treatment.HANDLED
    assert inbox.admit("dc/x", "0", "t") is Treatment.HANDLED


def test_another_message_under_a_known_id_is_neither_dropped_nor_run() -> None:
    inbox = Inbox()
    assert inbox.admit("dc", "1", "t1", 5) is Treatment.RUN
    assert inbox.admit("dc", "1", "t2", 6) is Treatment.FOREIGN
    assert inbox.handled("dc", "1", 0) == ["t1"]
    assert inbox.admit("dc", "1", "t3", 6) is Treatment.FOREIGN
    assert inbox.admit("dc", "1", "t4", 5) is Treatment.HANDLED
    # Of what is not known nobody can say that it is another one.
    assert inbox.admit("dc", "1", "t5") is Treatment.HANDLED


def test_a_failed_one_leaves_no_content_behind() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1", 5)
    inbox.failed("dc", "1")
    assert inbox.admit("dc", "1", "t2", 6) is Treatment.RUN


def test_the_order_of_keys_makes_no_other_content() -> None:
    one = Message(type="STATUS", id="1", to="agni", payload={"a": 1, "b": 2}, timestamp=1)
    other = Message(type="STATUS", id="2", to="agni", payload={"b": 2, "a": 1}, timestamp=2)
    assert content_of(one) == content_of(other)
    assert content_of(one) != content_of(Message(type="STATUS", id="1", to="agni", payload={"a": 1}))


def test_a_repeat_while_it_runs_only_brings_its_token() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    assert inbox.admit("dc", "1", "t2") is Treatment.RUNNING
    assert list(inbox.running()) == [(("dc", "1"), "t2")]
    assert inbox.handled("dc", "1", 0) == ["t1", "t2"]


def test_after_a_failure_a_repeat_runs() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    assert inbox.failed("dc", "1") == ["t1"]
    assert inbox.admit("dc", "1", "t2") is Treatment.RUN


def test_tokens_of_a_lost_session_are_forgotten_and_the_next_delivery_brings_one() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.link_lost()
    assert list(inbox.running()) == []
    assert inbox.admit("dc", "1", "u1") is Treatment.RUNNING
    assert inbox.handled("dc", "1", 0) == ["u1"]


def test_it_is_idle_when_nothing_runs() -> None:
    inbox = Inbox()
    idle = [inbox.is_idle]
    inbox.admit("dc", "1", "t1")
    idle.append(inbox.is_idle)
    inbox.handled("dc", "1", 0)
    idle.append(inbox.is_idle)
    assert idle == [True, False, True]


def handle(inbox: Inbox, sender: str, message_id: str, now_ms: int = 0) -> None:
    inbox.admit(sender, message_id, "t")
    inbox.handled(sender, message_id, now_ms)


def test_one_sender_cannot_make_it_forget_another() -> None:
    inbox = Inbox(ids_per_sender=3)
    handle(inbox, "agni", "a")
    for number in range(10):
        handle(inbox, "dc", str(number))
    assert inbox.admit("agni", "a", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "7", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "6", "t") is Treatment.RUN


def test_the_number_of_senders_is_bounded() -> None:
    inbox = Inbox(senders=2)
    for sender in ("a", "b", "c"):
        handle(inbox, sender, "1")
    assert inbox.admit("a", "1", "t") is Treatment.RUN
    assert inbox.admit("c", "1", "t") is Treatment.HANDLED


def test_old_ids_are_forgotten() -> None:
    inbox = Inbox(age_ms=1000)
    handle(inbox, "dc", "old", now_ms=0)
    handle(inbox, "dc", "new", now_ms=900)
    inbox.forget(1000)
    assert inbox.admit("dc", "old", "t") is Treatment.RUN
    assert inbox.admit("dc", "new", "t") is Treatment.HANDLED
    inbox.forget(5000)
    assert inbox.admit("dc", "new", "t") is Treatment.RUN


def test_the_number_of_ids_is_bounded_at_the_cost_of_who_fills_it() -> None:
    inbox = Inbox(ids=5)
    handle(inbox, "agni", "a")
    for number in range(10):
        handle(inbox, "dc", str(number))
    assert inbox.admit("agni", "a", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "6", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "5", "t") is Treatment.RUN


def test_the_sender_that_was_silent_for_longest_is_forgotten() -> None:
    inbox = Inbox(senders=2)
    for sender, message_id in (("agni", "1"), ("dc", "1"), ("agni", "2"), ("web", "1")):
        handle(inbox, sender, message_id)
    assert inbox.admit("agni", "1", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "1", "t") is Treatment.RUN


# -- on record ---------------------------------------------------------------------------------------------------------


class Paper:
    """A record in memory."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], int] = {}

    def remember(self, sender: str, message_id: str, at_ms: int, content: int | None = None) -> None:
        self.held[(sender, message_id)] = at_ms

    def forget(self, sender: str, message_id: str) -> None:
        del self.held[(sender, message_id)]


def test_the_record_holds_what_the_memory_holds() -> None:
    paper = Paper()
    inbox = Inbox(ids_per_sender=2, senders=2, ids=3, age_ms=1000, file=paper)
    for number in range(3):
        handle(inbox, "dc", str(number), now_ms=number)
    assert list(paper.held) == [("dc", "1"), ("dc", "2")]
    handle(inbox, "agni", "a", now_ms=500)
    handle(inbox, "agni", "b", now_ms=501)
    assert list(paper.held) == [("dc", "2"), ("agni", "a"), ("agni", "b")]
    handle(inbox, "rushabdev", "x", now_ms=1500)
    assert list(paper.held) == [("agni", "a"), ("agni", "b"), ("rushabdev", "x")]
    inbox.forget(1600)
    assert list(paper.held) == [("rushabdev", "x")]


def test_a_next_life_knows_what_is_on_record() -> None:
    paper = Paper()
    inbox = Inbox()
    handle(inbox, "dc", "mine", now_ms=9)
    inbox.restore(paper, [("dc", "1", 5, None)])
    assert inbox.admit("dc", "1", "t") is Treatment.HANDLED
    assert inbox.admit("dc", "mine", "t") is Treatment.HANDLED
    # What was handled before there was a record is on it now.
    assert paper.held == {("dc", "mine"): 9}


def test_an_answered_one_is_on_record_and_waits_for_its_reply() -> None:
    paper = Paper()
    inbox = Inbox(file=paper)
    inbox.admit("dc", "c", "t1")
    inbox.answered("dc", "c", 5)
    assert paper.held == {("dc", "c"): 5}
    assert inbox.admit("dc", "c", "t2") is Treatment.RUNNING
    assert inbox.handled("dc", "c", 9) == ["t1", "t2"]
    assert paper.held == {("dc", "c"): 5}


def test_a_next_life_waits_for_the_reply_as_well() -> None:
    inbox = Inbox()
    inbox.restore(Paper(), [("dc", "c", 5, None)])
    inbox.resume("dc", "c")
    assert inbox.admit("dc", "c", "t") is Treatment.RUNNING
    assert inbox.token("dc", "c") == "t"
    assert inbox.handled("dc", "c", 9) == ["t"]
    assert inbox.admit("dc", "c", "u") is Treatment.HANDLED
