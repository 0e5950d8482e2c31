"""The inbox: which deliveries run, which are acknowledged, and how its memory is bounded."""

from __future__ import annotations

from trishula.inbox import Inbox, Verdict


def test_a_new_message_runs_and_its_token_is_acknowledged() -> None:
    inbox = Inbox()
    assert inbox.admit("dc", "1", "t1") is Verdict.RUN
    assert inbox.handled("dc", "1", 0) == ["t1"]


def test_a_repeat_of_a_handled_one_is_dropped() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.handled("dc", "1", 0)
    assert inbox.admit("dc", "1", "t2") is Verdict.HANDLED


def test_ids_belong_to_their_senders() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.handled("dc", "1", 0)
    assert inbox.admit("agni", "1", "t2") is Verdict.RUN
    assert inbox.admit("dc/7f3a", "1", "t3") is Verdict.RUN


def test_a_repeat_while_it_runs_only_brings_its_token() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    assert inbox.admit("dc", "1", "t2") is Verdict.RUNNING
    assert list(inbox.running()) == [(("dc", "1"), "t2")]
    assert inbox.handled("dc", "1", 0) == ["t1", "t2"]


def test_after_a_failure_a_repeat_runs() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    assert inbox.failed("dc", "1") == ["t1"]
    assert inbox.admit("dc", "1", "t2") is Verdict.RUN


def test_tokens_of_a_lost_session_are_forgotten_and_the_next_delivery_brings_one() -> None:
    inbox = Inbox()
    inbox.admit("dc", "1", "t1")
    inbox.link_lost()
    assert list(inbox.running()) == []
    assert inbox.admit("dc", "1", "u1") is Verdict.RUNNING
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
    assert inbox.admit("agni", "a", "t") is Verdict.HANDLED
    assert inbox.admit("dc", "7", "t") is Verdict.HANDLED
    assert inbox.admit("dc", "6", "t") is Verdict.RUN


def test_the_number_of_senders_is_bounded() -> None:
    inbox = Inbox(senders=2)
    for sender in ("a", "b", "c"):
        handle(inbox, sender, "1")
    assert inbox.admit("a", "1", "t") is Verdict.RUN
    assert inbox.admit("c", "1", "t") is Verdict.HANDLED


def test_old_ids_are_forgotten() -> None:
    inbox = Inbox(age_ms=1000)
    handle(inbox, "dc", "old", now_ms=0)
    handle(inbox, "dc", "new", now_ms=900)
    inbox.forget(1000)
    assert inbox.admit("dc", "old", "t") is Verdict.RUN
    assert inbox.admit("dc", "new", "t") is Verdict.HANDLED
    inbox.forget(5000)
    assert inbox.admit("dc", "new", "t") is Verdict.RUN
