"""What agents ask of attachments: to send one, piece by piece, and to fetch one; and that a message may name it.

All that is written and read goes through threads (:mod:`.disk`), so that the node's loop never waits for a disk, and is
paced (:mod:`.pace`), so that messages of others don't queue up behind a file.

An attachment is complete when its SHA-256 is what its digest says, and it is fsynced under its name; only then may a
message name it. The link is handed to the store before the message is, so that it is durable with it or before. Who may
fetch it: the agent that sent it, the recipients of the message that names it, and operators. What is at a linked node
is brought here when one of them asks (:mod:`.exchange`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.logger import Logger

from trishula.contract.addresses import agent_of
from trishula.contract.attached import AttachmentInfo, attachment_of
from trishula.contract.texts import one_line
from trishula.errors import ArgumentInvalid, AttachmentAway, AttachmentDamaged, AttachmentsOff, AttachmentUnknown
from trishula_router.attachments import links
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.known import Known
from trishula_router.attachments.ledger import Attachment, Key, Ledger, Link
from trishula_router.attachments.pace import Pace
from trishula_router.attachments.parts import Parts
from trishula_router.attachments.sweep import Sweep, drop
from trishula_router.clocks.clock import Clock
from trishula_router.settings.attachments import AttachmentOptions
from trishula_router.store.interface import Store

__all__ = ["CHUNK_BYTES", "Elsewhere", "Keeping"]

log = Logger()

#: The size of a piece: what a light message waits for it is a fraction of a millisecond.
CHUNK_BYTES = 64 * 1024
#: For so long it is known who may fetch what.
_ALLOWED_S = 60.0


#: How soon to ask again for what is fetched anew.
_SOON_S = 0.5


class Elsewhere(Protocol):
    """What is known of attachments at linked nodes; see :class:`.exchange.Exchange`, which is one."""

    async def link_of(self, owner: str, message_id: str) -> Link | None: ...

    async def bring(self, link: Link, until_bytes: int | None, agent: str) -> None: ...

    async def is_elsewhere(self, link: Link) -> bool: ...

    def secure(self, link: Link, copies: int | None) -> None: ...

    def told(self) -> dict[str, int]: ...


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
        parts: what makes pieces a whole.
        elsewhere: what linked nodes have; it puts itself here.
        damaged: how many were found that are not what their digest says.
    """

    elsewhere: Elsewhere

    def __init__(self, options: AttachmentOptions, store: Store, clock: Clock, now: Callable[[], int]) -> None:
        self._options = options
        self._store = store
        self._now = now
        self.ledger = Ledger(options)
        self.disk = Disk(clock)
        self.sweep = Sweep(store, self.ledger, self.disk, now)
        self.parts = Parts(self.ledger, self.disk, now)
        self.damaged = 0
        self.rate_bytes = options.rate_bytes
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
        told = {**self.ledger.told(), **self.elsewhere.told()}
        return {"on": self.limit_bytes is not None, **told, "damaged": self.damaged}

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
                        self.damage(key, "is not what its digest says")
                        await drop(self.ledger, self.disk, files, key, held)
                        held = None
                if held is None:
                    held = self.parts.begin(key, size_bytes)
                if not held.is_complete and held.have_bytes >= size_bytes:
                    await self.parts.finish(files, key, held)
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
                await self.parts.grow(files, key, held, data)
                return _state(held)

    # -- messages ------------------------------------------------------------------------------------------------------

    def name(
        self, agent: str, message_id: str, payload: object, path: str, copies: int | None
    ) -> Callable[[], None] | None:
        """Let a message name an attachment, if it does.

        Args:
            agent: its sender.
            message_id: its id.
            payload: the message's.
            path: where the message stands in the request.
            copies: on how many nodes the sender insists.

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
        link = self.link(agent, message_id, info)
        self.elsewhere.secure(link, copies)
        return partial(self._named, link)

    def _named(self, link: Link) -> None:
        self.ledger.name(link)
        links.write_down(self._store, link)

    def link(self, agent: str, message_id: str, info: AttachmentInfo) -> Link:
        """That a message names an attachment, as of now."""
        return Link(agent, message_id, info, self._now())

    def name_link(self, link: Link) -> None:
        """The same of a message that another node took, or takes; what it names need not be here.

        Raises:
            AttachmentsOff: the node takes none.
            AttachmentsFull: too many messages name some.
        """
        self._files()
        self.ledger.check_room(link.agent, link.message_id)
        self._named(link)

    async def has_whole(self, key: Key) -> bool:
        """Whether one is here and what its digest says; what isn't is dropped."""
        files = self._files()
        async with self.disk.locked(key):
            held = self.ledger.get(key)
            if held is None or not held.is_complete:
                return False
            if not await self.disk.is_whole(files, key):
                self.damage(key, "is not what its digest says")
                await drop(self.ledger, self.disk, files, key, held)
                return False
            return True

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
            until_bytes = offset + most_bytes
            await self.elsewhere.bring(link, until_bytes if until_bytes < link.info.size_bytes else None, agent)
            try:
                return await self._read(files, link.key, offset, most_bytes)
            except AttachmentDamaged as error:
                if not await self.elsewhere.is_elsewhere(link):
                    raise
                async with self.disk.locked(link.key):
                    held = self.ledger.get(link.key)
                    if held is not None:
                        await drop(self.ledger, self.disk, files, link.key, held)
                raise AttachmentAway(f"{error.sentence}; first it is fetched again", retry_after_s=_SOON_S) from None

    async def _read(self, files: AttachmentFiles, key: Key, offset: int, most_bytes: int) -> dict[str, Any]:
        async with self.disk.locked(key):
            held = self.ledger.get(key)
            if held is None or (not held.is_complete and held.have_bytes < offset + most_bytes):
                raise self.damage(key, "is not there any more")
            if offset > held.size_bytes:
                raise ArgumentInvalid(f"offset is {offset}, and the attachment has {held.size_bytes} bytes")
            if held.is_complete and not await self.disk.is_whole(files, key):
                raise self.damage(key, "is not what its digest says")
            part_of_bytes = None if held.is_complete else held.size_bytes
            try:
                data = await self.disk.do(partial(files.read, key, offset, most_bytes, part_of_bytes))
            except OSError as error:
                raise self.damage(key, f"can't be read ({error.strerror or error})") from None
        if len(data) < min(most_bytes, held.size_bytes - offset):
            raise self.damage(key, f"has {offset + len(data)} bytes instead of {held.size_bytes}")
        return {"data": data, "offset": offset, "size_bytes": held.size_bytes}

    async def _readable(self, agent: str, owner: str, message_id: str, is_operator: bool) -> Link:
        link = self.ledger.link(owner, message_id)
        if is_operator or agent == owner or await self._is_recipient(agent, owner, message_id):
            if link is None and (link := await self.elsewhere.link_of(owner, message_id)) is not None:
                self.name_link(link)
            if link is not None:
                return link
        raise AttachmentUnknown(
            f"{agent} has sent and got no message {message_id} of {one_line(owner)[:100]} that names an attachment, as "
            "far as this node knows, or it is no longer kept; ask at the node that took the message"
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

    def damage(self, key: Key, what: str) -> AttachmentDamaged:
        """Note that a file is not what it was; the error that says so."""
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
