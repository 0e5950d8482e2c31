"""What a node records of itself: the figures of its services, and what operators are told of its objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.watching.totals import Totals
from trishula_router.measuring import NodeCounts
from trishula_router.objectives.book import Book, Page, SavedBook
from trishula_router.settings.objectives import ObjectiveOptions
from trishula_router.store.memory import MemoryStore

AGENTS = ("agni", "dc", "rushabdev", "boss")


class Shelf:
    """Keeps pages in memory."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], bytes] = {}
        self.notes: dict[str, str] = {}
        self.closed = 0

    def read(self) -> SavedBook:
        return SavedBook([(*place, text) for place, text in self.rows.items()], self.notes)

    def write(self, page: Page) -> None:
        self.rows |= {(span_ms, at): text for span_ms, at, text in page.rows}
        self.notes = dict(page.notes)

    def set_aside(self, why: str) -> None:
        raise AssertionError(why)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=AGENTS)
    rig.node.book_file = Shelf()
    return rig.start()


def told(rig: Rig, *args: Any) -> dict[str, Any]:
    answer: dict[str, Any] = rig.call(rig.join("boss", operator=True), uris.NODE_OBJECTIVES, *args)
    return answer


def totals_of(rig: Rig, window: str = "1h") -> Totals:
    return Totals.of_map(told(rig)["windows"][window])


def test_messages_are_counted_with_what_became_of_them(rig: Rig) -> None:
    agni, dc = rig.join("agni"), rig.join("dc")
    rig.call(agni, uris.MAILBOX_ATTACH, {})
    sent = [{"type": "STATUS", "id": f"m-{number}", "to": "agni", "payload": 1} for number in range(4)]
    rig.call(dc, uris.MAILBOX_SEND, [*sent, {"type": "STATUS", "id": "x", "to": "nobody", "payload": 1}])
    rig.settle()
    tokens = [delivery["token"] for delivery in rig.outlet.take(agni)]
    assert len(tokens) == 4
    rig.advance(0.03)
    rig.call(agni, uris.MAILBOX_ACK, tokens[:3])
    rig.call(dc, uris.MAILBOX_CANCEL, ["m-3"])
    totals = totals_of(rig)
    assert (totals.accepted, totals.done, totals.cancelled, totals.refused) == (4, 3, 1, 1)
    assert totals.done_ms.count == 3 and totals.delivery_ms.count == 4
    assert totals.done_ms.quantile(0.5) == pytest.approx(30, rel=0.01)
    assert totals.delivery_ms.quantile(1.0) == 0


