"""The format of a segment: gzip, and in it one JSON map a line.

::

    {"line":"head","format":"trishula journal","version":1,"kind":"archive","node":…,"origin":…,"epoch":…,
     "first":1,"previous":"00…","made_at":…,"key":"…","bodies":false}
    {"line":"record","sequence":1,"at":…,"kind":"joined","facts":"{\\"agent\\":…}","digest":"…"}
    {"line":"record","sequence":2,"at":…,"kind":"accepted","facts":"{\\"from\\":…}","digest":"…"}
    {"line":"body","sequence":2,"body":"{\\"type\\":…}"}
    {"line":"checkpoint","sequence":2,"digest":"…","signature":"…"}
    {"line":"foot","last":2,"digest":"…","count":2,"first_at":…,"last_at":…,"sha256":"…","signature":"…"}

Facts and bodies are texts with JSON in them, not JSON: digests are over their very bytes, and a reader in any language
gets at those. Digests, keys and signatures are hexadecimal. Instants are ms since the epoch.

Two kinds of lines stand for what is not there. ``no_body`` says why an accepted message has no body, and ``omitted``
stands for a run of records that the file leaves out; behind it the chain goes on from the digest of the last one.
Nothing binds what is before such a run to what is behind it, so a checkpoint stands right before it.

It is gzip and not zstd because every machine can read it, with ``zcat`` and without a library, also in twenty years. It
would gain little: half of a packed record is its digest, which nothing can pack.

The last line is not packed, so it can be read at the end of the file without the rest; for gzip the file is two of its
own, one behind the other.

There is one form for each line, to the byte, so that no two readers can read two things: a line with a key too many, or
with one twice, is none. What a later release adds gets a new ``version``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = [
    "FORMAT",
    "VERSION",
    "BodyLine",
    "Checkpoint",
    "Foot",
    "Head",
    "Line",
    "NoBody",
    "Omitted",
    "RecordLine",
    "read_line",
    "read_version",
    "write_line",
]

FORMAT = "trishula journal"
VERSION = 1

_Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Signature = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{128})?\Z")]
_Sequence = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
_Instant = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: What stands in statements: no line break may be in it.
_Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x20\x7f]*\Z", max_length=200)]


class _Line(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, tag_field="line"):
    pass


class Head(_Line, frozen=True, gc=False, tag="head", kw_only=True):
    """The first line.

    Attributes:
        format: :data:`FORMAT`.
        version: of the format.
        kind: ``archive``, or ``export``.
        node: the node that signs.
        origin: the node whose journal it is.
        epoch: of that journal.
        first: the sequence of the first record, also if that is left out.
        previous: the digest of the record before it.
        made_at: when the file was made; nobody signs that.
        key: the node's public key; empty if nothing is signed.
        bodies: whether each accepted message has its body, or a line that says why it has none.
    """

    format: Literal["trishula journal"] = "trishula journal"
    version: int = VERSION
    kind: Literal["archive", "export"]
    node: _Word
    origin: _Word
    epoch: _Word
    first: _Sequence
    previous: _Hex32
    made_at: _Instant
    key: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    bodies: bool = False


class RecordLine(_Line, frozen=True, gc=False, tag="record"):
    """A record of the journal."""

    sequence: _Sequence
    at: _Instant
    kind: str
    facts: str
    digest: _Hex32


class BodyLine(_Line, frozen=True, gc=False, tag="body"):
    """The envelope of the message that the record before accepted, and those behind that state the same SHA-256."""

    sequence: _Sequence
    body: str


class NoBody(_Line, frozen=True, gc=False, tag="no_body"):
    """Why the message that the record before accepted has no body here.

    Attributes:
        sequence: of the record.
        reason: ``deleted`` (the node had none any more) or ``redacted`` (somebody left it out of this file).
        by: who left it out.
        why: for what reason.
        at: when.
    """

    sequence: _Sequence
    reason: Literal["deleted", "redacted"]
    by: str = ""
    why: str = ""
    at: _Instant | None = None


class Omitted(_Line, frozen=True, gc=False, tag="omitted"):
    """Records that are left out, and the digest of the last of them."""

    first: _Sequence
    last: _Sequence
    digest: _Hex32


class Checkpoint(_Line, frozen=True, gc=False, tag="checkpoint"):
    """The node's statement about the record before; see :func:`.signing.statement`."""

    sequence: _Sequence
    digest: _Hex32
    signature: _Signature


class Foot(_Line, frozen=True, gc=False, tag="foot"):
    """The last line.

    Attributes:
        last: the sequence of the last record; the one before ``first`` if there is none.
        digest: its digest.
        count: how many records there are, without those that are left out.
        first_at, last_at: what the first and the last of them say when they were written; ``None`` if there is none.
        sha256: of all bytes of the file before this line, as they are packed. It finds accidents; the signature proves.
        signature: the node's statement about the last record; empty if nothing is signed.
    """

    last: _Sequence
    digest: _Hex32
    count: int
    first_at: _Instant | None
    last_at: _Instant | None
    sha256: _Hex32
    signature: _Signature


Line = Head | RecordLine | BodyLine | NoBody | Omitted | Checkpoint | Foot

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class _AnyHead(msgspec.Struct, frozen=True):
    format: str
    version: int


_decode_any_head = msgspec.json.Decoder(_AnyHead).decode


def write_line(line: Line) -> bytes:
    """The bytes of a line, with the line break."""
    return _encode(line) + b"\n"


def read_line(raw: bytes) -> Line | None:
    """The line, without its line break; ``None`` if it is none, or not in the one form that a line has."""
    try:
        line: Line = _decode(raw)
        return line if _encode(line) == raw else None
    except (msgspec.MsgspecError, UnicodeError):
        return None


def read_version(raw: bytes) -> int | None:
    """The version of the format, as a first line tells it; ``None`` if that is no first line of a segment."""
    try:
        found = _decode_any_head(raw)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    return found.version if found.format == FORMAT else None
