"""A thread is found from any of its messages, and shows nobody what is not theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import MessageUnknown
from trishula_router.mail import threads
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def thread(rig: Rig, session: int, message_id: str, **options: Any) -> tuple[list[str], int]:
    told = rig.call(session, uris.MAILBOX_THREAD, message_id, options or None)
    return [one["message"]["id"] for one in told["messages"]], told["left_out"]


def say(rig: Rig, sender: int, to: int, agent: str, message_id: str, reply_to: str | None = None) -> None:
    """Send and have it handed over."""
    rig.send(sender, {"id": message_id, "to": agent, "reply_to": reply_to, "payload": message_id})
    rig.advance(1)
    rig.fetch(to)


def test_it_is_found_from_any_of_its_messages(rig: Rig) -> None:
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    say(rig, dc, agni, "agni", "a")
    say(rig, agni, dc, "dc", "b", "a")
    say(rig, dc, agni, "agni", "c", "b")
    say(rig, dc, agni, "agni", "d", "a")
    say(rig, dc, agni, "agni", "other")
    say(rig, agni, boss, "rushabdev", "secret", "c")
    for message_id in "abcd":
        assert thread(rig, dc, message_id) == (["a", "b", "c", "d"], 0)
    assert thread(rig, agni, "d") == (["a", "b", "c", "d", "secret"], 0)
    assert thread(rig, dc, "a", max=2) == (["c", "d"], 2)
    # What was said between others is not shown, and what leads over it is not either.
    assert thread(rig, boss, "secret") == (["secret"], 0)
    with pytest.raises(MessageUnknown, match="there is no message a that rushabdev sent"):
        thread(rig, boss, "a")


def test_what_waits_comes_by_the_mailbox_and_not_by_a_look_at_the_thread(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    say(rig, dc, agni, "agni", "a")
    rig.send(agni, {"id": "b", "to": "dc", "reply_to": "a"})
    assert thread(rig, dc, "a") == (["a"], 0)
    assert thread(rig, agni, "a") == (["a", "b"], 0)
    with pytest.raises(MessageUnknown):
        thread(rig, dc, "b")
    rig.fetch(dc)
    assert thread(rig, dc, "a") == (["a", "b"], 0)


def test_messages_that_answer_each_other_in_a_ring_are_told_once(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    say(rig, dc, agni, "agni", "a", "b")
    say(rig, agni, dc, "dc", "b", "a")
    assert thread(rig, dc, "a") == (["a", "b"], 0)


def test_what_ended_before_it_was_handed_over_is_shown_to_its_sender_alone(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    say(rig, dc, agni, "agni", "a")
    rig.send(dc, {"id": "taken-back", "to": "agni", "reply_to": "a"})
    rig.send(dc, {"id": "too-late", "to": "agni", "reply_to": "a", "ttl_ms": 20_000})
    rig.call(dc, uris.MAILBOX_CANCEL, ["taken-back"])
    rig.advance(60)
    assert thread(rig, dc, "a") == (["a", "taken-back", "too-late"], 0)
    assert thread(rig, agni, "a") == (["a"], 0)
    for message_id in ("taken-back", "too-late"):
        with pytest.raises(MessageUnknown):
            thread(rig, agni, message_id)


def test_bodies_are_read_of_what_a_frame_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore("epoch-1")
    asked: list[int] = []
    bodies = store.bodies
    rig = Rig(tmp_path, store, Clock()).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    for number in range(12):
        rig.send(dc, {"id": f"m{number}", "to": "agni", "reply_to": "m0", "payload": "x" * 400_000})
        rig.fetch(agni)

    def watched(positions: Sequence[int]) -> Any:
        asked.extend(positions)
        return bodies(positions)

    monkeypatch.setattr(store, "bodies", watched)
    assert thread(rig, dc, "m0") == (["m10", "m11"], 10)
    assert len(asked) == 2


def test_a_thread_of_many_is_looked_at_as_far_as_a_question_may(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_PAGE", 2)
    monkeypatch.setattr(threads, "_MOST_FOUND", 5)
    dc, agni, boss = rig.join("dc"), rig.join("agni"), rig.join("rushabdev")
    say(rig, dc, agni, "agni", "a")
    for number in range(8):
        say(rig, dc, agni, "agni", f"m{number}", "a")
    ids, left = thread(rig, dc, "a")
    assert (ids[0], ids[-1], left) == ("a", "m7", 0)
    assert 5 <= len(ids) <= 6
    # What others say under the same id takes no place, as long as they are few enough to be looked at.
    for number in range(6):
        say(rig, agni, boss, "rushabdev", f"x{number}", "a")
    assert thread(rig, dc, "a") == (ids, 0)
    monkeypatch.setattr(threads, "_MOST_LOOKED_AT", 4)
    assert thread(rig, dc, "a") == (["a"], 0)
