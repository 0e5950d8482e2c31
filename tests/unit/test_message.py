"""The message's rules: each key, each fault, the exact sentence; and that nothing else ever comes out of parse()."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from trishula.contract.message import MESSAGE_TYPES, RULES, Message, parse
from trishula.contract.payload import pack
from trishula.errors import KeyUnknown, MessageInvalid, PayloadNotJson, PayloadTooLarge, TrishulaError

ID_RULE = "1 to 128 of A-Z, a-z, 0-9, '_', '.', ':' and '-', not starting with '.'"
LINE_RULE = "a string of 1 to 256 characters, one line without control characters"
AGENT_RULE = "a lower-case letter, then up to 62 of a-z, 0-9 and _"
INSTANCE_RULE = "1 to 32 of a-z, 0-9 and _, not starting with _"
MAX = 9007199254740991
MS_RULE = f"an integer count of milliseconds from 0 to {MAX}"
TYPES = "one of COMMAND, STATUS, RESULT, ERROR, HEARTBEAT, ACK"
TO_RULE = f"'agent', 'agent/instance', 'capability:name' or 'broadcast', where an agent is {AGENT_RULE}"
RULE = (
    "; a payload is any JSON value: maps with string keys, lists, strings that don't begin with U+0000, integers "
    "within ±(2^53-1), finite numbers, true, false and null, and bytes, nested at most 100 deep"
)


def wire(**keys: Any) -> dict[str, Any]:
    """A right message, with some keys set; ``from_`` stands for ``from``, ``...`` for a key that is left out."""
    message: dict[str, Any] = {"type": "STATUS", "id": "m1", "to": "agni"}
    for key, value in keys.items():
        message[key.rstrip("_")] = value
    return {key: value for key, value in message.items() if value is not ...}


def sentence_of(raw: object, **how: Any) -> str:
    with pytest.raises(TrishulaError) as caught:
        parse(raw, **how)
    return caught.value.sentence


# -- right ones --------------------------------------------------------------------------------------------------------


def test_the_smallest() -> None:
    message = parse(wire())
    assert message == Message(type="STATUS", id="m1", to="agni")
    assert (message.priority, message.payload, message.sender) == (3, None, None)
    assert message.to_wire() == {"type": "STATUS", "id": "m1", "to": "agni", "payload": None, "priority": 3}


def test_the_largest() -> None:
    raw = wire(
        type="COMMAND",
        from_="dc/7f3a",
        to="agni/0a",
        timestamp=1763856000000,
        payload={"args": [1, "zwei", None], "kwargs": {"disk": "/"}},
        priority=1,
        reply_to="m0",
        procedure="host.report",
        seq=0,
        subject="how is the host?",
        ttl_ms=1,
        deadline_at=MAX,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert parse(raw).to_wire() == raw
    assert set(raw) == set(RULES)


@pytest.mark.parametrize("kind", MESSAGE_TYPES)
def test_every_type(kind: str) -> None:
    assert parse(wire(type=kind, reply_to="m0")).type == kind


@pytest.mark.parametrize("key", sorted(set(RULES) - {"type", "id", "to", "priority"}))
def test_an_optional_key_may_be_null(key: str) -> None:
    assert parse(wire(**{key: None})) == parse(wire())


def test_a_broadcast() -> None:
    assert parse(wire(to="broadcast")).to == "broadcast"


def test_any_mapping_is_taken() -> None:
    assert parse(MappingProxyType(wire())) == parse(wire())


# -- faults, each key --------------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str]] = [
    # type
    (wire(type=...), f"message.type is missing; it must be {TYPES}"),
    (wire(type="PING"), f'message.type is "PING"; it must be {TYPES}'),
    (wire(type="status"), f'message.type is "status"; it must be {TYPES}'),
    (wire(type=None), f"message.type is null; it must be {TYPES}"),
    (wire(type=1), f"message.type is 1; it must be {TYPES}"),
    # id
    (wire(id=...), f"message.id is missing; it must be {ID_RULE}"),
    (wire(id=""), f'message.id is ""; it must be {ID_RULE}'),
    (wire(id=".hidden"), f'message.id is ".hidden"; it must be {ID_RULE}'),
    (wire(id="../up"), f'message.id is "../up"; it must be {ID_RULE}'),
    (wire(id="a b"), f'message.id is "a b"; it must be {ID_RULE}'),
    (wire(id="a\n"), f'message.id is "a\\n"; it must be {ID_RULE}'),
    (wire(id="x" * 129), f'message.id is "{"x" * 76}...; it must be {ID_RULE}'),
    (wire(id=7), f"message.id is 7; it must be {ID_RULE}"),
    (wire(id=None), f"message.id is null; it must be {ID_RULE}"),
    # from
    (
        wire(from_=7),
        "message.from is 7; it must be the sender's own address, 'agent' or 'agent/instance', or absent",
    ),
    (wire(from_="DC"), f'message.from is "DC"; an agent\'s name is {AGENT_RULE}'),
    (wire(from_=""), f'message.from is ""; an agent\'s name is {AGENT_RULE}'),
    (wire(from_="broadcast"), f'message.from is "broadcast"; an agent\'s name is {AGENT_RULE}'),
    (wire(from_="dc/"), f'message.from is "dc/"; an instance\'s name is {INSTANCE_RULE}'),
    # to
    (wire(to=...), f"message.to is missing; it must be {TO_RULE}"),
    (wire(to=["agni"]), f'message.to is ["agni"]; it must be {TO_RULE}'),
    (wire(to=""), f'message.to is ""; an agent\'s name is {AGENT_RULE}'),
    (wire(to="Agni"), f'message.to is "Agni"; an agent\'s name is {AGENT_RULE}'),
    (wire(to="agni/A"), f'message.to is "agni/A"; an instance\'s name is {INSTANCE_RULE}'),
    (wire(to="broadcast/x"), f'message.to is "broadcast/x"; an agent\'s name is {AGENT_RULE}'),
    # timestamp, deadline_at
    (wire(timestamp=-1), f"message.timestamp is -1; it must be {MS_RULE}"),
    (wire(timestamp=1.5), f"message.timestamp is 1.5; it must be {MS_RULE}"),
    (wire(timestamp="2026-01-01T00:00:00Z"), f'message.timestamp is "2026-01-01T00:00:00Z"; it must be {MS_RULE}'),
    (wire(timestamp=MAX + 1), f"message.timestamp is {MAX + 1}; it must be {MS_RULE}"),
    (wire(timestamp=True), f"message.timestamp is true; it must be {MS_RULE}"),
    (wire(deadline_at=-1), f"message.deadline_at is -1; it must be {MS_RULE}"),
    # priority
    (wire(priority=0), "message.priority is 0; it must be an integer from 1 (most urgent) to 5"),
    (wire(priority=6), "message.priority is 6; it must be an integer from 1 (most urgent) to 5"),
    (wire(priority="3"), 'message.priority is "3"; it must be an integer from 1 (most urgent) to 5'),
    (wire(priority=None), "message.priority is null; it must be an integer from 1 (most urgent) to 5"),
    (wire(priority=2.5), "message.priority is 2.5; it must be an integer from 1 (most urgent) to 5"),
    # reply_to
    (wire(reply_to=""), f'message.reply_to is ""; it must be the id of the message it answers: {ID_RULE}'),
    (wire(reply_to=1), f"message.reply_to is 1; it must be the id of the message it answers: {ID_RULE}"),
    (
        wire(type="ACK"),
        "message.reply_to is missing; an ACK message must name the id it acknowledges",
    ),
    # procedure
    (
        wire(type="COMMAND", procedure=""),
        "message.procedure is \"\"; it must be the name of the procedure to run: letters, digits and '_', in parts "
        "joined by '.'",
    ),
    (
        wire(type="COMMAND", procedure="a..b"),
        "message.procedure is \"a..b\"; it must be the name of the procedure to run: letters, digits and '_', in parts "
        "joined by '.'",
    ),
    (
        wire(type="COMMAND", procedure="rm -rf"),
        "message.procedure is \"rm -rf\"; it must be the name of the procedure to run: letters, digits and '_', in "
        "parts joined by '.'",
    ),
    (
        wire(procedure="host_report"),
        'message.procedure is "host_report" in a STATUS; only a COMMAND has a procedure',
    ),
    # seq
    (wire(seq=-1), f"message.seq is -1; it must be an integer from 0 to {MAX}"),
    (wire(seq="1"), f'message.seq is "1"; it must be an integer from 0 to {MAX}'),
    # subject, traceparent
    (wire(subject=""), f'message.subject is ""; it must be {LINE_RULE}'),
    (wire(subject="x" * 257), f'message.subject is "{"x" * 76}...; it must be {LINE_RULE}'),
    (wire(subject=7), f"message.subject is 7; it must be {LINE_RULE}"),
    (wire(subject="\x00QUJD"), f'message.subject is "\\u0000QUJD"; it must be {LINE_RULE}'),
    *(
        (
            wire(subject=f"a{control}b"),
            f"message.subject is {msgspec.json.encode(f'a{control}b').decode()}; it must be {LINE_RULE}",
        )
        for control in "\n\r\t\x1b\x7f\x85\u2028\u2029"
    ),
    (wire(traceparent=""), f'message.traceparent is ""; it must be {LINE_RULE} (W3C trace context)'),
    (wire(traceparent="\n"), f'message.traceparent is "\\n"; it must be {LINE_RULE} (W3C trace context)'),
    # ttl_ms
    (wire(ttl_ms=0), f"message.ttl_ms is 0; it must be an integer count of milliseconds from 1 to {MAX}"),
    (wire(ttl_ms="7d"), f'message.ttl_ms is "7d"; it must be an integer count of milliseconds from 1 to {MAX}'),
    # what only the node sets
    (wire(accepted_at=1), "message.accepted_at is 1; only the node sets it: leave it out"),
]


@pytest.mark.parametrize(("raw", "sentence"), FAULTS, ids=[sentence[:48] for _, sentence in FAULTS])
def test_fault(raw: dict[str, Any], sentence: str) -> None:
    assert sentence_of(raw) == sentence
    with pytest.raises(MessageInvalid):
        parse(raw)


def test_every_key_has_a_fault() -> None:
    covered = {sentence.partition(" ")[0].removeprefix("message.") for _, sentence in FAULTS}
    assert set(RULES) - {"payload"} <= covered


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (None, "null"),
        ("hello", '"hello"'),
        (7, "7"),
        ([], "[]"),
        ([["type", "STATUS"]], '[["type","STATUS"]]'),
        (b"x", '"eA=="'),
    ],
)
def test_no_map_at_all(raw: object, shown: str) -> None:
    assert sentence_of(raw) == f"message is {shown}; a message must be a map"


@pytest.mark.parametrize(
    ("key", "shown"),
    [("colour", '"colour"'), ("From", '"From"'), ("", '""'), (7, "7"), (("a",), '["a"]')],
)
def test_an_unknown_key(key: object, shown: str) -> None:
    raw = dict([*wire().items(), (key, 1)])
    known = ", ".join(RULES)
    assert sentence_of(raw) == f"message has the unknown key {shown}; the known keys are {known}"
    with pytest.raises(KeyUnknown):
        parse(raw)


def test_the_path_comes_first() -> None:
    assert sentence_of(wire(priority=9), path="messages[3]").startswith("messages[3].priority is 9; ")
    assert sentence_of("x", path="messages[3]").startswith("messages[3] is ")
    assert sentence_of(wire(payload=math.nan), path="messages[3]").startswith("messages[3].payload is nan, ")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (2**64, "18446744073709551616"),
        (10**5000, "a value of type int, too large or too deep to be shown"),
        ("\ud800", "'\\ud800'"),
        ("x" * 100, '"' + "x" * 76 + "..."),
    ],
    ids=["nan", "infinity", "65 bits", "5001 digits", "surrogate", "long"],
)
def test_what_a_refusal_shows(value: object, shown: str) -> None:
    assert sentence_of(wire(priority=value)).startswith(f"message.priority is {shown}; it must be ")


def test_a_refusal_shows_something_of_a_value_that_is_nested_very_deeply() -> None:
    assert sentence_of(wire(priority=nested(100_000))).startswith("message.priority is a value of type list, ")


# -- the payload -------------------------------------------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "payload",
    [
        *(
            None,
            True,
            0,
            -(2**53) + 1,
            2**53 - 1,
            1.5,
            1e300,
            "",
            "ä\n\x00",
            [],
            {},
            {"a": {"b": [1, None, {"c": ""}]}},
        ),
        nested(99),
        # Many brackets are no depth, and U+0000 is only special where a string begins.
        [[]] * 500,
        "[" * 500,
        {"\x00": 'a"\x00', "b": '"\x00'},
    ],
)
def test_payloads(payload: object) -> None:
    assert parse(wire(payload=payload)).payload == payload


@dataclass
class Point:
    x: Any
    y: Any = 0


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    at: datetime
    names: set[str]


class Struct(msgspec.Struct):
    inner: Any = None


class Text(str):
    """As NumPy's strings are."""


