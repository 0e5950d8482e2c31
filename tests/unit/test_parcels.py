"""How messages are cut into frames: whatever serializer a client has, no frame has 1 MiB unless one message has it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import cbor2
import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula_router.mail.parcels import FRAME_BYTES, parcels

#: As Autobahn writes them.
SERIALIZERS: dict[str, Callable[[Any], bytes]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(),
    "msgpack": lambda value: bytes(msgpack.packb(value, use_bin_type=True)),
    "cbor": cbor2.dumps,
}


def wire(payload: Any) -> dict[str, Any]:
    return {"type": "STATUS", "id": "m" * 128, "from": "dc", "to": "agni", "payload": payload, "accepted_at": 2**50}


def sized(payloads: list[Any]) -> list[tuple[int, object]]:
    return [(len(msgspec.json.encode(wire(payload))), wire(payload)) for payload in payloads]


def frame(messages: list[tuple[int, object]]) -> list[Any]:
    deliveries = [{"message": one, "attempt": 2**31, "token": f"{2**63 - 1}.1000.01234567"} for _, one in messages]
    details = {"publisher": 2**53, "publisher_authid": "x" * 63, "publisher_authrole": "x" * 63, "topic": "x" * 256}
    return [36, 2**53, 2**53, details, [deliveries]]


def check(messages: list[tuple[int, object]], frame_bytes: int = FRAME_BYTES) -> list[int]:
    counts = parcels(messages, frame_bytes)
    assert sum(counts) == len(messages)
    assert all(counts)
    for begin, count in zip(itertools.accumulate(counts, initial=0), counts, strict=False):
        part = messages[begin : begin + count]
        if count > 1:
            assert max(len(write(frame(part))) for write in SERIALIZERS.values()) < frame_bytes
    return counts


FLOATS = [0.0] * 25_000


@pytest.mark.parametrize(
    ("payloads", "counts"),
    [
        ([], []),
        (["x"] * 64, [64]),
        (["x" * 100_000] * 20, [10, 10]),
        # In JSON they are short.
        ([FLOATS] * 20, [4] * 5),
        # What one frame with JSON alone could take, token by token.
        ([None] * 3000, [2981, 19]),
        (["x" * 2_000_000, 1, "x" * 2_000_000], [1, 1, 1]),
        (["é\n" * 60_000] * 5, [4, 1]),
    ],
    ids=["none", "small", "texts", "floats", "many", "too large", "escapes"],
)
def test_frames(payloads: list[Any], counts: list[int]) -> None:
    assert check(sized(payloads)) == counts


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, 1e16, 1e-5, 24, 127, "x" * 24, ""]) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)  # fmt: skip


@given(st.lists(values, max_size=30), st.integers(2100, 12_000))
def test_no_frame_is_larger_in_any_serializer(payloads: list[Any], frame_bytes: int) -> None:
    check(sized(payloads), frame_bytes)
