"""A bridge between a folder and the bus, for an agent of TRISHULA v1, which knows files alone.

The bridge is a member of the bus under the agent's own name and token. What the agent puts into ``outbox/`` is sent as
its messages, and what comes for the agent is put into ``inbox/``:

=========================================  =========================================================================
a file of ``outbox/`` is                   then
=========================================  =========================================================================
a message from this agent                  it is sent; with the node's receipt it is archived, and not before
refused for good, or no message            it lies in ``rejected/``, with the sentence beside it
refused for now (full mailbox, no node)    it stays, and is offered again
=========================================  =========================================================================

A message that comes is acknowledged when its file is on the disk (:meth:`Bridge.deliver` has returned then); as long as
the folder can't take it, it waits, and its lease is extended. A COMMAND is acknowledged in the same way: its answer is
a file that the agent writes later, with ``reply_to``.

Nothing goes twice: the archive knows what was sent, the node knows the ids, and the agent's own file
(:mod:`trishula.messaging.agent_file`) knows the ids of what came. One thing is left: if the bridge is killed in the
milliseconds between the file's renaming and the note of its id, and the agent has taken the file away meanwhile, the
message is put there once more.

What is to be done with which file is decided in :mod:`trishula.files.bridging`; this is the edge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

from trishula.contract.message import Message
from trishula.contract.receipts import Receipt
from trishula.errors import FileInvalid, FolderUnusable, TrishulaError
from trishula.files.bridging import Bridging, Ending
from trishula.files.folder import INBOX, OUTBOX, Folder
from trishula.files.v1 import Names, decode_v1, encode_v1, file_name_of
from trishula.files.watch import Watch
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock
from trishula.runtime.waiting import ended_within, sleep

__all__ = ["DEFAULT_KEEP_S", "Bridge"]

_log = logging.getLogger("trishula")

T = TypeVar("T")

#: How long the archive keeps a file, in seconds.
DEFAULT_KEEP_S = 30 * 86_400.0
#: How often the outbox is looked at although no word of a change came, in seconds.
SCAN_EVERY_S = 5.0
#: Between two scans at least, in seconds.
_BREATH_S = 0.05
#: A folder that can't be used is tried again so soon, in seconds.
_RETRY_S = 1.0
_PRUNE_EVERY_S = 3600.0
#: A file that is larger is no message: a payload of 1 MiB takes at most six times as much in escapes.
LIMIT_BYTES = 8 * 1024 * 1024


class InThread(Protocol):
    """Does work that blocks in a thread; its outcome comes in the reactor's."""

    def __call__(self, work: Callable[[], T], /) -> Pending[T]:
        """Begin with it."""


class Post(Protocol):
    """Sends a message as it stands, by a map of the wire contract; ``held`` is told of each refusal for now."""

    def __call__(self, wire: Mapping[str, Any], held: Callable[[TrishulaError], object], /) -> Pending[Receipt]:
        """Begin with it; the outcome is its receipt, or why there will be none."""


class Watcher(Protocol):
    """See :class:`trishula.files.watch.Watch`."""

    def renew(self) -> None:
        """Begin to watch, if it is not watched."""

    def stop(self) -> None:
        """Watch no more."""


