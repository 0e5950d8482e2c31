"""Ed25519: a pair of keys to sign with, and the check of a signature. Nothing here does I/O."""

from __future__ import annotations

import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["KeyPair", "SigningKey", "is_public_key", "is_signed", "is_sound_key"]

_KEY = re.compile(r"[0-9a-f]{64}\Z")
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")
#: The points of small order, without the bit of their sign: with one of them as a public key, one signature, which
#: anybody can write down, is good for every eighth text or for all. OpenSSL takes them, and nobody has such a key.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


class KeyPair:
    """A pair of keys; the private half can't get into a log.

    Args:
        seed: the private key, 32 bytes.

    Attributes:
        public: the public key, 64 hexadecimal digits.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw().hex()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.public}>"


class SigningKey(KeyPair):
    """A node's, whose signatures travel as text."""

    def sign(self, text: bytes) -> str:
        """The signature, 128 hexadecimal digits."""
        return self._private.sign(text).hex()


def is_public_key(value: object) -> bool:
    """Whether it has the shape of a public key: 64 hexadecimal digits in lower case."""
    return isinstance(value, str) and _KEY.match(value) is not None


def is_sound_key(value: object) -> bool:
    """Whether it is a public key that somebody may have; the zeros that stand where a key belongs are none."""
    if not isinstance(value, str) or not is_public_key(value):
        return False
    raw = bytes.fromhex(value)
    return raw[:31] + bytes([raw[31] & 0x7F]) not in _SMALL_ORDER


def is_signed(key: str, text: bytes, signature: str) -> bool:
    """Whether that is the key's signature of the text."""
    if not is_sound_key(key) or _SIGNATURE.match(signature) is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True
