"""A token that is taken away ends the sessions it opened, in a real node; and so does the limit of connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.threads import deferToThread

from tests.support.node import NodeProcess
from tests.support.plain import JoinRefused, join
from tests.support.reactor import on_reactor
from trishula.client import Client
from trishula.contract import uris
from trishula.errors import TokenInvalid, TrishulaError
from trishula.runtime.surroundings import real
from trishula.runtime.waiting import sleep
from trishula.settings import load
from trishula_router.agents.file import update_agents

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("revocation")
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["limits"] = {"connections": 3}
    file = directory / "node.json"
    file.write_text(json.dumps(config))
    with NodeProcess(directory / "state", config=file) as node:
        yield node


def take_away(node: NodeProcess, name: str) -> None:
    with update_agents(node.state_dir / "agents.json") as known:
        del known[name]


@on_reactor
async def test_a_revoked_token_ends_its_live_sessions_within_a_second(node: NodeProcess) -> None:
    node.token("agni")
    node.token("dc")
    first = await join(node.url, "agni", node.tokens["agni"])
    second = await join(node.url, "agni", node.tokens["agni"])
    other = await join(node.url, "dc", node.tokens["dc"])
    take_away(node, "agni")
    started_s = time.monotonic()
    assert await first.gone == "trishula.error.token_invalid"
    assert await second.gone == "trishula.error.token_invalid"
    # Generous: what is promised is 1 s; a loaded machine is not the node's fault.
    assert time.monotonic() - started_s < 5.0
    assert (await other.call(uris.DIRECTORY_LIST))[0]["agent"] == "dc"
    with pytest.raises(JoinRefused) as caught:
        await join(node.url, "agni", node.tokens["agni"])
    assert caught.value.reason == "trishula.error.token_invalid"
    await other.leave()


class Heard:
    """What becomes of a client's sessions."""

    def __init__(self) -> None:
        self.joins = 0
        self.losses: list[TrishulaError] = []
        self.ends: list[TrishulaError] = []

    def joined(self, url: str) -> None:
        self.joins += 1

    def lost(self, url: str, error: TrishulaError) -> None:
        self.losses.append(error)

    def moved(self, old: str, url: str) -> None: ...

    def unreachable(self, error: TrishulaError, now_s: float) -> None: ...

    def ended(self, error: TrishulaError) -> None:
        self.ends.append(error)


@on_reactor
async def test_a_client_that_runs_takes_the_new_token_of_its_file(node: NodeProcess, tmp_path: Path) -> None:
    """As an operator rotates it: two tokens more, so that the one it joined with ends, and it isn't restarted."""
    file, profile = tmp_path / "reader.token", tmp_path / "reader.toml"
    profile.write_text(f'url = "{node.url}"\ntoken_file = "reader.token"\n')
    make = ("token", "new", "reader", "--state", str(node.state_dir), "--write", str(file))
    await deferToThread(node.command, *make)
    heard = Heard()
    client = Client(load(profile=str(profile), environ={}), observer=heard)
    await client.start(timeout=10.0)
    first = file.read_text()
    await deferToThread(node.command, *make)
    assert (heard.joins, heard.losses) == (1, []), "a second token ends nothing"
    await deferToThread(node.command, *make, "--replace")
    for _ in range(400):
        if heard.joins == 2:
            break
        await sleep(real().clock, 0.05)
    assert (heard.joins, heard.ends) == (2, [])
    assert [type(error) for error in heard.losses] == [TokenInvalid]
    assert (await client.request(uris.DIRECTORY_GET, "reader"))["presence"] == "online"
    with pytest.raises(JoinRefused):
        await join(node.url, "reader", first.strip())
    await client.stop()


@on_reactor
async def test_one_connection_too_many_is_refused_in_words(node: NodeProcess) -> None:
    node.token("rushabdev")
    clients = [await join(node.url, "rushabdev", node.tokens["rushabdev"]) for _ in range(3)]
    with pytest.raises(JoinRefused) as caught:
        await join(node.url, "rushabdev", node.tokens["rushabdev"])
    assert caught.value.reason == "trishula.error.connections_exceeded"
    assert caught.value.sentence == (
        "rushabdev has 3 connections to this node and may have 3 (limits.connections); close one, or try again later"
    )
    await clients.pop().leave()
    for _ in range(50):
        try:
            clients.append(await join(node.url, "rushabdev", node.tokens["rushabdev"]))
            break
        except JoinRefused:
            time.sleep(0.02)
    assert len(clients) == 3
    for client in clients:
        await client.leave()