class Number(float):
    """As NumPy's numbers are."""


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        ({"a": {b"k": 1}}, '.a has the key "aw==", of the type bytes'),
        (math.nan, " is nan, for which JSON has no word"),
        ({"a": [1.0, -math.inf]}, ".a[1] is -inf, for which JSON has no word"),
        ({1: "a"}, " has the key 1, of the type int"),
        ({"a": {None: 1}}, ".a has the key null, of the type NoneType"),
        ({"a": ({"b c": {True: 1}},)}, '.a[0]["b c"] has the key true, of the type bool'),
        ([{1.5: 1}], "[0] has the key 1.5, of the type float"),
        ({"tags": {1, 2}}, ".tags is of the type set: send a list"),
        (frozenset(), " is of the type frozenset: send a list"),
        ({"at": datetime(2026, 1, 1), "seen": {1}}, ".seen is of the type set: send a list"),
        (object(), " is of the type object"),
        (dict, " is of the type type"),
        (MappingProxyType({"a": 1}), " is of the type mappingproxy"),
        ("\ud800", " is '\\ud800', with a lone surrogate, which is no text"),
        ({"\udfff": 1}, " has the key '\\udfff', with a lone surrogate, which is no text"),
        (2**53, " is 9007199254740992, which JavaScript and others read as another number: send it as a string"),
        (
            [-(2**53)],
            "[0] is -9007199254740992, which JavaScript and others read as another number: send it as a string",
        ),
        (
            {"n": {"m": 2**70}},
            ".n.m is 1180591620717411303424, which JavaScript and others read as another number: send it as a string",
        ),
        (nested(100), f"{'[0]' * 20}…{'[0]' * 20} is nested too deeply"),
        (nested(900), f"{'[0]' * 20}…{'[0]' * 20} is nested too deeply"),
        ([OrderedDict(a=nested(98))], f"[0].a{'[0]' * 18}{'['}…{'[0]' * 20} is nested too deeply"),
        (nested(100_000), f"{'[0]' * 20}…{'[0]' * 20} is nested too deeply"),
        # JSON of WAMP: binary data, in Base64.
        ("\x00", " begins with U+0000, by which JSON in WAMP marks binary data"),
        ({"a": ["\x00QUJD"]}, ".a[0] begins with U+0000, by which JSON in WAMP marks binary data"),
        (Point({1}), ".x is of the type set: send a list"),
    ],
    # Without the address of an object, so that a test has one name in all processes.
    ids=lambda value: ascii(value).partition(" at 0x")[0][:24] if not isinstance(value, list) else "list",
)
def test_payloads_that_are_not_json(payload: object, fault: str) -> None:
    with pytest.raises(PayloadNotJson) as caught:
        parse(wire(payload=payload))
    assert caught.value.sentence == f"message.payload{fault}{RULE}"


