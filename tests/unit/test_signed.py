"""The form of a signature, by the example in the documentation, which other libraries made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trishula.contract.signed import Signature, key_id, read_signature, statement
from trishula.key_file import AgentKey, is_signed

DOCS = Path(__file__).resolve().parents[2] / "deploy" / "docs" / "howto" / "sign-messages.rst"


def blocks(language: str) -> list[str]:
    text = DOCS.read_text(encoding="utf-8")
    found = re.findall(rf"code-block:: {language}\n\n((?:   .*\n|\n)+)", text)
    return ["\n".join(line.removeprefix("   ") for line in block.strip("\n").splitlines()) for block in found]


def test_the_example_of_the_documentation_holds() -> None:
    [message] = map(json.loads, blocks("json"))
    signed, signature = blocks("text")
    made = statement(message, sender=message["from"], deadline_at=message["deadline_at"])
    assert made.decode() == signed
    key = AgentKey(bytes(range(32)))
    assert str(Signature(key_id(key.public), message["deadline_at"], key.sign(made))) == signature
    read = read_signature(signature)
    assert read is not None
    assert (read.key, read.deadline_at) == (key.public[:16], message["deadline_at"])
    assert is_signed(bytes.fromhex(key.public), made, read.value)


def test_what_is_not_signed_changes_nothing_and_all_else_does() -> None:
    message = {
        "type": "RESULT", "id": "1", "from": "dc", "to": "agni", "timestamp": 5, "payload": {"a": 1}, "priority": 3,
        "procedure": "p", "reply_to": "0", "subject": "s", "ttl_ms": 9,
    }  # fmt: skip

    def made(**changed: object) -> bytes:
        return statement({**message, **changed}, sender="dc", deadline_at=None)

    first = made()
    assert made(seq=9, traceparent="x", accepted_at=7, deadline_at=8) == first
    for key in message.keys() - {"from"}:
        assert made(**{key: "another"}) != first, key
    assert statement(message, sender="dc/x", deadline_at=None) != first
    assert statement(message, sender="dc", deadline_at=0) != first
    bare = {"type": "STATUS", "id": "1", "to": "agni", "timestamp": 5}
    full = {**bare, "payload": None, "priority": 3}
    assert statement(bare, sender="dc", deadline_at=None) == statement(full, sender="dc", deadline_at=None)


@pytest.mark.parametrize(
    "text",
    [
        None, 7, "", "1", "2.0123456789abcdef.-." + "A" * 86, "1.0123456789ABCDEF.-." + "A" * 86,
        "1.0123456789abcdef.-1." + "A" * 86, "1.0123456789abcdef.01." + "A" * 86, "1.0123456789abcdef.-." + "A" * 85,
        "1.0123456789abcdef.-." + "A" * 86 + "\n", "1.0123456789abcdef.-." + "+" * 86,
    ],
)  # fmt: skip
def test_what_is_no_signature_is_none(text: object) -> None:
    assert read_signature(text) is None
