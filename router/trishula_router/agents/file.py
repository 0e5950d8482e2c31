"""The file of agents: who may join, with what grants, and the hashes of their tokens, or their public keys.

``<state>/agents.json``, mode 0600, is made and changed by ``trishula token`` and may be edited by hand::

    {"agents": {"agni": {"operator": false,
                         "send": ["*"],            // to whom: "*", "broadcast" or agents' names
                         "call": ["dc", "rushabdev.uptime"],   // what: "*", an agent, or an agent.procedure
                         "serve": ["deploy", "host"],   // which capabilities it may announce: "*", or their names
                         "tokens": [{"sha256": "9f86…", "created_at": "2026-02-10T00:02:00Z",
                                     "not_before": null, "expires_at": null},
                                    {"ed25519": "3b6a…", "created_at": "2026-02-11T00:02:00Z"}]}}}

Writers hold the lock of ``agents.json.lock`` (:mod:`trishula.runtime.file_lock`) while they read, change and write, and
wait for it as long as it takes, so that two commands at once lose nothing. The file is replaced by a rename: a reader
sees the old file or the new one, never a half, and needs no lock. The lock is a file of its own because the rename
gives ``agents.json`` a new inode each time.

A node keeps a copy of the last good file in its state directory (:func:`keep_agents`), mode 0600 too, and starts with
that when the file is broken or gone (:func:`load_agents`): an edit that went wrong must not turn a restart into a
lock-out. The commands that change the file change the copy as well, so that no token comes back with it that was taken
away while no node ran. Where the file is gone and the copy is not they are refused (:func:`refuse_lost`): a new file
would say of everybody else that they were deleted, and linked nodes would believe it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace

from trishula.named_files import open_file
from trishula.runtime.file_lock import FileHeld, FileLock
from trishula_router.agents.change_notes import Author, Stamp, finish_notes, mark_done, notes_file_of, write_note
from trishula_router.agents.changes import Outline, changes_between, outline_of
from trishula_router.agents.text import AgentEntry, parse_agents, render_agents
from trishula_router.settings.faults import ConfigError
from trishula_router.store.json_text import NotJson, parse_json

__all__ = [
    "KEPT_FILE",
    "AgentEntry",
    "AgentsFileError",
    "Stamp",
    "keep_agents",
    "load_agents",
    "read_agents",
    "refuse_lost",
    "stamp_of",
    "update_agents",
]

#: What a node keeps of the file that was good last, in its state directory.
KEPT_FILE = "agents.json.good"


class AgentsFileError(Exception):
    """The file of agents can't be used; the text says why and what to do."""


def read_agents(path: Path) -> dict[str, AgentEntry]:
    """What the file says; nobody, if there is no file: a node starts before its first token is made.

    Raises:
        AgentsFileError: if it can't be read, others can read it, or it says something else than it may.
    """
    try:
        with open_file(path) as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AgentsFileError(f"the file of agents {path} can't be read: {error.strerror}") from error
    if mode & 0o077:
        raise AgentsFileError(
            f"the file of agents {path} has mode {mode:04o}, so that others on this machine can read or change it; "
            f"run: chmod 600 {path}"
        )
    try:
        raw = parse_json(text)
    except NotJson as error:
        raise AgentsFileError(f"the file of agents {path} {error}") from None
    try:
        return parse_agents(raw)
    except ConfigError as error:
        raise AgentsFileError("\n".join(f"{path}: {fault.sentence}" for fault in error.faults)) from None


def load_agents(path: Path, kept: Path | None) -> tuple[dict[str, AgentEntry], str | None]:
    """What holds when a node starts: what the file says, or what its copy says if the file is broken or gone.

    Args:
        path: the file.
        kept: its copy; ``None`` if there is none.

    Returns:
        The agents, and what is wrong with the file if they are the copy's.

    Raises:
        AgentsFileError: if the file is broken, and there is no copy that is good.
    """
    fault = f"the file of agents {path} is gone"
    try:
        if path.exists() or kept is None or not kept.exists():
            return read_agents(path), None
    except AgentsFileError as error:
        if kept is None or not kept.exists():
            raise
        fault = str(error)
    try:
        agents = read_agents(kept)
        kept_at = datetime.fromtimestamp(kept.stat().st_mtime, UTC)
    except (AgentsFileError, OSError) as error:
        raise AgentsFileError(f"{fault}; and the copy of the last good one can't be used either: {error}") from None
    return (
        agents,
        f"{fault}; the node goes on with the copy of the last good one, {kept} of {kept_at:%Y-%m-%d %H:%M UTC}",
    )