@pytest.mark.parametrize(
    ("payload", "read"),
    [
        ((1, ("a",)), [1, ["a"]]),
        (Point((1, 2), {"a": Struct()}), {"x": [1, 2], "y": {"a": {"inner": None}}}),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, {"at": "2026-01-01T00:00:00+00:00"}),
        ([date(2026, 1, 2), time(3, 4), timedelta(hours=1)], ["2026-01-02", "03:04:00", "PT3600S"]),
        (Point(UUID(int=7), Decimal("1.5")), {"x": "00000000-0000-0000-0000-000000000007", "y": "1.5"}),
        (Struct([Colour.RED, {Colour.RED: 1}]), {"inner": ["red", {"red": 1}]}),
        (
            {"model": Model(at=datetime(2026, 1, 1), names={"a"})},
            {"model": {"at": "2026-01-01T00:00:00", "names": ["a"]}},
        ),
        ([Text("a"), Number(1.5), {Text("k"): 1}], ["a", 1.5, {"k": 1}]),
        (OrderedDict(a=1), {"a": 1}),
        # A hundred brackets and a wide integer's first byte have it walked over, and nothing is found.
        ([{"at": 1_764_000_000_000, "word": "Ϗ" * 9}] * 150, [{"at": 1_764_000_000_000, "word": "Ϗ" * 9}] * 150),
        ([2**53 - 1, -(2**53) + 1, 2**40], [2**53 - 1, -(2**53) + 1, 2**40]),
    ],
)
def test_what_a_reader_gets_of_a_payload(payload: object, read: object) -> None:
    packed = pack(payload, path="payload", limit_bytes=10**6)
    assert msgspec.msgpack.decode(packed) == read
    assert pack(read, path="payload", limit_bytes=10**6) == packed


