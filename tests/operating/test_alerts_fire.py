"""The alerts of ``deploy/prometheus/`` in a real Prometheus that scrapes two real nodes, at which their conditions are
made: each expression finds what it is to find in what nodes really tell.

``rules_test.yml`` holds how long a condition must last. Nobody can wait for that here, so the rules have no ``for``,
and of some the threshold is nearer (:data:`NEARER`). The alerts that are not made here are in a table of
``deploy/docs/howto/monitor.rst``, each with its reason.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.alerts import DEPLOY, alerts
from tests.support.cluster import Cluster
from tests.support.node import NodeProcess
from tests.support.plain import JoinRefused, PlainClient, Refused, join
from tests.support.prometheus import needs_promtool
from tests.support.prometheus_server import Prometheus
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.contract.addresses import Address

pytestmark = [pytest.mark.node, needs_promtool]

GENEROUS_S = 60.0
#: What stands in an expression, and what stands there for this test: an hour, 10,000 messages and a gigabyte are too
#: much to wait for.
NEARER = {
    "TrishulaReplicationLag": ("> 60 ", "> 1 "),
    "TrishulaLinkFlapping": ("> 5", "> 0"),
    "TrishulaBacklog": ("> 10000", "> 100"),
    "TrishulaBacklogOld": ("> 3600", "> 1"),
    "TrishulaAgentAway": ("> 3600", "> 1"),
    "TrishulaSlowEndToEnd": ("> 10", "> 0.5"),
    "TrishulaStrangersRefused": ("> 1", "> 0"),
    "TrishulaMemoryHigh": ("> 1e9", "> 1e6"),
}
BY_MAIL = (
    "TrishulaBacklog",
    "TrishulaMailboxNearlyFull",
    "TrishulaBacklogOld",
    "TrishulaNoConsumer",
    "TrishulaDeadLetters",
    "TrishulaMessagesLost",
    "TrishulaSlowEndToEnd",
    "TrishulaMessagesRefused",
    "TrishulaAgentAway",
    "TrishulaDenials",
    "TrishulaStrangersRefused",
    "TrishulaStoreFilling",
    "TrishulaAgentsFileBroken",
)
BY_DISK = (
    "TrishulaNodeNotReady",
    "TrishulaReplicationLag",
    "TrishulaFsyncSlow",
    "TrishulaSlowAccept",
    "TrishulaStoreNotWorking",
    "TrishulaLoopLag",
)
BY_ABSENCE = ("TrishulaNodeDown", "TrishulaLinkDown", "TrishulaLinkFlapping", "TrishulaNotWatched")
#: Of two nodes whose clocks differ from the start on, and of any process.
ALWAYS = ("TrishulaClockOffset", "TrishulaMemoryHigh")
#: A machine that is busy may make these by itself, and they go by minutes.
OF_THE_MACHINE = ("TrishulaLoopLag", "TrishulaFsyncSlow", "TrishulaSlowAccept", "TrishulaLinkFlapping")
MADE = {*BY_MAIL, *BY_DISK, *BY_ABSENCE, *ALWAYS}

LIMITS = {
    "mailbox_messages": 200,
    "mailbox": "8 MiB",
    "store": "8 MiB",
    "mailbox_share": 1.0,
    "store_share": 1.0,
    "urgent_room": 0.0,
}
AGENTS = ("dc", "sink", "busy", "gone", "full")


def rules() -> dict[str, Any]:
    """The rules, as this test has them."""
    changed = [{key: value for key, value in rule.items() if key != "for"} for rule in alerts()]
    for rule in changed:
        if rule["alert"] in NEARER:
            before, after = NEARER[rule["alert"]]
            assert rule["expr"].count(before) == 1, rule
            rule["expr"] = rule["expr"].replace(before, after)
    return {"groups": [{"name": "trishula", "rules": changed}]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("fire")
    cluster = Cluster(folder, ["agni", "rushabdev"], options={"limits": LIMITS}, aheads_s={"agni": 0, "rushabdev": 5})
    for agent in AGENTS:
        cluster.token(agent)
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    at = {name: f"127.0.0.1:{node.port}" for name, node in cluster.nodes.items()}
    with Prometheus(tmp_path_factory.mktemp("prometheus"), rules(), at) as prometheus:
        yield prometheus


async def joined(cluster: Cluster, node: NodeProcess, agent: str) -> PlainClient:
    return await join(node.url, agent, cluster.tokens[agent])


def messages(to: str, count: int, payload: object = 1) -> list[dict[str, Any]]:
    return [{"type": "STATUS", "id": uuid4().hex, "to": to, "payload": payload} for _ in range(count)]


async def until(holds: Callable[[], object]) -> None:
    """Wait in a thread, so that clients answer pings meanwhile."""
    deadline = time.monotonic() + GENEROUS_S
    while not await deferToThread(holds):
        assert time.monotonic() < deadline
        await passed(0.1)


async def again_until_firing(prometheus: Prometheus, what: Callable[[], Awaitable[object]], *names: str) -> None:
    """Do something again and again: of what a rule calls slow, there must be one in a hundred of the last minutes."""
    deadline = time.monotonic() + GENEROUS_S
    while not set(names) <= await deferToThread(prometheus.firing):
        assert time.monotonic() < deadline, names
        await what()


async def passed(seconds: float) -> None:
    await deferLater(reactor, seconds, lambda: None)


def test_no_alert_fires_before_its_condition(prometheus: Prometheus) -> None:
    prometheus.until_firing(*ALWAYS)
    # A node that has just started is not ready for a moment.
    prometheus.until_quiet(*(MADE - {*ALWAYS, *OF_THE_MACHINE}))


@on_reactor
async def test_alerts_of_mail_and_of_who_may_not(cluster: Cluster, prometheus: Prometheus) -> None:
    agni = cluster["agni"]
    agents_file = agni.state_dir / "agents.json"
    good = agents_file.read_bytes()
    dc, busy, gone = [await joined(cluster, agni, agent) for agent in ("dc", "busy", "gone")]
    await gone.leave()
    came: list[dict[str, Any]] = []
    await busy.subscribe(uris.inbox_of(Address("busy")), lambda items, details: came.extend(items))
    await busy.call(uris.MAILBOX_ATTACH, {})
    # An error's series begins with its first refusal, and nothing has grown before it is scraped.
    await dc.call(uris.MAILBOX_SEND, messages("sink", 201))
    await dc.call(uris.MAILBOX_SEND, messages("busy", 1))
    for _ in range(14):
        await dc.call(uris.MAILBOX_SEND, messages("full", 1, "x" * 500_000))
    for _ in range(25):
        with pytest.raises(Refused):
            await dc.call(uris.ADMIN_DEAD_LIST)
    for _ in range(2):
        with pytest.raises(JoinRefused):
            await join(agni.url, "dc", "dc.wrong")
    agents_file.write_bytes(b"{")
    await until(lambda: prometheus.ask('trishula_messages_refused_total{error="mailbox_full"}'))
    await dc.call(uris.MAILBOX_SEND, messages("sink", 700))
    await deferToThread(prometheus.until_firing, "TrishulaBacklogOld")
    await busy.call(uris.MAILBOX_ACK, [came.pop()["token"]])
    await dc.call(uris.MAILBOX_SEND, messages("busy", 1))
    await until(lambda: came)
    await busy.call(uris.MAILBOX_NACK, [{"token": came.pop()["token"], "reason": "no", "requeue": False}])
    await deferToThread(prometheus.until_firing, *(set(BY_MAIL) - {"TrishulaBacklogOld"}))
    agents_file.write_bytes(good)
    await deferToThread(prometheus.until_quiet, "TrishulaAgentsFileBroken")
    await busy.leave()
    await dc.leave()


@on_reactor
async def test_alerts_of_the_disk_and_of_a_node_that_stands_still(
    cluster: Cluster, prometheus: Prometheus, tmp_path: Path
) -> None:
    agni, dials = cluster["agni"], cluster.dials["agni"]
    dc, there = await joined(cluster, agni, "dc"), await joined(cluster, cluster["rushabdev"], "dc")
    dials.is_hanging = True
    try:
        await there.call(uris.MAILBOX_SEND, messages("busy", 1))
        # It waits for the disk; on a slow machine for longer than this client does.
        sent = Deferred.fromCoroutine(dc.call(uris.MAILBOX_SEND, messages("busy", 1))).addErrback(lambda _: None)
        await deferToThread(prometheus.until_firing, "TrishulaReplicationLag")
        dials.ahead_ms = 3600_000
        await deferToThread(prometheus.until_firing, "TrishulaNodeNotReady")
    finally:
        dials.is_hanging, dials.ahead_ms = False, 0
    await sent

    async def send_on_a_slow_disk() -> None:
        dials.is_hanging = True
        sent = Deferred.fromCoroutine(dc.call(uris.MAILBOX_SEND, messages("gone", 5))).addErrback(lambda _: None)
        await passed(0.4)
        dials.is_hanging = False
        await sent

    await again_until_firing(prometheus, send_on_a_slow_disk, "TrishulaFsyncSlow", "TrishulaSlowAccept")
    await dc.leave()
    await there.leave()
    file, aside = agni.state_dir / "node.sqlite", tmp_path / "aside"
    file.rename(aside)
    try:
        await deferToThread(prometheus.until_firing, "TrishulaStoreNotWorking")
    finally:
        aside.rename(file)

    async def stand_still() -> None:
        os.kill(agni.worker_pid(), signal.SIGSTOP)
        await passed(0.7)
        os.kill(agni.worker_pid(), signal.SIGCONT)
        await passed(0.2)

    await again_until_firing(prometheus, stand_still, "TrishulaLoopLag")
    await deferToThread(prometheus.until_quiet, "TrishulaNodeNotReady", "TrishulaStoreNotWorking")


def test_alerts_of_a_node_that_is_gone(cluster: Cluster, prometheus: Prometheus) -> None:
    rushabdev = cluster["rushabdev"]
    rushabdev.stop()
    prometheus.until_firing("TrishulaNodeDown", "TrishulaLinkDown")
    rushabdev.start()
    prometheus.until_firing("TrishulaLinkFlapping")
    prometheus.until_quiet("TrishulaNodeDown", "TrishulaLinkDown")
    rushabdev.stop()


def test_an_alert_of_a_prometheus_that_watches_nobody(prometheus: Prometheus, cluster: Cluster, tmp_path: Path) -> None:
    at = {"agni": f"127.0.0.1:{cluster['agni'].port}"}
    with Prometheus(tmp_path, rules(), at, job="another") as watching_another_job:
        watching_another_job.until_firing("TrishulaNotWatched")
    assert "TrishulaNotWatched" not in prometheus.firing()


def test_the_alerts_that_are_not_made_here_are_told_with_the_reason() -> None:
    page = (DEPLOY / "docs" / "howto" / "monitor.rst").read_text(encoding="utf-8")
    table = dict(re.findall(r"^   \* - ``(Trishula\w+)``\n     - (.+)$", page, re.M))
    assert set(table) == {rule["alert"] for rule in alerts()} - MADE