class Bridge:
    """See the module's docstring. All methods belong to the reactor's thread.

    Args:
        agent: whose folder it is.
        folder: the folder; it must have been prepared.
        names: how v1 calls the agents.
        post: sends a message.
        clock: timers, and a clock for spans.
        now_ms: the wall clock.
        in_thread: for what blocks.
        wake_in_reactor: has a function called in the reactor's thread; itself called from any thread.
        keep_s: how long the archive keeps a file, in seconds.
        watch: what tells of changes in a directory.
    """

    def __init__(
        self,
        agent: str,
        folder: Folder,
        names: Names,
        *,
        post: Post,
        clock: Clock,
        now_ms: Callable[[], int],
        in_thread: InThread,
        wake_in_reactor: Callable[[Callable[[], object]], object],
        keep_s: float = DEFAULT_KEEP_S,
        watch: Callable[[Path, Callable[[], object]], Watcher] = Watch,
    ) -> None:
        self._agent = agent
        self._folder = folder
        self._names = names
        self._post = post
        self._clock = clock
        self._now_ms = now_ms
        self._in_thread = in_thread
        self._keep_s = keep_s
        self._bridging = Bridging(agent)
        self._watch = watch(folder.root / OUTBOX, lambda: wake_in_reactor(self._wake))
        self._woken: Pending[None] = Pending()
        self._stopping = False
        self._over: Pending[None] | None = None
        # By what can't be done: what was said of that.
        self._troubles: dict[str, str] = {}
        self._prune_at_s = clock.seconds()

    # -- from the bus to the folder ------------------------------------------------------------------------------------

    async def deliver(self, message: Message) -> str:
        """Put a message into the inbox; the file's name, when it is on the disk.

        It waits as long as the folder can't take the file.
        """
        data, name = encode_v1(message, self._names), file_name_of(message.id, message.sender)
        while True:
            try:
                written = await self._in_thread(lambda: self._folder.write_inbox(name, data))
            except FolderUnusable as error:
                self._tell(INBOX, error)
            else:
                self._tell(INBOX, None)
                return written
            await sleep(self._clock, _RETRY_S)

    # -- from the folder to the bus ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what is put into the outbox, until :meth:`stop`."""
        self._over = Pending()
        try:
            while not self._stopping:
                self._woken = Pending()
                pause_s = await self._turn()
                await sleep(self._clock, _BREATH_S)
                await ended_within(self._clock, self._woken, pause_s - _BREATH_S)
        finally:
            self._watch.stop()
            self._over.resolve(None)

    async def stop(self) -> None:
        """Look no more; what is under way to the node is left to the agent."""
        self._stopping = True
        self._wake()
        if self._over is not None:
            await self._over

    def _wake(self) -> None:
        if not self._woken.done:
            self._woken.resolve(None)

    async def _turn(self) -> float:
        """Look at the outbox once, and do what is to be done; how soon to look again, in seconds."""
        try:
            await self._in_thread(self._watch.renew)
            await self._in_thread(self._prune)
            names = await self._in_thread(self._folder.scan_outbox)
            due = self._bridging.due(names, self._clock.seconds())
            for name, data, is_known in await self._in_thread(lambda: self._read(due)) if due else ():
                self._judge(name, data, is_known)
            await self._end()
        except FolderUnusable as error:
            self._tell(OUTBOX, error)
            return _RETRY_S
        self._tell(OUTBOX, None)
        if self._folder.is_changing:
            return self._folder.stable_s / 2
        return self._bridging.wait_s or SCAN_EVERY_S

    def _read(self, due: list[str]) -> list[tuple[str, bytes, bool]]:
        """The files by their names: contents, and whether each was sent before; in a thread."""
        read = []
        for name in due:
            data = self._folder.read(name, LIMIT_BYTES)
            if data is not None:
                read.append((name, data, self._folder.is_archived(name, data)))
        return read

    def _judge(self, name: str, data: bytes, is_known: bool) -> None:
        bridging, now_s = self._bridging, self._clock.seconds()
        if is_known:
            bridging.known(name)
            return
        if len(data) > LIMIT_BYTES:
            bridging.refused_here(name, f"the file is larger than {LIMIT_BYTES} bytes; no message is as large as that")
            return
        try:
            message = decode_v1(data, self._names)
        except FileInvalid as error:
            bridging.unreadable(name, data, error.sentence, now_s)
            return
        fault = bridging.fault_of(message)
        if fault is not None:
            bridging.refused_here(name, fault)
            return
        bridging.sending(name)
        self._post(_as_sent(message), lambda _: bridging.held(name)).when_done(
            lambda pending: self._answered(name, pending)
        )

    def _answered(self, name: str, pending: Pending[Receipt]) -> None:
        error = pending.error
        if error is not None and not isinstance(error, TrishulaError):
            _log.error("%s could not be sent: %s", name, error)
            error = TrishulaError(str(error))
        self._bridging.answered(name, error, self._clock.seconds())
        self._wake()

    async def _end(self) -> None:
        """Archive and reject what has its end."""
        endings = self._bridging.endings()
        if not endings:
            return
        ended, failure = await self._in_thread(lambda: self._end_all(endings))
        for name in ended:
            self._bridging.ended(name)
        if failure is not None:
            raise failure

    def _end_all(self, endings: list[Ending]) -> tuple[list[str], FolderUnusable | None]:
        """Do so; which of them are ended, and what was in the way of the others; in a thread."""
        at = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        ended, failure = [], None
        for ending in endings:
            try:
                if ending.why is None:
                    self._folder.archive(ending.name, at)
                else:
                    kept = self._folder.reject(ending.name, ending.why)
                    _log.warning("%s lies in %s now: %s", ending.name, kept, ending.why)
            except FolderUnusable as error:
                # One may need room that another one doesn't.
                failure = error
            else:
                ended.append(ending.name)
        return ended, failure

    def _prune(self) -> None:
        """Let days of the archive go that are over; in a thread."""
        now_s = self._clock.seconds()
        if now_s >= self._prune_at_s:
            today = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
            gone = self._folder.prune((today - timedelta(seconds=self._keep_s)).date())
            self._prune_at_s = now_s + _PRUNE_EVERY_S
            if gone:
                _log.info("%d files went from the archive of %s: their days are over", gone, self._folder.root)

    def _tell(self, what: str, error: FolderUnusable | None) -> None:
        """Say once that something can't be done, and once that it can."""
        sentence = None if error is None else error.sentence
        if sentence == self._troubles.get(what):
            return
        if sentence is None:
            del self._troubles[what]
            _log.info("%s: the %s is in use again", self._folder.root, what)
        else:
            self._troubles[what] = sentence
            _log.warning("the %s waits: %s (tried again; nothing is lost)", what, sentence)


def _as_sent(message: Message) -> dict[str, Any]:
    """What its sender sends: without what the node sets."""
    return {key: value for key, value in message.to_wire().items() if key not in ("from", "seq", "accepted_at")}
