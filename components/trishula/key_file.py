"""An agent's own pair of Ed25519 keys, in a file: PKCS #8 in PEM, readable by its owner alone.

One file serves whatever an agent proves by a key: who wrote a message, and who opens a connection. ``openssl genpkey
-algorithm ed25519`` writes the same form, and ``openssl pkey -in FILE -pubout`` reads it.

The pair that signs files of the second road (:mod:`trishula.files.signature`) is made of the agent's token instead. It
can't stand in here: a token is shown to the node at each join, so a malicious node could sign with what it makes.

What opens a connection is a signature of 32 bytes that the node chooses (:mod:`trishula.contract.key_challenge`). So
whatever else the key signs is longer, or begins with words of its own that are: no node can have a message signed.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from trishula.contract import signing_key
from trishula.named_files import open_stream

__all__ = ["AgentKey", "is_signed", "new_key_file", "read_key_file"]

#: No key is longer; another file may be.
_MOST_BYTES = 16 * 1024


class AgentKey(signing_key.KeyPair):
    """An agent's own."""

    def sign(self, text: bytes) -> bytes:
        """The signature, 64 bytes; the same each time."""
        return self._private.sign(text)

    def seed(self) -> bytes:
        """The private key, 32 bytes: for a library that makes its own of it."""
        return self._private.private_bytes_raw()


def is_signed(public: bytes, text: bytes, signature: bytes) -> bool:
    """Whether that is the signature of a text by the owner of a public key (32 bytes)."""
    return signing_key.is_signed(public.hex(), text, signature.hex())


def new_key_file(path: Path) -> AgentKey:
    """Make a pair of keys and its file, which is on the disk on return. What is there already is never replaced.

    Raises:
        ValueError: it can't be made; the sentence says why.
    """
    private = Ed25519PrivateKey.generate()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # With these rights from the first moment on.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise ValueError(f"{path} is there already, and a key is never replaced: name another file") from None
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror}") from None
    return AgentKey(private.private_bytes_raw())


def read_key_file(path: Path) -> AgentKey:
    """The pair of keys in a file.

    Raises:
        ValueError: it can't be read, others may read it, or it holds no such key; the sentence says which.
    """
    try:
        with open_stream(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MOST_BYTES)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    if mode & 0o077:
        raise ValueError(f"{path} may be read or written by others than its owner: chmod 600 {path}")
    try:
        private = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{path} holds no Ed25519 key in PEM without a password; 'trishula key new FILE' makes one")
    return AgentKey(private.private_bytes_raw())
