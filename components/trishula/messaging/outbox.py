"""What was sent and has no receipt yet: the decisions of a sender. No I/O: feed events and the clock, drain batches.

An entry's life: *queued* → *in flight* (in one call with its neighbours) → receipt, or refused for good, or back:

==========================================  ============================================================================
the call failed or the connection went      back to the front of the queue, in the old order, under the same ids: the
                                            node knows them and stores nothing twice
refused for now (``temporary``)             *held* (:mod:`trishula.messaging.held`), with later entries to the same
                                            recipient behind it, so that the order holds; others pass (see below)
refused for good                            its sender gets the error
accepted, with fewer copies than needed     its sender gets the receipt; the entry is *under-replicated*, and offered
                                            again to each node we meet, until it has its copies
                                            (:mod:`trishula.messaging.under_replicated`)
==========================================  ============================================================================

Order: several calls are in flight, so when an entry is refused, later ones to the same recipient may be under way. The
node refuses those too, until the first comes again. So it comes again only when every call that was under way with
entries to that recipient is answered, and then all that was refused goes out as it was first offered, before the rest:
an entry that the node let in while we don't know of the refusal of one before it would overtake that one. After a call
that failed as a whole the same holds for all recipients.

A session that the node ends while messages are under way may have ended because of one of them. Which one it was is
found out in :mod:`trishula.messaging.suspicion`: suspects go out in ever smaller parts, one call at a time and nothing
beside it, until one that ends the session alone is *set aside*. Its sender gets an error, it stays in the file, and the
others go on.

More urgent entries overtake others that wait for their first call (:mod:`trishula.messaging.urgency`).

Batching: at most ``Limits.calls`` calls are in flight. While they are, entries gather, so that batches grow with the
load by themselves and a lone message never waits. :mod:`trishula.messaging.entries` has entries, batches and limits.

With a file (:mod:`trishula.messaging.agent_file`) the entries outlive the process: an entry is put into it when it
is added, which is before it is offered to any node, and dropped from it when it has its outcome. So

* ``send()`` without a node, then the end of the process: it goes out when the agent runs again;
* offered, then the end of the process before the receipt: it is offered again under the same id, and stored once;
* the receipt came, then the end of the process before that is in the file: as before.

A message is encoded once, when it is sent (:mod:`trishula.contract.payload`): the file and every offer have the same
bytes. What ``await send()`` means is the same with a file and without: the *node* has the message on disk. The file
only makes sure that a message is not forgotten on the way there. A message that the agent itself gave up is dropped
from the file, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trishula.contract.receipts import Receipt
from trishula.errors import MessageSetAside, RemoteError, TrishulaError
from trishula.messaging.entries import LIMITS, Batch, Entry, Limits, OutboxFile
from trishula.messaging.held import Held
from trishula.messaging.refusals import end_unknown, ends_sessions, outbox_full, refused, too_large
from trishula.messaging.suspicion import guilty
from trishula.messaging.under_replicated import UnderReplicated, is_short_of_copies
from trishula.messaging.urgency import ByUrgency
from trishula.runtime.backoff import Backoff
from trishula.session.transport import Ending

__all__ = ["Outbox"]

#: Between tries of what was refused for now, and of calls that failed, unless the node says when.
_RETRY = Backoff(first_s=0.2, factor=2.0, cap_s=30.0)


class Outbox:
    """See the module's docstring. ``now_s`` is any clock that only goes on.

    Args:
        random: spreads pauses; returns a number in [0, 1).
        limits: how much it takes and sends at once.
        retry: the pauses between tries.
        file: where entries outlive the process, if they do.
        emptied: called when the last message without a receipt got one, or was given up.
        refused: told of each refusal for now.

    Attributes:
        under_replicated: what has a receipt, with fewer copies than needed.
    """

    def __init__(
        self,
        *,
        random: Callable[[], float],
        limits: Limits = LIMITS,
        retry: Backoff = _RETRY,
        file: OutboxFile | None = None,
        emptied: Callable[[], object] = lambda: None,
        refused: Callable[[TrishulaError], object] = lambda _: None,
    ) -> None:
        self._limits = limits
        self._batch_bytes = limits.batch_bytes
        self._batch_messages = limits.batch_messages
        self._file = file
        self._retry = retry
        self._random = random
        self._emptied = emptied
        self._queue = ByUrgency()
        self._held = Held(retry, random, refused)
        self._flying: list[Batch] = []
        self.under_replicated = UnderReplicated(self._let_go)
        self._numbers = self._places = 0
        self._count = 0
        self._size_bytes = 0
        self._online = False
        self._generation = 0
        self._paused_until_s = 0.0
        # A call failed, and others that were in flight with it are not answered yet.
        self._regrouping = False
        self._failures = 0
        # Calls that failed because the session is gone, until that is told.
        self._cut: list[Batch] = []

    def __len__(self) -> int:
        """How many messages have no receipt yet."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether it takes nothing more but replies."""
        return (
            self._count + len(self.under_replicated.by_number) >= self._limits.messages
            or self._size_bytes >= self._limits.total_bytes
        )

    def add(self, entry: Entry) -> None:
        """Queue a message.

        Raises:
            OutboxFull: it takes nothing more.
        """
        if self.is_full and not entry.is_reply:
            raise outbox_full(self._count + len(self.under_replicated.by_number), self._size_bytes, self._limits)
        self._numbers += 1
        self._queue_up(entry, self._numbers)
        if self._file is not None:
            self._file.put(entry.number, entry.message, entry.copies)

    def restore(self, entry: Entry, number: int) -> None:
        """Queue a message of an earlier run, in the order of their numbers; a node may have seen it."""
        self._numbers = max(self._numbers, number)
        entry.offers = 1
        self._queue_up(entry, number)

    def _queue_up(self, entry: Entry, number: int) -> None:
        entry.number = number
        self._count += 1
        self._size_bytes += entry.size_bytes
        self._queue.append(entry)

    def sort(self) -> None:
        """Bring the queue in the order of sending, after something was restored."""
        self._queue.sort()

    def write_to(self, file: OutboxFile, above: int) -> None:
        """There is a file from now on: what waits goes into it, with numbers above those that it holds."""
        self._file = file
        entries = sorted((*self.entries(), *self.under_replicated.by_number.values()), key=lambda entry: entry.number)
        # What an earlier run left was sent before, and its numbers stay; here are only our own.
        for entry in entries:
            entry.number += above
            file.put(entry.number, entry.message, entry.copies)
        self.under_replicated.renumber()
        self._numbers += above

    def withdraw(self, message_id: str) -> Entry | None:
        """Forget a message that no node can have, and return it; ``None`` if one may have it."""
        for queue in (*self._queue.queues(), *self._held.queues()):
            for entry in queue:
                if entry.id == message_id and entry.offers == entry.denials:
                    queue.remove(entry)
                    self._forget(entry)
                    return entry
        return None

    def connected(self) -> None:
        """There is a session: everything without a receipt may go out (again)."""
        self._online = True
        self._cut = []
        self._paused_until_s = 0.0
        self._failures = 0
        self.offer_under_replicated()
        # What one node refused for now, another one may take.
        held = self._held.release_all()
        if held:
            self._queue.put_back(held)

    def pause(self) -> None:
        """Nothing goes out for now; answers to the calls in flight still count."""
        self._online = False

    def resume(self) -> None:
        """The pause is over, on the same session."""
        self._online = True

    @property
    def is_flying(self) -> bool:
        """Whether a call is in flight."""
        return bool(self._flying)

    def disconnected(self, ending: Ending | None = None) -> MessageSetAside | None:
        """The session is gone, and with it the answers to the calls in flight.

        Args:
            ending: how the node ended it, if it was the node and it said no goodbye: one of those in flight may be why.

        Returns:
            what the sender of a message was told that is proven to be why; it is on the road no more.
        """
        self._online = False
        self._generation += 1
        self._queue.put_back(entry for batch in self._flying for entry in batch.entries)
        lost, self._flying, self._cut = [*self._flying, *self._cut], [], []
        self._regrouping = False
        culprit = None if ending is None else guilty([batch.entries for batch in lost], ending)
        return None if culprit is None or ending is None else self._set_aside(culprit, ending)

    def _set_aside(self, entry: Entry, ending: Ending) -> MessageSetAside:
        self._queue.remove(entry)
        error = ends_sessions(entry, ending)
        if self._file is not None:
            self._file.set_aside(entry.message, str(error))
        self._conclude([(entry, error)])
        return error

    def keep_within(self, room_bytes: int, batch_messages: int) -> None:
        """What the node takes in one call: what is larger is refused, and batches are bounded by it."""
        self._batch_bytes = min(self._limits.batch_bytes, room_bytes)
        self._batch_messages = min(self._limits.batch_messages, batch_messages)
        outcomes: list[tuple[Entry, Any]] = []
        for queue in (*self._queue.queues(), *self._held.queues()):
            for entry in [entry for entry in queue if entry.size_bytes > room_bytes]:
                queue.remove(entry)
                outcomes.append((entry, too_large(entry.id, entry.to, entry.size_bytes, room_bytes)))
        self._conclude(outcomes)

    def take(self, now_s: float) -> Batch | None:
        """The next call to make now, if any."""
        if not self._online or len(self._flying) >= self._limits.calls or now_s < self._paused_until_s:
            return None
        if self._flying and (self._regrouping or self._flying[0].is_suspect):
            return None
        self._regrouping = False
        self._paused_until_s = 0.0
        held = self._held.by_recipient
        if held:
            due = self._held.release(now_s, self._under_way)
            if due:
                self._queue.put_back(due)
        entries: list[Entry] = []
        size_bytes = 0
        copies: int | None = None
        # Suspects go out with nothing beside them, so that whatever happens is their doing.
        most, is_suspect = self._batch_messages, False
        while len(entries) < most and (queue := self._queue.first()) is not None:
            entry = queue[0]
            if held and (line := held.get(entry.to)) is not None and not line.lets_pass(entry, now_s):
                line.put_behind(queue.popleft())
                continue
            suspicion = entry.suspicion
            if not entries and suspicion is not None and suspicion.part:
                if self._flying:
                    return None
                most, is_suspect = suspicion.part, True
            size_bytes += entry.size_bytes
            if entries and (
                size_bytes > self._batch_bytes
                or entry.copies != copies
                or (suspicion is not None and suspicion.part > 0) is not is_suspect
            ):
                break
            copies = entry.copies
            entry.offers += 1
            if not entry.place:
                self._places += 1
                entry.place = self._places
            entries.append(queue.popleft())
        if not entries:
            return None
        batch = Batch(entries, copies, self._generation, is_suspect)
        self._flying.append(batch)
        return batch

    def answered(self, batch: Batch, receipts: list[Receipt], now_s: float) -> None:
        """The node answered a call: every entry of it has its outcome, or is held for another try."""
        if not self._landed(batch):
            return
        if [receipt.id for receipt in receipts] != [entry.id for entry in batch.entries]:
            fault = RemoteError("the node's receipts don't match the messages of the call", remote_uri="receipts")
            self._conclude([(entry, fault) for entry in batch.entries])
            return
        self._failures = 0
        concluded: list[tuple[Entry, Receipt | TrishulaError]] = []
        for index, (entry, receipt) in enumerate(zip(batch.entries, receipts, strict=True)):
            entry.suspicion = None
            if receipt.error is None:
                entry.nodes.add(receipt.node)
                if entry.enough is not None and is_short_of_copies(entry, receipt, entry.enough):
                    self.under_replicated.by_number[entry.number] = entry
                concluded.append((entry, receipt))
                continue
            error = refused(receipt, receipt.error, index)
            if error.temporary:
                self._held.hold(entry, error, now_s)
            else:
                concluded.append((entry, error))
        self._conclude(concluded)

    def failed(self, batch: Batch, error: TrishulaError, now_s: float, *, is_cut: bool = False) -> None:
        """A call failed as a whole: tried again if that can help, else its entries get the error.

        Args:
            batch: its entries.
            error: why.
            now_s: the clock.
            is_cut: whether it failed because the session is gone, which is about to be told.
        """
        if not self._landed(batch):
            return
        if is_cut:
            self._cut.append(batch)
        if not error.temporary:
            self._conclude([(entry, error) for entry in batch.entries])
            return
        pause_s = error.retry_after_s or self._retry.pause_s(self._failures, self._random)
        self._failures += 1
        self._paused_until_s = now_s + pause_s
        self._regrouping = True
        self._queue.put_back(batch.entries)

    def _let_go(self, entry: Entry) -> None:
        self._size_bytes -= entry.size_bytes
        if self._file is not None:
            self._file.drop(entry.number)

    def offer_under_replicated(self) -> None:
        """Offer again what has a receipt with fewer copies than needed: the next one may tell of more."""
        again = self.under_replicated.take_all()
        self._count += len(again)
        if again:
            self._queue.put_back(again)

    def close(self, error: TrishulaError) -> None:
        """The sender ends: what no node can have seen fails with ``error``, everything else is unknown.

        What is in the file is unknown altogether, and stays there for the next run.
        """
        entries = self.entries()
        in_file = self._file is not None
        self._file = None
        self._queue.clear()
        self._held.by_recipient.clear()
        self.under_replicated.by_number.clear()
        self._flying, self._cut = [], []
        self._online = False
        self._generation += 1
        self._conclude(
            [(entry, end_unknown(entry, error, in_file) if entry.offers or in_file else error) for entry in entries]
        )

    def entries(self) -> list[Entry]:
        """What has no receipt, in no particular order."""
        entries = [*self._queue, *(entry for batch in self._flying for entry in batch.entries)]
        return entries + [entry for queue in self._held.queues() for entry in queue]

    def due_s(self) -> float | None:
        """When :meth:`take` may have something new without a further event; ``None`` if never."""
        if not self._online or len(self._flying) >= self._limits.calls or (self._regrouping and self._flying):
            return None
        dues = self._held.dues_s(self._under_way()) if self._held.by_recipient else []
        if self._queue and self._paused_until_s > 0.0:
            dues.append(self._paused_until_s)
        return min(dues, default=None)

    def _landed(self, batch: Batch) -> bool:
        # A call of an earlier session has been put back already, whatever is told of it now.
        if batch.generation != self._generation:
            return False
        self._flying.remove(batch)
        return True

    def _under_way(self) -> set[str]:
        return {entry.to for batch in self._flying for entry in batch.entries}

    def _conclude(self, outcomes: list[tuple[Entry, Any]]) -> None:
        for entry, _ in outcomes:
            self._forget(entry)
        # Last, for a callback may send again.
        for entry, outcome in outcomes:
            entry.done(outcome)

    def _forget(self, entry: Entry) -> None:
        self._count -= 1
        if entry.number not in self.under_replicated.by_number:
            self._size_bytes -= entry.size_bytes
            if self._file is not None:
                self._file.drop(entry.number)
        if not self._count:
            self._emptied()
