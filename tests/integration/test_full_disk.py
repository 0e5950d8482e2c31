"""A real node on a full disk: it drains, starts, and takes messages again by itself; and a store that goes away."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.disks import mounted, take_all
from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.errors import StorageFailed, StorageFull

pytestmark = pytest.mark.node

KB = 1000
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of the size that the test names; 20 MiB if it names none."""
    target = tmp_path / "disk"
    mounted(target, f"size={getattr(request, 'param', 20)}m")
    yield target
    subprocess.run(["umount", "--lazy", str(target)], check=True)


def made(disk: Path) -> NodeProcess:
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["limits"] = {"mailbox": "1 GiB", "mailbox_share": 1.0}
    file = disk / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(disk / "state", config=file)
    for name in ("agni", "dc"):
        node.token(name)
    node.token("boss", operator=True)
    return node


async def client(node: NodeProcess, name: str) -> PlainClient:
    return await join(node.url, name, node.tokens[name])


async def send(client: PlainClient, message_id: str, size_bytes: int) -> dict[str, Any]:
    message = {"type": "STATUS", "id": message_id, "to": "agni", "payload": "x" * size_bytes}
    (receipt,) = await client.call(uris.MAILBOX_SEND, [message])
    found: dict[str, Any] = receipt
    return found


async def fill(client: PlainClient, size_bytes: int, prefix: str) -> int:
    """Send until the store is full; how many messages were accepted."""
    for number in range(100_000):
        receipt = await send(client, f"{prefix}{number}", size_bytes)
        if receipt["status"] == "refused":
            assert receipt["error"] == StorageFull.uri
            assert "so it accepted nothing; free disk space on the node" in receipt["detail"]
            return number
    raise AssertionError("the store never got full")


def passed(seconds: float) -> Deferred[None]:
    from twisted.internet import reactor

    return deferLater(reactor, seconds, lambda: None)


async def drain(client: PlainClient) -> int:
    """Fetch and acknowledge until nothing is left; how many there were."""
    taken = 0
    while True:
        fetched = await client.call(uris.MAILBOX_FETCH, {"max": 16})
        if not fetched["deliveries"]:
            assert (fetched["pending"], fetched["in_flight"]) == (0, 0)
            return taken
        tokens = [one["token"] for one in fetched["deliveries"]]
        assert await client.call(uris.MAILBOX_ACK, tokens) == [True] * len(tokens)
        taken += len(tokens)


async def status_of(node: NodeProcess) -> dict[str, Any]:
    boss = await client(node, "boss")
    found: dict[str, Any] = await boss.call(uris.NODE_STATUS)
    await boss.leave()
    return found


@pytest.mark.parametrize(
    ("disk", "size_bytes"), [(20, 500 * KB), (20, 5 * KB), (64, 500 * KB), (600, 1000 * KB)], indirect=["disk"]
)
@on_reactor
async def test_a_full_disk_is_no_dead_end(disk: Path, size_bytes: int) -> None:
    node = made(disk)
    with node:
        dc = await client(node, "dc")
        accepted = await fill(dc, size_bytes, "f")
        assert accepted * size_bytes > 0.4 * shutil.disk_usage(disk).total
        store = (await status_of(node))["store"]
        assert store["shortage"] is not None and str(disk) in store["shortage"]
        assert "the store is full, sends are refused and acks go on: the disk of" in node.log()
        # Room is kept for urgent mail, also of a call that has other mail in it.
        message = {"type": "STATUS", "to": "agni", "payload": "x" * size_bytes}
        mixed = [{**message, "id": "no"}, {**message, "id": "urgent", "priority": 1}]
        receipts = await dc.call(uris.MAILBOX_SEND, mixed)
        assert [receipt["status"] for receipt in receipts] == ["refused", "accepted"]
        # Nobody is about to drain it, and the node is stopped and started, in order and by a power cut.
        await dc.leave()
        node.stop()
        node.restart()
        node.kill()
        node.start()
        agni, dc = await client(node, "agni"), await client(node, "dc")
        assert (await send(dc, "no", size_bytes))["status"] == "refused"
        assert await drain(agni) == accepted + 1
        # Retention makes room within a few rounds, and sends go on, without a restart.
        for _ in range(120):
            if (await send(dc, "again", size_bytes))["status"] != "refused":
                break
            await passed(0.25)
        # It deletes the bodies of a part at a time: those that are to be kept for a week are not all to go at once.
        assert await fill(dc, size_bytes, "a") > accepted // 10
        assert "the store has room again, sends are accepted" in node.log()
        assert "Traceback" not in node.log()
        await agni.leave()
        await dc.leave()


@on_reactor
async def test_a_disk_that_somebody_else_filled_is_no_dead_end_either(disk: Path) -> None:
    node = made(disk)
    with node:
        dc = await client(node, "dc")
        for number in range(20):
            assert (await send(dc, f"m{number}", 100 * KB))["status"] == "accepted"
        await dc.leave()
        take_all(disk)
        node.stop()
        take_all(disk)
        node.restart()
        taken = take_all(disk)
        agni, dc = await client(node, "agni"), await client(node, "dc")
        assert (await send(dc, "no", 100 * KB))["status"] == "refused"
        assert await drain(agni) == 20
        taken.unlink()
        for _ in range(120):
            if (await send(dc, "again", 100 * KB))["status"] == "accepted":
                break
            await passed(0.25)
        assert await drain(agni) == 1
        assert "Traceback" not in node.log()
        await agni.leave()
        await dc.leave()


@on_reactor
async def test_nothing_is_accepted_into_a_store_that_was_deleted(tmp_path: Path) -> None:
    node = made(tmp_path)
    with node:
        dc = await client(node, "dc")
        assert (await send(dc, "m1", 10))["status"] == "accepted"
        for file in node.state_dir.glob("node.sqlite*"):
            file.unlink()
        receipt = await send(dc, "m2", 10)
        assert (receipt["status"], receipt["error"]) == ("refused", StorageFailed.uri)
        assert "was deleted or moved away while the node runs" in receipt["detail"]
        assert "was deleted or moved away while the node uses it" in (await status_of(node))["store"]["fault"]
        assert "was deleted or moved away while the node uses it" in node.log()
        await dc.leave()


@on_reactor
async def test_a_store_that_was_moved_away_and_back(tmp_path: Path) -> None:
    node = made(tmp_path)
    with node:
        dc = await client(node, "dc")
        assert (await send(dc, "m1", 10))["status"] == "accepted"
        (node.state_dir / "node.sqlite").rename(tmp_path / "aside")
        assert (await send(dc, "m2", 10))["status"] == "refused"
        (tmp_path / "aside").rename(node.state_dir / "node.sqlite")
        assert (await send(dc, "m2", 10))["status"] == "accepted"
        await dc.leave()
        node.kill()
        node.start()
        agni = await client(node, "agni")
        assert await drain(agni) == 2
        assert json.loads(node.command("node", "verify", "--state", str(node.state_dir)))["ok"]
        await agni.leave()
