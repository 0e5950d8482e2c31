"""TRISHULA v1's messages: whatever is a message of ours comes back as it was, and every wrong file gets a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from trishula.contract.message import MESSAGE_TYPES, Message, check
from trishula.errors import FileInvalid
from trishula.files.file_names import Kind, is_plain, kind_of
from trishula.files.instants import read_instant, show_instant
from trishula.files.names import Names
from trishula.files.v1 import decode_v1, encode_v1, file_name_of, from_v1, to_v1

NAMES = Names()
SAMPLE = {
    "id": "20260210T000200Z_mac_agni_agent_redesign",
    "from": "mac",
    "to": "agni",
    "type": "task",
    "priority": "high",
    "subject": "Redesign",
    "body": "Please look at it.\nThanks.",
    "timestamp": "2026-02-10T00:02:00Z",
    "reply_to": None,
}


def file_of(**changed: Any) -> bytes:
    return json.dumps({**SAMPLE, **changed}).encode()


# -- from v1 -----------------------------------------------------------------------------------------------------------


def test_a_message_of_v1_is_one_of_ours() -> None:
    assert decode_v1(file_of(), NAMES) == Message(
        type="COMMAND",
        id="20260210T000200Z_mac_agni_agent_redesign",
        sender="dc",
        to="agni",
        priority=2,
        subject="Redesign",
        payload="Please look at it.\nThanks.",
        timestamp=1_770_681_720_000,
    )


def test_it_is_written_as_it_was_but_for_one_form_of_times() -> None:
    assert to_v1(decode_v1(file_of(), NAMES), NAMES) == {**SAMPLE, "timestamp": "2026-02-10T00:02:00.000Z"}


@pytest.mark.parametrize(
    ("key", "value", "attribute", "found"),
    [
        ("from", "dc", "sender", "dc"),
        ("to", "all", "to", "broadcast"),
        ("to", "mac/7f3a", "to", "dc/7f3a"),
        ("type", "status", "type", "STATUS"),
        ("type", "RESULT", "type", "RESULT"),
        ("priority", "urgent", "priority", 1),
        ("priority", "Low", "priority", 5),
        ("priority", 4, "priority", 4),
        ("priority", "2", "priority", 2),
        ("priority", None, "priority", 3),
        ("subject", "", "subject", None),
        ("body", {"a": [1]}, "payload", {"a": [1]}),
        ("timestamp", "2026-02-10T01:02:00+01:00", "timestamp", 1_770_681_720_000),
        ("timestamp", "2026-02-10 00:02:00.25", "timestamp", 1_770_681_720_250),
        ("timestamp", 1_770_681_720, "timestamp", 1_770_681_720_000),
        ("timestamp", 1_770_681_720.5, "timestamp", 1_770_681_720_500),
        ("timestamp", 1_770_681_720_000, "timestamp", 1_770_681_720_000),
        ("timestamp", "1770681720", "timestamp", 1_770_681_720_000),
        ("timestamp", "20260210T000200Z", "timestamp", 1_770_681_720_000),
        ("reply_to", "", "reply_to", None),
        ("reply_to", "x:1", "reply_to", "x:1"),
    ],
)
def test_every_habit_is_understood(key: str, value: object, attribute: str, found: object) -> None:
    assert getattr(decode_v1(file_of(**{key: value}), NAMES), attribute) == found


def test_what_we_have_no_word_for_is_kept_and_comes_back() -> None:
    odd = {**SAMPLE, "type": "question", "subject": "two\nlines", "thread": 7, "timestamp": "2026-02-10T00:02:00.000Z"}
    message = from_v1(odd, NAMES)
    assert (message.type, message.subject) == ("STATUS", "two lines")
    assert message.payload == {
        "v1": {"type": "question", "subject": "two\nlines", "thread": 7}, "body": SAMPLE["body"],
    }  # fmt: skip
    assert to_v1(message, NAMES) == odd


def test_a_mark_and_line_ends_of_windows_change_nothing() -> None:
    data = b"\xef\xbb\xbf" + json.dumps(SAMPLE, indent=1).replace("\n", "\r\n").encode()
    assert decode_v1(data, NAMES) == decode_v1(file_of(), NAMES)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b" \r\n\0\0", "the file is empty"),
        (json.dumps(SAMPLE).encode("utf-16"), "not text in UTF-8"),
        (b'{"id": "x", "id": "y"}', 'the key "id" stands in one map twice'),
        (b'{"id": "x"', "the file is no JSON"),
        (b"[" * 100_000, "the file"),
        (b'{"body": NaN}', "NaN is not in JSON"),
        (b"[1]", "a message is a JSON map"),
        (file_of(id=".."), 'id is ".."'),
        (file_of(id="../../etc/passwd"), "is no path"),
        (file_of(id="a" * 129), "an id has 1 to 128"),
        (file_of(id=None), "id is missing"),
        (file_of(**{"from": None}), "from is missing"),
        (file_of(to=["agni", "dc"]), "write one file for each recipient"),
        (file_of(to="Not an agent"), "the file.to"),
        (file_of(to=""), "to is missing"),
        (file_of(type=None), "type is null; it must be a word"),
        (file_of(priority="soon"), 'priority is "soon"; it must be urgent, high, normal or low'),
        (file_of(priority=0), "priority is 0"),
        (file_of(priority=True), "priority is true"),
        (file_of(subject=7), "subject is 7"),
        (file_of(timestamp="yesterday"), 'timestamp is "yesterday"'),
        (file_of(timestamp=-1), "timestamp is -1"),
        (file_of(timestamp=1e300), "timestamp is"),
        (file_of(body=2**60), "body"),
        (file_of(trishula=[]), "trishula is []"),
        (file_of(trishula={"secret": 1}), 'unknown key "secret"'),
        (b'{"id": "x", "from": "agni", "to": "dc", "type": "status", "body": "\\ud800"}', "body"),
    ],
)
def test_a_wrong_file_gets_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(FileInvalid) as caught:
        decode_v1(data, NAMES)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


# -- any message of ours ----------------------------------------------------------------------------------------------

_INSTANT = some.integers(0, 2**53 - 1)
_ID = some.from_regex(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
_AGENT = some.sampled_from(["dc", "mac", "agni", "all", "everyone", "broadcast", "a" * 63])
_LINE = some.text(some.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40)
_JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**53) + 1, 2**53 - 1)
    | some.floats(allow_nan=False, allow_infinity=False)
    | some.text(some.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\0")),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.sampled_from(["v1", "body", "type", "id", "trishula", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@some.composite
def messages(draw: Any) -> Message:
    kind = draw(some.sampled_from(MESSAGE_TYPES))
    wire = {
        "type": kind,
        "id": draw(_ID),
        "to": draw(_AGENT | some.sampled_from(["dc/7f3a", "capability:deploy"])),
        "from": draw(_AGENT.filter(lambda name: name != "broadcast")),
        "timestamp": draw(some.none() | _INSTANT | some.integers(0, 4 * 10**12)),
        "payload": draw(_JSON),
        "priority": draw(some.integers(1, 5)),
        "reply_to": draw(_ID if kind == "ACK" else some.none() | _ID),
        "procedure": draw(some.none() | some.just("host.report")) if kind == "COMMAND" else None,
        "seq": draw(some.none() | _INSTANT),
        "subject": draw(some.none() | _LINE),
        "ttl_ms": draw(some.none() | some.integers(1, 10**9)),
        "deadline_at": draw(some.none() | _INSTANT),
        "traceparent": draw(some.none() | _LINE),
    }
    return check({key: value for key, value in wire.items() if value is not None})


@given(messages())
def test_a_message_of_ours_comes_back_as_it_was(message: Message) -> None:
    assert decode_v1(encode_v1(message, NAMES), NAMES) == message


@given(
    some.fixed_dictionaries(
        {
            "id": _ID,
            "from": some.sampled_from(["mac", "agni"]),
            "to": some.sampled_from(["mac", "dc", "all"]),
            "type": some.sampled_from(["task", "question", "Status"]),
        },
        optional={
            "priority": some.sampled_from(["urgent", "low", 3, "4"]),
            "subject": some.text(some.characters(exclude_categories=["Cs"]), max_size=300),
            "body": _JSON,
            "timestamp": some.sampled_from(["2026-02-10T00:02:00Z", 1_770_681_720]),
            "thread": _JSON,
        },
    )
)
def test_a_message_of_v1_means_the_same_when_it_was_written_by_us(found: dict[str, Any]) -> None:
    try:
        message = from_v1(found, NAMES)
    except FileInvalid:
        # The payload's rule: what no client could read.
        return
    again = to_v1(message, NAMES)
    assert from_v1(again, NAMES) == message
    kept = {"body", "thread"} & set(found)
    assert {key: again.get(key) for key in kept} == {key: found[key] for key in kept}


@given(_INSTANT)
def test_instants_come_back(at_ms: int) -> None:
    shown = show_instant(at_ms)
    assert read_instant(shown) == at_ms


# -- names -------------------------------------------------------------------------------------------------------------


@given(_ID, _ID)
def test_no_two_ids_have_one_file(one: str, other: str) -> None:
    first, second = file_name_of(one, "dc"), file_name_of(other, "dc")
    assert (first.lower() == second.lower()) == (one == other)
    for name in (first, second):
        assert is_plain(name) and kind_of(name) is Kind.MESSAGE


@pytest.mark.parametrize(
    "message_id",
    ["20260210T000200Z_mac_agni_agent_redesign", "17.0a1b2c3d4e5f6071"],
)  # fmt: skip
def test_a_good_id_is_the_file_s_name(message_id: str) -> None:
    assert file_name_of(message_id, "dc") == f"{message_id}.json"


def test_other_ids_get_names_of_their_own() -> None:
    ids = [
        "aux", "AUX", "con.x", "a:b", "a-b", "A", "a", "x.sync-conflict-20260210-120000", "x.conflict", "-rf",
        "x" * 128, "X" * 128, "~x", "x.tmp", "20260210T000200Z_A", "20260210T000200Z_a.conflict",
    ]  # fmt: skip
    names = {file_name_of(one, sender) for one in ids for sender in ("dc", "agni", None)}
    assert len(names) == 3 * len(ids)
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert kind_of(name) is Kind.MESSAGE
        assert not {*name} & {*'/\\:*?"<>| '}
        assert name.partition(".")[0] not in ("aux", "con", "")


def test_names_of_agents() -> None:
    names = Names.parse(["mac=dc", "main=agni"])
    theirs = ("mac", "main", "main/x1", "rushabdev", "ALL")
    assert [names.to_ours(name) for name in theirs] == ["dc", "agni", "agni/x1", "rushabdev", "broadcast"]
    assert [names.to_theirs(name) for name in ("dc", "agni/x1", "rushabdev")] == ["mac", "main/x1", "rushabdev"]
    with pytest.raises(ValueError, match="no pair of names such as mac=dc"):
        Names.parse(["mac"])
    with pytest.raises(ValueError, match="said to be the same agent's"):
        Names.parse(["mac=dc", "laptop=dc"])


@pytest.mark.parametrize("accepted_at", [0, 1, 99_999_999_999, 2**53 - 1])
def test_when_the_bus_took_it_is_milliseconds_however_few(accepted_at: int) -> None:
    message = Message(type="STATUS", id="x", sender="dc", to="agni", accepted_at=accepted_at)
    assert decode_v1(encode_v1(message, Names()), Names()) == message


@pytest.mark.parametrize("accepted_at", ["x", True, -1, 2**53, 1.5])
def test_when_the_bus_took_it_is_refused_otherwise(accepted_at: object) -> None:
    form = {"id": "x", "from": "dc", "to": "agni", "type": "status", "trishula": {"accepted_at": accepted_at}}
    with pytest.raises(FileInvalid, match=r"trishula\.accepted_at is .*; it must be a count of milliseconds"):
        decode_v1(json.dumps(form).encode(), Names())
