"""While an agent is in fallback, each message of its outbox is written as a file as well, once.

The message stays in the outbox: a node that comes back gets it, under the same id, and receivers know each id that they
have handled. When a node has accepted it, a file that nobody has moved yet is withdrawn.

A message that was filed can't be called back any more: somebody may have it. So whoever gives up waiting for its
receipt is told that its outcome is unknown, as if a node had seen it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from trishula.contract.receipts import Receipt
from trishula.errors import BusUnreachable, FileInvalid, FolderUnusable, MessageSetAside, OutcomeUnknown, TrishulaError
from trishula.files.errands import Errands
from trishula.files.mail_folder import MailFolder
from trishula.messaging.entries import Entry
from trishula.messaging.sender import Sending
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock, Timer

__all__ = ["Filing"]

_log = logging.getLogger("trishula")

#: Files written in one piece of work; each costs two syncs.
_AT_ONCE = 100
#: Between two tries to write to a folder that can't be used, in seconds.
_RETRY_S = 3.0
#: A node has the message, or may have it: with these outcomes the file stays.
_OPEN = (BusUnreachable, OutcomeUnknown, MessageSetAside)


class Filing:
    """See the module's docstring.

    Args:
        sending: the outbox.
        folder: where files are written.
        errands: does what blocks.
        clock, now_ms: for tries, and for what expires.
        complain: says once in a while that the folder can't be used.
    """

    def __init__(
        self,
        sending: Sending,
        folder: MailFolder,
        errands: Errands,
        clock: Clock,
        now_ms: Callable[[], int],
        complain: Callable[[TrishulaError], object],
    ) -> None:
        self._sending = sending
        self._folder = folder
        self._errands = errands
        self._clock = clock
        self._now_ms = now_ms
        self._complain = complain
        # Messages whose files are to be written, and all that have one or will.
        self._queue: deque[Entry] = deque()
        self._filed: set[Entry] = set()
        self._gone: list[str] = []
        self._is_on = False
        self._writes = False
        self._timer: Timer | None = None

    def begin(self) -> None:
        """The fallback begins: file what waits, and what is sent from now on."""
        self._is_on = True
        self._sending.filing = self._add
        for entry in self._sending.unsettled():
            self._add(entry)

    def end(self) -> None:
        """The fallback is over; what is not written yet goes to the node alone."""
        self._is_on = False
        self._sending.filing = None
        self._filed.difference_update(self._queue)
        self._queue.clear()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _add(self, entry: Entry) -> None:
        if entry in self._filed:
            return
        self._filed.add(entry)
        # Nobody can say any more that nobody has it.
        entry.offers += 1
        done = entry.done

        def settled(outcome: Receipt | TrishulaError) -> None:
            self._settled(entry, outcome)
            done(outcome)

        entry.done = settled
        self._queue.append(entry)
        if not self._writes and self._timer is None:
            # At the end of the turn: what is sent in one turn is written together.
            self._timer = self._clock.callLater(0, self._write)

    def _settled(self, entry: Entry, outcome: Receipt | TrishulaError) -> None:
        if entry not in self._filed or isinstance(outcome, _OPEN):
            return
        self._filed.discard(entry)
        self._gone.append(entry.id)
        if len(self._gone) == 1:
            self._clock.callLater(0, self._withdraw)

    def _withdraw(self) -> None:
        # Behind whatever is being written, so that a file can't come after its withdrawal.
        gone, self._gone = self._gone, []
        self._errands.do(lambda: self._folder.withdraw(gone), self._withdrawn)

    def _withdrawn(self, outcome: Pending[None]) -> None:
        if outcome.error is not None:
            _log.warning(
                "A file whose message a node has could not be withdrawn, and travels as well: %s", outcome.error
            )

    def _write(self) -> None:
        self._timer = None
        entries: list[Entry] = []
        while self._queue and len(entries) < _AT_ONCE:
            entry = self._queue.popleft()
            if entry in self._filed:
                entries.append(entry)
        if not entries:
            return
        self._writes = True
        now_ms = self._now_ms()
        written: list[Entry] = []

        def write() -> None:
            for entry in entries:
                try:
                    self._folder.write(entry.message, entry.number, now_ms, entry.signature)
                except FileInvalid as error:
                    _log.error(
                        "The message %s to %s can't be a file, and waits for a node: %s", entry.id, entry.to, error
                    )
                else:
                    written.append(entry)

        self._errands.do(write, lambda outcome: self._written(entries, written, outcome.error))

    def _written(self, entries: list[Entry], written: list[Entry], error: BaseException | None) -> None:
        self._writes = False
        for entry in written:
            if entry.is_reply and entry.held is not None and entry in self._filed:
                # Its COMMAND need not wait for a node: the reply is on the disk, and on its way.
                entry.held(BusUnreachable(f"no node takes the reply {entry.id} now; it is in a file"))
        pause_s = 0.0
        if error is not None:
            if not isinstance(error, FolderUnusable):
                raise error
            self._complain(error)
            left = set(written)
            if self._is_on:
                self._queue.extendleft(entry for entry in reversed(entries) if entry not in left)
                pause_s = _RETRY_S
            else:
                self._filed.difference_update(set(entries) - left)
        if self._queue and self._timer is None:
            self._timer = self._clock.callLater(pause_s, self._write)
