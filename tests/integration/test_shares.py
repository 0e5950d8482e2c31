"""One agent that wants a mailbox, or the store, for itself, against a real node; and what it leaves for the others."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
BATCH = 200
E = "trishula.error."


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["components"][0]["extra"]["limits"] = {
        "mailbox_messages": 2000,
        "mailbox": "16 MiB",
        "store": "64 MiB",
        "open_capabilities": 20,
    }
    file = tmp_path / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(tmp_path / "state", config=file)
    for name in ("agni", "dc", "mallory", "moriarty"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


@contextlib.contextmanager
def session(node: NodeProcess, agent: str) -> Iterator[RawClient]:
    with RawClient(node.url) as client:
        client.open()
        client.join(agent, node.tokens[agent])
        yield client


class Sender:
    """Sends under ids of its own, as fast as it is answered."""

    def __init__(self, client: RawClient, name: str) -> None:
        self._client = client
        self._name = name
        self._sent = 0

    def send(self, to: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        messages = []
        for _ in range(count):
            self._sent += 1
            messages.append({"type": "STATUS", "id": f"{self._name}-{self._sent}", "to": to, "payload": "", **fields})
        receipts: list[dict[str, Any]] = self._client.call(uris.MAILBOX_SEND, messages)
        return receipts

    def flood(self, to: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Send until a whole call is refused; how many got in, and the last refusal."""
        count = 0
        for _ in range(200):
            receipts = self.send(to, BATCH, **fields)
            taken = sum(receipt["status"] == "accepted" for receipt in receipts)
            count += taken
            if not taken:
                return count, receipts[-1]
        raise AssertionError("nothing stopped it")


def status(node: NodeProcess) -> dict[str, Any]:
    with session(node, "boss") as boss:
        told: dict[str, Any] = boss.call(uris.NODE_STATUS)
        return told


def states(sender: Sender, to: str, **fields: Any) -> str:
    (receipt,) = sender.send(to, **fields)
    return str(receipt["status"])


def purge(node: NodeProcess, agent: str) -> None:
    with session(node, "boss") as boss:
        boss.call(uris.ADMIN_MAILBOX_PURGE, agent)


def test_who_floods_a_mailbox_leaves_room_for_others_and_for_their_urgent_mail(node: NodeProcess) -> None:
    with session(node, "mallory") as one, session(node, "mallory") as another, session(node, "dc") as third:
        mallory, instance, dc = Sender(one, "a"), Sender(another, "b"), Sender(third, "c")
        taken, refusal = mallory.flood("agni")
        assert taken == 900
        assert refusal["error"] == E + "mailbox_full"
        assert 0 < refusal["retry_after_s"] <= 1.0
        # Not the session and not the instance is counted, and everything sent as urgent gets a part of what is kept.
        assert instance.flood("agni", **{"from": "mallory/x"})[0] == 0
        assert instance.flood("agni", priority=1)[0] == 100
        assert mallory.flood("agni", type="COMMAND", procedure="p", priority=1)[0] == 0
        assert [states(dc, "agni"), states(dc, "agni", priority=1)] == ["accepted", "accepted"]
        # Nor by way of a broadcast.
        (receipt,) = mallory.send("broadcast")
        assert "agni" in [one["to"] for one in receipt["missed"]]
    told = status(node)
    assert told["refused"]["mailbox_share"] > 0
    # The counts are by sender also after a restart.
    node.kill()
    node.start()
    with session(node, "mallory") as one, session(node, "dc") as third:
        assert Sender(one, "d").flood("agni")[0] == Sender(one, "e").flood("agni", priority=1)[0] == 0
        assert states(Sender(third, "f"), "agni") == "accepted"
    purge(node, "agni")
    with session(node, "mallory") as one:
        assert states(Sender(one, "g"), "agni") == "accepted"


def test_mail_to_capabilities_that_nobody_has_stops_at_a_share_of_the_store(node: NodeProcess) -> None:
    with session(node, "mallory") as one, session(node, "dc") as third:
        mallory, dc = Sender(one, "h"), Sender(third, "i")
        for number in range(20):
            assert states(mallory, f"capability:many_{number}") == "accepted"
        (receipt,) = mallory.send("capability:one_more", priority=1)
        assert (receipt["error"], receipt["retry_after_s"]) == (E + "mailbox_full", 1.0)
        payload, taken = "x" * 30_000, 0
        for number in range(20):
            count, refusal = mallory.flood(f"capability:many_{number}", payload=payload)
            taken += count
            if refusal["error"] == E + "storage_full":
                break
        # A quarter of 64 MiB, but for what is kept.
        assert 300 < taken < 550
        assert 0 < refusal["retry_after_s"] <= 5.0
        assert "limits.store_share" in refusal["detail"]
        assert status(node)["refused"]["store_share"] > 0
        assert states(dc, "agni", payload=payload) == states(dc, "agni", priority=1) == "accepted"


def test_a_message_has_no_ttl_without_end(node: NodeProcess) -> None:
    with session(node, "mallory") as one:
        mallory = Sender(one, "t")
        for ttl_ms in (30 * 86_400_000 + 1, 2**53 - 1, 2.0**52):
            (receipt,) = mallory.send("agni", ttl_ms=ttl_ms)
            assert (receipt["status"], receipt["error"]) == ("refused", E + "message_invalid")
            assert "limits.ttl" in receipt["detail"]
        assert states(mallory, "agni", ttl_ms=30 * 86_400_000, deadline_at=2**53 - 1) == "accepted"
