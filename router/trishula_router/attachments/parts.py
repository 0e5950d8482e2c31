"""How a part of an attachment grows and becomes complete, wherever its pieces come from: an agent, or a linked node.

Each method is for whoever has the attachment locked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trishula.errors import AttachmentDamaged
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import Attachment, Key, Ledger
from trishula_router.attachments.sweep import drop

__all__ = ["Parts"]


class Parts:
    """See the module's docstring.

    Args:
        ledger: what there is.
        disk: where the files are.
        now: the wall clock in ms.
    """

    def __init__(self, ledger: Ledger, disk: Disk, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._disk = disk
        self._now = now

    def begin(self, key: Key, size_bytes: int) -> Attachment:
        """There is nothing of it yet."""
        held = Attachment(size_bytes, 0, False, self._now())
        self._ledger.put(key, held)
        return held

    async def grow(self, files: AttachmentFiles, key: Key, held: Attachment, data: bytes) -> None:
        """Take what follows; with the last of it, it is completed.

        Raises:
            AttachmentsFull: it can't be written.
            AttachmentDamaged: see :meth:`finish`.
        """
        await self._disk.write(partial(files.append, key, held.size_bytes, held.have_bytes, data))
        held.have_bytes += len(data)
        held.touched_at = self._now()
        if held.have_bytes == held.size_bytes:
            await self.finish(files, key, held)

    async def finish(self, files: AttachmentFiles, key: Key, held: Attachment) -> None:
        """Check what is all there, and make it durable.

        Raises:
            AttachmentsFull: it can't be.
            AttachmentDamaged: it is not what its digest says, and is thrown away.
        """
        if held.size_bytes == 0:
            await self._disk.write(partial(files.append, key, 0, 0, b""))
        try:
            digest = await self._disk.digest(files, key, held.size_bytes)
        except OSError as error:
            # It is begun anew.
            digest = f"(it can't be read: {error.strerror or error})"
        if digest != key[1]:
            await drop(self._ledger, self._disk, files, key, held)
            raise AttachmentDamaged(
                f"what came as {key[1]} of {key[0]} has the digest {digest}, and is thrown away: the file changed "
                "while it was sent, or the node lost some of it with its power; send it again"
            )
        await self._disk.write(partial(files.complete, key, held.size_bytes))
        self._disk.found_whole(key)
        held.is_complete = True
        held.touched_at = self._now()
