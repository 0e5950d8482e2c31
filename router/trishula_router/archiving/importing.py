"""Taking segments back into a node's archive: from a backup, another disk, or another machine.

What is taken has to be a part of this node's journal, and that is proven, not believed: each segment is checked from
its first line to its last, by the node's keys, and they must join on to each other, to the segments that are there, and
in the end to the digest that the store's first record is chained to. A fork has other digests, so it can't join on.
Nothing is copied before all of that is known. Copies are put in place from the newest to the oldest, each synced and
renamed: a crash leaves a run that joins on, and the same command goes on where it was.

A store that was restored from a backup has another epoch, and the same chain: so the chain decides, not the epoch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable
from itertools import pairwise
from pathlib import Path

import msgspec

from trishula.contract.units import show_bytes
from trishula.evidence.archive import Archive, Segment, join_of, name_faults, segment_of
from trishula.evidence.checking import check_file
from trishula.evidence.findings import Checked
from trishula.named_files import open_file
from trishula_router.store.bases import Base

__all__ = ["ImportRefused", "Importing", "segments_below"]

#: How the name of a copy ends that isn't whole yet; no node takes it for a segment.
_PART = ".importing"


#: What else the disk has to keep: a node that runs there goes on accepting.
_MARGIN_BYTES = 64 * 1024 * 1024


class ImportRefused(Exception):
    """Something is not imported; the text is the sentence for the operator, and ends with how much was."""


class Importing(msgspec.Struct, frozen=True):
    """What an import is to do.

    Attributes:
        folder: the archive.
        new: segments to be copied, the oldest first, each with its SHA-256.
        known: how many of the given ones are there already.
        records: how many records the new ones have.
    """

    folder: Path
    new: list[tuple[Segment, str]]
    known: int
    records: int

    @classmethod
    def plan(
        cls,
        paths: Iterable[Path],
        folder: Path,
        base: Base,
        public_keys: Collection[str],
        progress: Callable[[float], None] = lambda _: None,
    ) -> Importing:
        """Check everything.

        Args:
            paths: segments, and folders with segments.
            folder: the archive that they are to go into.
            base: where the journal begins in the node's store.
            public_keys: those that the node has, or has had.
            progress: told how far it is, from 0 to 1.

        Raises:
            ImportRefused: one is damaged, not signed by the node, or doesn't join on.
            OSError: one can't be read.
        """
        there = {(one.first, one.last): one for one in Archive(folder).segments()}
        given = segments_below(paths)
        found: dict[tuple[int, int], tuple[Segment, str, Checked]] = {}
        known = 0
        for number, segment in enumerate(given):

            def tell(part: float, number: int = number) -> None:
                progress((number + part) / len(given))

            sha256, span = _sha256(segment.path), (segment.first, segment.last)
            if span in there and _sha256(there[span].path) == sha256:
                known += 1
                continue
            checked = _checked(segment, public_keys, tell)
            if span in found and found[span][1] != sha256:
                raise ImportRefused(f"{segment.path} and {found[span][0].path} have the same records, and differ")
            found[span] = (segment, sha256, checked)
        _check_joins(found, there, base)
        new = [(segment, sha256) for _, (segment, sha256, _) in sorted(found.items())]
        return cls(folder, new, known, sum(checked.records for *_, checked in found.values()))

    def carry_out(self) -> None:
        """Copy what is new, and have it on the disk.

        Raises:
            ImportRefused: a file changed since it was checked.
            OSError: one can't be read, or the archive can't be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_room()
        for left in self.folder.glob(f".*{_PART}"):
            left.unlink()
        for copied, (segment, sha256) in enumerate(reversed(self.new)):
            part = self.folder / f".{segment.path.name}{_PART}"
            try:
                with (
                    open_file(segment.path) as source,
                    os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy,
                ):
                    shutil.copyfileobj(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                if _sha256(part) != sha256:
                    much = f"{copied} of {len(self.new)} segments were" if copied else "nothing was"
                    raise ImportRefused(
                        f"{segment.path} changed while it was imported; try again when it rests; {much} imported"
                    )
                part.replace(self.folder / segment.path.name)
            finally:
                part.unlink(missing_ok=True)
            _sync(self.folder)

    def _check_room(self) -> None:
        needed = sum(segment.path.stat().st_size for segment, _ in self.new)
        left = shutil.disk_usage(self.folder).free
        if self.new and left < needed + _MARGIN_BYTES:
            raise ImportRefused(
                f"the segments take {show_bytes(needed)}, and the disk of {self.folder} has {show_bytes(left)} left, "
                f"of which a node needs {show_bytes(_MARGIN_BYTES)}; free some space; nothing was imported"
            )


def segments_below(paths: Iterable[Path]) -> list[Segment]:
    """The segments that paths name, files or folders, by their first record.

    Raises:
        ImportRefused: a file is not called like a segment.
    """
    found = []
    for path in paths:
        if path.is_dir():
            folders = (path, *sorted(below for below in path.rglob("*") if below.is_dir()))
            found += [segment for folder in folders for segment in Archive(folder).segments()]
        elif (segment := segment_of(path)).first < 0:
            raise ImportRefused(f"{path} is not called like a segment of an archive (FIRST-LAST.jsonl.gz)")
        else:
            found.append(segment)
    return sorted(found)


def _checked(segment: Segment, public_keys: Collection[str], progress: Callable[[float], None]) -> Checked:
    checked = check_file(segment.path, public_keys, progress)
    checked = checked.and_of(name_faults(segment, checked))
    if not checked.ok or checked.head is None:
        raise ImportRefused(f"{segment.path} is not as it was written: {checked.findings[0].sentence}")
    if checked.head.kind != "archive" or checked.omitted:
        raise ImportRefused(f"{segment.path} is an export, and no segment of an archive")
    return checked


def _check_joins(
    found: dict[tuple[int, int], tuple[Segment, str, Checked]], there: dict[tuple[int, int], Segment], base: Base
) -> None:
    """See that each joins on to what follows it: a segment, or the store."""
    for span in found:
        if span in there:
            raise ImportRefused(
                f"{found[span][0].path} is another one than {there[span].path}, which has the same records; see which "
                "is whole with: trishula journal verify"
            )
    for segment, _, checked in found.values():
        if segment.last > base.sequence:
            raise ImportRefused(
                f"{segment.path} has records up to {segment.last}, and those behind {base.sequence} are in the node's "
                "store; it is a segment of another journal, or newer than this store"
            )
        if segment.last == base.sequence and checked.digest != base.digest:
            raise ImportRefused(
                f"{segment.path} is of another journal: the store's first record is chained to another record "
                f"{base.sequence}"
            )
    spans = sorted([*found, *there])
    for before, after in pairwise(spans):
        if before not in found and after not in found:
            continue
        first, second = (found[one][2] if one in found else check_file(there[one].path) for one in (before, after))
        path = found[after][0].path if after in found else found[before][0].path
        for finding in join_of(first, second):
            raise ImportRefused(f"{path} doesn't join on: {finding.sentence}")
    if found and spans[-1][1] < base.sequence:
        raise ImportRefused(
            f"the segments end with record {spans[-1][1]}, and the store begins behind {base.sequence}; import the "
            "segments between them, too"
        )


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
