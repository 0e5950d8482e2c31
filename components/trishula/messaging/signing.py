"""Signatures of messages on their way out: each is signed by the key of our agent as it is encoded.

What is signed is what travels, read back from the encoded message: a message of an earlier run, which lay in the
agent's file, is signed anew in the same way, and with the key that the agent has now. Ed25519 makes the same signature
each time, so a repeat has the first one's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from trishula.contract.message import MAIL_TYPES
from trishula.contract.signed import Signature, key_id, statement
from trishula.key_file import read_key_file
from trishula.settings import SettingsInvalid

__all__ = ["Signer"]

_decode = msgspec.msgpack.Decoder().decode


class Signer:
    """Signs the messages of one address.

    Args:
        key_file: the agent's key.
        address: what its messages are from.

    Raises:
        SettingsInvalid: the file can't be used.
    """

    def __init__(self, key_file: Path, address: str) -> None:
        try:
            self._key = read_key_file(key_file)
        except ValueError as error:
            raise SettingsInvalid(str(error)) from None
        self._address = address

    def signature_of(self, encoded: bytes) -> str | None:
        """The signature of a message in MessagePack; ``None`` for a sign, which no receiver gets."""
        wire: dict[str, Any] = _decode(encoded)
        if wire["type"] not in MAIL_TYPES or "timestamp" not in wire:
            return None
        sender, deadline_at = wire.get("from", self._address), wire.get("deadline_at")
        value = self._key.sign(statement(wire, sender=sender, deadline_at=deadline_at))
        return str(Signature(key_id(self._key.public), deadline_at, value))
