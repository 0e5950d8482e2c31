"""The files that are sent and fetched: each method blocks, and belongs into a thread.

A file that is fetched grows beside its place, as ``.NAME.DIGEST.part``, and is renamed when it is whole, so that nobody
finds half of it, and what is there is gone on with after a broken connection or the end of the process.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trishula.contract.attached import LARGEST_BYTES, NAME_LENGTH, AttachmentInfo, file_name_for
from trishula.contract.texts import one_line
from trishula.contract.units import show_bytes
from trishula.errors import ArgumentInvalid, AttachmentDamaged, AttachmentTooLarge

if TYPE_CHECKING:
    from trishula.contract.sealed import SealedAttachment

__all__ = ["FetchedFile", "SentFile"]

_READ_BYTES = 1024 * 1024


class SentFile:
    """A file on its way to a node; it stays open, so that it may be renamed meanwhile.

    Args:
        path: where it is.
        info: what the message says of it.
        descriptor: it, open.
    """

    def __init__(self, path: Path, info: AttachmentInfo, descriptor: int) -> None:
        self.path = path
        self.info = info
        self._descriptor = descriptor

    @staticmethod
    def open(path: str | os.PathLike[str]) -> SentFile:
        """Open a file and find out its digest.

        Raises:
            ArgumentInvalid: it is no file that can be read.
            AttachmentTooLarge: no node takes it.
        """
        where = Path(path)
        try:
            descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _unreadable(where, error) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ArgumentInvalid(f"attachment is {one_line(str(where))}, which is no file; pack a directory first")
            if status.st_size > LARGEST_BYTES:
                raise AttachmentTooLarge(
                    f"{one_line(str(where))} has {show_bytes(status.st_size)}, and an attachment has at most "
                    f"{show_bytes(LARGEST_BYTES)}; send it in parts"
                )
            digest, size_bytes = _digest(descriptor)
            # As the sender sees it; a name that is no text becomes one.
            name = one_line(where.name.encode("utf-8", "replace").decode())[:NAME_LENGTH]
            media_type = mimetypes.guess_type(name)[0]
            return SentFile(where, AttachmentInfo(digest, size_bytes, name or None, media_type), descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _unreadable(where, error) from None
        except BaseException:
            os.close(descriptor)
            raise

    def read(self, offset: int, most_bytes: int) -> bytes:
        """Some of it.

        Raises:
            ArgumentInvalid: it is shorter than it was, or can't be read any more.
        """
        try:
            data = os.pread(self._descriptor, most_bytes, offset)
        except OSError as error:
            raise ArgumentInvalid(f"{one_line(str(self.path))} can't be read any more: {error.strerror}") from None
        if len(data) < min(most_bytes, self.info.size_bytes - offset):
            raise ArgumentInvalid(f"{one_line(str(self.path))} became shorter while it was sent; send it again")
        return data[: self.info.size_bytes - offset]

    def check_unchanged(self) -> None:
        """Find out whether it is what it was.

        Raises:
            ArgumentInvalid: it changed while it was sent.
        """
        if _digest(self._descriptor) != (self.info.digest, self.info.size_bytes):
            raise ArgumentInvalid(
                f"{one_line(str(self.path))} changed while it was sent; send it again when it is done"
            )

    def close(self) -> None:
        """Let it go."""
        os.close(self._descriptor)


class FetchedFile:
    """A file on its way from a node.

    Args:
        to: where it is to be: a path, or a directory, in which its name is made of what the sender called it.
        info: what the message says of it.
        replace: whether a file that is there may be replaced.
        sealed: the key to it, if it is encrypted; ``info`` is that of the encrypted one then.

    Attributes:
        path: where it will be.
        have_bytes: how much is here.
    """

    def __init__(
        self,
        to: str | os.PathLike[str],
        info: AttachmentInfo,
        *,
        replace: bool,
        sealed: SealedAttachment | None = None,
    ) -> None:
        self.info = info
        self._replace = replace
        self._sealed = sealed
        where = Path(to)
        named = info if sealed is None else sealed.opened
        self.path = where / file_name_for(named) if where.is_dir() else where
        word = info.digest.removeprefix("sha256:")[:16]
        self._part = self.path.with_name(f".{self.path.name}.{word}.part")
        self.have_bytes = 0
        self._descriptor = -1

    def open(self) -> FetchedFile:
        """Open what is here of it.

        Raises:
            ArgumentInvalid: it can't be put there.
        """
        if not self._replace and os.path.lexists(self.path):
            raise self._taken()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self._part, flags, 0o600)
            self.have_bytes = min(os.fstat(self._descriptor).st_size, self.info.size_bytes)
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def close(self) -> None:
        """Let it go; what is here of it stays."""
        os.close(self._descriptor)

    def append(self, data: bytes) -> None:
        """Write what follows.

        Raises:
            ArgumentInvalid: it can't be written.
        """
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self.have_bytes + written)
        except OSError as error:
            raise self._unwritable(error) from None
        self.have_bytes += len(data)

    def finish(self) -> Path:
        """Check it, make it durable, and put it in its place.

        Raises:
            AttachmentDamaged: it is not what its digest says; what was fetched is deleted.
            ArgumentInvalid: it can't be put there.
        """
        try:
            os.ftruncate(self._descriptor, self.have_bytes)
            digest, size_bytes = _digest(self._descriptor)
            if (digest, size_bytes) != (self.info.digest, self.info.size_bytes):
                self._part.unlink(missing_ok=True)
                raise AttachmentDamaged(
                    f"what was fetched as {self.info.digest} has the digest {digest} and {size_bytes} bytes, and is "
                    "deleted; fetch it again, or have its sender send it again"
                )
            if self._sealed is None:
                self._put(self._part, self._descriptor)
            else:
                self._put_opened(self._sealed)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            raise self._unwritable(error) from None
        return self.path

    def _put(self, part: Path, descriptor: int) -> None:
        os.fsync(descriptor)
        if self._replace:
            part.replace(self.path)
        else:
            # Unlike a rename it replaces nothing.
            os.link(part, self.path)
            part.unlink()

    def _put_opened(self, sealed: SealedAttachment) -> None:
        from trishula.attachments.opening import opened

        readable = self._part.with_name(f"{self._part.name}.open")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(readable, flags, 0o600)
        try:
            for data in opened(lambda offset, most: os.pread(self._descriptor, most, offset), sealed):
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
            if _digest(descriptor) != (sealed.opened.digest, sealed.opened.size_bytes):
                raise AttachmentDamaged(
                    f"what was fetched as {sealed.info.digest} is opened another file than its message says; have its "
                    "sender send it again"
                )
            self._put(readable, descriptor)
            self._part.unlink()
        except AttachmentDamaged:
            self._part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
            # Nobody finds it readable who was not given it.
            readable.unlink(missing_ok=True)

    def _taken(self) -> ArgumentInvalid:
        return ArgumentInvalid(
            f"{one_line(str(self.path))} is there already; name another place, or say that it may be replaced"
        )

    def _unwritable(self, error: OSError) -> ArgumentInvalid:
        return ArgumentInvalid(f"{one_line(str(self.path))} can't be written: {error.strerror or error}")


def _unreadable(path: Path, error: OSError) -> ArgumentInvalid:
    return ArgumentInvalid(f"attachment is {one_line(str(path))}, which can't be read: {error.strerror or error}")


def _digest(descriptor: int) -> tuple[str, int]:
    """The digest of an open file, and how large it is."""
    hasher = hashlib.sha256()
    offset = 0
    while data := os.pread(descriptor, _READ_BYTES, offset):
        hasher.update(data)
        offset += len(data)
    return f"sha256:{hasher.hexdigest()}", offset
