"""A node looks after its own checks: canaries fly and leave no trace, and what fails is told, and forgotten again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.conftest import LoggedErrors
from tests.support.nodes import Rig
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import NodeFailed, StorageFailed
from trishula_router.health.canary import PERIOD_S
from trishula_router.health.readiness import Readiness
from trishula_router.store.interface import Condition
from trishula_router.store.memory import MemoryStore


class Way:
    """The router's part: gives back what it is handed, unless a test says otherwise."""

    def __init__(self) -> None:
        self.handed: list[Any] = []
        self.answers: list[Deferred[Any]] = []

    def __call__(self, told: Any) -> Deferred[Any]:
        self.handed.append(told)
        return self.answers.pop(0) if self.answers else succeed(told)


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def readiness(rig: Rig, way: Way) -> Readiness:
    readiness = Readiness(rig.node, way)
    readiness.begin()
    rig.settle()
    # Behind what is kept for a second.
    rig.advance(1.5)
    return readiness


def against(readiness: Readiness) -> dict[str, str]:
    """Name → reason of the checks that are not ok."""
    return {one["check"]: one["reason"] for one in readiness.told()["checks"] if not one["ok"]}


def test_a_node_that_is_well_is_ready_and_operators_are_told(rig: Rig, readiness: Readiness) -> None:
    told = rig.call(rig.join("dc", operator=True), uris.NODE_READY)
    assert told == readiness.told()
    assert (told["ready"], told["node"]) == (True, "single")
    names = ["running", "store", "disk", "peers", "clock", "loop", "canary"]
    assert [one["check"] for one in told["checks"]] == names


def test_canaries_fly_again_and_again(rig: Rig, readiness: Readiness, way: Way) -> None:
    rig.advance(3 * PERIOD_S)
    assert len(way.handed) == 4
    assert way.handed[-1][0]["message"]["id"] == "canary-4"


def test_a_canary_leaves_no_trace(rig: Rig, store: HeldStore, readiness: Readiness, way: Way) -> None:
    before = result_of(store.inner.records(after=0, limit=1000))
    agents = rig.call(rig.join("dc"), uris.DIRECTORY_LIST)
    rig.outlet.news.clear()
    rig.advance(4 * PERIOD_S)
    after = [record.kind for record in result_of(store.inner.records(after=0, limit=1000))]
    assert after == [*(record.kind for record in before), "joined"]
    assert rig.node.mailroom.totals() == (0, 0)
    assert result_of(store.inner.open_mailboxes()) == {}
    assert [one["agent"] for one in agents] == ["agni", "dc", "rushabdev"]
    assert rig.outlet.news == []
    assert result_of(store.inner.remembered("proof")) == {"proof": f"canary-{len(way.handed)}"}


def test_a_canary_leaves_no_timer_behind(rig: Rig, readiness: Readiness) -> None:
    # What a node does once, soon after its start, is over.
    rig.advance(20 * PERIOD_S)
    before = len(rig.clock.getDelayedCalls())
    rig.advance(20 * PERIOD_S)
    assert len(rig.clock.getDelayedCalls()) == before


def test_before_the_first_canary_a_node_is_not_ready(rig: Rig, way: Way) -> None:
    way.answers.append(Deferred())
    readiness = Readiness(rig.node, way)
    readiness.begin()
    rig.settle()
    assert list(against(readiness)) == ["canary"]


def test_a_store_that_fails_is_told_and_so_is_that_it_works_again(
    rig: Rig, store: HeldStore, readiness: Readiness
) -> None:
    store.fail_next("prove", StorageFailed("the disk is away"))
    rig.advance(PERIOD_S)
    found = against(readiness)
    assert "can't be written: the disk is away" in found["store"]
    assert "did not come through: the disk is away" in found["canary"]
    assert [one["check"] for one in readiness.told()["checks"] if one.get("refused")] == ["canary"]
    rig.advance(5)
    assert against(readiness) == {}


def test_a_disk_that_hangs_is_told_while_it_hangs(rig: Rig, store: HeldStore, readiness: Readiness) -> None:
    rig.advance(PERIOD_S - 3)
    store.holding = True
    rig.advance(9)
    assert "has not answered a write for" in against(readiness)["store"]
    assert "has been under way for" in against(readiness)["canary"]
    store.holding = False
    store.let_all()
    rig.advance(3)
    assert against(readiness) == {}


