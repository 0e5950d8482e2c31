"""What a node signs about a journal, and how a signature is checked.

A *statement* says of one record of one journal which digest it has::

    its use, the node that signs, the node whose journal it is, the journal's epoch, the record's sequence, the digest

The digest is over the record and all before it, so a statement is good for any file that leads up to that record: an
archive, an export of all or of a part, a copy from which the bodies of messages are left out. It says nothing of the
file, so whoever puts a file together needs no key, and the node that signs needs no file: it signs what it has itself.
The first line is of this use alone, so that no signature made here can stand for a proof between nodes, or the reverse.

Nothing here does I/O.
"""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SigningKey", "is_public_key", "is_signed", "statement"]

_USE = "trishula: digest of a journal's record, 1"
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")


def statement(node: str, origin: str, epoch: str, sequence: int, digest: bytes) -> bytes:
    """What is signed of one record.

    Args:
        node: the node that signs.
        origin: the node whose journal it is.
        epoch: of that journal.
        sequence: of the record.
        digest: of the record.
    """
    # Names and epochs have no line breaks, so it can be read one way.
    return "\n".join((_USE, node, origin, epoch, str(sequence), digest.hex())).encode()


class SigningKey:
    """A node's pair of keys; the private half can't be got out of it, nor into a log.

    Args:
        seed: the private key, 32 bytes.

    Attributes:
        public: the public key, 64 hexadecimal digits.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return f"<SigningKey of {self.public}>"

    def sign(self, text: bytes) -> str:
        """The signature, 128 hexadecimal digits."""
        return self._private.sign(text).hex()


def is_public_key(value: object) -> bool:
    """Whether it has the shape of a public key: 64 hexadecimal digits in lower case."""
    return isinstance(value, str) and _KEY.match(value) is not None


def is_signed(key: str, text: bytes, signature: str) -> bool:
    """Whether that is the key's signature of the text."""
    if not is_public_key(key) or _SIGNATURE.match(signature) is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True
