"""Who changed the agents' file, and why: what the commands note beside the file, for the node to put on record.

``agents.json.changes`` beside ``agents.json``, mode 0600, has one JSON line for each run of a command::

    {"number": 1770000000000, "at": 1770000000000, "by": "root", "reason": "a laptop was lost",
     "changes": [{"agent": "agni", "token": "9f86d081", "what": "revoked"}], "file": [1770000000000123456, 42, 1017]}
    {"done": 1770000000000}

A note is written before the file of agents is, under the lock of that file, so that a change that somebody sees has its
note; a further line says that the change was done. A note without that line explains nothing, unless the file is still
the one that the note was written for: its command was killed on its way, and an equal edit by hand, made later, is not
that command's. What changed without a note was edited by hand. ``revoked`` is what the command takes away at every node
that this one is linked with.

Numbers grow, and are instants where they can be: whoever deletes the file doesn't begin anew with those that a node has
used. The file has no secrets: of a token it names the first digits of the hash, and of one that is revoked all of them.
It is cut at its beginning when it has grown long.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trishula_router.agents.changes import Change, Revoked

__all__ = [
    "BY_HAND",
    "Author",
    "Note",
    "Stamp",
    "author",
    "done_notes",
    "finish_notes",
    "mark_done",
    "notes_file_of",
    "read_notes",
    "write_note",
]

#: Who is named for a change that no command noted.
BY_HAND = "edited by hand"
#: What changes when a file does: modification time in ns, inode, size. ``None``: there is no file.
Stamp = tuple[int, int, int] | None
#: Beyond that the older half of the notes goes; a note is some 200 bytes.
_MOST_BYTES = 256 * 1024


class Author(msgspec.Struct, frozen=True):
    """Who runs a command that changes the file.

    Attributes:
        by: who.
        at: when, ms.
        reason: why, in one line; ``None``: nobody said.
        revoked: which tokens are to go at every node, but for those of the file, which follow from the change.
    """

    by: str
    at: int
    reason: str | None = None
    revoked: Revoked | None = None


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a command.

    Attributes:
        number: that of each note is higher than those before.
        at: when, ms since the epoch.
        by: who.
        reason: why.
        changes: what it changed.
        file: the stamp of the file of agents that it wrote; ``None`` in notes of earlier releases.
        revoked: what it took away at every node.
    """

    number: int
    at: int
    by: str
    reason: str | None = None
    changes: list[Change] = []
    file: Stamp = None
    revoked: Revoked | None = None


class _Done(msgspec.Struct, frozen=True):
    """The change of the note with that number was made."""

    done: int


_read_note = msgspec.json.Decoder(Note).decode
_read_done = msgspec.json.Decoder(_Done).decode


def author(now_s: float, reason: str | None = None, revoked: Revoked | None = None) -> Author:
    """The user of the operating system who runs this process, now and for that reason."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # In a container there may be no such entry.
        name = f"uid {os.getuid()}"
    return Author(name, round(now_s * 1000), reason, revoked)


def notes_file_of(agents_file: Path) -> Path:
    """Where the notes on the changes of a file of agents are."""
    return agents_file.with_name(agents_file.name + ".changes")


def read_notes(path: Path) -> list[Note]:
    """All notes, the oldest first; a line that is no note is passed over, and so is a file that can't be read."""
    return _read(path)[0]


def done_notes(path: Path, file: Stamp) -> list[Note]:
    """The notes of changes that were made, the oldest first.

    Args:
        path: where the notes are.
        file: the stamp of the file of agents, as whoever asks has read it.
    """
    notes, done = _read(path)
    return [one for one in notes if one.file is None or one.number in done or one.file == file]


def _read(path: Path) -> tuple[list[Note], set[int]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return [], set()
    notes, done = [], set()
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            if "number" in (raw := msgspec.json.decode(line, type=dict[str, msgspec.Raw])):
                notes.append(_read_note(line))
            elif "done" in raw:
                done.add(_read_done(line).done)
    return notes, done


def write_note(path: Path, who: Author, changes: Sequence[Change], file: Stamp, revoked: Revoked | None = None) -> int:
    """Add a note; whoever calls holds the lock of the file of agents.

    Args:
        path: where the notes are.
        who: who changes the file, when and why.
        changes: what changes.
        file: the stamp that the file will have.
        revoked: what it takes away at every node.

    Returns:
        the number of the note, for :func:`mark_done`.

    Raises:
        OSError: it can't be written.
    """
    notes, done = _read(path)
    number = max(who.at, notes[-1].number + 1 if notes else 1)
    note = Note(number, who.at, who.by, who.reason, list(changes), file, revoked)
    if path.exists() and path.stat().st_size + len(_lines([note])) > _MOST_BYTES:
        kept: list[Note | _Done] = []
        for one in notes[len(notes) // 2 :]:
            kept += [one, _Done(one.number)] if one.number in done else [one]
        _open_and_write(path.with_name(path.name + ".new"), os.O_TRUNC, _lines(kept))
        path.with_name(path.name + ".new").replace(path)
    _append(path, note)
    return number


def mark_done(path: Path, number: int) -> None:
    """Say that the change of a note was made.

    Raises:
        OSError: it can't be written.
    """
    _append(path, _Done(number))


def finish_notes(path: Path, file: Stamp) -> None:
    """Say so of a change that was made, and whose command was killed before it could.

    To be called before the file of agents is replaced, by the holder of its lock.

    Args:
        path: where the notes are.
        file: the stamp of the file of agents.

    Raises:
        OSError: it can't be written.
    """
    notes, done = _read(path)
    for one in notes:
        if file is not None and one.file == file and one.number not in done:
            mark_done(path, one.number)


def _append(path: Path, line: Note | _Done) -> None:
    # It begins on a line of its own, also behind one that a killed writer left half.
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    _open_and_write(path, os.O_APPEND, b"\n" * torn + _lines([line]))


def _lines(items: Sequence[Note | _Done]) -> bytes:
    return b"".join(msgspec.json.encode(one) + b"\n" for one in items)


def _open_and_write(path: Path, how: int, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    with open(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
