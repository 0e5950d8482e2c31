"""An attachment that its recipient alone reads: what a message says of it, inside its box and outside.

Outside of the box, beside ``encrypted_for`` and ``box``, stands what the node keeps, and nothing of what is in it::

    "attachment": {"digest": "sha256:…", "size_bytes": 67137372, "media_type": "application/vnd.trishula.encrypted"}

Inside, in the payload, the attachment is named as any other is, and ``sealed`` holds the key to the file outside::

    "attachment": {"digest": "sha256:…", "size_bytes": 67108864, "name": "build.tar",
                   "sealed": {"digest": "sha256:…", "size_bytes": 67137372, "key": "…"}}

``key`` is 32 bytes in Base64 (URL-safe, without ``=``). The file is cut into stretches of 65,508 bytes, the last of
which may be shorter (an empty file is one empty stretch), and each is closed by itself, into 28 bytes more: a nonce of
12 bytes, and what ChaCha20-Poly1305 makes of the stretch, with the key, the nonce, and as associated data the SHA-256
of what is around the box (:func:`trishula.contract.encrypted.around`), the stretch's number in 8 bytes, from 0 on, and
one byte that is 1 for the last one and 0 for the others. So no stretch can be left out, moved, or put into another
file, and the file opens in its message alone. The nonce is any that no other stretch has; ours is the first 12 bytes of
HMAC-SHA256, by ``HMAC-SHA256(key, "nonce")``, of that number, that byte and the stretch, so that a file that changes
while it is sent takes no nonce twice.

Nothing here does I/O.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from trishula.contract.attached import ATTACHMENT, AttachmentInfo, attachment_of
from trishula.errors import MessageInvalid

__all__ = [
    "CLOSED_BYTES",
    "ENCRYPTED_TYPE",
    "STRETCH_BYTES",
    "SealedAttachment",
    "beside_box",
    "closed_size",
    "sealed_info",
    "split_sealed",
]

#: The media type of a closed file.
ENCRYPTED_TYPE = "application/vnd.trishula.encrypted"
#: A stretch of a file, open and closed: closed it is as long as the pieces in which files travel.
STRETCH_BYTES, CLOSED_BYTES = 65_508, 65_536
_SEALED = "sealed"
_KEY_BYTES = 32


class _Sealed(msgspec.Struct, frozen=True):
    """What stands under ``sealed``."""

    digest: str
    size_bytes: int
    key: str


class SealedAttachment:
    """The key to a closed file; it is shown to nobody by accident.

    Attributes:
        info: of the closed file.
        opened: of the file that is in it.
        key: 32 bytes.
        around: the SHA-256 of what is around the box.
    """

    __slots__ = ("around", "info", "key", "opened")

    def __init__(self, info: AttachmentInfo, opened: AttachmentInfo, key: bytes, around: bytes) -> None:
        self.info = info
        self.opened = opened
        self.key = key
        self.around = hashlib.sha256(around).digest()

    def __repr__(self) -> str:
        return f"<the key to {self.info.digest}>"


def closed_size(size_bytes: int) -> int:
    """How large a file is when it is closed."""
    stretches = max(1, -(-size_bytes // STRETCH_BYTES))
    return size_bytes + stretches * (CLOSED_BYTES - STRETCH_BYTES)


def sealed_info(sealed: SealedAttachment) -> dict[str, Any]:
    """What stands in the payload under ``attachment``, inside the box."""
    key = base64.urlsafe_b64encode(sealed.key).rstrip(b"=").decode()
    told = {"digest": sealed.info.digest, "size_bytes": sealed.info.size_bytes, "key": key}
    return {**sealed.opened.to_wire(), _SEALED: told}


def beside_box(payload: object) -> dict[str, Any]:
    """What stands beside the box that a payload goes into: the closed file, if the payload names one."""
    sealed = _sealed_in(payload)
    if sealed is None:
        return {}
    return {ATTACHMENT: AttachmentInfo(sealed.digest, sealed.size_bytes, None, ENCRYPTED_TYPE).to_wire()}


def split_sealed(payload: object, around: bytes) -> tuple[object, SealedAttachment | None]:
    """A payload that came out of a box as its reader sees it, and the key to the closed file that it names.

    Args:
        payload: as it was in the box.
        around: what was around the box.

    Raises:
        ValueError: the sender has put into it what is none.
    """
    sealed = _sealed_in(payload)
    if sealed is None or not isinstance(payload, dict):
        return payload, None
    opened = {key: value for key, value in payload[ATTACHMENT].items() if key != _SEALED}
    try:
        info = attachment_of({ATTACHMENT: opened})
        closed = attachment_of({ATTACHMENT: {"digest": sealed.digest, "size_bytes": sealed.size_bytes}})
        key = base64.urlsafe_b64decode(sealed.key + "=" * (-len(sealed.key) % 4))
    except (MessageInvalid, ValueError):
        raise ValueError("what it says of its attachment is none") from None
    if info is None or closed is None or len(key) != _KEY_BYTES or closed.size_bytes != closed_size(info.size_bytes):
        raise ValueError("what it says of its attachment is none")
    return {**payload, ATTACHMENT: opened}, SealedAttachment(closed, info, key, around)


def _sealed_in(payload: object) -> _Sealed | None:
    raw = payload.get(ATTACHMENT) if isinstance(payload, Mapping) else None
    if not isinstance(raw, Mapping) or _SEALED not in raw:
        return None
    try:
        return msgspec.convert(raw[_SEALED], _Sealed)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return None
