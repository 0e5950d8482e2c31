"""Bytes in payloads: the same for every reader, whichever serializer they came with, and no payload is read as another.

Hypothesis makes payloads of all that one may hold, with many strings that look like what bytes become in JSON.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
import msgpack
import msgspec
import pytest
from autobahn.wamp.serializer import JsonObjectSerializer
from hypothesis import example, given
from hypothesis import strategies as st

from trishula.contract.binary import count_binary, is_marked_json, marked, may_hold_binary, unmarked
from trishula.contract.canonical import canonical
from trishula.contract.message import Message, parse
from trishula.contract.payload import pack
from trishula.errors import PayloadNotJson
from trishula.files.v1 import Names, decode_v1, encode_v1
from trishula_router.store.identity import content_digest

LIMIT = 1024 * 1024
_LOOK_ALIKES = st.sampled_from(
    ["AAEC", "\\u0000AAEC", '"\\u0000', "u0000", " \x00AAEC", "base64:AAEC", "$bytes", "", "é\x00", "\x01AAEC"]
)
_TEXTS = (st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | _LOOK_ALIKES).filter(
    lambda text: not text.startswith("\x00")
)
_KEYS = _TEXTS | st.sampled_from(["$bytes", "\x00", "\x00AAEC"])
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS
    | st.binary(max_size=40)
)
PAYLOADS: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_KEYS, inner, max_size=4)
        # What another convention would read as bytes.
        | st.builds(lambda one: {"$bytes": base64.b64encode(one).decode()}, st.binary(max_size=6))
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same, of the same types: to Python 1, 1.0 and True are one."""
    return msgspec.msgpack.encode(one, order="deterministic") == msgspec.msgpack.encode(other, order="deterministic")


@given(PAYLOADS)
def test_what_is_marked_is_json_and_comes_back_the_same(payload: Any) -> None:
    kept = marked(payload)
    assert same(unmarked(json.loads(json.dumps(kept))), payload)
    # In the node's JSON a look at its bytes finds them, and nothing is made anew where there are none.
    if count_binary(payload):
        assert is_marked_json(msgspec.json.encode(kept))
        assert may_hold_binary(msgspec.msgpack.encode(payload))
    else:
        assert kept is payload
        assert unmarked(payload) is payload


@given(PAYLOADS, PAYLOADS)
def test_two_payloads_are_kept_as_two(one: Any, other: Any) -> None:
    assert same(one, other) == same(marked(one), marked(other))


@given(PAYLOADS)
@example(b"")
@example([b"", "a\x00"])
def test_every_serializer_brings_the_node_the_same(payload: Any) -> None:
    from_json = JsonObjectSerializer()
    (by_json,) = from_json.unserialize(from_json.serialize(payload))
    by_msgpack = msgpack.unpackb(pack(payload, path="payload", limit_bytes=LIMIT), raw=False)
    by_cbor = cbor2.loads(cbor2.dumps(payload))
    came = [
        parse({"type": "STATUS", "id": "x", "to": "agni", "payload": one}) for one in (by_json, by_msgpack, by_cbor)
    ]
    digests = {content_digest(one.to_wire()) for one in came}
    assert len(digests) == 1
    assert all(same(one.payload, marked(payload)) for one in came)
    # The sender signs what it has, the receiver what it got.
    assert {canonical(payload)} == {canonical(one.payload) for one in came}


@given(PAYLOADS)
def test_every_serializer_hands_the_reader_the_same(payload: Any) -> None:
    """The node says it to whoever takes bytes as they are, and to others; JSON has one form for both."""
    kept = json.loads(json.dumps(marked(payload)))
    to_json = JsonObjectSerializer()
    for said in (kept, unmarked(kept)):
        (by_json,) = to_json.unserialize(to_json.serialize(said))
        assert same(by_json, payload)
        assert same(unmarked(msgpack.unpackb(msgspec.msgpack.encode(said), raw=False)), payload)
        assert same(unmarked(cbor2.loads(cbor2.dumps(said))), payload)


@given(PAYLOADS)
def test_a_file_of_the_second_road_holds_the_same(payload: Any) -> None:
    message = Message(type="STATUS", id="x", to="agni", sender="dc", timestamp=1_790_000_000_000, payload=payload)
    assert same(decode_v1(encode_v1(message, Names()), Names()).payload, payload)


@pytest.mark.parametrize(
    "text", ["\x00", "\x00AAE", "\x00AAEC=", "\x00AAEC\n", "\x00AAF=", "\x00AA=C", "\x00!!!!", "\x00é"]
)
def test_what_no_bytes_are_written_as_stays_a_string(text: str) -> None:
    """An earlier release let such strings into a payload."""
    expected: object = b"" if text == "\x00" else text
    assert unmarked({"a": [text]}) == {"a": [expected]}


def test_a_payload_has_so_many_values_of_bytes_and_no_more() -> None:
    assert len(pack([b""] * 4096, path="payload", limit_bytes=LIMIT)) > 0
    with pytest.raises(PayloadNotJson) as caught:
        pack([b""] * 4097, path="payload", limit_bytes=LIMIT)
    assert str(caught.value).startswith("payload holds 4097 values of bytes, and a payload may hold 4096: join them")
