"""Linked nodes whose clocks differ: times to live are spans, and each understands the instants that the others tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.nodes import START_MS, Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.runtime.clock import SteadyClock
from trishula_router.clocks.timeline import Timeline
from trishula_router.peers.journal_exchange import HELLO, JOURNAL, PRESENCE
from trishula_router.store.memory import MemoryStore

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
AHEADS_MS = [-MINUTE_MS, MINUTE_MS, -3 * HOUR_MS, 3 * HOUR_MS]


def linked(directory: Path, *names: str, **aheads_ms: int) -> Nodes:
    stores = {name: MemoryStore(f"epoch-{name}", name) for name in names or ("agni", "rushabdev")}
    nodes = Nodes(directory, dict(stores), aheads_ms=aheads_ms)
    nodes.advance(1.0)
    return nodes


def send(nodes: Nodes, rig: Rig, session: int, **message: Any) -> dict[str, Any]:
    answer = rig.begin(session, uris.MAILBOX_SEND, [{"type": "STATUS", "to": "agni", **message}])
    nodes.settle()
    (receipt,) = result_of(answer)
    return dict(receipt)


def state_of(rig: Rig, session: int, message_id: str) -> str:
    return rig.states(session, message_id)[message_id]


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_a_time_to_live_is_as_long_at_both(tmp_path: Path, ahead_ms: int) -> None:
    nodes = linked(tmp_path, rushabdev=ahead_ms)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc = there.join("dc")
    for number, ttl_s in enumerate((30, 50)):
        assert send(nodes, there, dc, id=f"m{number}", ttl_ms=ttl_s * 1000)["copies"] == 2
    nodes.advance(40.0)
    assert (state_of(there, dc, "m0"), state_of(there, dc, "m1")) == ("expired", "accepted")
    # An agent at the other node, whose clock says another time, gets what is left, and that alone.
    agni = here.join("agni")
    here.attach(agni)
    assert here.ids(agni) == ["m1"]


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_what_nobody_takes_expires_at_its_time_also_where_it_was_copied(tmp_path: Path, ahead_ms: int) -> None:
    nodes = linked(tmp_path, rushabdev=ahead_ms)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc, dc_here = there.join("dc"), here.join("dc")
    send(nodes, there, dc, id="m1", ttl_ms=30_000)
    nodes.down("rushabdev")
    nodes.advance(25.0)
    assert state_of(here, dc_here, "m1") == "accepted"
    # Of what the other node accepted it leaves that node the first word for half a minute.
    nodes.advance(50.0)
    assert state_of(here, dc_here, "m1") == "expired"


def test_a_node_that_was_away_gets_what_is_left_of_old_messages(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=-3 * HOUR_MS)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc = here.join("dc")
    nodes.cut()
    nodes.advance(5.0)
    send(nodes, here, dc, id="m1", ttl_ms=600_000)
    send(nodes, here, dc, id="m2", ttl_ms=120_000)
    nodes.advance(100.0)
    nodes.heal()
    nodes.advance(5.0)
    agni = there.join("agni")
    assert [one["message"]["id"] for one in there.fetch(agni, max=10)["deliveries"]] == ["m1", "m2"]


def test_what_a_third_node_passes_on_has_its_time(tmp_path: Path) -> None:
    nodes = linked(tmp_path, "agni", "rushabdev", "laptop", agni=-3 * HOUR_MS, laptop=3 * HOUR_MS)
    dc = nodes.rigs["agni"].join("dc")
    nodes.lets_through = lambda sender, to, kind: {sender, to} != {"agni", "laptop"}
    send(nodes, nodes.rigs["agni"], dc, id="m1", ttl_ms=600_000)
    nodes.advance(10.0)
    laptop = nodes.rigs["laptop"]
    agni = laptop.join("agni")
    laptop.attach(agni)
    assert laptop.ids(agni) == ["m1"]
    message = result_of(nodes.stores["laptop"].with_ids(["m1"]))[0]
    left_ms = message.expires_at - laptop.now()
    assert 585_000 <= left_ms <= 600_000


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_a_dead_letter_that_is_replayed_elsewhere_has_its_time(tmp_path: Path, ahead_ms: int) -> None:
    nodes = linked(tmp_path, rushabdev=ahead_ms)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni)
    send(nodes, here, dc, id="m1", ttl_ms=600_000)
    (delivery,) = there.pushed(agni)
    there.nack(agni, delivery["token"], requeue=False)
    there.leave(agni)
    nodes.settle()
    nodes.advance(1000.0)
    boss = there.join("dc", operator=True)
    (letter,) = there.call(boss, uris.ADMIN_DEAD_LIST, {})["letters"]
    assert there.call(boss, uris.ADMIN_DEAD_REPLAY, [letter["seq"]]) == [True]
    nodes.settle()
    for rig in (here, there):
        (message,) = result_of(rig.store.with_ids(["m1"]))
        assert message.state_word == "delivered"
        assert abs(message.expires_at - rig.now() - 600_000) < 1000


def test_news_of_an_end_elsewhere_has_this_nodes_time(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=3 * HOUR_MS)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni)
    send(nodes, here, dc, id="m1")
    (delivery,) = there.pushed(agni)
    here.outlet.news.clear()
    there.ack(agni, delivery["token"])
    nodes.settle()
    (done,) = [one for one in here.outlet.news if one.state == "done"]
    assert abs(done.at - here.now()) < 1000


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_the_difference_is_measured_and_told(tmp_path: Path, ahead_ms: int) -> None:
    nodes = linked(tmp_path, rushabdev=ahead_ms)
    nodes.advance(3.0)
    for name, expected_ms in (("agni", ahead_ms), ("rushabdev", -ahead_ms)):
        rig = nodes.rigs[name]
        (peer,) = rig.call(rig.join("dc"), uris.NODE_STATUS)["peers"]
        assert peer["clock_ahead_ms"] == expected_ms
        said = "is 60.0 s" if abs(ahead_ms) == MINUTE_MS else "is 3.0 h"
        assert f"{said} {'ahead of' if expected_ms > 0 else 'behind'} this node's" in peer["warning"]


def test_clocks_that_agree_are_no_warning(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=300)
    nodes.advance(3.0)
    rig = nodes.rigs["agni"]
    (peer,) = rig.call(rig.join("dc"), uris.NODE_STATUS)["peers"]
    assert (peer["clock_ahead_ms"], peer["warning"]) == (300, None)


def test_a_clock_that_is_set_right_is_noticed_at_once(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=3 * HOUR_MS)
    nodes.advance(10.0)
    nodes.rigs["rushabdev"].ahead_ms = 0
    nodes.advance(2.0)
    assert nodes.rigs["agni"].node.peering.clocks.ahead_ms("rushabdev") == 0
    (peer,) = nodes.rigs["agni"].node.peering.told()
    assert peer["warning"] is None


@pytest.mark.parametrize("ahead_ms", AHEADS_MS)
def test_the_life_of_a_message_has_sane_spans(tmp_path: Path, ahead_ms: int) -> None:
    nodes = linked(tmp_path, rushabdev=ahead_ms)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni)
    send(nodes, here, dc, id="m1")
    (delivery,) = there.pushed(agni)
    nodes.advance(5.0)
    there.ack(agni, delivery["token"])
    nodes.settle()
    for rig, session in ((here, dc), (there, agni)):
        (life,) = rig.call(session, uris.AUDIT_WHY, "m1")["messages"]
        assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "done"]
        spans_ms = [event["at"] - event.get("clock_ahead_ms", 0) - life["accepted_at"] for event in life["events"]]
        assert spans_ms == [0, 0, 5000]
        assert life["settled_at"] - life["accepted_at"] == 5000
        assert abs(life["settled_at"] - rig.now()) < 1000


def test_records_of_all_nodes_are_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=3 * HOUR_MS)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    dc, dc_there = here.join("dc"), there.join("dc")
    for number, (rig, session) in enumerate([(here, dc), (there, dc_there), (here, dc), (there, dc_there)]):
        send(nodes, rig, session, id=f"m{number}")
        nodes.advance(2.0)
    boss = here.join("agni", operator=True)
    told = here.call(boss, uris.AUDIT_QUERY, {"node": "*", "kind": "accepted"})["records"]
    assert [one["id"] for one in told] == ["m0", "m1", "m2", "m3"]


def test_the_directory_tells_instants_by_its_own_clock(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=-3 * HOUR_MS)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    agni = here.join("agni")
    here.attach(agni)
    here.leave(agni)
    nodes.advance(10.0)
    agni = there.join("agni")
    there.attach(agni)
    there.leave(agni)
    nodes.advance(5.0)
    # It was there last, 5 s ago, though that node's clock says that it was hours before it was here.
    for rig in (here, there):
        entry = rig.call(rig.join("dc"), uris.DIRECTORY_GET, "agni")
        assert (entry["presence"], rig.now() - entry["last_seen_at"]) == ("offline", 5000)


# -- one release apart -------------------------------------------------------------------------------------------------


class OldHello(msgspec.Struct):
    """What a node of 2.0.0a1 reads and says."""

    node: str
    epoch: str
    held: dict[str, int]
    missed: bool = False


class OldParticulars(msgspec.Struct, frozen=True, array_like=True):
    expires_at: int
    by_deadline: bool
    body: int
    state: int = 0
    life: int = 0
    hop: int = 0
    keeper: str = ""


class OldExtract(msgspec.Struct, frozen=True):
    epoch: str
    first: int
    previous: bytes
    records: list[tuple[int, str, bytes, bytes]]
    messages: dict[int, OldParticulars]
    bodies: dict[int, bytes]
    revived: dict[int, bytes]
    origins: dict[int, tuple[str, str]]


class OldJournal(msgspec.Struct):
    node: str
    writer: str
    extract: OldExtract


class OldPresence(msgspec.Struct, frozen=True):
    node: str
    agents: list[dict[str, Any]]
    claims: dict[str, int]
    instances: list[str]
    capabilities: list[str] = []


OLD: dict[str, type[msgspec.Struct]] = {HELLO: OldHello, JOURNAL: OldJournal, PRESENCE: OldPresence}


def test_nodes_of_the_version_before_are_understood_and_understand(tmp_path: Path) -> None:
    nodes = linked(tmp_path, rushabdev=0)
    here, there = nodes.rigs["agni"], nodes.rigs["rushabdev"]
    through = nodes.rigs["rushabdev"].node.listener.hear
    back = nodes.rigs["agni"].node.listener.hear

    def as_old(hear: Any) -> Any:
        # What an old node understands of a text is what it would say: both ends are old to each other.
        return lambda kind, text, peer: hear(
            kind, msgspec.msgpack.encode(msgspec.msgpack.decode(text, type=OLD[kind])), peer
        )

    there.node.listener.hear, here.node.listener.hear = as_old(through), as_old(back)  # type: ignore[method-assign]
    nodes.advance(3.0)
    dc, agni = here.join("dc"), there.join("agni")
    there.attach(agni)
    assert send(nodes, here, dc, id="m1", ttl_ms=600_000)["copies"] == 2
    (delivery,) = there.pushed(agni)
    there.nack(agni, delivery["token"], requeue=False)
    nodes.settle()
    boss = there.join("dc", operator=True)
    (letter,) = there.call(boss, uris.ADMIN_DEAD_LIST, {})["letters"]
    assert there.call(boss, uris.ADMIN_DEAD_REPLAY, [letter["seq"]]) == [True]
    nodes.settle()
    assert state_of(here, dc, "m1") == state_of(there, boss, "m1") == "delivered"


# -- a node whose clock is set -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_ms", [3 * HOUR_MS, -3 * HOUR_MS])
def test_a_node_that_believes_a_step_and_its_peer_go_on_with_the_same_spans(tmp_path: Path, step_ms: int) -> None:
    nodes = linked(tmp_path)
    here = nodes.rigs["agni"]
    result_of(Deferred.fromCoroutine(nodes.rigs["rushabdev"].node.stop()))
    set_by_ms = 0
    timeline = Timeline(
        SteadyClock(
            lambda: START_MS + nodes.clock.seconds() * 1000 + set_by_ms,
            lambda: nodes.clock.seconds() * 1000,
            lambda gap_ms: None,
        ),
        "boot",
    )
    there = nodes.boot("rushabdev", timeline)
    nodes.advance(2.0)
    dc, dc_there = here.join("dc"), there.join("dc")
    send(nodes, here, dc, id="from.here", ttl_ms=300_000)
    send(nodes, there, dc_there, id="from.there", ttl_ms=300_000)
    set_by_ms = step_ms
    nodes.advance(100.0)
    assert abs(there.node.now() - here.now() - step_ms) < 1000
    send(nodes, there, dc_there, id="later", ttl_ms=300_000)
    for rig, session in ((here, dc), (there, dc_there)):
        assert rig.states(session, "from.here", "from.there") == {"from.here": "accepted", "from.there": "accepted"}
        (peer,) = rig.call(session, uris.NODE_STATUS)["peers"]
        assert abs(abs(peer["clock_ahead_ms"]) - abs(step_ms)) < 1000
        for name, left_ms in (("from.here", 200_000), ("from.there", 200_000), ("later", 300_000)):
            (message,) = result_of(rig.store.with_ids([name]))
            assert message.expires_at - rig.node.now() == pytest.approx(left_ms, abs=1000)
    nodes.advance(235.0)
    for rig, session in ((here, dc), (there, dc_there)):
        ends = {"from.here": "expired", "from.there": "expired", "later": "accepted"}
        assert rig.states(session, *ends) == ends
