"""Bytes of payloads at the edges: in and out of a node's store, of other releases, of commands, of A2A."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred, succeed

import trishula
from tests.support.loops import in_own_loop
from trishula import testing
from trishula.a2a_door.parts import parts_of
from trishula.cli.values import parse_json
from trishula.cli.words import as_json, paragraphs
from trishula.contract.deliveries import Delivery, current_delivery
from trishula.contract.message import Message
from trishula.errors import KeyUnknown
from trishula.messaging.receiver import Receiving
from trishula_router.mail.entry import Entry
from trishula_router.mail.from_peers import _wire_of
from trishula_router.mail.loader import Loader

MARKED = {"a": ["\x00AAEC", "AAEC"]}
BYTES = {"a": [b"\x00\x01\x02", "AAEC"]}


def delivery(payload: object) -> dict[str, Any]:
    message = {"type": "STATUS", "id": "x", "to": "dc", "from": "agni", "payload": payload, "priority": 3}
    return {"message": message, "attempt": 1, "token": "1.1"}


def receiving(**member: Any) -> tuple[Receiving, list[Delivery]]:
    got: list[Delivery] = []
    usual = {"run": "r", "gets_binary": False, "link": None, "stays": False}
    stores = SimpleNamespace(told=lambda url: {})
    calls: Any = SimpleNamespace(is_busy=False)
    one = Receiving(calls, SimpleNamespace(), SimpleNamespace(**{**usual, "stores": stores, **member}))  # type: ignore[arg-type]
    one.receiver = got.extend
    return one, got


def test_what_is_pushed_marked_is_read_as_bytes() -> None:
    one, got = receiving()
    one.pushed([delivery(MARKED), delivery({"a": 1}), delivery(BYTES)])
    assert [each.message.payload for each in got] == [BYTES, {"a": 1}, BYTES]


def test_of_a_node_that_pushes_bytes_nothing_is_looked_at() -> None:
    one, got = receiving(gets_binary=True)
    one.pushed([delivery(BYTES), delivery(MARKED)])
    assert [each.message.payload for each in got] == [BYTES, MARKED]


def test_a_node_of_the_release_before_is_asked_without_the_key_and_once_only() -> None:
    one, _ = receiving()
    asked: list[dict[str, Any]] = []

    async def request(uri: str, details: Mapping[str, Any], *, timeout_s: float) -> Any:
        asked.append(dict(details))
        if "binary" in details:
            raise KeyUnknown("options has the unknown key binary")
        return {"deliveries": [delivery(MARKED)], "epoch": "e", "high_water": 1, "pending": 0, "in_flight": 1}

    async def main() -> None:
        for _ in range(2):
            fetched = await one.fetch(request, 8, 0.0, None)
            assert [each.message.payload for each in fetched.deliveries] == [BYTES]

    in_own_loop(main)
    assert [sorted(one.keys() - {"max", "wait_s"}) for one in asked] == [["binary", "run"], ["run"], ["run"]]


def test_what_is_delivered_again_is_read_back_as_bytes() -> None:
    """The second attempt's body comes from the store."""
    agent, heard = trishula.Agent("agni"), []

    @agent.on("STATUS")
    async def hear(message: Message) -> None:
        delivery = current_delivery()
        assert delivery is not None
        heard.append((delivery.attempt, message.payload))
        if delivery.attempt == 1:
            raise ValueError("not yet")

    async def main() -> None:
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(agent):
            await bus.client("dc").send("agni", payload=BYTES)
            await bus.advance(minutes=1)

    in_own_loop(main)
    assert heard == [(1, BYTES), (2, BYTES)]


@pytest.mark.parametrize(("payload", "is_binary"), [(MARKED, True), ({"a": ["AAEC"]}, False)])
def test_what_is_read_from_the_store_after_a_start_is_known_to_hold_bytes(payload: Any, is_binary: bool) -> None:
    body = msgspec.json.encode(delivery(payload)["message"])
    entry = Entry(7, "agni", "x", "dc", "STATUS", 3, 0, len(body))
    mailroom: Any = SimpleNamespace(
        not_withdrawn=lambda entries: entries, keep_body=lambda entry, wire: setattr(entry, "wire", wire)
    )
    store: Any = SimpleNamespace(bodies=lambda positions: succeed({7: body}))
    loader = Loader(mailroom, store, SimpleNamespace(), 0, lambda: 0)  # type: ignore[arg-type]
    assert Deferred.fromCoroutine(loader.with_bodies([entry])).result == [entry]
    assert entry.wire is not None
    assert (entry.wire["payload"], entry.binary) == (payload, is_binary)


@pytest.mark.parametrize(("payload", "is_binary"), [(MARKED, True), ({"a": ["AAEC"]}, False)])
def test_what_a_peer_accepted_is_known_to_hold_bytes(payload: Any, is_binary: bool) -> None:
    body = msgspec.json.encode(delivery(payload)["message"])
    extract: Any = SimpleNamespace(messages={7: SimpleNamespace(body="k")}, bodies={"k": body})
    entry = Entry(7, "agni", "x", "dc", "STATUS", 3, 0, len(body))
    wire = _wire_of(entry, extract)
    assert wire is not None
    assert (wire["payload"], entry.binary) == (payload, is_binary)


def test_commands_read_and_write_bytes_as_json_has_them() -> None:
    text = '{"a": ["\\u0000AAEC", "AAEC"]}'
    assert parse_json(text, "--payload") == BYTES
    assert as_json(BYTES) == text
    assert paragraphs(BYTES) == text
    assert parse_json(as_json(b"\xff"), "--payload") == b"\xff"


def test_bytes_are_a_raw_part_of_a2a_and_json_in_data() -> None:
    assert parts_of(b"\x00\x01\x02") == [{"raw": "AAEC", "mediaType": "application/octet-stream"}]
    assert parts_of(BYTES) == [{"data": MARKED, "mediaType": "application/json"}]