def keep_agents(kept: Path, agents: Mapping[str, AgentEntry]) -> None:
    """Write the copy, unless it says that already.

    Raises:
        AgentsFileError: if it can't be written.
    """
    with contextlib.suppress(AgentsFileError):
        if kept.exists() and read_agents(kept) == agents:
            return
    try:
        # Another name than that of the commands, which may write the copy at the same time.
        _put(_written(render_agents(agents), kept.with_name(kept.name + ".node")), kept)
    except OSError as error:
        raise AgentsFileError(
            f"the copy {kept} of the file of agents can't be written: {error.strerror}; so a broken file would stop a "
            "restart (it is tried again when the file changes)"
        ) from error


def refuse_lost(path: Path, kept: Path) -> None:
    """Refuse to make a file in the place of one that is gone, while its copy has agents.

    The copy is not put back unasked: whoever deleted the file may have meant it, and then the copy is to go too.

    Raises:
        AgentsFileError: it is so, or the copy can't be read.
    """
    if path.exists() or not kept.exists():
        return
    try:
        count = len(read_agents(kept))
    except AgentsFileError as error:
        raise AgentsFileError(
            f"the file of agents {path} is gone, and the copy of the last good one can't be used either: {error}; put "
            f"one back from a backup, or begin without the agents of before with: rm {shlex.quote(str(kept))}"
        ) from None
    if count:
        raise AgentsFileError(
            f"the file of agents {path} is gone, and a new one would end what {count} agent{'s' * (count != 1)} of the "
            f"last good one may; put it back with: cp -p {shlex.quote(str(kept))} {shlex.quote(str(path))}\nor, if "
            f"they are to go, begin without them with: rm {shlex.quote(str(kept))}"
        )


def stamp_of(path: Path) -> Stamp:
    """By what a reader notices that the file was changed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@contextlib.contextmanager
def update_agents(
    path: Path, kept: Path | None = None, who: Author | None = None, *, patience_s: float | None = None
) -> Iterator[dict[str, AgentEntry]]:
    """Change the file: yields what it says, to be changed in place; writes it if the block ends without an error.

    Args:
        path: the file.
        kept: its copy, which is written too where there is one: it begins with the first start of a node.
        who: who changes it, and why, for the note beside it (:mod:`.change_notes`); ``None``: no note is made.
        patience_s: for how long to wait for another writer; ``None``: as long as it takes.

    Raises:
        AgentsFileError: if it can't be read or written, is lost (:func:`refuse_lost`), or another one writes it; then
            it is as it was, or as somebody edited it by hand meanwhile.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock"), patience_s=patience_s)
    except FileHeld:
        raise AgentsFileError(f"the file of agents {path} is being changed by another command") from None
    except OSError as error:
        raise AgentsFileError(f"the file of agents {path} can't be written: {error.strerror}") from error
    try:
        stamp = stamp_of(path)
        if kept is not None:
            refuse_lost(path, kept)
        agents = read_agents(path)
        before = {} if who is None else _outlines(agents, who.at)
        digests = _digests(agents)
        yield agents
        text = render_agents(agents)
        changes = [] if who is None else changes_between(before, _outlines(agents, who.at))
        notes = notes_file_of(path)
        try:
            # One name is enough: only the holder of the lock writes it, and what a killed writer left is overwritten.
            fresh = _written(text, path.with_name(path.name + ".new"))
            finish_notes(notes, stamp_of(path))
            number = None
            if who is not None and (changes or who.revoked is not None):
                revoked = who.revoked and replace(who.revoked, tokens=sorted(digests - _digests(agents)))
                number = write_note(notes, who, changes, stamp_of(fresh), revoked)
            if stamp_of(path) != stamp:
                # Editors know nothing of the lock.
                raise AgentsFileError(
                    f"the file of agents {path} was edited meanwhile; that edit holds, run this again"
                )
            _put(fresh, path)
        except OSError as error:
            raise AgentsFileError(f"the file of agents {path} can't be written: {error.strerror}") from error
        if number is not None:
            # Without that line the note holds for as long as the file stays as it is.
            with contextlib.suppress(OSError):
                mark_done(notes, number)
        if kept is not None and kept.exists():
            # The change holds, whatever becomes of the copy.
            with contextlib.suppress(OSError):
                _put(_written(text, kept.with_name(kept.name + ".new")), kept)
    finally:
        lock.release()


def _outlines(agents: Mapping[str, AgentEntry], now_ms: int) -> dict[str, Outline]:
    return {name: outline_of(record, now_ms) for name, record in agents.items()}


def _digests(agents: Mapping[str, AgentEntry]) -> set[str]:
    return {token.sha256 for record in agents.values() for token in record.tokens}


def _written(text: str, temporary: Path) -> Path:
    """The text on the disk, under a name of its own."""
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _put(temporary: Path, path: Path) -> None:
    """Have a file in its place, and in the place of the one there."""
    temporary.replace(path)
    # The rename itself must survive a power cut: a token that was handed out has to work afterwards.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
