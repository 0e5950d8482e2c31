"""What a cell says of its agents to all others: a *beat*, which is small and comes often, and what it stands for.

The beat names the digest of the agents it vouches for, so these are fetched only by whom they are news for, and a beat
with the same digest says that all is as it was. What moves with each call of an agent (when it was seen last, its load)
is left out: of who is present, the beat says that it was seen.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["VERSION", "Beat", "digest_of", "read_agents", "read_beat", "write_agents", "write_beat"]

VERSION = 1
#: What the agents of a cell may be unpacked.
_UNPACKED_BYTES = 64 * 1024 * 1024
#: What of an entry of the directory is told.
_TOLD = (
    *("agent", "presence", "since", "reason", "node", "capabilities", "busy_until", "progress", "progress_at"),
    *("sessions", "last_seen_at"),
)
#: With the rest an entry has the shape that the directory has.
_NOT_TOLD: Mapping[str, Any] = {"last_beat_at": None, "load": None, "clock_skew_ms": None}


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life of a cell; what a later release adds is passed over.

    Attributes:
        cell: whose.
        number: rising; at least the instant (ms) at which it was said, by the cell's clock.
        sent_at: that instant.
        digest: of what the cell says of its agents.
        version: of this form.
    """

    cell: str
    number: int
    sent_at: int
    digest: bytes
    version: int = VERSION


write_beat = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Beat).decode
_read_agents = msgspec.msgpack.Decoder(list[dict[str, Any]]).decode


def read_beat(text: bytes) -> Beat:
    """A beat as it travelled.

    Raises:
        ValueError: it is none, or one of a later form.
    """
    try:
        beat = _read(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no beat of a cell: {error}") from None
    if beat.version != VERSION:
        raise ValueError(f"it is of version {beat.version}, and this node knows {VERSION}; update the node")
    return beat


def write_agents(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """What a cell says of its agents: the entries of its directory, of those that it has heard of."""
    told = []
    for entry in entries:
        if entry["last_seen_at"] is None:
            continue
        one = {key: entry[key] for key in _TOLD}
        if entry["presence"] in ("online", "busy"):
            one["last_seen_at"] = None
        told.append(one)
    return zlib.compress(msgspec.msgpack.encode(told), 1)


def read_agents(text: bytes) -> list[dict[str, Any]]:
    """What a cell said of its agents, in the shape of the directory's entries; not looked at yet.

    Raises:
        ValueError: it is nothing of that kind.
    """
    try:
        unpacker = zlib.decompressobj()
        packed = unpacker.decompress(text, _UNPACKED_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"what it says of its agents has more than {_UNPACKED_BYTES} bytes")
        return [{**_NOT_TOLD, **entry} for entry in _read_agents(packed)]
    except (zlib.error, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"what it says of its agents can't be read: {error}") from None


def digest_of(text: bytes) -> bytes:
    """The digest of what a cell says of its agents."""
    return hashlib.sha256(text).digest()
