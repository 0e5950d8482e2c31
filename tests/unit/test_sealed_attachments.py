"""Encrypted attachments: what is outside of the box, what opens them, and what does not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_signed_messages import Keys, keys
from trishula.attachments.local_files import FetchedFile, SentFile
from trishula.attachments.opening import opened
from trishula.attachments.sealing import SealedFile
from trishula.contract.attached import ATTACHMENT, AttachmentInfo, attachment_of
from trishula.contract.encrypted import around, encrypted_for
from trishula.contract.sealed import (
    CLOSED_BYTES,
    ENCRYPTED_TYPE,
    STRETCH_BYTES,
    SealedAttachment,
    beside_box,
    closed_size,
    sealed_info,
    split_sealed,
)
from trishula.errors import ArgumentInvalid, AttachmentDamaged
from trishula.messaging.boxes import Boxes

__all__ = ["keys"]

KEY, AROUND = bytes(range(32)), b"around the box"
SIZES = (0, 1, STRETCH_BYTES - 1, STRETCH_BYTES, STRETCH_BYTES + 1, 2 * STRETCH_BYTES, 200_000)


def content_of(size_bytes: int) -> bytes:
    return hashlib.shake_256(b"content").digest(size_bytes)


def closed_of(path: Path, data: bytes, key: bytes = KEY, aad: bytes = AROUND) -> tuple[SealedFile, bytes]:
    path.write_bytes(data)
    file = SealedFile(SentFile.open(path), key, aad)
    return file, file.read(0, file.info.size_bytes)


def open_it(closed: bytes, sealed: SealedAttachment) -> bytes:
    return b"".join(opened(lambda offset, most: closed[offset : offset + most], sealed))


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_closed_file_is_opened_as_it_was_and_shows_nothing_of_it(tmp_path: Path, size_bytes: int) -> None:
    data = content_of(size_bytes)
    file, closed = closed_of(tmp_path / "plan", data)
    assert len(closed) == file.info.size_bytes == closed_size(size_bytes)
    assert file.info.digest == f"sha256:{hashlib.sha256(closed).hexdigest()}"
    assert (file.info.name, file.info.media_type) == (None, ENCRYPTED_TYPE)
    assert open_it(closed, file.sealed) == data
    assert not any(data[at : at + 16] in closed for at in range(0, len(data) - 16, 997))
    # Closed again it is the same, so that it is gone on with where it broke off.
    assert closed_of(tmp_path / "again", data)[1] == closed
    file.close()


@given(offset=st.integers(0, 200_000), count=st.integers(1, 70_000))
@settings(max_examples=50, deadline=None)
def test_any_piece_of_a_closed_file_is_that_piece(tmp_path_factory: Any, offset: int, count: int) -> None:
    file, closed = closed_of(tmp_path_factory.mktemp("pieces") / "file", content_of(200_000))
    assert file.read(offset, count) == closed[offset : offset + count]
    file.close()


def test_nothing_else_opens(tmp_path: Path) -> None:
    data = content_of(3 * STRETCH_BYTES)
    file, closed = closed_of(tmp_path / "a", data)
    one, two, three = (closed[at : at + CLOSED_BYTES] for at in range(0, len(closed), CLOSED_BYTES))
    other = closed_of(tmp_path / "b", data, aad=b"another message")[1]
    flipped = closed[:100] + bytes([closed[100] ^ 1]) + closed[101:]
    for wrong in (flipped, two + one + three, one + one + three, other, one + other[CLOSED_BYTES:], bytes(len(closed))):
        with pytest.raises(AttachmentDamaged, match="doesn't open with the key that its message holds"):
            open_it(wrong, file.sealed)
    # As if it were shorter.
    short = AttachmentInfo(file.info.digest, 2 * CLOSED_BYTES)
    with pytest.raises(AttachmentDamaged):
        open_it(one + two, SealedAttachment(short, file.sealed.opened, KEY, AROUND))
    for key, aad in ((bytes(32), AROUND), (KEY, b"another message")):
        with pytest.raises(AttachmentDamaged):
            open_it(closed, SealedAttachment(file.info, file.sealed.opened, key, aad))
    file.close()


def test_a_file_that_changes_meanwhile_takes_no_nonce_twice(tmp_path: Path) -> None:
    first, second = (closed_of(tmp_path / "a", data)[1] for data in (b"first", b"other"))
    assert first[:12] != second[:12]


def test_the_receivers_file_is_opened_checked_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    data = content_of(200_000)
    file, closed = closed_of(tmp_path / "plan.txt", data)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    fetched = FetchedFile(inbox, file.info, replace=False, sealed=file.sealed).open()
    fetched.append(closed)
    assert fetched.finish() == inbox / "plan.txt"
    fetched.close()
    assert (inbox / "plan.txt").read_bytes() == data
    assert [path.name for path in inbox.iterdir()] == ["plan.txt"]
    assert (inbox / "plan.txt").stat().st_mode & 0o777 == 0o600
    wrong = SealedAttachment(file.info, file.sealed.opened, bytes(32), AROUND)
    fetched = FetchedFile(inbox / "b", file.info, replace=False, sealed=wrong).open()
    fetched.append(closed)
    with pytest.raises(AttachmentDamaged):
        fetched.finish()
    fetched.close()
    assert [path.name for path in inbox.iterdir()] == ["plan.txt"]
    file.close()


def test_a_message_says_outside_what_the_node_keeps_and_inside_what_the_reader_needs(
    keys: Keys, tmp_path: Path
) -> None:
    wire: dict[str, Any] = {"type": "STATUS", "id": "1", "to": "agni"}
    boxes = Boxes([keys.dc], keys.trusted, "dc")
    key, aad = boxes.file_key(wire, "sha256:1")
    assert aad == around(wire, "dc") and len(key) == 32
    assert boxes.file_key(wire, "sha256:1")[0] == key
    assert len({key, *(boxes.file_key(wire | {"id": other}, "sha256:1")[0] for other in "23")}) == 3
    assert boxes.file_key(wire, "sha256:2")[0] != key
    file, _ = closed_of(tmp_path / "plan.txt", b"the plan", key, aad)
    payload = {"text": "here", ATTACHMENT: sealed_info(file.sealed)}
    outside = boxes.seal({**wire, "payload": payload}, 10_000)
    assert encrypted_for(outside) == "agni"
    assert attachment_of(outside) == file.info
    told = str(outside)
    plain = hashlib.sha256(b"the plan").hexdigest()
    assert plain not in told and "plan.txt" not in told and "key" not in told
    seen, sealed = split_sealed(payload, aad)
    named = {"digest": f"sha256:{plain}", "size_bytes": 8, "name": "plan.txt", "media_type": "text/plain"}
    assert seen == {"text": "here", ATTACHMENT: named}
    assert sealed is not None and (sealed.key, sealed.info.digest) == (key, file.info.digest)
    assert plain not in repr(sealed) and str(key) not in repr(sealed)
    with pytest.raises(ArgumentInvalid, match="no key of nobody is known"):
        boxes.file_key({**wire, "to": "nobody"}, "sha256:1")
    file.close()


@pytest.mark.parametrize("payload", [None, [], {ATTACHMENT: {"sealed": 1}}, {ATTACHMENT: {"digest": "sha256:1"}}])
def test_what_names_no_closed_file_stays_as_it_is(payload: object) -> None:
    assert beside_box(payload) == {}
    assert split_sealed(payload, AROUND) == (payload, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "short"},
        {"key": "!" * 43},
        {"digest": "sha256:1"},
        {"size_bytes": -1},
        {"size_bytes": 9},
    ],
)
def test_what_a_sender_made_up_about_it_is_none(tmp_path: Path, wrong: dict[str, Any]) -> None:
    file, _ = closed_of(tmp_path / "plan.txt", b"the plan")
    info = sealed_info(file.sealed)
    with pytest.raises(ValueError, match="what it says of its attachment is none"):
        split_sealed({ATTACHMENT: {**info, "sealed": {**info["sealed"], **wrong}}}, AROUND)
    file.close()
