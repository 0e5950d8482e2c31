"""A laptop with a node of its own: its agents work together while it is offline, and are heard when it is back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.partition.conftest import make_cluster
from tests.partition.crew import Client, Crew, Tell
from tests.support.namespaces import Hosts
from trishula_drill.history import Handled

pytestmark = pytest.mark.node

_CAST = (
    Client("sender_dc", "send", "dc", ("dc",)),
    Client("agent_dc", "agent", "dc", ("dc",)),
    Client("sender_agni", "send", "agni", ("agni", "rushabdev")),
    Client("script_rushabdev", "fetch", "rushabdev", ("rushabdev", "agni")),
)


def test_an_edge_node_that_is_offline_for_a_while(hosts: Hosts, tmp_path: Path, seed: int, tell: Tell) -> None:
    with (
        make_cluster(tmp_path / "cluster", hosts, ("agni", "rushabdev", "dc")) as cluster,
        Crew(tmp_path, cluster, hosts, seed, tell, cast=_CAST) as crew,
    ):
        servers = ("agni", "rushabdev")
        for server in servers:
            hosts.cut("dc", server)
        # By now the nodes know that they are apart.
        time.sleep(4.0)
        apart_ns = time.monotonic_ns()
        crew.flow()
        peers = {peer["node"]: peer["state"] for peer in crew.status("dc")["peers"]}
        mended_ns = time.monotonic_ns()
        for server in servers:
            hosts.mend("dc", server)
        crew.flow()
        events = crew.judge()

        assert peers == {"agni": "down", "rushabdev": "down"}
        effects = [event for event in events if isinstance(event, Handled)]
        offline = {(event.sender, event.who) for event in effects if apart_ns < event.at_ns < mended_ns}
        assert offline == {("sender_dc", "agent_dc"), ("sender_agni", "script_rushabdev")}
        assert {(event.sender, event.who) for event in effects if event.at_ns > mended_ns} >= {
            ("sender_dc", "script_rushabdev"),
            ("sender_agni", "agent_dc"),
        }
