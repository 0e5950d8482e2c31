"""How the notifier learns how its node is: also of one whose store fails or hangs, which is when somebody must know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import StorageFailed
from trishula_router.alerting import facts_of
from trishula_router.alerts.conditions import Facts
from trishula_router.alerts.policy import Alert
from trishula_router.settings.alerts import AlertOptions
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=("agni", "dc", "rushabdev")).start()


def asked(rig: Rig) -> list[Facts]:
    """Where the facts are put once they are known."""
    found: list[Facts] = []
    Deferred.fromCoroutine(facts_of(rig.node, lambda: None)).addCallback(found.append)
    return found


def test_what_lies_in_the_store_is_told(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m-1", "to": "agni", "payload": 1})
    (facts,) = asked(rig)
    assert facts.is_store_read and facts.dead_letters == 0
    assert [box["pending"] for box in facts.mailboxes if box["address"] == "agni"] == [1]


def test_what_was_told_outlives_a_restart_of_the_node(tmp_path: Path) -> None:
    store, clock, sent = MemoryStore("epoch-1"), Clock(), []

    def run() -> Rig:
        rig = Rig(tmp_path, store, clock)
        rig.node.config = replace(rig.node.config, alerts=AlertOptions(webhook="env:X", after_s=0.0))

        def send(road: str, alert: Alert) -> Deferred[str]:
            sent.append(f"{alert.state} {alert.condition.kind}")
            return succeed("taken")

        rig.node.send_alert = send
        return rig.start()

    before = run()
    dc = before.join("dc")
    before.send(dc, {"id": "m-1", "to": "dc", "payload": 1})
    before.attach(dc)
    before.nack(dc, before.pushed(dc)[0]["token"], requeue=False)
    before.advance(11.0)
    assert sent == ["firing dead_letters"]
    before.stop()
    after = run()
    after.advance(11.0)
    assert sent == ["firing dead_letters"]
    boss = after.join("boss", operator=True)
    (letter,) = after.call(boss, uris.ADMIN_DEAD_LIST)["letters"]
    after.call(boss, uris.ADMIN_DEAD_PURGE, [letter["seq"]])
    after.advance(11.0)
    assert sent == ["firing dead_letters", "resolved dead_letters"]


def test_of_a_store_that_fails_the_rest_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        rig.node.store, "dead_letters", lambda *_: fail(StorageFailed("the node can't use its store (disk I/O error)"))
    )
    (facts,) = asked(rig)
    assert (facts.is_store_read, facts.mailboxes, facts.dead_letters) == (False, [], 0)
    assert facts.ready == rig.node.ready()


def test_a_store_that_hangs_does_not_hang_the_notifier(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    never: Deferred[object] = Deferred()
    monkeypatch.setattr(rig.node.store, "dead_letters", lambda *_: never)
    found = asked(rig)
    assert found == []
    rig.advance(6.0)
    assert [facts.is_store_read for facts in found] == [False]
    # The answer comes after all.
    never.callback([])
