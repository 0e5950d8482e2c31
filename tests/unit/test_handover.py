"""Handing messages to a capability over to another node, while the store takes its time. Two nodes on a Clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import StorageFailed, StorageFull
from trishula_router.mail.delivery_token import token_of
from trishula_router.mail.handover import RETRY_MS
from trishula_router.store.interface import Store
from trishula_router.store.memory import MemoryStore

DEPLOY = {"type": "STATUS", "to": "capability:deploy"}


@pytest.fixture
def slow() -> HeldStore:
    """The store of the node that hands over."""
    return HeldStore(MemoryStore("epoch-agni", "agni"))


@pytest.fixture
def two(tmp_path: Path, slow: HeldStore) -> Nodes:
    stores: dict[str, Store] = {"agni": slow, "rushabdev": MemoryStore("epoch-rushabdev", "rushabdev")}
    nodes = Nodes(tmp_path, stores)
    nodes.advance(1.0)
    return nodes


@pytest.fixture
def dc(two: Nodes) -> int:
    return two.rigs["agni"].join("dc")


def attach_able(two: Nodes, at: str, agent: str) -> int:
    session = two.rigs[at].join(agent)
    two.rigs[at].attach(session, capabilities=["deploy"])
    return session


def begin(two: Nodes, slow: HeldStore, dc: int) -> int:
    """m1 is being handed over: the store has not answered yet; the session of who can take it."""
    two.rigs["agni"].begin(dc, uris.MAILBOX_SEND, [{"id": "m1", **DEPLOY}])
    session = attach_able(two, "rushabdev", "rushabdev")
    slow.holding = True
    two.advance(0.5)
    assert "hand_over" in slow.waiting
    return session


def let_all(two: Nodes, slow: HeldStore) -> None:
    slow.holding = False
    slow.let_all()
    two.advance(0.5)


def nothing_is_left(two: Nodes) -> bool:
    return all(rig.node.mailroom.totals() == (0, 0) and not rig.node.mailroom.leases for rig in two.rigs.values())


def test_what_is_being_handed_over_is_delivered_by_nobody(two: Nodes, slow: HeldStore, dc: int) -> None:
    there = begin(two, slow, dc)
    agni = attach_able(two, "agni", "agni")
    two.advance(1.0)
    assert (two.rigs["agni"].ids(agni), two.rigs["rushabdev"].ids(there)) == ([], [])
    let_all(two, slow)
    assert (two.rigs["agni"].ids(agni), two.rigs["rushabdev"].ids(there)) == ([], ["m1"])


def test_a_cancel_waits_for_it(two: Nodes, slow: HeldStore, dc: int) -> None:
    begin(two, slow, dc)
    answer = two.rigs["agni"].begin(dc, uris.MAILBOX_CANCEL, ["m1"])
    let_all(two, slow)
    assert result_of(answer) == [True]
    assert two.rigs["agni"].states(dc, "m1") == {"m1": "cancelled"}
    two.advance(1.0)
    assert nothing_is_left(two)


def test_its_time_is_over_meanwhile(two: Nodes, slow: HeldStore, dc: int) -> None:
    two.rigs["agni"].send(dc, {"id": "m1", "ttl_ms": 3000, **DEPLOY}, copies=1)
    attach_able(two, "rushabdev", "rushabdev")
    slow.holding = True
    two.advance(12.0)
    let_all(two, slow)
    two.advance(12.0)
    assert two.rigs["agni"].states(dc, "m1") == {"m1": "expired"}
    assert nothing_is_left(two)


@pytest.mark.parametrize("first", ["hand_over", "copy"])
def test_it_was_settled_at_the_other_node_meanwhile(two: Nodes, slow: HeldStore, dc: int, first: str) -> None:
    agni = attach_able(two, "agni", "agni")
    two.rigs["agni"].send(dc, {"id": "m1", **DEPLOY}, copies=1)
    (delivery,) = two.rigs["agni"].pushed(agni)
    there = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    (stored,) = result_of(two.stores["rushabdev"].with_ids(["m1"]))
    token = token_of(stored.position, delivery["attempt"], two.stores["rushabdev"].epoch)
    # Its holder leaves, so that it is handed over, and says at the other node that it is done.
    slow.holding = True
    if first == "hand_over":
        two.rigs["agni"].leave(agni)
        two.advance(0.5)
    assert two.rigs["rushabdev"].ack(two.rigs["rushabdev"].join("agni"), token) == [True]
    two.advance(0.5)
    if first == "copy":
        two.rigs["agni"].leave(agni)
        two.advance(0.5)
    order = [verb for verb in dict.fromkeys(slow.waiting) if verb in ("hand_over", "copy")]
    assert (order[0], len(order)) == (first, 2)
    let_all(two, slow)
    two.advance(1.0)
    assert two.rigs["agni"].states(dc, "m1") == {"m1": "done"}
    assert two.rigs["rushabdev"].ids(there) == []
    assert nothing_is_left(two)


@pytest.mark.parametrize("error", [StorageFull("full"), StorageFailed("it failed")])
def test_a_store_that_refuses_it_is_asked_again_after_a_while(
    two: Nodes, slow: HeldStore, dc: int, error: Exception
) -> None:
    slow.fail_next("hand_over", error)
    two.rigs["agni"].send(dc, {"id": "m1", **DEPLOY}, copies=1)
    there = attach_able(two, "rushabdev", "rushabdev")
    two.advance(1.0)
    assert two.rigs["rushabdev"].ids(there) == []
    assert two.rigs["agni"].node.mailroom.totals() == (1, 0)
    two.advance(RETRY_MS / 1000)
    assert two.rigs["rushabdev"].ids(there) == ["m1"]


def test_many_are_handed_over_in_few_records(two: Nodes, slow: HeldStore, dc: int) -> None:
    batch: list[dict[str, Any]] = [{"id": f"m{number}", **DEPLOY} for number in range(1000)]
    for _ in range(3):
        two.rigs["agni"].begin(dc, uris.MAILBOX_SEND, batch)
        batch = [{**one, "id": one["id"] + "x"} for one in batch]
    two.settle()
    attach_able(two, "rushabdev", "rushabdev")
    two.advance(5.0)
    records = result_of(slow.records(after=0, limit=10_000, kind="handed"))
    assert len(records) <= 16
    assert two.rigs["rushabdev"].node.mailroom.counts("capability:deploy") == (3000 - 60, 60)
    assert two.rigs["agni"].node.mailroom.counts("capability:deploy") == (0, 0)
