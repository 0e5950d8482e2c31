"""Nodes that die, stop and start again while their agents work on: in every order, also without the other one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.partition.conftest import make_cluster
from tests.partition.crew import Crew, Tell, first_receipt_s
from tests.support.namespaces import Hosts

pytestmark = pytest.mark.node

#: With two nodes that start at once on a machine that has other work.
START_S = 120.0


def test_nodes_that_go_and_come_in_every_order(hosts: Hosts, tmp_path: Path, seed: int, tell: Tell) -> None:
    cluster = make_cluster(tmp_path / "cluster", hosts)
    agni, rushabdev = cluster["agni"], cluster["rushabdev"]
    try:
        # Cold, and without the peer, of which nobody has ever heard.
        rushabdev.start(timeout_s=START_S)
        with Crew(tmp_path, cluster, hosts, seed, tell, rate=15.0) as crew:
            agni.start(timeout_s=START_S)
            crew.wait_on("agni", "sender_dc", "agent_dc", "sender_agni", "agent_agni")
            crew.flow()

            killed_ns = time.monotonic_ns()
            agni.kill()
            crew.flow()
            agni.start(timeout_s=START_S)
            # The one that stays was away while the other one accepted, and the other way round.
            rushabdev.stop()
            crew.flow()
            agni.kill()
            rushabdev.start(timeout_s=START_S)
            crew.flow("sender_dc", "sender_rushabdev", "script_rushabdev")
            agni.start(timeout_s=START_S)
            crew.flow()
            # None is up, and the one that was up last comes back last.
            rushabdev.kill()
            crew.flow()
            agni.stop()
            rushabdev.start(timeout_s=START_S)
            crew.flow("sender_dc", "sender_rushabdev", "script_rushabdev")
            agni.start(timeout_s=START_S)
            crew.flow()

            events = crew.judge()
            took_s = first_receipt_s(events, killed_ns, "rushabdev", "sender_dc", "sender_agni")
            tell(f"agni killed, rushabdev accepted the first message of each of its senders after {took_s:.2f} s")
    finally:
        for node in (agni, rushabdev):
            node.kill()
