"""An encrypted payload, as it travels: for its recipient's eyes, and for everybody to see that it is.

::

    {"encrypted_for": "agni", "box": "1.SENDER.RECIPIENT.EPHEMERAL.CIPHERTEXT"}

``SENDER`` and ``RECIPIENT`` are the first 16 hexadecimal digits of the two public keys, the others Base64 (URL-safe,
without ``=``). In the box is the payload as JSON. It is closed by RFC 9180 (:mod:`trishula.hpke`), with the info
``trishula: payload, 1`` and, as associated data, the message's ``type``, ``id``, ``from`` and ``to`` as RFC 8785 writes
such a map. So a box that is taken out of its message can't be opened in another one, and whoever puts his own signature
on another's box has nobody who opens it as his.

A file that goes with the message is closed by itself, and named beside the box, as ``attachment``
(:mod:`trishula.contract.sealed`).

All else of a message stays readable: who writes to whom, when, the subject, the type, the procedure, and how long the
payload is. Nothing here does I/O.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from trishula.contract.attached import ATTACHMENT
from trishula.contract.canonical import canonical

__all__ = ["INFO", "NOT_DECRYPTED", "Box", "around", "encrypted_for", "no_key_for", "read_box"]

INFO = b"trishula: payload, 1"
_FOR, _BOX = "encrypted_for", "box"
#: How the reason begins of a message that its recipient can't decrypt.
NOT_DECRYPTED = "not decrypted"
_is_box = re.compile(r"1\.[0-9a-f]{16}\.[0-9a-f]{16}\.[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{22,}\Z").match


class Box(msgspec.Struct, frozen=True):
    """A box that was read.

    Attributes:
        sender, recipient: how their keys are called, see :func:`trishula.contract.signed.key_id`.
        ephemeral: the public key of this box alone.
        ciphertext: what is in it.
    """

    sender: str
    recipient: str
    ephemeral: bytes
    ciphertext: bytes

    def payload(self, to: str) -> dict[str, str]:
        """The payload of a message to an address with this box in it."""
        enc, ciphertext = (
            base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in (self.ephemeral, self.ciphertext)
        )
        return {_FOR: to, _BOX: f"1.{self.sender}.{self.recipient}.{enc}.{ciphertext}"}


def encrypted_for(payload: object) -> str | None:
    """For whom a payload is encrypted; ``None`` if it isn't."""
    # For each message that comes.
    if type(payload) is not dict or not 2 <= len(payload) <= 3 or _FOR not in payload or _BOX not in payload:
        return None
    if len(payload) == 3 and ATTACHMENT not in payload:
        return None
    return str(payload[_FOR])


def no_key_for(address: object) -> str:
    """The reason of a message that nobody here has a key for."""
    return f"{NOT_DECRYPTED}: it is encrypted, and {address} has no key here: key_file and trusted_keys are to be named"


def read_box(payload: Mapping[str, Any]) -> Box | None:
    """The box of an encrypted payload; ``None`` if it is of a form that nobody knows here."""
    text = payload[_BOX]
    if not isinstance(text, str) or _is_box(text) is None:
        return None
    _, sender, recipient, enc, ciphertext = text.split(".")
    try:
        return Box(
            sender, recipient, *(base64.urlsafe_b64decode(one + "=" * (-len(one) % 4)) for one in (enc, ciphertext))
        )
    except ValueError:
        return None


def around(wire: Mapping[str, Any], sender: str) -> bytes:
    """What is around a box: the message that it is in.

    Args:
        wire: the message.
        sender: the address that it is from.
    """
    return canonical({"type": wire["type"], "id": wire["id"], "from": sender, "to": wire["to"]})
