"""Attachments beside a store's file: checked, copied into a backup, and put back. Everything here blocks.

A backup of a store in ``FILE`` has its attachments in the directory ``FILE.attachments``, as a node has them
(:mod:`.files`). Copied is what messages in ``FILE`` name, and what is whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from trishula.contract.texts import one_line
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import Key, Link
from trishula_router.attachments.links import PREFIX, read
from trishula_router.store.sqlite.files import is_own_message, remembered_in

__all__ = ["SUFFIX", "Checked", "check", "copy_into", "directory_of"]

#: Behind the name of a backup: its attachments.
SUFFIX = ".attachments"
_READ_BYTES = 1024 * 1024


class Checked(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        files: how many are whole, and are there now.
        size_bytes: of these.
        damaged: those that are not what their digests say, as sentences.
        missing: those that are not there, and have to be, likewise.
    """

    files: int = 0
    size_bytes: int = 0
    damaged: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """All that is wrong."""
        return self.damaged + self.missing

    def told(self) -> dict[str, Any]:
        """For --json."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        return told


def directory_of(backup: Path) -> Path:
    """Where the attachments of a backup are."""
    return backup.with_name(backup.name + SUFFIX)


def check(store: Path, directory: Path) -> Checked:
    """Look at all that messages of a store name.

    Args:
        store: its file.
        directory: the attachments.

    Raises:
        StoreError: the store can't be read.
        OSError: the directory can't be.
    """
    return _each(store, AttachmentFiles(directory), lambda key, size_bytes: None)


def copy_into(store: Path, source: Path, target: Path) -> Checked:
    """Copy all that messages of a store name, but for what is there and whole; what is damaged is not copied.

    Args:
        store: its file.
        source: a directory of attachments.
        target: another one; what else is in it stays.

    Raises:
        StoreError: the store can't be read.
        OSError: it can't be copied.
    """
    sources, targets = AttachmentFiles(source), AttachmentFiles(target)
    there = {found.key for found in targets.scan() if found.is_complete}

    def copy(key: Key, size_bytes: int) -> None:
        if key not in there or _digest_of(targets, key) != key[1]:
            targets.delete(key, size_bytes)
            offset = 0
            while data := sources.read(key, offset, _READ_BYTES):
                targets.append(key, size_bytes, offset, data)
                offset += len(data)
            if not offset:
                targets.append(key, size_bytes, 0, b"")
            targets.complete(key, size_bytes)

    return _each(store, sources, copy)


def _each(store: Path, sources: AttachmentFiles, copy: Callable[[Key, int], None]) -> Checked:
    named: dict[Key, list[Link]] = {}
    for link in read(remembered_in(store, PREFIX)):
        named.setdefault(link.key, []).append(link)
    sizes = {found.key: found.size_bytes for found in sources.scan() if found.is_complete}
    files = size_bytes = 0
    damaged: list[str] = []
    missing: list[str] = []
    for key, links in sorted(named.items()):
        if key not in sizes:
            # What a linked node took is fetched when it is asked for.
            own = [link for link in links if is_own_message(store, link.agent, link.message_id)]
            missing += [_sentence(key, own, "is missing")] if own else []
        elif _digest_of(sources, key) != key[1]:
            damaged.append(_sentence(key, links, "is not what its digest says"))
        else:
            copy(key, sizes[key])
            files, size_bytes = files + 1, size_bytes + sizes[key]
    return Checked(files, size_bytes, tuple(damaged), tuple(missing))


def _digest_of(files: AttachmentFiles, key: Key) -> str:
    hasher = hashlib.sha256()
    offset = 0
    try:
        while count := files.hash_some(key, None, offset, hasher):
            offset += count
    except OSError as error:
        return f"({error.strerror})"
    return f"sha256:{hasher.hexdigest()}"


def _sentence(key: Key, links: list[Link], what: str) -> str:
    agent, digest = key
    ids = ", ".join(one_line(link.message_id) for link in links[:3])
    more = f" and {len(links) - 3} more" if len(links) > 3 else ""
    return f"the attachment {digest} of {agent} {what}: message {ids}{more}; have {agent} send the file again"