def test_what_waited_for_an_agent_that_was_away_is_no_delay_of_the_node(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.call(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m", "to": "agni", "payload": 1}])
    rig.advance(30)
    agni = rig.join("agni")
    rig.call(agni, uris.MAILBOX_ATTACH, {})
    rig.advance(1)
    assert len(rig.outlet.take(agni)) == 1
    assert totals_of(rig).delivery_ms.count == 0


def test_agents_that_come_again_are_reconnects_and_scripts_are_not(rig: Rig) -> None:
    for _ in range(3):
        session = rig.join("agni")
        rig.call(session, uris.MAILBOX_ATTACH, {})
        rig.advance(10)
        rig.leave(session)
        script = rig.join("agni")
        rig.call(script, uris.MAILBOX_ATTACH, {"instance": "a1"})
        rig.leave(script)
    totals = totals_of(rig)
    assert totals.reconnects == 2
    assert totals.joins == 7
    assert totals.present_s == pytest.approx(30, abs=2)


def test_a_restart_is_downtime_and_all_else_goes_on(rig: Rig, tmp_path: Path) -> None:
    rig.advance(120)
    rig.stop()
    shelf = rig.node.book_file
    assert isinstance(shelf, Shelf) and shelf.closed == 1
    rig.clock.advance(60)
    again = Rig(tmp_path, rig.store, rig.clock, agents=AGENTS)
    again.node.book_file = shelf
    again.start()
    again.advance(60)
    totals = totals_of(again)
    assert totals.watched_s == pytest.approx(240, abs=0.5)
    assert totals.up_s == pytest.approx(180, abs=0.5)
    assert [end - begin for begin, end in told(again)["outages"]] == [60_000]


def test_after_a_crash_the_last_minute_counts_as_down_too(rig: Rig, tmp_path: Path) -> None:
    rig.advance(90)
    rig.crash()
    again = Rig(tmp_path, rig.store, rig.clock, agents=AGENTS)
    again.node.book_file = rig.node.book_file
    again.start()
    totals = totals_of(again)
    assert (totals.watched_s, totals.up_s) == (90.0, 60.0)


def test_maintenance_is_kept_at_once_and_told(rig: Rig) -> None:
    boss = rig.join("boss", operator=True)
    started = rig.call(boss, uris.ADMIN_MAINTENANCE, "start", {"for_s": 600, "reason": "a new disk"})
    assert started["maintenance"]["by"] == "boss"
    assert isinstance(rig.node.book_file, Shelf) and "a new disk" in rig.node.book_file.notes["maintenance"]
    rig.advance(5)
    ended = rig.call(boss, uris.ADMIN_MAINTENANCE, "end")
    assert ended["maintenance"]["until"] - ended["maintenance"]["begin"] == 5000
    assert rig.call(boss, uris.ADMIN_MAINTENANCE, "end")["maintenance"] is None
    assert [one["reason"] for one in told(rig)["maintenance"]] == ["a new disk"]
    # The node was up meanwhile.
    assert totals_of(rig).planned_s == 0 and totals_of(rig).watched_s == totals_of(rig).up_s


def test_the_series_comes_in_steps(rig: Rig) -> None:
    rig.advance(300)
    now = rig.now()
    answer = told(rig, {"windows": [], "since": now - 600_000, "step_s": 120})
    assert answer["windows"] == {} and not answer["more"]
    assert [bucket["at"] % 120_000 for bucket in answer["series"]] == [0] * len(answer["series"])
    assert sum(bucket["watched_s"] for bucket in answer["series"]) == pytest.approx(300, abs=1)


def test_what_is_missing_for_an_hour_makes_the_triggers_speak(rig: Rig) -> None:
    agni = rig.join("agni")
    rig.call(agni, uris.MAILBOX_ATTACH, {})
    rig.advance(60)
    rig.leave(agni)
    rig.advance(3700)
    assert [one["trigger"] for one in told(rig)["triggers"]] == ["away"]
    rig.call(rig.join("agni"), uris.MAILBOX_ATTACH, {})
    rig.advance(70)
    assert told(rig)["triggers"] == []


def test_an_agent_that_comes_from_a_node_that_is_gone_is_a_failover(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": MemoryStore("epoch-b")}, agents=AGENTS)
    nodes.advance(5)
    agni, rushabdev = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    agni.call(agni.join("dc"), uris.MAILBOX_ATTACH, {})
    nodes.advance(5)
    assert rushabdev.node.neighbourhood.taken_at(Address("dc")) == ("agni", None)
    nodes.down("agni")
    nodes.advance(30)
    _, lost_at = rushabdev.node.neighbourhood.taken_at(Address("dc")) or ("", None)
    assert lost_at is not None
    rushabdev.call(rushabdev.join("dc"), uris.MAILBOX_ATTACH, {})
    expected_ms = rushabdev.now() - lost_at
    nodes.advance(1)
    totals = Totals.of_map(rushabdev.call(rushabdev.join("boss", operator=True), uris.NODE_OBJECTIVES)["windows"]["1h"])
    assert (totals.reconnects, totals.failover_ms.count) == (1, 1)
    assert totals.failover_ms.quantile(1.0) == pytest.approx(expected_ms, rel=0.01)


def test_who_is_at_another_node_is_not_missing(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": MemoryStore("epoch-b")}, agents=AGENTS)
    nodes.advance(5)
    agni, rushabdev = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    session = agni.join("dc")
    agni.call(session, uris.MAILBOX_ATTACH, {})
    nodes.advance(5)
    agni.leave(session)
    nodes.advance(5)
    counted = NodeCounts(agni.node)
    assert list(counted.missing()) == ["dc"]
    rushabdev.call(rushabdev.join("dc"), uris.MAILBOX_ATTACH, {})
    nodes.advance(5)
    assert counted.missing() == {}


def test_nobody_is_missing_who_could_not_reach_a_node_that_was_down(rig: Rig, tmp_path: Path) -> None:
    rig.call(rig.join("agni"), uris.MAILBOX_ATTACH, {})
    rig.advance(60)
    rig.stop()
    rig.clock.advance(3 * 3600)
    again = Rig(tmp_path, rig.store, rig.clock, agents=AGENTS)
    again.node.book_file = rig.node.book_file
    again.start()
    again.advance(3000)
    # But that the node was down is known soon.
    assert [one["trigger"] for one in told(again)["triggers"]] == ["uptime"]
    again.advance(700)
    assert [one["trigger"] for one in told(again)["triggers"]] == ["uptime", "away"]


def test_a_linked_node_that_was_down_is_no_reason_for_a_fallback(tmp_path: Path) -> None:
    shelf, store, clock = Shelf(), MemoryStore("epoch-1"), Clock()
    for down_s in (3 * 3600.0, 0.0):
        rig = Rig(tmp_path, store, clock, agents=AGENTS, peers=("rushabdev",))
        rig.node.book_file = shelf
        rig.start()
        rig.advance(10)
        assert told(rig)["triggers"] == []
        rig.stop()
        clock.advance(down_s)
    assert sum(end - begin for begin, end in Book(ObjectiveOptions(), shelf.read()).uptime.outages) == 3 * 3_600_000
