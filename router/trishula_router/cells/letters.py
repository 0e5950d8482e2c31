"""What cells tell each other. Letters to one cell travel together in a *parcel*, which is one entry of its stream.

Each letter about a message names it by its sender, id and recipient, and bears the *ticket* of the forward that it
belongs to: the sender's cell draws a new one whenever it takes a message out to forward it. News of an earlier forward,
replayed by somebody, is thereby told from news of this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

__all__ = [
    "FINAL",
    "LATER",
    "PARCEL_BYTES",
    "REFUSED",
    "UNKNOWN",
    "VERSION",
    "Ask",
    "Beacon",
    "Key",
    "Letter",
    "Mail",
    "News",
    "Parcel",
    "Recall",
    "in_parcels",
    "read_parcel",
    "without_outdated",
    "write_parcel",
]

VERSION = 1
#: A parcel gets no further letter from this size on.
PARCEL_BYTES = 512 * 1024
_LETTERS = 256

#: The states with which a message ends.
FINAL = ("done", "dead", "expired", "cancelled")
#: What else is said in place of a state: it is not taken, for good or just now; it is not known here.
REFUSED, LATER, UNKNOWN = "refused", "later", "unknown"

#: (sender, id, recipient) of a message.
Key = tuple[str, str, str]


class _About(msgspec.Struct, frozen=True, tag_field="is", kw_only=True):
    ticket: str
    sender: str
    id: str
    to: str

    @property
    def key(self) -> Key:
        """Which message it is about."""
        return self.sender, self.id, self.to


class Mail(_About, frozen=True, tag="mail", kw_only=True):
    """A message.

    Attributes:
        to: the recipient; the message's own ``to`` may say ``broadcast``.
        left_ms: how long it still has to live.
        by_deadline: whether that ends with its own deadline.
        envelope: the message as JSON, without its signature.
        signature: its sender's; "" if there is none.
    """

    left_ms: int
    envelope: bytes
    by_deadline: bool = False
    signature: str = ""


class Ask(_About, frozen=True, tag="ask", kw_only=True):
    """How does a message stand that was forwarded before?"""


class Recall(_About, frozen=True, tag="recall", kw_only=True):
    """Its sender has cancelled a message."""


class News(_About, frozen=True, tag="news", kw_only=True):
    """How a message stands at the cell that it was forwarded to.

    Attributes:
        state: as in the wire contract, or :data:`REFUSED`, :data:`LATER`, :data:`UNKNOWN`.
        reason: why, if that is to be told.
        retry_s: of one that is not taken just now: when to try again.
    """

    state: str
    reason: str | None = None
    retry_s: float | None = None


class Beacon(msgspec.Struct, frozen=True, tag_field="is", tag="beacon"):
    """A canary: a cell's letter to itself."""

    number: int


Letter = Mail | Ask | Recall | News | Beacon


class Parcel(msgspec.Struct, frozen=True):
    """Letters from one cell to one other.

    Attributes:
        source: the cell that sends it.
        target: the cell that it is for.
        epoch: of the run of the node that sends it.
        letters: in order.
        version: of this form.
    """

    source: str
    target: str
    epoch: str
    letters: list[Letter]
    version: int = VERSION


write_parcel = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Parcel).decode


def read_parcel(text: bytes) -> Parcel:
    """A parcel as it travelled.

    Raises:
        ValueError: it is none.
    """
    try:
        return _read(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no parcel: {error}") from None


def in_parcels(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """Letters, in as many runs as they take parcels."""
    run: list[Letter] = []
    size_bytes = 0
    for letter in letters:
        run.append(letter)
        size_bytes += len(letter.envelope) if isinstance(letter, Mail) else 0
        if len(run) >= _LETTERS or size_bytes >= PARCEL_BYTES:
            yield run
            run, size_bytes = [], 0
    if run:
        yield run


def without_outdated(letters: Sequence[Letter]) -> list[Letter]:
    """Letters to one cell, without the word that a message is there where another one tells what became of it since."""
    told = {letter.ticket for letter in letters if isinstance(letter, News) and letter.state != "accepted"}
    return [one for one in letters if not (isinstance(one, News) and one.state == "accepted" and one.ticket in told)]
