"""Messages as files of TRISHULA v1, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trishula.contract.message import Message
from trishula.errors import FileInvalid
from trishula.files.file_names import Kind, kind_of
from trishula.files.v1 import Names, decode_v1, encode_v1, file_name_of

NAMES = Names()
V1 = {
    "id": "20260210T000200Z_mac_agni_agent_redesign",
    "from": "mac",
    "to": "agni",
    "type": "task",
    "priority": "high",
    "subject": "Agent redesign",
    "body": "Look at it.",
    "timestamp": "2026-02-10T00:02:00Z",
    "reply_to": None,
}
AT_MS = 1_770_681_720_000


def read(**changed: Any) -> Message:
    return decode_v1(json.dumps({**V1, **changed}).encode(), NAMES)


def test_a_file_of_v1_is_a_message() -> None:
    assert read() == Message(
        type="COMMAND", id=str(V1["id"]), sender="dc", to="agni", priority=2, subject="Agent redesign",
        payload="Look at it.", timestamp=AT_MS,
    )  # fmt: skip


def test_what_v1_can_t_say_lies_under_one_key() -> None:
    message = Message(
        type="COMMAND", id="c1", sender="dc/7f3a", to="agni", priority=5, procedure="host_report",
        payload={"args": [1], "kwargs": {}}, timestamp=AT_MS + 7, seq=3, ttl_ms=5, deadline_at=6, accepted_at=8,
        traceparent="00-x",
    )  # fmt: skip
    data = encode_v1(message, NAMES)
    fields = json.loads(data)
    assert fields == {
        "id": "c1", "from": "mac/7f3a", "to": "agni", "type": "task", "priority": "low", "subject": None,
        "body": {"args": [1], "kwargs": {}}, "timestamp": "2026-02-10T00:02:00.007Z", "reply_to": None,
        "trishula": {
            "procedure": "host_report", "seq": 3, "ttl_ms": 5, "deadline_at": 6, "traceparent": "00-x",
            "accepted_at": 8, "priority": 5,
        },
    }  # fmt: skip
    assert decode_v1(data, NAMES) == message


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"from": "dc"}, {"sender": "dc"}),
        ({"to": "broadcast"}, {"to": "broadcast"}),
        ({"type": "STATUS"}, {"type": "STATUS"}),
        ({"type": "response"}, {"type": "RESULT"}),
        ({"priority": "URGENT"}, {"priority": 1}),
        ({"priority": 5}, {"priority": 5}),
        ({"priority": None}, {"priority": 3}),
        ({"subject": ""}, {"subject": None}),
        ({"reply_to": "x"}, {"reply_to": "x"}),
        ({"timestamp": None}, {"timestamp": None}),
        ({"timestamp": "2026-02-10T01:02:00+01:00"}, {"timestamp": AT_MS}),
        ({"timestamp": "2026-02-10T00:02:00"}, {"timestamp": AT_MS}),
        ({"timestamp": "20260210T000200Z"}, {"timestamp": AT_MS}),
        ({"timestamp": AT_MS // 1000}, {"timestamp": AT_MS}),
        ({"timestamp": AT_MS / 1000 + 0.25}, {"timestamp": AT_MS + 250}),
        ({"timestamp": AT_MS}, {"timestamp": AT_MS}),
        ({"signature": "ab"}, {}),
    ],
)
def test_other_forms_are_taken(changed: dict[str, Any], expected: dict[str, Any]) -> None:
    message = read(**changed)
    assert {key: getattr(message, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"id": ".."}, r'the file\.id is "\.\."; it must be 1 to 128 of'),
        ({"id": 7}, "'id' in the file is 7; it must be a text"),
        ({"from": None}, "'from' in the file is null; it must be a text"),
        ({"to": "../x"}, r"the file\.to is"),
        ({"type": "dance"}, "'type' in the file is \"dance\"; it must be one of task, status"),
        ({"priority": "huge"}, "'priority' in the file is \"huge\"; it must be urgent, high, normal, low, or 1 to 5"),
        ({"priority": True}, "'priority' in the file is true"),
        ({"timestamp": "yesterday"}, "'timestamp' in the file is \"yesterday\"; it must be a time of ISO 8601"),
        ({"timestamp": 1e300}, "'timestamp' in the file is"),
        ({"subject": "a\nb"}, r"the file\.subject is"),
        ({"colour": "red"}, 'the file has the unknown key "colour"; the keys are id, from, to'),
        ({"trishula": {"color": 1}}, "'trishula' in the file is"),
        ({"trishula": {"accepted_at": "x"}}, "'accepted_at' in the file is"),
    ],
)
def test_a_fault_is_told_with_its_key_and_rule(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FileInvalid, match=sentence):
        read(**changed)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (bytes(100), "the file is empty"),
        (b'{"id": "x', "the file is no JSON: .* it may be cut off"),
        (b"[]", "it must be a JSON object"),
        (b'{"id": "\xe9"}', "the file is not UTF-8: byte 8 is 0xe9"),
        (b'{"body": NaN}', "the file is no JSON: NaN is no number of JSON"),
        (b"[" * 200_000, "the file is no (message|JSON)"),
    ],
)
def test_what_is_no_json_object_is_told_as_such(data: bytes, sentence: str) -> None:
    with pytest.raises(FileInvalid, match=sentence):
        decode_v1(data, NAMES)


def test_an_agent_that_is_called_as_v1_calls_another_one_can_t_be_named() -> None:
    with pytest.raises(FileInvalid, match="there mac is the name of dc"):
        encode_v1(Message(type="STATUS", id="x", sender="mac", to="agni"), NAMES)
    own = Names({})
    message = Message(type="STATUS", id="x", sender="mac", to="dc")
    assert decode_v1(encode_v1(message, own), own) == message
    with pytest.raises(ValueError, match="are said to be the same agent"):
        Names({"mac": "dc", "macbook": "dc"})


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
