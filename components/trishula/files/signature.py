"""Signatures of files: who wrote a message, proven without a node.

A folder that rsync fills is a door: whoever can put a file there can write any name behind ``from``. So a file of the
second road is signed. The key ``signature`` of its map is the hexadecimal form of an Ed25519 signature over all
other keys, written as JSON with sorted keys and without spaces, in UTF-8.

The pair of keys is derived from the agent's token, so there is nothing new to keep: HKDF-SHA256 over the token's
secret, with the info :data:`_INFO`, is the seed. A node knows only the token's digest, and can't make it. A new token
is a new pair, so a receiver may know several keys of an agent. Which keys are whose stands in a file
(:class:`KnownKeys`), which is as worthy of trust as whoever may write it; ``trishula files trust`` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trishula import known_keys
from trishula.errors import FolderUnusable
from trishula.files.v1 import SIGNATURE
from trishula.key_file import is_signed
from trishula.known_keys import KEY_BYTES, is_key

__all__ = ["KEYS_FILE", "KEY_BYTES", "KEY_RULE", "FileKey", "KnownKeys", "is_key", "verify"]

#: Where an agent's folder has the keys that it knows.
KEYS_FILE = "keys.json"
KEY_RULE = f"{2 * KEY_BYTES} hexadecimal digits, as `trishula files key` prints them"
_INFO = b"trishula file signature 1"


class FileKey:
    """An agent's pair of keys.

    Attributes:
        public: what others verify with, :data:`KEY_BYTES` bytes.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def from_token(cls, token: str) -> FileKey:
        """The pair that belongs to a token, ``name.secret``."""
        secret = token.partition(".")[2].encode()
        seed = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(secret)
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The same map with a signature."""
        return {**found, SIGNATURE: self._private.sign(_canonical(found)).hex()}


def verify(found: Mapping[str, Any], keys: Sequence[bytes]) -> bool:
    """Whether a map is signed by the owner of one of these public keys."""
    signature = found.get(SIGNATURE)
    if not isinstance(signature, str):
        return False
    try:
        raw, signed = bytes.fromhex(signature), _canonical(found)
    except (ValueError, RecursionError):
        return False
    return any(is_signed(key, signed, raw) for key in keys)


def _canonical(found: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in found.items() if key != SIGNATURE}
    # Half of a pair of UTF-16 is no text; as an escape it is the same for both sides.
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class KnownKeys(known_keys.KnownKeys):
    """The public keys that a receiver of files knows.

    Args:
        path: the file, which need not be there yet.

    What can't be read or written is :class:`~trishula.errors.FolderUnusable`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, FolderUnusable, "trishula files trust")