def test_the_payloads_limit() -> None:
    assert parse(wire(payload="x" * 98), payload_limit_bytes=100).payload == "x" * 98
    with pytest.raises(PayloadTooLarge) as caught:
        parse(wire(payload="x" * 99), payload_limit_bytes=100)
    assert caught.value.sentence == (
        "message.payload has 101 bytes as JSON and the limit is 100 (100 B); put the data where the recipient can "
        "fetch it and send its address"
    )


def test_the_limit_counts_bytes_not_characters() -> None:
    with pytest.raises(PayloadTooLarge):
        parse(wire(payload="ä" * 50), payload_limit_bytes=100)


# -- whole numbers -----------------------------------------------------------------------------------------------------


def test_whole_numbers_may_come_as_floats() -> None:
    raw = wire(ttl_ms=60000.0, priority=2.0, timestamp=1763856000000.0, seq=0.0, deadline_at=1e15, payload=[1.0])
    message = parse(raw)
    assert (message.ttl_ms, message.priority, message.timestamp) == (60000, 2, 1763856000000)
    assert [type(one) for one in (message.ttl_ms, message.seq, message.deadline_at)] == [int] * 3
    # The payload is the sender's own affair.
    assert isinstance(message.payload[0], float)


@pytest.mark.parametrize("ttl_ms", [0.5, 0.0, -1.0, 2.0**53, math.nan, math.inf, "60000.0"])
def test_other_floats_are_none(ttl_ms: object) -> None:
    with pytest.raises(MessageInvalid, match=r"^message\.ttl_ms is .*; it must be an integer count of milliseconds"):
        parse(wire(ttl_ms=ttl_ms))