def test_a_router_that_loses_calls_is_told(rig: Rig, readiness: Readiness, way: Way) -> None:
    lost: Deferred[Any] = Deferred()
    way.answers.append(lost)
    rig.advance(PERIOD_S + 7)
    assert list(against(readiness)) == ["canary"]
    lost.errback(NodeFailed("the router gave no answer"))
    rig.advance(1)
    assert "the router gave no answer" in against(readiness)["canary"]
    rig.advance(4)
    assert against(readiness) == {}


def test_a_router_that_changes_a_message_is_told(rig: Rig, readiness: Readiness, way: Way) -> None:
    way.answers.append(succeed([{"message": {"payload": {"number": 0}}, "token": "t", "attempt": 1}]))
    rig.advance(PERIOD_S)
    assert "what was delivered is not what was sent" in against(readiness)["canary"]


def test_a_bug_in_the_way_is_logged_once_and_told(
    rig: Rig, readiness: Readiness, way: Way, logged_errors: LoggedErrors
) -> None:
    way.answers += [fail(ZeroDivisionError("a bug")) for _ in range(3)]
    rig.advance(PERIOD_S + 3)
    assert "the node's code failed at it" in against(readiness)["canary"]
    rig.advance(5)
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert against(readiness) == {}


def test_a_loop_that_stood_still(rig: Rig, readiness: Readiness) -> None:
    rig.clock.advance(4)
    rig.advance(1)
    assert "stood still for 3." in against(readiness)["loop"]
    rig.advance(15)
    assert against(readiness) == {}


def test_a_node_that_stops_is_not_ready_from_that_moment_on(rig: Rig, readiness: Readiness) -> None:
    assert readiness.told()["ready"]
    rig.stop()
    assert "is stopping" in against(readiness)["running"]


def test_a_node_that_waits_for_its_peers_news_is_not_ready(tmp_path: Path, store: HeldStore, way: Way) -> None:
    rig = Rig(tmp_path, store, Clock(), peers=("rushabdev",)).start()
    readiness = Readiness(rig.node, way)
    readiness.begin()
    rig.settle()
    assert "waits for its peers' news" in against(readiness)["running"]
    rig.advance(3)
    assert against(readiness) == {}
    (peers,) = [one for one in readiness.told()["checks"] if one["check"] == "peers"]
    assert peers["degraded"] and "rushabdev has not been heard since this node's start" in peers["reason"]


def test_however_many_ask_it_is_found_out_once_a_second(
    rig: Rig, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    condition = rig.node.store.condition

    def look() -> Condition:
        looked.append(rig.clock.seconds())
        return condition()

    monkeypatch.setattr(rig.node.store, "condition", look)
    for _ in range(100):
        readiness.told()
    rig.clock.advance(1)
    readiness.told()
    # Each time for the checks, and once more for the forecast.
    assert 2 <= len(looked) <= 3


def lacking(records: int) -> list[dict[str, Any]]:
    """What is told of one peer, of which so many records are not here."""
    good = {"state": "up", "heard_s_ago": 0.4, "lag_records": 0, "lag_s": None, "fault": None, "warning": None}
    return [{"node": "rushabdev", **good, "clock_ahead_ms": 0, "to_copy_records": records}]


def test_what_a_node_lacks_is_timed_also_while_nobody_asks(
    rig: Rig, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.node.peering, "told", lambda: lacking(5000))
    rig.advance(60)
    assert "5000 records of rushabdev have been missing here for" in against(readiness)["peers"]


def test_two_bursts_that_two_probes_happen_to_meet_are_not_one_that_lasted(
    rig: Rig, readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for records in (5000, 3, 5000):
        monkeypatch.setattr(rig.node.peering, "told", lambda records=records: lacking(records))
        rig.advance(1.5 if records > 1000 else 60)
        if records > 1000:
            assert against(readiness) == {}


def test_a_node_that_is_never_started_serves_its_sessions_all_the_same(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock())
    dc = rig.join("dc")
    # What a start alone would do is missing where nobody starts it: for the node's message to itself, say.
    rig.attach(dc)
    assert [
        receipt["status"]
        for receipt in rig.call(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "a", "to": "agni"}], None)
    ] == ["accepted"]
    rig.leave(dc)
    assert rig.node.consumers.all() == []
