"""The JSON Schemas that are shipped take and refuse what the code takes and refuses."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import pytest

from trishula.contract.message import MESSAGE_TYPES, RULES, parse
from trishula.errors import FileInvalid, TrishulaError
from trishula.files.v1 import Names, decode_v1

FOLDER = importlib.resources.files("trishula.files") / "schema"
MESSAGE_SCHEMA: dict[str, Any] = json.loads((FOLDER / "message.schema.json").read_text(encoding="utf-8"))
V1_SCHEMA: dict[str, Any] = json.loads((FOLDER / "v1.schema.json").read_text(encoding="utf-8"))
MESSAGE = {"type": "STATUS", "id": "20260210T000200Z:x", "to": "agni"}
V1 = {"id": "20260210T000200Z_mac_agni_x", "from": "mac", "to": "agni", "type": "task"}
GONE = object()


def taken(schema: dict[str, Any], value: object) -> bool:
    validator = jsonschema.Draft202012Validator(schema)
    return bool(validator.is_valid(value))


def changed(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (base | change).items() if value is not GONE}


@pytest.mark.parametrize("schema", [MESSAGE_SCHEMA, V1_SCHEMA])
def test_they_are_schemas_and_say_of_each_key_what_it_is(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert all(one["description"] for one in schema["properties"].values())


def test_the_schema_of_a_message_knows_the_contract_s_keys_and_types() -> None:
    assert set(MESSAGE_SCHEMA["properties"]) == set(RULES)
    assert MESSAGE_SCHEMA["properties"]["type"]["enum"] == [*MESSAGE_TYPES]


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"type": "COMMAND", "procedure": "host.report", "payload": {"args": [], "kwargs": {}}}, True),
        ({"to": "agni/7f3a", "from": "dc/1", "priority": 1, "seq": 0, "ttl_ms": 1, "deadline_at": 2**53 - 1}, True),
        ({"to": "capability:deploy.web"}, True),
        ({"to": "broadcast", "subject": "Ärger 🙂", "traceparent": "00-a-b-01", "timestamp": 60000.0}, True),
        ({"type": "ACK", "reply_to": "x"}, True),
        ({"type": "ACK"}, False),
        ({"type": "task"}, False),
        ({"type": GONE}, False),
        ({"id": ".."}, False),
        ({"id": "a/b"}, False),
        ({"id": "x" * 129}, False),
        ({"to": "Agni"}, False),
        ({"to": "../x"}, False),
        ({"to": "capability"}, False),
        ({"to": "broadcast/1"}, False),
        ({"from": "broadcast"}, False),
        ({"priority": 0}, False),
        ({"priority": "high"}, False),
        ({"timestamp": -1}, False),
        ({"timestamp": 2**53}, False),
        ({"ttl_ms": 0}, False),
        ({"subject": ""}, False),
        ({"subject": "a\nb"}, False),
        ({"subject": "x" * 257}, False),
        ({"procedure": "host.report"}, False),
        ({"type": "COMMAND", "procedure": "1x"}, False),
        ({"accepted_at": 1}, False),
        ({"colour": "red"}, False),
    ],
)
def test_a_message(change: dict[str, Any], good: bool) -> None:
    message = changed(MESSAGE, change)
    try:
        parse(message)
    except TrishulaError:
        assert not good
    else:
        assert good
    assert taken(MESSAGE_SCHEMA, message) is good


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"priority": "URGENT", "subject": "", "timestamp": "2026-02-10T00:02:00Z", "reply_to": None}, True),
        ({"priority": 5, "timestamp": 1770681720, "reply_to": "x", "body": [1, None]}, True),
        ({"priority": "2", "timestamp": "2026-02-10T01:02:00.25+01:00", "subject": "a\nb"}, True),
        ({"priority": None, "timestamp": None, "trishula": {"ttl_ms": 5}, "signature": "ab"}, True),
        ({"to": "all", "type": "agent_redesign", "colour": "red"}, True),
        ({"to": "*"}, True),
        ({"id": GONE}, False),
        ({"id": ".."}, False),
        ({"id": "../../etc/passwd"}, False),
        ({"id": 7}, False),
        ({"from": GONE}, False),
        ({"from": ""}, False),
        ({"to": ["agni", "dc"]}, False),
        ({"to": "../x"}, False),
        ({"type": ""}, False),
        ({"type": GONE}, False),
        ({"priority": "huge"}, False),
        ({"priority": 6}, False),
        ({"priority": True}, False),
        ({"timestamp": "yesterday"}, False),
        ({"timestamp": -1}, False),
        ({"reply_to": "a/b"}, False),
        ({"subject": 1}, False),
        ({"trishula": []}, False),
    ],
)
def test_a_file_of_v1(change: dict[str, Any], good: bool) -> None:
    form = changed(V1, change)
    try:
        decode_v1(json.dumps(form).encode(), Names())
    except FileInvalid:
        assert not good
    else:
        assert good
    assert taken(V1_SCHEMA, form) is good
