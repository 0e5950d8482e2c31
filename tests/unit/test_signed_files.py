"""Signed messages on the second road: what a file is read as is what its sender has signed."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.addresses import Address
from trishula.contract.message import Message, ReceivedMessage
from trishula.files.mail_folder import MailFolder
from trishula.files.names import Names
from trishula.files.signature import KEYS_FILE, FileKey, KnownKeys
from trishula.files.v1 import (
    SIGNATURE,
    decode_v1,
    encode_v1,
    from_v1,
    message_signature_in,
    read_map,
    with_message_signature,
)
from trishula.key_file import new_key_file
from trishula.known_keys import KnownKeys as TrustedKeys
from trishula.messaging.signing import Signer
from trishula.messaging.verifying import Refused, Verifier
from trishula.settings import SettingsInvalid

NOW_MS = 1_767_225_600_000


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(made(tmp_path_factory.mktemp("keys")) / "dc.key", "dc")


def made(folder: Path) -> Path:
    public = new_key_file(folder / "dc.key").public
    TrustedKeys(folder / "trusted.json", SettingsInvalid, "").trust("dc", bytes.fromhex(public))
    return folder


def verifier(folder: Path) -> Verifier:
    return Verifier(folder / "trusted.json", {"COMMAND"}, Address("agni"), lambda: NOW_MS)


def encoded(**more: Any) -> bytes:
    message = {"type": "COMMAND", "id": "m1", "to": "agni", "timestamp": NOW_MS, "payload": {"a": 1.0}, **more}
    return msgspec.msgpack.encode(message)


def test_a_file_has_the_signature_of_its_message_beside_its_own(tmp_path: Path) -> None:
    keys = made(tmp_path)
    dc = MailFolder(tmp_path / "dc", "dc", "dc.token", seconds=itertools.count(step=10).__next__)
    agni = MailFolder(tmp_path / "agni", "agni", "agni.token", seconds=itertools.count(step=10).__next__)
    for folder in (dc, agni):
        folder.prepare()
    KnownKeys(tmp_path / "agni" / KEYS_FILE).trust("dc", FileKey.from_token("dc.token").public)
    message = encoded(procedure="restart", priority=4, deadline_at=NOW_MS + 5000)
    signature = Signer(keys / "dc.key", "dc").signature_of(message)
    assert signature is not None
    dc.write(message, 7, NOW_MS, signature)
    [file] = (tmp_path / "dc" / "outbox").iterdir()
    found = json.loads(file.read_text())
    assert found["trishula"][SIGNATURE] == signature != found[SIGNATURE]
    shutil.move(file, tmp_path / "agni" / "inbox" / file.name)
    # At first nobody knows whether it is written still.
    agni.read([], NOW_MS)
    [arrived] = agni.read([], NOW_MS)
    judged = verifier(keys).judged(arrived.message, arrived.signature)
    assert isinstance(judged, ReceivedMessage)
    assert (judged.signed_by, judged.seq) == ("dc", 7)
    assert isinstance(verifier(keys).judged(arrived.message, None), Refused)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["COMMAND", "STATUS", "RESULT", "ERROR"]),
        "id": st.from_regex(r"[A-Za-z0-9_]{1,20}", fullmatch=True),
        "to": st.sampled_from(["agni", "agni/x", "broadcast", "capability:deploy"]),
        "timestamp": st.integers(0, 2**42),
        "priority": st.integers(1, 5),
        "payload": st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53) + 1, 2**53 - 1)
            | st.floats(allow_nan=False, allow_infinity=False)
            | TEXT,
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
            max_leaves=8,
        ),
    },
    optional={
        "subject": st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=20),
        "reply_to": st.from_regex(r"[A-Za-z0-9_]{1,20}", fullmatch=True),
        "ttl_ms": st.integers(1, 2**40),
        "deadline_at": st.integers(0, 2**42),
        "seq": st.integers(0, 9),
    },
)


@given(message=MESSAGES)
def test_a_file_says_what_was_signed(message: dict[str, Any], signer: Signer) -> None:
    packed = msgspec.msgpack.encode(message)
    signature = signer.signature_of(packed)
    sent = msgspec.convert({**msgspec.msgpack.decode(packed), "from": "dc"}, Message)
    names = Names()
    found = with_message_signature(json.loads(encode_v1(sent, names)), signature)
    data = json.dumps(found, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    read = from_v1(read_map(data), names)
    assert message_signature_in(read_map(data)) == signature
    # Signed again, by the one who read it, it is the same.
    assert signer.signature_of(msgspec.msgpack.encode(read.to_wire())) == signature
    # Who knows nothing of such signatures here passes over them.
    assert decode_v1(data, names) == read
