"""What goes by itself: links whose messages nobody reads any more, and files that nobody needs; in small steps.

A file whose last message lost its payload goes at once, whether that was redacted or its time was over: nobody may send
that message anew. One whose message is not here, and perhaps comes yet, stays for ``attachments.unnamed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.contract.addresses import agent_of
from trishula.errors import StorageFailed
from trishula_router.attachments import links
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import Attachment, Key, Ledger, Link
from trishula_router.background import log_fault
from trishula_router.store.facts import RedactedFacts, read_facts
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import ORIGIN_SHIFT, Kind
from trishula_router.store.messages import State, StoredMessage
from trishula_router.store.runs import Extract

__all__ = ["Sweep", "drop"]

log = Logger()

#: What one step looks at: some milliseconds for the store.
_LINKS = 200
_BODIES_AT_ONCE = 20
_FILES = 50


class Sweep:
    """See the module's docstring.

    Args:
        store: knows what became of messages.
        ledger: what there is.
        disk: where the files are.
        now: the wall clock in ms.
    """

    def __init__(self, store: Store, ledger: Ledger, disk: Disk, now: Callable[[], int]) -> None:
        self._store = store
        self._ledger = ledger
        self._disk = disk
        self._now = now

    async def step(self) -> None:
        """Look at some links, and at what nobody needs."""
        files = self._disk.files
        if files is None:
            return
        now = self._now()
        await self._look_at(self._ledger.to_look_at(now, _LINKS), now)
        for key in self._ledger.over(now, _FILES):
            async with self._disk.locked(key):
                held = self._ledger.get(key)
                # Meanwhile it may have been named.
                if held is not None and self._ledger.is_over(key, self._now()):
                    await drop(self._ledger, self._disk, files, key, held)

    async def redacted(self, messages: Iterable[StoredMessage]) -> None:
        """Let go at once of what only these messages named, whose payloads are gone."""
        keys = dict.fromkeys((agent_of(message.sender), message.id) for message in messages)
        links = [link for key in keys if (link := self._ledger.link(*key)) is not None]
        for at in range(0, len(links), _LINKS):
            await self._look_at(links[at : at + _LINKS], self._now())

    def copied(self, copy: Copied, extract: Extract) -> None:
        """The same of messages that another node redacted, when its records were copied."""
        told = [
            extract.first + index
            for index, (_, kind, _, _) in enumerate(extract.records)
            # What lies behind a gap is not held, and comes again.
            if kind == Kind.REDACTED and extract.first + index <= copy.sequence
        ]
        if told:
            number = next((one.number for one in self._store.origins() if one.epoch == extract.epoch), 0)
            following: Deferred[None] = Deferred.fromCoroutine(self._follow(number << ORIGIN_SHIFT, told))
            following.addErrback(log_fault, log, "attachments of redacted messages could not be let go; they go later")

    async def _follow(self, origin: int, sequences: Sequence[int]) -> None:
        # Read back: the positions in the records are then those of the messages here.
        records = await self._store.records(
            after=origin + sequences[0] - 1,
            limit=len(sequences),
            kind=Kind.REDACTED,
            origin=origin >> ORIGIN_SHIFT,
            end=origin + sequences[-1],
        )
        read = [read_facts(record.facts, RedactedFacts) for record in records]
        positions = [position for facts in read if facts is not None for position in facts.messages]
        await self.redacted((await self._store.at_positions(positions)).values())

    async def _look_at(self, due: Sequence[Link], now: int) -> None:
        found: dict[tuple[str, str], list[StoredMessage]] = {}
        ids = list({link.message_id for link in due})
        for message in await self._store.with_ids(ids) if ids else []:
            found.setdefault((agent_of(message.sender), message.id), []).append(message)
        settled: list[tuple[Link, int]] = []
        gone: list[Link] = []
        for link in due:
            messages = found.get((link.agent, link.message_id), [])
            if not messages:
                gone.append(link)
            elif not any(message.state is State.OPEN for message in messages):
                settled += [(link, message.position) for message in messages]
        kept: set[Link] = set()
        for at in range(0, len(settled), _BODIES_AT_ONCE):
            some = settled[at : at + _BODIES_AT_ONCE]
            bodies = await self._store.bodies([position for _, position in some])
            kept |= {link for link, position in some if bodies.get(position)}
        gone += [link for link in dict.fromkeys(link for link, _ in settled) if link not in kept]
        for link in gone:
            if self._ledger.link(link.agent, link.message_id) is link:
                # Else it was sent again meanwhile.
                self._ledger.unname(link, now)
                links.forget(self._store, link)
                if (link.agent, link.message_id) in found:
                    await self._let_go(link.key)

    async def _let_go(self, key: Key) -> None:
        files = self._disk.files
        async with self._disk.locked(key):
            held = self._ledger.get(key)
            if files is not None and held is not None and not self._ledger.is_named(key):
                await drop(self._ledger, self._disk, files, key, held)


async def drop(ledger: Ledger, disk: Disk, files: AttachmentFiles, key: Key, held: Attachment) -> None:
    """Let a file go, by whoever has it locked.

    Raises:
        StorageFailed: it can't be deleted.
    """
    # First: no message may name it from now on.
    ledger.forget(key)
    disk.look_again(key)
    try:
        await disk.do(partial(files.delete, key, held.size_bytes))
    except OSError as error:
        ledger.put(key, held)
        raise StorageFailed(f"an attachment can't be deleted: {error.strerror or error}") from None
