"""Bytes of payloads at the client's edge: a node of the release before hands them out marked, and doesn't know why."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from tests.support.loops import in_own_loop
from trishula.contract.deliveries import Delivery
from trishula.errors import KeyUnknown
from trishula.messaging.receiver import Receiving

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
