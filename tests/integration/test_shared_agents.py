"""Two linked nodes share who may join: what is made, changed or taken away at one holds at the other, uncopied."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tests.integration.test_cluster import at, until
from tests.support.cluster import Cluster
from tests.support.node import environment
from tests.support.plain import JoinRefused, join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula_router.agents.file import read_agents, update_agents

pytestmark = pytest.mark.node


async def run(cluster: Cluster, node: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trishula_router", "token", *arguments]
    command += ["--state", str(cluster[node].state_dir)]
    work = partial(subprocess.run, command, capture_output=True, text=True, env=environment(), timeout=60.0, check=True)
    done: subprocess.CompletedProcess[str] = await deferToThread(work)
    return done


async def joins(cluster: Cluster, node: str, agent: str, token: str) -> bool:
    try:
        session = await join(cluster[node].url, agent, token)
    except JoinRefused:
        return False
    await session.leave()
    return True


def said_of(cluster: Cluster, node: str) -> Any:
    return read_agents(cluster[node].state_dir / "agents.json")


@on_reactor
async def test_what_changes_at_one_node_holds_at_the_other_without_copying(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ["agni", "rushabdev"], options={"agents": {"shared": True}})
    cluster.token("dc", operator=True)
    with cluster:
        await (await at(cluster, "agni", "dc")).leave()

        async def both_there() -> bool:
            boss = await at(cluster, "agni", "dc")
            (peer,) = (await boss.call(uris.NODE_STATUS))["peers"]
            await boss.leave()
            return bool(peer["state"] == "up")

        await until(both_there)
        # A new agent.
        made = await run(cluster, "agni", "new", "worker", "--reason", "a hand more")
        assert made.stderr.splitlines()[-1] == "rushabdev has this too"
        first = made.stdout.strip()
        assert await joins(cluster, "rushabdev", "worker", first)
        # Its rotation at the other node ends the old token at both, and the session that joined with it.
        session = await join(cluster["agni"].url, "worker", first)
        rotated = await run(cluster, "rushabdev", "rotate", "worker", "--overlap", "0s")
        assert rotated.stderr.splitlines()[-1] == "agni has this too"
        assert await session.gone == "trishula.error.token_invalid"
        second = rotated.stdout.strip()
        assert await joins(cluster, "agni", "worker", second)
        assert not await joins(cluster, "agni", "worker", first)
        # Grants, and what the program reads.
        granted = await run(cluster, "agni", "grant", "worker", "--serve", "deploy", "--json")
        assert json.loads(granted.stdout)["peers"] == [
            {"node": "rushabdev", "reached": True, "sentence": "rushabdev has this too"}
        ]
        assert said_of(cluster, "rushabdev")["worker"].serve == ("deploy",)
        assert said_of(cluster, "rushabdev") == said_of(cluster, "agni")
        # The journal of each says where it came from.
        boss = await at(cluster, "agni", "dc")
        for node, by in (("agni", "the node rushabdev"), ("rushabdev", "the node agni")):
            asked = {"node": node, "kind": "token", "agent": "worker", "limit": 100}
            told = (await boss.call(uris.AUDIT_QUERY, {**asked, "node": "*"}))["records"]
            assert by in {one["by"] for one in told if one["node"] == node}
        await boss.leave()
        # While the peer is away.
        await deferToThread(cluster["rushabdev"].kill)

        async def is_away() -> bool:
            boss = await at(cluster, "agni", "dc")
            (peer,) = (await boss.call(uris.NODE_STATUS))["peers"]
            await boss.leave()
            return bool(peer["state"] != "up")

        await until(is_away)
        alone = await run(cluster, "agni", "new", "scout")
        assert alone.stderr.splitlines()[-1] == "rushabdev can't be reached now: it gets this when it comes back"
        with update_agents(cluster["agni"].state_dir / "agents.json") as agents:
            del agents["worker"]
        # And there somebody edits the file meanwhile.
        with update_agents(cluster["rushabdev"].state_dir / "agents.json") as agents:
            agents["helper"] = agents["dc"].__class__(tokens=())
        await deferToThread(cluster["rushabdev"].restart)

        async def agree() -> bool:
            names = [sorted(said_of(cluster, node)) for node in ("agni", "rushabdev")]
            return names == [["dc", "helper", "scout"]] * 2

        await until(agree)
        assert await joins(cluster, "rushabdev", "scout", alone.stdout.strip())
        assert not await joins(cluster, "rushabdev", "worker", second)
