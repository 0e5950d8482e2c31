"""What the clients of a drill did and saw, as events: each process appends its own to a file of its own.

A line of JSON is an event. It is written with one ``write`` before the process goes on, so that a kill -9 takes nothing
of it away; the effect of a handler (:class:`Handled`) is also synced, as an effect on the real world would be. The last
line of a process that was killed may be torn, and is left out.

Instants are nanoseconds of CLOCK_MONOTONIC, which all processes of a host share: "before" and "after" between processes
mean something. A *run* is one life of one process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from trishula.contract.message import DEFAULT_TTL_MS

__all__ = [
    "Delivered",
    "Ended",
    "Event",
    "FetchedEmpty",
    "Handled",
    "History",
    "NodeKilled",
    "Receipted",
    "Refused",
    "Sent",
    "digest_of",
    "read",
    "read_all",
]

T = TypeVar("T")


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A message is about to be given to the client.

    Attributes:
        who: the sender's address.
        recipients: the addresses that are to get it.
        number: of the message within its run, in the order of sending.
        ttl_ms: how long it is to be tried.
        digest: of the payload, see :func:`digest_of`.
    """

    at_ns: int
    who: str
    run: str
    id: str
    recipients: tuple[str, ...]
    number: int
    priority: int
    digest: str
    ttl_ms: int = DEFAULT_TTL_MS


class Receipted(msgspec.Struct, frozen=True, tag="receipt"):
    """The sender has a receipt: from here on the message is the bus's to bring to an end.

    Attributes:
        node: that accepted it; empty if there is only one.
        copies: on how many nodes it was on disk by then.
    """

    at_ns: int
    who: str
    id: str
    node: str = ""
    copies: int = 1


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The sender was told that there will be no receipt.

    Attributes:
        error: its class, a colon, its sentence.
    """

    at_ns: int
    who: str
    id: str
    error: str


class Delivered(msgspec.Struct, frozen=True, tag="delivered"):
    """A receiver was handed a message."""

    at_ns: int
    who: str
    run: str
    sender: str
    id: str
    attempt: int


class Handled(msgspec.Struct, frozen=True, tag="handled"):
    """A handler's effect.

    Attributes:
        attempt: what the handler was told: more than 1 if an earlier run may have begun.
    """

    at_ns: int
    who: str
    run: str
    sender: str
    id: str
    digest: str
    attempt: int = 1


class FetchedEmpty(msgspec.Struct, frozen=True, tag="empty"):
    """A fetch that began at ``began_ns`` was answered at ``at_ns``: nothing there, nothing pending, nothing in flight.

    Attributes:
        epoch, high_water: up to where the node says so.
    """

    began_ns: int
    at_ns: int
    who: str
    run: str
    epoch: str
    high_water: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A run is over; told by whoever ended it.

    Attributes:
        killed: by kill -9, so that it could put nothing in order.
        on_record: what it left in the agent's file as handled, (sender, id) each, read when it was dead and before its
            next run; ``None`` if it keeps no such file.
    """

    at_ns: int
    run: str
    killed: bool
    on_record: frozenset[tuple[str, str]] | None = None


class NodeKilled(msgspec.Struct, frozen=True, tag="node killed"):
    """A node is about to be killed; told by whoever kills it.

    Attributes:
        node: its name; empty if there is only one.
    """

    at_ns: int
    node: str


Event = Sent | Receipted | Refused | Delivered | Handled | FetchedEmpty | Ended | NodeKilled

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def digest_of(payload: object) -> str:
    """A payload's digest: what went in must come out."""
    return hashlib.sha256(msgspec.json.encode(payload, order="deterministic")).hexdigest()[:16]


class History:
    """The file that one process writes."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def tell(self, *events: Event) -> None:
        """Write events; they outlive the process from then on."""
        self._write(b"".join(_encoder.encode(event) + b"\n" for event in events))

    def commit(self, *events: Event) -> None:
        """Write events and sync: they outlive the machine from then on."""
        self.tell(*events)
        os.fdatasync(self._file)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read(file: Path) -> Iterator[Event]:
    """The events of one file, in the order of writing.

    Raises:
        ValueError: a line other than the last is no event.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{file}, line {number} is no event: {error}") from None


def read_all(files: Iterable[Path]) -> list[Event]:
    """The events of many files in the order of time."""
    events = [event for file in files for event in read(file)]
    events.sort(key=lambda event: event.at_ns)
    return events
