"""What agents ask of attachments: to send one, piece by piece, and to fetch one; and that a message may name it.

All that is written and read goes through threads (:mod:`.disk`), so that the node's loop never waits for a disk, and is
paced (:mod:`.pace`), so that messages of others don't queue up behind a file.

An attachment is complete when its SHA-256 is what its digest says, and it is fsynced under its name; only then may a
message name it. The link is handed to the store before the message is, so that it is durable with it or before. Who may
fetch it: the agent that sent it, the recipients of the message that names it, and operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.logger import Logger

from trishula.contract.addresses import agent_of
from trishula.contract.attached import attachment_of
from trishula.contract.texts import one_line
from trishula.errors import ArgumentInvalid, AttachmentDamaged, AttachmentsOff, AttachmentUnknown
from trishula_router.attachments import links
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.known import Known
from trishula_router.attachments.ledger import Attachment, Key, Ledger, Link
from trishula_router.attachments.pace import Pace
from trishula_router.attachments.sweep import Sweep, drop
from trishula_router.clocks.clock import Clock
from trishula_router.settings.attachments import AttachmentOptions
from trishula_router.store.interface import Store

__all__ = ["CHUNK_BYTES", "Keeping"]

log = Logger()

#: The size of a piece: what a light message waits for it is a fraction of a millisecond.
CHUNK_BYTES = 64 * 1024
#: For so long it is known who may fetch what.
_ALLOWED_S = 60.0


class Keeping:
    """See the module's docstring.

    Args:
        options: how much is taken.
        store: keeps the links, and knows the messages.
        clock: timers and spans.
        now: the wall clock in ms.

    Attributes:
        ledger: what is known.
        disk: where the files are.
        sweep: what goes by itself.
        damaged: how many were found that are not what their digest says.
    """

    def __init__(self, options: AttachmentOptions, store: Store, clock: Clock, now: Callable[[], int]) -> None:
        self._options = options
        self._store = store
        self._now = now
        self.ledger = Ledger(options)
        self.disk = Disk(clock)
        self.sweep = Sweep(store, self.ledger, self.disk, now)
        self.damaged = 0
        self._pace = Pace(options.rate_bytes, clock)
        self._allowed: Known[tuple[str, str, str]] = Known(_ALLOWED_S, clock)

    @property
    def limit_bytes(self) -> int | None:
        """The largest that is taken; ``None`` if none are."""
        return self._options.size_bytes if self._options.on and self.disk.files is not None else None

    async def begin(self) -> None:
        """Find what is there; before anything is served."""
        files = self.disk.files
        if files is None:
            return
        for found in await self.disk.do(files.scan):
            attachment = Attachment(found.size_bytes, found.have_bytes, found.is_complete, found.touched_at)
            self.ledger.put(found.key, attachment)
        for link in await links.recall(self._store):
            self.ledger.name(link)

    def told(self) -> dict[str, Any]:
        """For ``node.status``."""
        return {"on": self.limit_bytes is not None, **self.ledger.told(), "damaged": self.damaged}

    def _files(self) -> AttachmentFiles:
        if not self._options.on or self.disk.files is None:
            raise AttachmentsOff("this node takes and hands out no attachments (attachments.on)")
        return self.disk.files

    # -- sending -------------------------------------------------------------------------------------------------------

    async def started(self, agent: str, digest: str, size_bytes: int) -> dict[str, Any]:
        """Begin to send, or go on: how much is here.

        Raises:
            TrishulaError: why it is not taken.
        """
        files = self._files()
        key = agent, digest
        with self._pace.counted(agent):
            await self._pace.wait(agent, CHUNK_BYTES)
            free_bytes = await self.disk.do(files.free_bytes)
            async with self.disk.locked(key):
                held = self.ledger.admit(key, size_bytes, free_bytes)
                if held is not None and held.is_complete:
                    if await self.disk.is_whole(files, key):
                        held.touched_at = self._now()
                    else:
                        # Whoever sends it again mends it.
                        self._damage(key, "is not what its digest says")
                        await drop(self.ledger, self.disk, files, key, held)
                        held = None
                if held is None:
                    held = Attachment(size_bytes, 0, False, self._now())
                    self.ledger.put(key, held)
                if not held.is_complete and held.have_bytes >= size_bytes:
                    await self._finish(files, key, held)
                return _state(held)

    async def arrived(self, agent: str, digest: str, offset: int, data: bytes) -> dict[str, Any]:
        """Take a piece; one that doesn't join on to what is here changes nothing.

        Raises:
            AttachmentUnknown: it was not begun here.
            AttachmentDamaged: it is whole now, and not what its digest says; it is gone.
            TrishulaError: why it is not taken.
        """
        files = self._files()
        key = agent, digest
        with self._pace.counted(agent):
            await self._pace.wait(agent, len(data))
            async with self.disk.locked(key):
                held = self.ledger.get(key)
                if held is None:
                    raise AttachmentUnknown(f"{agent} has begun no attachment {digest} here; begin it first")
                if held.is_complete or offset != held.have_bytes:
                    return _state(held)
                if offset + len(data) > held.size_bytes:
                    raise ArgumentInvalid(
                        f"data has {len(data)} bytes at {offset}; the attachment was begun with {held.size_bytes}"
                    )
                await self.disk.write(partial(files.append, key, held.size_bytes, offset, data))
                held.have_bytes += len(data)
                held.touched_at = self._now()
                if held.have_bytes == held.size_bytes:
                    await self._finish(files, key, held)
                return _state(held)

    async def _finish(self, files: AttachmentFiles, key: Key, held: Attachment) -> None:
        if held.size_bytes == 0:
            await self.disk.write(partial(files.append, key, 0, 0, b""))
        try:
            digest = await self.disk.digest(files, key, held.size_bytes)
        except OSError as error:
            # It is begun anew.
            digest = f"(it can't be read: {error.strerror or error})"
        if digest != key[1]:
            await drop(self.ledger, self.disk, files, key, held)
            raise AttachmentDamaged(
                f"what came as {key[1]} of {key[0]} has the digest {digest}, and is thrown away: the file changed "
                "while it was sent, or the node lost some of it with its power; send it again"
            )
        await self.disk.write(partial(files.complete, key, held.size_bytes))
        self.disk.found_whole(key)
        held.is_complete = True
        held.touched_at = self._now()

    # -- messages ------------------------------------------------------------------------------------------------------

    def name(self, agent: str, message_id: str, payload: object, path: str) -> Callable[[], None] | None:
        """Let a message name an attachment, if it does.

        Args:
            agent: its sender.
            message_id: its id.
            payload: the message's.
            path: where the message stands in the request.

        Returns:
            what writes the link down, if there is one; to be called before the message is handed to the store.

        Raises:
            TrishulaError: why the message is refused.
        """
        info = attachment_of(payload, f"{path}.payload")
        if info is None:
            return None
        self._files()
        self.ledger.check_named(agent, message_id, info, f"{path}.payload.attachment")
        return partial(self._named, Link(agent, message_id, info, self._now()))

    def _named(self, link: Link) -> None:
        self.ledger.name(link)
        links.write_down(self._store, link)

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def described(self, agent: str, owner: str, message_id: str, *, is_operator: bool) -> dict[str, Any]:
        """What a message names.

        Raises:
            AttachmentUnknown: nothing here, or nothing that this agent may know of.
        """
        self._files()
        link = await self._readable(agent, owner, message_id, is_operator)
        return {**link.info.to_wire(), "from": owner, "chunk_bytes": CHUNK_BYTES}

    async def piece(
        self, agent: str, owner: str, message_id: str, offset: int, most_bytes: int, *, is_operator: bool
    ) -> dict[str, Any]:
        """Some of the attachment that a message names.

        Raises:
            AttachmentUnknown: none, or none that this agent may know of.
            AttachmentDamaged: what is on the disk is not what it was.
        """
        files = self._files()
        with self._pace.counted(agent):
            link = await self._readable(agent, owner, message_id, is_operator)
            await self._pace.wait(agent, most_bytes)
            async with self.disk.locked(link.key):
                held = self.ledger.get(link.key)
                if held is None or not held.is_complete:
                    raise self._damage(link.key, "is not there any more")
                if offset > held.size_bytes:
                    raise ArgumentInvalid(f"offset is {offset}, and the attachment has {held.size_bytes} bytes")
                if not await self.disk.is_whole(files, link.key):
                    raise self._damage(link.key, "is not what its digest says")
                try:
                    data = await self.disk.do(partial(files.read, link.key, offset, most_bytes))
                except OSError as error:
                    raise self._damage(link.key, f"can't be read ({error.strerror or error})") from None
            if len(data) < min(most_bytes, held.size_bytes - offset):
                raise self._damage(link.key, f"has {offset + len(data)} bytes instead of {held.size_bytes}")
            return {"data": data, "offset": offset, "size_bytes": held.size_bytes}

    async def _readable(self, agent: str, owner: str, message_id: str, is_operator: bool) -> Link:
        link = self.ledger.link(owner, message_id)
        if link is not None and (is_operator or agent == owner or await self._is_recipient(agent, owner, message_id)):
            return link
        raise AttachmentUnknown(
            f"{agent} has sent and got no message {message_id} of {one_line(owner)[:100]} whose attachment is at this "
            "node; it is at the node that took the message, for as long as that node keeps the message"
        )

    async def _is_recipient(self, agent: str, owner: str, message_id: str) -> bool:
        known = agent, owner, message_id
        if self._allowed.has(known):
            return True
        found = [one for one in await self._store.with_ids([message_id]) if agent_of(one.sender) == owner]
        is_one = any(agent == agent_of(one.recipient) for one in found)
        if not is_one and found:
            # One to a capability, of whom it was handed to.
            held = await self._store.holders([one.position for one in found])
            is_one = any(agent == agent_of(holder) for holders in held.values() for holder in holders)
        if is_one:
            self._allowed.add(known)
        return is_one

    def _damage(self, key: Key, what: str) -> AttachmentDamaged:
        self.damaged += 1
        self.disk.look_again(key)
        log.error(
            "the file of the attachment {digest} of {agent} {what}; when {agent} sends it again, that replaces it",
            digest=key[1],
            agent=key[0],
            what=what,
        )
        return AttachmentDamaged(
            f"the file of the attachment {key[1]} of {key[0]} {what}, on the node's disk; have {key[0]} send it again: "
            "that replaces it"
        )


def _state(held: Attachment) -> dict[str, Any]:
    return {
        "size_bytes": held.size_bytes,
        "have_bytes": held.have_bytes,
        "complete": held.is_complete,
        "chunk_bytes": CHUNK_BYTES,
    }
