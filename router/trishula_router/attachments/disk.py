"""Work on the files of attachments: in threads, in order for each attachment, and a few pieces at a time for all."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore

from trishula.errors import AttachmentsFull
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.known import Known
from trishula_router.attachments.ledger import Key
from trishula_router.clocks.clock import Clock

__all__ = ["Disk"]

_T = TypeVar("_T")

#: So many pieces of work are with the threads, which others need as well.
_THREADS = 3
#: For so long a file that was looked through counts as whole.
_WHOLE_S = 600.0


def _at_once(work: Callable[[], _T]) -> Awaitable[_T]:
    done: Deferred[_T] = Deferred()
    try:
        done.callback(work())
    except Exception:
        done.errback()
    return done


class Disk:
    """See the module's docstring.

    Args:
        clock: spans.

    Attributes:
        files: where they are; ``None`` of a node in memory, which takes none. The edge puts it here.
        in_thread: does what blocks; the edge puts threads here.
    """

    def __init__(self, clock: Clock) -> None:
        self.files: AttachmentFiles | None = None
        self.in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = _at_once
        self._threads = DeferredSemaphore(_THREADS)
        self._locks: dict[Key, DeferredLock] = {}
        self._whole: Known[Key] = Known(_WHOLE_S, clock)

    @contextlib.asynccontextmanager
    async def locked(self, key: Key) -> AsyncIterator[None]:
        """Be the only one who works on an attachment."""
        lock = self._locks.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked and not lock.waiting:
                self._locks.pop(key, None)

    async def do(self, work: Callable[[], _T]) -> _T:
        """Have something done by a thread; what it raises is raised here."""
        await self._threads.acquire()
        try:
            done: _T = await self.in_thread(work)
            return done
        finally:
            self._threads.release()

    async def write(self, work: Callable[[], None]) -> None:
        """The same of something that writes.

        Raises:
            AttachmentsFull: it can't.
        """
        try:
            await self.do(work)
        except OSError as error:
            raise AttachmentsFull(
                f"the node can't write the attachment ({error.strerror or error}); make room on its disk, or mend it"
            ) from None

    async def digest(self, files: AttachmentFiles, key: Key, part_of_bytes: int | None = None) -> str:
        """What a file's digest is now; ``part_of_bytes`` as for :meth:`.AttachmentFiles.hash_some`.

        Raises:
            OSError: it can't be read.
        """
        hasher = hashlib.sha256()
        offset = 0
        # In pieces, so that others' come in between.
        while count := await self.do(partial(files.hash_some, key, part_of_bytes, offset, hasher)):
            offset += count
        return f"sha256:{hasher.hexdigest()}"

    async def is_whole(self, files: AttachmentFiles, key: Key) -> bool:
        """Whether a complete file is what it was; it is looked through once in a while."""
        if self._whole.has(key):
            return True
        try:
            digest = await self.digest(files, key)
        except OSError:
            digest = ""
        if digest == key[1]:
            self._whole.add(key)
        return digest == key[1]

    def found_whole(self, key: Key) -> None:
        """It was looked through."""
        self._whole.add(key)

    def look_again(self, key: Key) -> None:
        """What was known of it is known no more."""
        self._whole.drop(key)