# -- anything at all ---------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=8
)
texts = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\x00"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
ids = st.from_regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
names = st.from_regex(r"[a-z][a-z0-9_]{0,12}(/[a-z0-9][a-z0-9_]{0,8})?", fullmatch=True).filter(
    lambda text: text.partition("/")[0] not in ("broadcast", "capability")
)
instants = st.integers(0, MAX)
shorts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=256)
right = st.fixed_dictionaries(
    {
        "type": st.sampled_from([kind for kind in MESSAGE_TYPES if kind != "ACK"]),
        "id": ids,
        "to": names | st.just("broadcast"),
    },
    optional={
        "from": names,
        "timestamp": instants,
        "payload": json_values,
        "priority": st.integers(1, 5),
        "reply_to": ids,
        "seq": instants,
        "subject": shorts,
        "ttl_ms": st.integers(1, MAX),
        "deadline_at": instants,
        "traceparent": shorts,
    },
)


PAD = "x" * 2000


def taken(payload: object) -> bool:
    try:
        pack(payload, path="p", limit_bytes=10**6)
    except PayloadNotJson:
        return False
    return True


@given(anything | st.sampled_from(["\x00a", {"a": "\x00"}, 2**53, -(2**53), "Ϗ\x00", [1, "ϓ"], {"\x00": 0}]))
def test_a_large_payload_is_judged_as_a_small_one(value: object) -> None:
    assert taken([value, PAD]) == taken([value])
    assert taken({"a": value, "b": PAD}) == taken({"a": value})


@given(anything)
def test_anything_gives_a_message_or_our_error(raw: object) -> None:
    try:
        parse(raw)
    except TrishulaError as error:
        assert error.sentence.startswith("message")
        assert "\n" not in error.sentence


@given(right, st.sampled_from([*RULES, "accepted_at", "colour"]), anything)
def test_one_strange_key_gives_a_message_or_our_error(raw: dict[str, Any], key: str, value: object) -> None:
    try:
        parse({**raw, key: value})
    except TrishulaError as error:
        assert error.sentence.startswith("message")
        assert "\n" not in error.sentence


ENCODINGS: list[tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = [
    (msgspec.json.encode, msgspec.json.decode),
    (msgspec.msgpack.encode, msgspec.msgpack.decode),
]


@given(right, st.sampled_from(ENCODINGS))
def test_a_message_survives_the_wire(
    raw: dict[str, Any], encoding: tuple[Callable[[Any], bytes], Callable[[bytes], Any]]
) -> None:
    encode, decode = encoding
    message = parse(raw)
    travelled = decode(encode(message.to_wire()))
    assert parse(travelled) == message
    assert {"payload": None, "priority": 3, **raw} == travelled
