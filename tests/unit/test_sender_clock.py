"""Instants of senders whose clocks are off: deadlines, and until when an agent is busy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula_router.store.memory import MemoryStore

HOUR_MS = 3_600_000
AHEADS_MS = [-3 * HOUR_MS, -60_000, 60_000, 3 * HOUR_MS]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def send(rig: Rig, session: int, *messages: dict[str, Any], **options: Any) -> None:
    receipts = rig.send(session, *({"to": "agni", **one} for one in messages), **options)
    assert {one["status"] for one in receipts} == {"accepted"}


def left_ms(rig: Rig, message_id: str) -> int:
    """How long it lives."""
    (message,) = result_of(rig.store.with_ids([message_id]))
    return message.expires_at - rig.now()


def beat(rig: Rig, session: int, ahead_ms: int, **more: Any) -> None:
    rig.call(session, uris.DIRECTORY_BEAT, {"sent_at": rig.now() + ahead_ms, **more})


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_a_deadline_is_by_the_clock_that_the_sender_tells_with_it(rig: Rig, ahead_ms: int) -> None:
    there = rig.now() + ahead_ms
    send(rig, rig.join("dc"), {"id": "m1", "deadline_at": there + 30_000}, sent_at=there)
    assert left_ms(rig, "m1") == 30_000
    # Whoever gets it is told the deadline by the node's clock, as all instants that the node writes are.
    (delivery,) = rig.fetch(rig.join("agni"))["deliveries"]
    assert delivery["message"]["deadline_at"] == rig.now() + 30_000


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_a_deadline_is_corrected_by_what_beats_have_shown(rig: Rig, ahead_ms: int) -> None:
    dc = rig.join("dc")
    beat(rig, dc, ahead_ms)
    # Written an hour ago, and in an outbox since then.
    written_at = rig.now() + ahead_ms - HOUR_MS
    send(rig, dc, {"id": "m1", "deadline_at": rig.now() + ahead_ms + 30_000, "timestamp": written_at})
    assert left_ms(rig, "m1") == 30_000


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_a_script_has_a_clock_of_its_own(rig: Rig, ahead_ms: int) -> None:
    agent, script = rig.join("dc"), rig.join("dc")
    beat(rig, agent, 0)
    rig.attach(script, instance="s1")
    beat(rig, script, ahead_ms)
    for session, name, expected_ms in ((agent, "dc", 30_000), (script, "dc/s1", 30_000 - ahead_ms)):
        deadline_at = rig.now() + 30_000
        if expected_ms > 0:
            send(rig, session, {"id": f"m.{session}", "from": name, "deadline_at": deadline_at})
            assert left_ms(rig, f"m.{session}") == expected_ms


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_of_a_clock_that_nobody_measured_the_messages_own_time_is_a_bound(rig: Rig, ahead_ms: int) -> None:
    there = rig.now() + ahead_ms
    send(
        rig,
        rig.join("dc"),
        {"id": "m1", "deadline_at": there + 30_000, "timestamp": there - 5000},
        # The newest of the call says most.
        {"id": "m2", "timestamp": there},
    )
    assert left_ms(rig, "m1") == 30_000


def test_without_any_time_a_deadline_is_believed(rig: Rig) -> None:
    send(rig, rig.join("dc"), {"id": "m1", "deadline_at": rig.now() + 30_000})
    assert left_ms(rig, "m1") == 30_000


def test_a_clock_that_agrees_changes_nothing(rig: Rig) -> None:
    send(rig, rig.join("dc"), {"id": "m1", "deadline_at": rig.now() + 30_000}, sent_at=rig.now() - 900)
    (delivery,) = rig.fetch(rig.join("agni"))["deliveries"]
    assert delivery["message"]["deadline_at"] == rig.now() + 30_000


def test_a_time_to_live_that_ends_before_counts(rig: Rig) -> None:
    there = rig.now() - HOUR_MS
    send(rig, rig.join("dc"), {"id": "m1", "deadline_at": there + 30_000, "ttl_ms": 10_000}, sent_at=there)
    assert left_ms(rig, "m1") == 10_000
    rig.advance(25.0)
    assert rig.states(rig.join("dc"), "m1") == {"m1": "expired"}


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_an_agent_is_busy_for_as_long_as_it_means(rig: Rig, ahead_ms: int) -> None:
    agni = rig.join("agni")
    rig.attach(agni)
    beat(rig, agni, ahead_ms, busy_until=rig.now() + ahead_ms + 60_000)
    entry = rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")
    assert (entry["presence"], entry["busy_until"]) == ("busy", rig.now() + 60_000)
    rig.advance(61.0)
    assert rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")["presence"] != "busy"
