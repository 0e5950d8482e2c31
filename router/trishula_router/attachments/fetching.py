"""Fetching attachments from linked nodes: on demand, piece by piece, each once for all who ask, and gone on with.

A *job* is one attachment that is being fetched. It asks the nodes that may have it, one after the other: first the one
that took the message. What came stays on the disk, so it doesn't matter whether a link, this node or the other one went
in between; the next who asks goes on with it. What came is checked by its digest before it counts as complete, as what
agents send is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import AttachmentAway, AttachmentDamaged, AttachmentsOff, AttachmentUnknown, TrishulaError
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.files import AttachmentFiles
from trishula_router.attachments.ledger import Attachment, Key, Ledger
from trishula_router.attachments.parts import Parts
from trishula_router.attachments.turns import Turns
from trishula_router.attachments.window import Window
from trishula_router.attachments.words import Lack, Piece, Want, Word
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock

__all__ = ["ASKED_FOR_S", "Fetching", "Sources"]

log = Logger()

#: So long whoever asks waits until there is more; then he is told how far it is, and asks again.
ASKED_FOR_S = 5.0
#: So long nothing may come: the other node may have to look through a gigabyte first, on a slow disk.
SILENT_S = 20.0
_MOST_SILENCES = 3
_SILENT = "doesn't answer (it may be of an earlier release)"
#: How soon to ask again: while it comes, and while nobody has it who is there.
_SOON_S, _LATER_S = 0.5, 2.0
#: So many are fetched at a time; others wait.
_MOST_JOBS = 1000


@dataclass(frozen=True, slots=True)
class Sources:
    """Who may have an attachment.

    Attributes:
        origin: the node that took the message; ``None`` if it was this one.
        nodes: the linked nodes, in the order in which they are asked.
    """

    origin: str | None
    nodes: Sequence[str]


@dataclass(slots=True, eq=False)
class _Job:
    """One that is being fetched.

    Attributes:
        size_bytes: how large it is.
        sources: who may have it.
        agent: for whom.
        source: who is asked now.
        trouble: what keeps it from getting on, as a clause; "" if nothing does.
        expected: where the next piece begins, and ``end``, where the last one that was asked for ends.
        came: what came and was not looked at; ``None``: nothing more will.
        waits: whoever works on the job, for that.
        askers: whoever waits for the job to get on.
    """

    size_bytes: int
    sources: Sources
    agent: str
    source: str | None = None
    trouble: str = ""
    expected: int = 0
    end: int = 0
    came: deque[Piece | Lack | None] = field(default_factory=deque)
    waits: Deferred[None] | None = None
    askers: list[Deferred[bool]] = field(default_factory=list)

    def hand(self, word: Piece | Lack | None) -> None:
        """Something came."""
        self.came.append(word)
        waits, self.waits = self.waits, None
        if waits is not None:
            waits.callback(None)

    def got_on(self) -> None:
        """There is more than there was."""
        askers, self.askers = self.askers, []
        for asker in askers:
            asker.callback(True)

    def left_by(self, asker: Deferred[bool]) -> None:
        """Somebody has waited for so long as he wanted to."""
        if asker in self.askers:
            self.askers.remove(asker)
            asker.callback(False)


class _NotThere(Exception):
    """A node can't be of help; the text is the clause that says why.

    Attributes:
        is_away: whether it may be later.
    """

    def __init__(self, why: str, *, is_away: bool) -> None:
        super().__init__(why)
        self.is_away = is_away


class Fetching:
    """See the module's docstring.

    Args:
        node: this node's name.
        ledger: what there is.
        disk: where the files are.
        parts: what takes the pieces.
        clock: timers and spans.
        say: tells a peer something.
        is_up: whether a peer is there.
    """

    def __init__(
        self,
        node: str,
        ledger: Ledger,
        disk: Disk,
        parts: Parts,
        clock: Clock,
        *,
        say: Callable[[str, Word], None],
        is_up: Callable[[str], bool],
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._disk = disk
        self._parts = parts
        self._clock = clock
        self._say = say
        self._is_up = is_up
        self._turns = Turns()
        self._jobs: dict[Key, _Job] = {}

    @property
    def count(self) -> int:
        """How many are being fetched."""
        return len(self._jobs)

    def is_here(self, key: Key, until_bytes: int | None) -> bool:
        """Whether so much of an attachment is here; ``None``: all of it, and checked."""
        held = self._ledger.get(key)
        if held is None or held.is_complete:
            return held is not None
        return until_bytes is not None and until_bytes < held.size_bytes and held.have_bytes >= until_bytes

    async def bring(
        self, key: Key, size_bytes: int, until_bytes: int | None, sources: Sources, agent: str, wait_s: float
    ) -> None:
        """Wait until so much of it is here, and have it fetched.

        Args:
            key: which.
            size_bytes: how large it is.
            until_bytes: how much of it is wanted; ``None``: all, as with the last piece.
            sources: who may have it.
            agent: who wants it.
            wait_s: for how long at most.

        Raises:
            AttachmentAway: it is not here yet; it says how far it is, or who is away.
            AttachmentUnknown, AttachmentDamaged: nobody has it any more.
            AttachmentsFull, AttachmentTooLarge: it is not taken.
        """
        until_s = self._clock.seconds() + wait_s
        while not self.is_here(key, until_bytes):
            job = self._jobs.get(key) or self._begin(key, size_bytes, sources, agent)
            asker: Deferred[bool] = Deferred()
            job.askers.append(asker)
            timer = self._clock.callLater(max(0.0, until_s - self._clock.seconds()), job.left_by, asker)
            try:
                got_on = await asker
            finally:
                if timer.active():
                    timer.cancel()
            if not got_on and not self.is_here(key, until_bytes):
                held = self._ledger.get(key)
                raise AttachmentAway(
                    f"{0 if held is None else held.have_bytes} of {size_bytes} bytes of the attachment {key[1]} of "
                    f"{key[0]} have come to {self._node} from {job.source or 'a linked node'}{job.trouble}; ask again",
                    retry_after_s=_SOON_S,
                )

    def _begin(self, key: Key, size_bytes: int, sources: Sources, agent: str) -> _Job:
        if len(self._jobs) >= _MOST_JOBS:
            raise AttachmentAway(
                f"{self._node} fetches {len(self._jobs)} attachments from linked nodes, as many as it does at a time; "
                "ask again",
                retry_after_s=_LATER_S,
            )
        job = self._jobs[key] = _Job(size_bytes, sources, agent)
        # Behind whoever asks, who is not among those that wait yet.
        self._clock.callLater(0, self._run, key, job)
        return job

    def _run(self, key: Key, job: _Job) -> None:
        def over(outcome: object) -> object:
            self._jobs.pop(key, None)
            askers, job.askers = job.askers, []
            error = getattr(outcome, "value", None)
            if error is not None and not isinstance(error, TrishulaError):
                error = AttachmentAway(
                    f"{self._node} failed to fetch the attachment {key[1]} of {key[0]}; its log says why",
                    retry_after_s=_LATER_S,
                )
            for asker in askers:
                if error is None:
                    asker.callback(True)
                else:
                    asker.errback(error)
            return None if isinstance(getattr(outcome, "value", None), TrishulaError) else outcome

        working: Deferred[None] = Deferred.fromCoroutine(self._work(key, job))
        working.addBoth(over)
        working.addErrback(log_fault, log, "an attachment could not be fetched")

    # -- words ---------------------------------------------------------------------------------------------------------

    def heard(self, peer: str, word: Piece | Lack) -> None:
        """A peer hands over a piece, or has none."""
        job = self._jobs.get(word.key)
        if job is None or job.source != peer:
            return
        if isinstance(word, Piece):
            # What was not asked for, or comes again, is not kept in memory.
            if word.offset != job.expected or job.expected + len(word.data) > job.end:
                return
            job.expected += len(word.data)
        job.hand(word)

    def lost(self, peer: str) -> None:
        """A peer is away."""
        for job in list(self._jobs.values()):
            if job.source == peer:
                job.hand(None)

    # -- work ----------------------------------------------------------------------------------------------------------

    async def _work(self, key: Key, job: _Job) -> None:
        told: dict[str, str] = {}
        is_away = False
        for source in job.sources.nodes:
            if not self._is_up(source):
                told[source], is_away = "can't be reached", True
                continue
            try:
                await self._from(source, key, job)
                return
            except _NotThere as error:
                told[source] = str(error)
                is_away = is_away or error.is_away
        raise self._nobody(key, job, told, is_away=is_away)

    def _nobody(self, key: Key, job: _Job, told: dict[str, str], *, is_away: bool) -> TrishulaError:
        agent, digest = key
        origin = job.sources.origin
        if origin is not None and origin not in told:
            told = {origin: f"is not linked with {self._node}", **told}
        whys = "; ".join(f"{node} {why}" for node, why in told.items())
        what = f"the file of the attachment {digest} of {agent} is not at {self._node}: {whys}"
        if is_away:
            back = origin if origin is not None and not self._is_up(origin) else "the node that has it"
            return AttachmentAway(
                f"{what}. It is fetched when {back} is there again; if {back} is gone for good, have {agent} send the "
                "file again",
                retry_after_s=_LATER_S,
            )
        return AttachmentUnknown(f"{what}. Have {agent} send the file again")

    async def _from(self, source: str, key: Key, job: _Job) -> None:
        """Fetch what is missing from one node, until all is here.

        Raises:
            _NotThere: why that node is of no help.
            TrishulaError: why it is not taken.
        """
        window, silences, is_anew = Window(), 0, False
        while True:
            async with self._turns.turn(source, job.agent):
                files = self._disk.files
                if files is None:
                    raise AttachmentsOff("this node takes and hands out no attachments (attachments.on)")
                try:
                    held = await self._held(files, key, job.size_bytes)
                    if held.is_complete:
                        return
                    came = await self._ask(files, source, key, job, held, window)
                except AttachmentDamaged:
                    if is_anew:
                        raise _NotThere("hands out another file than its digest says", is_away=False) from None
                    # What was here of it, from before this node lost its power, may have been wrong.
                    is_anew = True
                    continue
            silences = 0 if came else silences + 1
            job.trouble = f", which {_SILENT}" if silences else ""
            if not self._is_up(source):
                raise _NotThere("can't be reached", is_away=True)
            if silences >= _MOST_SILENCES:
                raise _NotThere(_SILENT, is_away=True)

    async def _held(self, files: AttachmentFiles, key: Key, size_bytes: int) -> Attachment:
        free_bytes = await self._disk.do(files.free_bytes)
        async with self._disk.locked(key):
            held = self._ledger.admit(key, size_bytes, free_bytes) or self._parts.begin(key, size_bytes)
            if not held.is_complete and held.have_bytes >= size_bytes:
                await self._parts.finish(files, key, held)
            return held

    async def _ask(
        self, files: AttachmentFiles, source: str, key: Key, job: _Job, held: Attachment, window: Window
    ) -> bool:
        """Ask for what follows, and take it; whether anything came."""
        offset = held.have_bytes
        count = min(window.size_bytes, job.size_bytes - offset)
        job.source, job.expected, job.end = source, offset, offset + count
        job.came.clear()
        asked_s = self._clock.seconds()
        self._say(source, Want(*key, job.size_bytes, offset, count))
        try:
            while held.have_bytes < offset + count:
                word = await self._next(job)
                if word is None:
                    window.missed()
                    return held.have_bytes > offset
                if isinstance(word, Lack):
                    raise _NotThere(word.why, is_away=False)
                async with self._disk.locked(key):
                    if self._ledger.get(key) is not held:
                        raise _NotThere("has it, and its message is gone here", is_away=False)
                    # Its sender may be sending it here meanwhile.
                    if word.offset == held.have_bytes and not held.is_complete:
                        await self._parts.grow(files, key, held, word.data)
                job.got_on()
            window.measured(self._clock.seconds() - asked_s)
            return True
        finally:
            job.source = None

    async def _next(self, job: _Job) -> Piece | Lack | None:
        if not job.came:
            job.waits = waits = Deferred[None]()
            timer = self._clock.callLater(SILENT_S, job.hand, None)
            await waits
            if timer.active():
                timer.cancel()
        return job.came.popleft()
