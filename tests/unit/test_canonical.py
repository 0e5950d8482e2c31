"""The canonical form of JSON: RFC 8785's own examples, and what a value goes through on its way."""

from __future__ import annotations

import json
import struct
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.canonical import canonical

#: RFC 8785, appendix B: the bits of a number, and how it is written.
NUMBERS = [
    ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"), ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"), ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"), ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"), ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"), ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"), ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"), ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"), ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"), ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "written"), NUMBERS)
def test_numbers_are_written_as_the_standard_has_them(bits: str, written: str) -> None:
    [number] = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical([number]) == f"[{written}]".encode()


def test_keys_are_sorted_by_utf_16() -> None:
    value = {"€": "Euro", "\r": "CR", "\ufb33": "Hebrew", "1": "One", "😀": "Smiley", "\x80": "Control", "ö": "o"}
    assert list(json.loads(canonical(value)).values()) == [
        "CR", "One", "Control", "o", "Euro", "Smiley", "Hebrew",
    ]  # fmt: skip


def test_strings_have_the_shortest_escapes_and_stay_as_they_are() -> None:
    assert canonical('€$\x0f\nA\'B"\\\\"/\x7f\u2028') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f\u2028"'.encode()
    assert canonical("\u00e9") != canonical("e\u0301")


#: What a payload may hold, and numbers that re-encoding spells otherwise.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**53) + 1, 2**53 - 1).map(float)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(one) for one in value] if isinstance(value, list) else value


def whole_as_integers(value: Any) -> Any:
    """As a writer in JavaScript has it, which knows no 1.0."""
    if isinstance(value, dict):
        return {key: whole_as_integers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole_as_integers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@given(VALUES)
def test_no_way_of_writing_a_value_changes_what_is_signed(value: Any) -> None:
    signed = canonical(value)
    for again in (
        msgspec.msgpack.decode(msgspec.msgpack.encode(value)),
        msgspec.json.decode(msgspec.json.encode(value)),
        json.loads(json.dumps(value, ensure_ascii=True)),
        cbor2.loads(cbor2.dumps(value)),
        cbor2.loads(cbor2.dumps(value, canonical=True)),
        json.loads(signed),
        reversed_keys(value),
        whole_as_integers(value),
    ):
        assert canonical(again) == signed


@given(VALUES, VALUES)
def test_two_values_are_one_only_if_they_are_equal(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (tagged(one) == tagged(other))


def tagged(value: Any) -> Any:
    """Python says that 1 is True."""
    if isinstance(value, dict):
        return {key: tagged(one) for key, one in value.items()}
    if isinstance(value, list):
        return [tagged(one) for one in value]
    return type(value).__name__ if isinstance(value, bool) else "", value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [bytearray(b"bytes")], {1: 2}, "\ud800", {"\ud800": 1.5}, {1.5}, 10**400]
)
def test_what_is_no_json_has_no_form(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value)
