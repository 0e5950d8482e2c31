"""One release apart: nodes are linked, agents are at nodes of the other release, and nothing is lost between them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import trishula
from tests.support.cluster import Cluster
from tests.support.earlier import earlier_release
from tests.support.node import environment
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.node

COUNT = 100
PROGRAM = Path(__file__).with_name("talking_agent.py")


@contextmanager
def talker(name: str, url: str, token: str, **more: str) -> Iterator[None]:
    """The agent as a process of its own."""
    surroundings = environment(TALKER=name, TRISHULA_URL=url, TRISHULA_TOKEN=token, **more)
    process = subprocess.Popen([sys.executable, str(PROGRAM)], env=surroundings)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30.0)


@on_reactor
async def test_nodes_and_agents_one_release_apart_work_together(tmp_path: Path) -> None:
    before = earlier_release(tmp_path / "earlier")
    # The earlier node makes the link; test_rollout.py has it made by the present one.
    nodes = Cluster(tmp_path, ["agni", "rushabdev"], within={"rushabdev": ["env", f"PYTHONPATH={before}"]})
    for name in ("old", "new", "ops"):
        nodes.token(name, operator=name == "ops")
    with nodes:
        at_present, at_earlier = nodes["agni"].url, nodes["rushabdev"].url
        with (
            talker("old", at_present, nodes.tokens["old"], PYTHONPATH=before),
            talker("new", at_earlier, nodes.tokens["new"]),
        ):
            async with trishula.AsyncClient(url=at_earlier, token=nodes.tokens["ops"]) as ops:
                homes = {name: await ops.call(name, "home", timeout=60.0) for name in ("old", "new")}
                assert homes["old"].startswith(str(tmp_path)), "the earlier release is not what runs"
                assert Path(homes["new"]).samefile(trishula.__file__)
                doubled = [2 * number for number in range(COUNT)]
                assert await ops.call("old", "talk", "new", COUNT, timeout=90.0) == doubled
                assert await ops.call("new", "talk", "old", COUNT, timeout=90.0) == doubled
                for name in ("old", "new"):
                    assert await ops.call(name, "all_that_ran") == list(range(COUNT)), "lost, or twice"
        # A model reads its mail: the earlier node takes no word of that, and passes over what the present one notes.
        for url, is_noted in ((at_earlier, False), (at_present, True)):
            async with trishula.AsyncClient(url=url, token=nodes.tokens["ops"]) as ops:
                await ops.send("ops", payload="to read", id=f"read.{is_noted}")
                fetched = await ops.fetch(wait_s=20.0)
                tokens = [delivery.token for delivery in fetched.deliveries]
                assert await ops.surfaced(tokens) == [is_noted]
                assert await ops.ack(tokens) == [True]
        async with trishula.AsyncClient(url=at_earlier, token=nodes.tokens["ops"]) as ops:
            while not ((it := (await ops.status("read.True")).get("read.True")) and it.is_settled):
                pass
            (life,) = (await ops.why("read.True")).lives
            assert [event.kind for event in life.events] == ["accepted", "delivered", "done"]
        # What an operator of the present release asks an earlier node, and the other way round.
        for within, url in (([], at_earlier), (["env", f"PYTHONPATH={before}"], at_present)):
            command = [*within, sys.executable, "-m", "trishula_router", "node", "status", "--json"]
            asking = environment(TRISHULA_URL=url, TRISHULA_TOKEN=nodes.tokens["ops"])
            done = subprocess.run(command, capture_output=True, text=True, env=asking, timeout=60.0)
            assert (done.returncode, done.stderr) == (0, "")
            (peer,) = json.loads(done.stdout)["peers"]
            assert peer["state"] == "up"
