"""Segments of a journal for tests, and what somebody does to one who has no key."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from trishula.evidence.chain import GENESIS, digest_of
from trishula.evidence.lines import Foot, Head, read_line, write_line
from trishula.evidence.signing import SigningKey
from trishula.evidence.unpacking import GZIP_HEADER, Unpacker, stored, trailer
from trishula.evidence.writing import new_segment

KEY = SigningKey(bytes(range(32)))


class Made(NamedTuple):
    """A record, in the order in which a writer takes it."""

    sequence: int
    at: int
    kind: str
    facts: bytes
    digest: bytes


def body_of(number: int) -> bytes:
    return b'{"type":"COMMAND","id":"m%d","payload":"\xc3\xa9 \\"quoted\\""}' % number


def records(count: int, first: int = 1, previous: bytes = GENESIS) -> Iterator[Made]:
    """Records as a node writes them: of three one accepts a message, and two tell what became of it."""
    for sequence in range(first, first + count):
        kind = ("accepted", "delivered", "done")[sequence % 3]
        facts = {
            "accepted": b'{"from":"dc","id":"m%d","to":"agni","sha256":"%s"}'
            % (sequence, hashlib.sha256(body_of(sequence)).hexdigest().encode()),
            "delivered": b'{"messages":[[%d,1]],"to":"agni"}' % (sequence - 1),
            "done": b'{"messages":[%d],"reason":"\xe2\x80\xa6"}' % (sequence - 2),
        }[kind]
        previous = digest_of(previous, sequence, 1000 + sequence, kind, facts)
        yield Made(sequence, 1000 + sequence, kind, facts, previous)


def head(first: int = 1, previous: bytes = GENESIS, key: SigningKey | None = KEY, *, bodies: bool = False) -> Head:
    return Head(
        kind="archive",
        node="agni",
        origin="agni",
        epoch="epoch-1",
        first=first,
        previous=previous.hex(),
        made_at=1,
        key="" if key is None else key.public,
        bodies=bodies,
    )


def write(path: Path, count: int = 20, *, every: int = 5, key: SigningKey | None = KEY, bodies: bool = False) -> Path:
    """A segment with a checkpoint each ``every`` records."""
    sign = None if key is None else key.sign
    with new_segment(path.parent, path.name, head(key=key, bodies=bodies), sign, every) as writer:
        for record in records(count):
            writer.add(*record, body_of(record.sequence) if bodies and record.kind == "accepted" else None)
    return path


def lines_of(path: Path) -> list[bytes]:
    """All lines but the last one, each with its line break."""
    with path.open("rb") as file:
        return [raw + b"\n" for raws in Unpacker(file).lines() for raw in raws]


def pack(path: Path, lines: Sequence[bytes], change_foot: Callable[[Foot], Foot] = lambda foot: foot) -> None:
    """Put a file together as somebody does who knows the format well, and hasn't the key: all but signatures fits."""
    with path.open("rb") as file:
        unpacker = Unpacker(file)
        foot = unpacker.foot
    assert foot is not None
    raw = b"".join(lines)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = GZIP_HEADER + deflate.compress(raw) + deflate.flush() + trailer(zlib.crc32(raw), len(raw))
    foot = change_foot(msgspec.structs.replace(foot, sha256=hashlib.sha256(packed).hexdigest()))
    path.write_bytes(packed + stored(write_line(foot)))


def edited(line: bytes, **changes: object) -> bytes:
    """A line with other values."""
    found = read_line(line.rstrip(b"\n"))
    assert found is not None
    return write_line(msgspec.structs.replace(found, **changes))
