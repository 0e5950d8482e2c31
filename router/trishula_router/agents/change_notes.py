"""Who changed the agents' file, and why: what the commands note beside the file, for the node to put on record.

``agents.json.changes`` beside ``agents.json``, mode 0600, has one JSON line for each run of a command::

    {"number": 7, "at": 1770000000000, "by": "root", "reason": "a laptop was lost",
     "changes": [{"agent": "agni", "token": "9f86d081", "what": "revoked"}]}

A note is written before the file of agents is, under the lock of that file: a change that somebody sees has its note,
and a note whose command was killed on its way explains nothing and does no harm. What changed without a note was edited
by hand. The file has no secrets: of a token it names the first digits of the hash. It is cut at its beginning when it
has grown long.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trishula_router.agents.changes import Change

__all__ = ["BY_HAND", "Author", "Note", "author", "notes_file_of", "read_notes", "write_note"]

#: Who is named for a change that no command noted.
BY_HAND = "edited by hand"
#: Beyond that the older half of the notes goes; a note is some 200 bytes.
_MOST_BYTES = 256 * 1024


class Author(msgspec.Struct, frozen=True):
    """Who runs a command that changes the file, when (ms), and why; ``reason`` is one line, or ``None``."""

    by: str
    at: int
    reason: str | None = None


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a command: ``number`` counts them, ``at`` is ms since the epoch."""

    number: int
    at: int
    by: str
    reason: str | None = None
    changes: list[Change] = []


_read_note = msgspec.json.Decoder(Note).decode


def author(now_s: float, reason: str | None = None) -> Author:
    """The user of the operating system who runs this process, now and for that reason."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # In a container there may be no such entry.
        name = f"uid {os.getuid()}"
    return Author(name, round(now_s * 1000), reason)


def notes_file_of(agents_file: Path) -> Path:
    """Where the notes on the changes of a file of agents are."""
    return agents_file.with_name(agents_file.name + ".changes")


def read_notes(path: Path) -> list[Note]:
    """All notes, the oldest first; a line that is no note is passed over, and so is a file that can't be read."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    notes = []
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            notes.append(_read_note(line))
    return notes


def write_note(path: Path, who: Author, changes: Sequence[Change]) -> None:
    """Add a note; whoever calls holds the lock of the file of agents.

    Raises:
        OSError: it can't be written.
    """
    notes = read_notes(path)
    note = Note(notes[-1].number + 1 if notes else 1, who.at, who.by, who.reason, list(changes))
    line = msgspec.json.encode(note) + b"\n"
    if path.exists() and path.stat().st_size + len(line) > _MOST_BYTES:
        kept = b"".join(msgspec.json.encode(one) + b"\n" for one in notes[len(notes) // 2 :])
        _open_and_write(path.with_name(path.name + ".new"), os.O_TRUNC, kept)
        path.with_name(path.name + ".new").replace(path)
    # It begins on a line of its own, also behind one that a killed writer left half.
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    _open_and_write(path, os.O_APPEND, b"\n" + line if torn else line)


def _open_and_write(path: Path, how: int, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
