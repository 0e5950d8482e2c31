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
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.errors import FolderUnusable
from trishula.files.v1 import SIGNATURE

__all__ = ["KEYS_FILE", "KEY_BYTES", "KEY_RULE", "FileKey", "KnownKeys", "is_key", "verify"]

#: Where an agent's folder has the keys that it knows.
KEYS_FILE = "keys.json"
KEY_BYTES = 32
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
    return any(_is_of(key, raw, signed) for key in keys)


def _is_of(key: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _canonical(found: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in found.items() if key != SIGNATURE}
    # Half of a pair of UTF-16 is no text; as an escape it is the same for both sides.
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def is_key(text: object) -> bool:
    """Whether it is the hexadecimal form of a public key."""
    if not isinstance(text, str) or len(text) != 2 * KEY_BYTES:
        return False
    try:
        return len(bytes.fromhex(text)) == KEY_BYTES
    except ValueError:
        return False


class KnownKeys:
    """The public keys that a receiver knows: a JSON file, ``{agent: ["key", …]}``, read again when it changes.

    Args:
        path: the file, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, list[bytes]] = {}

    def of(self, agent: str) -> list[bytes]:
        """An agent's keys; none if it is not in the file.

        Raises:
            FolderUnusable: the file can't be read, or is no such file; the sentence says why.
        """
        self._read_if_changed()
        return list(self._keys.get(agent, ()))

    def agents(self) -> dict[str, list[bytes]]:
        """All of them; errors as :meth:`of`."""
        self._read_if_changed()
        return {agent: list(keys) for agent, keys in self._keys.items()}

    def trust(self, agent: str, key: bytes) -> bool:
        """Write down that a key is an agent's; whether that is new. Errors as :meth:`of`."""
        return self.trust_all({agent: [key]})

    def trust_all(self, keys: Mapping[str, Iterable[bytes]]) -> bool:
        """Write down that keys are agents', with those that are known; whether one is new. Errors as :meth:`of`."""
        found = self.agents()
        is_new = False
        for agent, its_keys in keys.items():
            for key in its_keys:
                if key not in found.setdefault(agent, []):
                    found[agent].append(key)
                    is_new = True
        if not is_new:
            return False
        text = json.dumps({name: [one.hex() for one in keys] for name, keys in sorted(found.items())}, indent=2)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise FolderUnusable(f"{self._path} can't be written: {error.strerror}") from None
        return True

    def _read_if_changed(self) -> None:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            found = json.loads(self._path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return
        except OSError as error:
            raise FolderUnusable(f"{self._path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise FolderUnusable(f"{self._path} is no JSON; {_FORM}") from None
        if not isinstance(found, dict):
            raise FolderUnusable(f"{self._path} is no map; {_FORM}")
        for agent, keys in found.items():
            if not is_agent_name(agent) or not isinstance(keys, list) or not all(map(is_key, keys)):
                raise FolderUnusable(f"{self._path} says something else of {agent!r} than keys; {_FORM}")
        self._keys = {agent: [bytes.fromhex(key) for key in keys] for agent, keys in found.items()}
        self._stamp = stamp


_FORM = (
    f'it must be {{"agent": ["key", …]}}, where an agent is {AGENT_RULE}, and a key is {KEY_RULE}; put it right, or '
    "remove it and use `trishula files trust`"
)
