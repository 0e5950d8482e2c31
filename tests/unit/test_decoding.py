"""What the bytes of a frame may mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2
import msgpack
import pytest
from autobahn.wamp import serializer as autobahn
from hypothesis import given
from hypothesis import strategies as st

from trishula_router.upstream.decoding import (
    TooMuch,
    check_greeting,
    costly_for,
    read_cbor,
    read_json,
    read_msgpack,
    values_for,
)

MOST = 100_000
#: Longer than what is not counted.
LONG = "x" * 70_000

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def number_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(number_of, inner))


def test_a_payload_of_digits_and_a_full_batch_fit() -> None:
    assert values_for(1024 * 1024, 1024) == 512 * 1024 + 64 * 1024
    digits = "[" + ",".join("0" * (512 * 1024 - 1)) + "]"
    assert len(digits) < 1024 * 1024
    assert len(read_json(digits, values_for(1024 * 1024, 1024))) == 512 * 1024 - 1


# -- keys, lists and maps ----------------------------------------------------------------------------------------------


def as_json(value: Any, most: int) -> Any:
    return read_json(json.dumps(value, separators=(" ,", " :")), most)


def as_msgpack(value: Any, most: int) -> Any:
    return read_msgpack(msgpack.unpackb, msgpack.packb(value), most)


def as_cbor(value: Any, most: int) -> Any:
    return read_cbor(cbor2.loads, cbor2.dumps(value), most)


def as_cbor_of_open_end(value: Any, most: int) -> Any:
    return read_cbor(cbor2.loads, cbor2.dumps(value, indefinite_containers=True), most)


FORMATS = (as_json, as_msgpack, as_cbor, as_cbor_of_open_end)
#: What makes as many of them as is asked for.
COSTLY: dict[str, Callable[[int], Any]] = {
    "keys of one map": lambda count: {str(number): 0 for number in range(count)},
    "keys of small maps": lambda count: [dict.fromkeys(map(str, range(9)), 0) for _ in range(count // 10)],
    "keys with lists": lambda count: {str(number): [] for number in range(count // 2)},
    "maps": lambda count: [{} for _ in range(count)],
}


@pytest.mark.parametrize("shape", COSTLY)
@pytest.mark.parametrize("read", FORMATS)
def test_a_quarter_of_the_values_may_be_keys_lists_and_maps(read: Callable[[Any, int], Any], shape: str) -> None:
    few, many = (
        [LONG, COSTLY[shape](count)] for count in (costly_for(MOST) * 9 // 10, 2 * costly_for(MOST) + MOST // 10)
    )
    assert read(few, MOST) == few
    with pytest.raises(ValueError, match=r"more (values|keys, lists and maps) than|max_map_len"):
        read(many, MOST)


@pytest.mark.parametrize("read", FORMATS)
def test_colons_in_texts_are_no_keys(read: Callable[[Any, int], Any]) -> None:
    texts = [LONG, *["12:30:00 {[:\\" for _ in range(MOST // 3)]]
    assert read(texts, MOST) == texts


# -- JSON --------------------------------------------------------------------------------------------------------------


@given(values)
def test_json_is_read_as_autobahn_reads_it(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        try:
            expected = autobahn._loads(text)
        except ValueError:
            # A text that begins with U+0000 and goes on with no Base64.
            with pytest.raises(ValueError):
                read_json(text, MOST)
        else:
            assert read_json(text, MOST) == expected


def test_texts_that_stand_for_bytes_become_bytes_wherever_they_are() -> None:
    text = json.dumps(["\x00eA==", {"\x00key": ["\x00eQ==", "z\x00", ""]}, "\x00"])
    assert read_json(text, MOST) == autobahn._loads(text) == [b"x", {"\x00key": [b"y", "z\x00", ""]}, b""]
    assert read_json('"\\u0000eA=="', MOST) == b"x"


def test_few_texts_stand_for_bytes() -> None:
    with pytest.raises(TooMuch, match="stand for bytes"):
        read_json("[" + '"\\u0000",' * 70_000 + "1]", 1_000_000)


@pytest.mark.parametrize("inside", [",", "[", "{", '\\",\\"', "\\\\", "\\\\,", '\\\\\\",[', "ä,", "\U0001f600,["])
def test_what_is_in_texts_is_no_value(inside: str) -> None:
    text = json.dumps([LONG, 1])[:-1] + ',"' + inside * 100_000 + '"]'
    assert len(read_json(text, 1000)) == 3
    with pytest.raises(TooMuch, match="more values than the 1000"):
        read_json(text[:-1] + ",1" * 1000 + "]", 1000)


@given(st.lists(values, max_size=10).filter(lambda some: "\\u0000" not in json.dumps(some)))
def test_as_many_values_as_there_may_be_are_read(some: list[Any]) -> None:
    text = json.dumps([LONG, *some])
    # Counted are commas and brackets: one for each value, and one more for each list or map.
    # A quarter of them may be keys, lists and maps.
    read_json(text, 8 * number_of(some) + 12)


def test_json_is_read_as_deep_as_the_others() -> None:
    assert read_json("[" * 400 + "]" * 400, MOST)
    with pytest.raises(TooMuch, match="deeper than 400"):
        read_json('{"a":' * 401 + "1" + "}" * 401, MOST)


# -- MessagePack -------------------------------------------------------------------------------------------------------


def unpack(value: Any, most: int = 1000) -> Any:
    return read_msgpack(msgpack.unpackb, msgpack.packb(value), most)


def test_messagepack_is_counted_where_it_is_long() -> None:
    assert unpack([LONG, {"a": [1] * 500}]) == [LONG, {"a": [1] * 500}]
    assert unpack([1] * 2000) == [1] * 2000
    for much in ([LONG, [1] * 1001], [LONG, *([[]] * 600)], [LONG, {"a": 1}, *([{"a": 1}] * 500)]):
        with pytest.raises(ValueError, match=r"more (values|keys, lists and maps) than|max_array_len"):
            unpack(much)


@pytest.mark.parametrize("more", ["", LONG])
@pytest.mark.parametrize(
    "extension", [msgpack.ExtType(1, b""), msgpack.ExtType(1, b"x"), msgpack.Timestamp(1), msgpack.Timestamp(1, 1)]
)
def test_messagepack_has_no_extensions(more: str, extension: Any) -> None:
    with pytest.raises(ValueError, match=r"extension types of MessagePack|max_ext_len"):
        unpack([more, extension])


# -- CBOR --------------------------------------------------------------------------------------------------------------


def test_cbor_has_no_tags_known_or_unknown() -> None:
    for tag in (*range(1500), 43_000, 55_799, 2**32, 2**63):
        with pytest.raises(cbor2.CBORDecodeError, match="tag"):
            read_cbor(cbor2.loads, cbor2.dumps([cbor2.CBORTag(tag, "x")]), MOST)


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1, 2)])
def test_cbor_has_keys_that_nobody_can_make_collide(key: object) -> None:
    with pytest.raises(cbor2.CBORDecodeError, match="map key must be"):
        read_cbor(cbor2.loads, cbor2.dumps({key: 1}), MOST)


@given(st.lists(values, max_size=20))
def test_cbor_is_counted_by_its_items(some: list[Any]) -> None:
    value = [LONG, *some]
    keys = json.dumps(some).count(":")
    # Up to eight bytes between long texts count like eight items.
    assert read_cbor(cbor2.loads, cbor2.dumps(value), 8 * (number_of(value) + keys)) == value


@pytest.mark.parametrize(
    "item",
    [0, 1000, 10**5, 10**10, -1, -(10**5), 1.5, True, None, "", "a", "a" * 23, "a" * 24, "a" * 300, b"abc", [], {}],
)
def test_cbor_of_many_items_is_refused_before_it_is_read(item: object) -> None:
    def never(data: bytes, **_: object) -> None:
        raise AssertionError("it is read")

    with pytest.raises(TooMuch, match=r"more (values|keys, lists and maps) than"):
        read_cbor(never, cbor2.dumps([item] * 70_000), 69_999)


@pytest.mark.parametrize("cut", [b"\x78", b"\x58", b"\x7a\x00", b"\x7b" + b"\xff" * 8, b"\x19", b"\x1c", b"\x9f"])
def test_what_is_cut_off_is_left_to_the_reader(cut: bytes) -> None:
    with pytest.raises(cbor2.CBORDecodeError):
        read_cbor(cbor2.loads, b"\x82" + cbor2.dumps(LONG) + cut, MOST)


# -- greetings ---------------------------------------------------------------------------------------------------------


def test_a_hello_may_be_as_deep_as_its_features() -> None:
    check_greeting([1, "realm", {"roles": {"caller": {"features": {"progressive_call_results": True}}}}])
    check_greeting([5, "ticket", {}])
    check_greeting(7)


@pytest.mark.parametrize("bad", [[1, {b"a": 1}], [1, {"a": [{1: 2}]}], json.loads("[" * 17 + "]" * 17)])
def test_what_no_hello_has_is_refused(bad: object) -> None:
    with pytest.raises(TooMuch, match=r"before a session has joined, keys|deeper than 16"):
        check_greeting(bad)
