"""A thread is found from any of its messages, and shows nobody what is not theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import MessageUnknown
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
