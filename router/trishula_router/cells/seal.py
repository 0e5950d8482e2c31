"""Seals: by which a cell knows that what it reads in Redis was written by a cell, and for it.

Whoever can write to Redis can't make a seal without the key, and the seal says what it is good for: an entry on the
stream of one cell is none on another's, and the home of one agent is none of another. What was good once can be put
there again: an entry then tells of a message that is known already, and an old home gives way to the newer one.

The key is in a file that all cells have, one key a line. Those of all lines are believed, and that of the first one
seals: to change the key, add the new one as a second line everywhere, then move it to the top, then take the old one
out.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from pathlib import Path

from trishula_router.cells.letters import VERSION, Parcel, read_parcel, write_parcel

__all__ = ["BODY", "MAC", "KeyUnfit", "Seal", "Unsealed", "read_keys"]

#: The fields of an entry.
BODY, MAC = b"body", b"mac"

_LEAST = 32
_ENTRY, _HOME = b"trishula cell entry 1", b"trishula cell home 1"
_LIVE, _BEAT = b"trishula cell live 1", b"trishula cell beat 1"
_MAC_BYTES = 32


class KeyUnfit(Exception):
    """The file with the key can't be used; the text says why, and what to do."""


class Unsealed(Exception):
    """Something in Redis is not from a cell, or not for this one; the text says why."""


def read_keys(path: Path) -> list[bytes]:
    """The keys in a file, the one that seals first.

    Raises:
        KeyUnfit: it is not there, others can read it, or it holds none.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            lines = [line.strip() for line in file.read(65_536).splitlines()]
    except OSError as error:
        raise KeyUnfit(f"the key of the cells {path} can't be read: {error.strerror}") from None
    if mode & 0o077:
        raise KeyUnfit(
            f"the key of the cells {path} has mode {mode:04o}, so that others on this machine can read or change it; "
            f"run: chmod 600 {path}"
        )
    keys = [line for line in lines if line]
    if not keys or any(len(key) < _LEAST for key in keys):
        raise KeyUnfit(
            f"the key of the cells {path} must have lines of {_LEAST} characters or more; make one with: "
            f"openssl rand -hex 32"
        )
    return keys


class Seal:
    """Seals what a cell writes, and opens what it reads.

    Args:
        cell: the own cell's name.
        keys: as :func:`read_keys` gives them.
    """

    def __init__(self, cell: str, keys: Sequence[bytes]) -> None:
        self._cell = cell
        self._keys = keys

    def entry(self, parcel: Parcel) -> dict[bytes, bytes]:
        """The fields of the entry that a parcel travels as."""
        body = write_parcel(parcel)
        return {MAC: self._mac(self._keys[0], _ENTRY, parcel.target.encode(), body), BODY: body}

    def parcel(self, fields: dict[bytes, bytes]) -> Parcel:
        """The parcel in an entry of the own stream.

        Raises:
            Unsealed: it is not for this cell, or from none.
        """
        body, mac = fields.get(BODY, b""), fields.get(MAC, b"")
        if not self._is_good(mac, _ENTRY, self._cell.encode(), body):
            raise Unsealed("its seal is not that of a cell's entry on this stream")
        try:
            parcel = read_parcel(body)
        except ValueError as error:
            raise Unsealed(f"{error}; update the node") from None
        if parcel.version != VERSION:
            raise Unsealed(f"it is of version {parcel.version}, and this node knows {VERSION}; update the node")
        if parcel.target != self._cell:
            raise Unsealed(f"it is for the cell {parcel.target}")
        return parcel

    def home(self, address: str, cell: str, fence: int) -> bytes:
        """What is written down of an agent's home."""
        value = f"{cell} {fence}".encode()
        return value + b" " + self._mac(self._keys[0], _HOME, address.encode(), value).hex().encode()

    def read_home(self, address: str, text: bytes) -> tuple[str, int]:
        """The cell and the fence of an agent's home.

        Raises:
            Unsealed: no cell wrote that.
        """
        value, _, told = text.rpartition(b" ")
        try:
            mac = bytes.fromhex(told.decode())
            cell, fence = value.decode().split(" ")
            number = int(fence)
        except ValueError:
            raise Unsealed(f"what is written down as the home of {address} is none") from None
        if not self._is_good(mac, _HOME, address.encode(), value):
            raise Unsealed(f"the seal of the home of {address} is not that of a cell")
        return cell, number

    def live(self, channel: str, text: bytes) -> bytes:
        """What is said on a channel."""
        return self._mac(self._keys[0], _LIVE, channel.encode(), text) + text

    def read_live(self, channel: str, told: bytes) -> bytes:
        """What a cell has said on a channel.

        Raises:
            Unsealed: no cell said that there.
        """
        return self._read(_LIVE, channel, told, "its seal is not that of a cell's event on this topic")

    def beat(self, cell: str, text: bytes) -> bytes:
        """A sign of life of a cell."""
        return self._mac(self._keys[0], _BEAT, cell.encode(), text) + text

    def read_beat(self, cell: str, told: bytes) -> bytes:
        """The sign of life that is put down for a cell.

        Raises:
            Unsealed: no cell put it down there.
        """
        return self._read(_BEAT, cell, told, "its seal is not that of a cell's sign of life")

    def _read(self, use: bytes, place: str, told: bytes, against: str) -> bytes:
        mac, text = told[:_MAC_BYTES], told[_MAC_BYTES:]
        if not self._is_good(mac, use, place.encode(), text):
            raise Unsealed(against)
        return text

    def _mac(self, key: bytes, use: bytes, place: bytes, text: bytes) -> bytes:
        # Neither a use nor a place has a zero in it, so no two of these are one text.
        return hmac.digest(key, b"\0".join((use, place, text)), "sha256")

    def _is_good(self, mac: bytes, use: bytes, place: bytes, text: bytes) -> bool:
        return any(hmac.compare_digest(mac, self._mac(key, use, place, text)) for key in self._keys)
