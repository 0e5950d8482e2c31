"""What linked nodes say to each other of attachments: each word is small, bounded, and may come twice or never.

=========== =========================================================================================================
``want``    the asker has so much of an attachment, and wants so much more of it
``piece``   some of that; pieces come in order, and what doesn't join on is dropped
``lack``    there is none here, and why
``offer``   a message is to be on several nodes: fetch the attachment that it names
``held``    it is complete here, and fsynced
``refused`` it can't be taken, and why
=========== =========================================================================================================

Whoever speaks is who the link's key says. Nodes of earlier releases don't listen, and answer nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from trishula.contract.attached import LARGEST_BYTES, AttachmentInfo
from trishula_router.attachments.ledger import Key

__all__ = [
    "PIECE_BYTES",
    "WANT_BYTES",
    "Held",
    "Lack",
    "Offer",
    "Piece",
    "Refused",
    "Want",
    "Word",
    "read",
]

#: The size of a piece: what a light message waits for it on the link is a fraction of a millisecond.
PIECE_BYTES = 64 * 1024
#: The most that is asked for at once.
WANT_BYTES = 1024 * 1024

_Agent = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BYTES)]
_Why = Annotated[str, msgspec.Meta(max_length=1000)]


class _About(msgspec.Struct, frozen=True):
    """Of which attachment."""

    agent: _Agent
    digest: _Digest

    @property
    def key(self) -> Key:
        """Which."""
        return self.agent, self.digest


class Want(_About, frozen=True, tag="want"):
    """See the module's docstring."""

    size_bytes: _Size
    offset: _Size
    count: Annotated[int, msgspec.Meta(ge=1, le=WANT_BYTES)]


class Piece(_About, frozen=True, tag="piece"):
    """See the module's docstring."""

    offset: _Size
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PIECE_BYTES)]


class Lack(_About, frozen=True, tag="lack"):
    """See the module's docstring."""

    why: _Why


class Offer(_About, frozen=True, tag="offer"):
    """See the module's docstring; ``message_id`` is that of the message."""

    message_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}\Z")]
    info: AttachmentInfo


class Held(_About, frozen=True, tag="held"):
    """See the module's docstring."""


class Refused(_About, frozen=True, tag="refused"):
    """See the module's docstring."""

    why: _Why


Word = Want | Piece | Lack | Offer | Held | Refused
_decode = msgspec.msgpack.Decoder(Word).decode


def read(text: bytes) -> Word:
    """A word.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    word: Word = _decode(text)
    return word
