"""Messages on their way out: the outbox, the calls that carry its batches, the awaitables of those who sent.

What goes out when, and again, is decided in :mod:`trishula.outbox`; this is its shell. One turn, one call: ``post``
only writes down what is to be sent, :meth:`Sending.flush` at the end of the turn makes the calls.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trishula import uris
from trishula.awaiting import Pending
from trishula.errors import KeyUnknown, MessageInvalid, OutboxFull, OutcomeUnknown, PayloadNotJson, TrishulaError
from trishula.membership import Membership
from trishula.message import encode_payload
from trishula.names import BROADCAST, ID_RULE, is_message_id
from trishula.outbox import Batch, Entry, Limits, Outbox, Receipt, Record, SavedMessage
from trishula.surroundings import Surroundings, Timer
from trishula.transport import Link

__all__ = ["Done", "Sending"]

_log = logging.getLogger("trishula")

#: A node that has not answered a send by then has trouble of its own; the same ids go out again.
_TIMEOUT_S = 30.0

#: Ids in one question.
_STATUS_BATCH = 1024
#: The states that a message doesn't leave any more.
_ENDS = frozenset({"done", "dead", "expired", "cancelled"})

#: Measures a message and finds what can't be written, before it can spoil a call for its neighbours.
_written = msgspec.msgpack.Encoder().encode

Done = Callable[[Receipt | TrishulaError], object]


class Sending:
    """See the module's docstring.

    Args:
        around: clocks and randomness.
        member: says why there is no node.
        sender: our address, if messages must name it: an instance's.
        limits: how much the outbox takes and sends at once.
        wake: called when there is something to flush.
    """

    def __init__(
        self,
        around: Surroundings,
        member: Membership,
        *,
        sender: str | None,
        limits: Limits,
        wake: Callable[[], None],
        keeps: Callable[[], None],
    ) -> None:
        self._around = around
        self._clock = around.clock
        self._member = member
        self._sender = sender
        self._wake = wake
        self._keeps = keeps
        self._outbox = Outbox(random=around.random, limits=limits)
        self._is_on_record = False
        #: The session of a node that doesn't take what our clock says.
        self._undated: Link | None = None
        self._retrying: Timer | None = None
        self._retrying_at_s = 0.0
        # Unique without a call for each: a random word per client, a number per message.
        self._id_word = around.word(6)
        self._id_numbers = itertools.count(1)

    def __len__(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._outbox)

    def new_id(self) -> str:
        """A new message id."""
        return f"{self._id_word}.{next(self._id_numbers)}"

    # -- in ------------------------------------------------------------------------------------------------------------

    def post(
        self,
        wire: dict[str, Any],
        done: Done,
        copies: int | None = None,
        *,
        held: Callable[[TrishulaError], object] | None = None,
        is_reply: bool = False,
    ) -> bool:
        """Queue one message, or tell ``done`` at once why not; whether it is queued.

        ``held`` and ``is_reply``: see :class:`trishula.outbox.Entry`.
        """
        # What the node would refuse as well is left to it; here is only what could not even be sent.
        if wire["id"] is None:
            wire["id"] = self.new_id()
        elif not is_message_id(wire["id"]):
            done(MessageInvalid(f"message.id is {wire['id']!r}; it must be {ID_RULE}"))
            return False
        if not isinstance(wire.get("to"), str):
            done(MessageInvalid(f"message.to is {wire.get('to')!r}; it must be an address or {BROADCAST!r}"))
            return False
        if self._sender is not None:
            wire.setdefault("from", self._sender)
        if self._member.end is not None:
            done(self._member.end)
            return False
        try:
            message = _written(wire)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            done(PayloadNotJson(f"the message {wire['id']} to {wire['to']} can't be written: {error}"))
            return False
        try:
            entry = Entry(
                wire,
                done,
                copies=copies,
                enough=self._enough(copies),
                size_bytes=len(message),
                held=held,
                is_reply=is_reply,
            )
            self._outbox.add(entry, message)
        except OutboxFull as error:
            done(error)
            return False
        self._wake()
        return True

    def post_many(
        self, messages: Iterable[Mapping[str, Any]], copies: int | None, timeout_s: float | None
    ) -> Pending[list[Receipt | TrishulaError]]:
        """Queue many, with one awaitable for all; see :meth:`trishula.client.Client.send_many`."""
        now_ms = self._around.now_ms()
        wires = [{"id": None, "timestamp": now_ms, **message} for message in messages]
        outcome: Pending[list[Receipt | TrishulaError]] = Pending()
        group = _Group(len(wires), outcome)
        if not wires:
            outcome.resolve([])
        slots = [_Slot(group, index) for index in range(len(wires))]
        for slot, wire in zip(slots, wires, strict=True):
            self.post(wire, slot, copies)
        if timeout_s is not None and not outcome.done:
            timer = self._clock.callLater(timeout_s, self._give_up, wires, slots, timeout_s)
            outcome.when_done(lambda _: timer.cancel() if timer.active() else None)
        return outcome

    def _give_up(self, wires: list[dict[str, Any]], slots: list[_Slot], timeout_s: float) -> None:
        for wire, slot in zip(wires, slots, strict=True):
            if slot.is_open:
                slot(self.unconfirmed(wire["id"], timeout_s))

    def unconfirmed(self, message_id: str, timeout_s: float) -> TrishulaError:
        """What to say of a message that has no receipt in time; one that no node can have is withdrawn."""
        return self.withdraw(message_id, timeout_s) or OutcomeUnknown(
            f"the node did not confirm the message {message_id} within {timeout_s:g} s; it may have been accepted: ask "
            f"with trishula why {message_id}, or send it again under the same id",
            message_id=message_id,
        )

    def withdraw(self, message_id: str, timeout_s: float) -> TrishulaError | None:
        """Forget a message that no node can have, and say why it was not accepted; ``None`` if one may have it.

        Args:
            timeout_s: how long it waited for a receipt.
        """
        entry = self._outbox.withdraw(message_id)
        if entry is None:
            return None
        if self._is_on_record:
            self._wake()
        refusal = entry.refusal
        if refusal is None or self._member.link is None:
            return self._member.unreachable(timeout_s)
        sentence = f"the message {message_id} was refused for {timeout_s:g} s, and is given up: {refusal.sentence}"
        return type(refusal)(sentence, retry_after_s=refusal.retry_after_s)

    # -- out -----------------------------------------------------------------------------------------------------------

    def flush(self, link: Link) -> None:
        """Make the calls that may be made now."""
        now_s = self._clock.seconds()
        while (batch := self._outbox.take(now_s)) is not None:
            self._offer(link, batch)
        due_s = self._outbox.due_s()
        if due_s is None:
            return
        if self._retrying is not None and self._retrying.active():
            if self._retrying_at_s <= due_s:
                return
            self._retrying.cancel()
        self._retrying, self._retrying_at_s = self._clock.callLater(max(due_s - now_s, 0.001), self._retry), due_s

    def _retry(self) -> None:
        self._retrying = None
        self._wake()

    def _offer(self, link: Link, batch: Batch) -> None:
        wires = [entry.wire for entry in batch.entries]
        options: dict[str, Any] = {}
        if batch.copies is not None:
            options["copies"] = batch.copies
        if link is not self._undated and any("deadline_at" in wire for wire in wires):
            # What our clock says, so that the node understands the deadlines: one of the two may be wrong.
            options["sent_at"] = self._around.now_ms()
        args: list[Any] = [wires, options] if options else [wires]
        link.call(uris.MAILBOX_SEND, args, timeout_s=_TIMEOUT_S).when_done(
            lambda pending: self._offered(link, batch, pending)
        )

    def _offered(self, link: Link, batch: Batch, pending: Pending[Any]) -> None:
        error = pending.error
        now_s = self._clock.seconds()
        if isinstance(error, KeyUnknown) and link is not self._undated:
            # A node of the first release; it took nothing of this call.
            self._undated = link
            self._offer(link, batch)
            return
        if error is None:
            try:
                receipts = msgspec.convert(pending.result(), list[Receipt])
            except msgspec.ValidationError as fault:
                receipts = []
                _log.error("The node's receipts can't be read: %s", fault)
            self._outbox.answered(batch, receipts, now_s)
            if self._outbox.is_keeping:
                self._keeps()
        elif isinstance(error, PayloadNotJson):
            self._outbox.split(batch, _faults(batch, error))
        elif isinstance(error, TrishulaError):
            self._outbox.failed(batch, error, now_s)
        else:
            raise error
        if len(self._outbox) or self._is_on_record:
            # What is settled is written down as well.
            self._wake()

    # -- an agent's file -----------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the outbox takes nothing more."""
        return self._outbox.is_full

    def restore(
        self, record: Record, messages: Sequence[SavedMessage], done_of: Callable[[dict[str, Any]], Done]
    ) -> None:
        """Keep the outbox on record from now on, and send what an earlier run left there.

        Args:
            record: the file.
            messages: what it holds.
            done_of: who hears what becomes of a message of the earlier run.
        """
        last = max((message.number for message in messages), default=0)
        self._outbox.record_on(record, _written, last)
        self._is_on_record = True
        for message in messages:
            entry = Entry(
                message.wire,
                done_of(message.wire),
                copies=message.copies,
                enough=self._enough(message.copies),
                size_bytes=message.size_bytes,
                is_reply=True,
            )
            self._outbox.restore(entry, message.number)
        if messages:
            self._outbox.sort()
            self._wake()

    # -- news of what has a receipt with fewer copies than needed ------------------------------------------------------

    def _enough(self, copies: int | None) -> int | None:
        """With how many copies a message needs no keeping: who asks for one asks for speed, and not for less."""
        return 2 if copies == 1 and len(self._member.settings.urls) > 1 else copies

    def news(self, reports: object = None) -> None:
        """What the node tells of messages that we sent."""
        if not self._outbox.is_keeping:
            return
        ended = set()
        for report in reports if isinstance(reports, list) else []:
            if not isinstance(report, Mapping):
                continue
            if report.get("state") in _ENDS:
                ended.add(str(report.get("id")))
            elif report.get("state") == "copies" and isinstance(report.get("copies"), int):
                self._outbox.copied(str(report.get("id")), report["copies"])
        self._outbox.settled(ended, by_one=True)
        self._wake()

    def hears_news(self) -> None:
        """News come from now on; what there was to tell before is in the receipts of another offer."""
        self._outbox.offer_kept()
        self._wake()

    def _ask_for_kept(self, link: Link) -> None:
        """What came to its end while nobody listened is dropped, instead of being offered again."""
        kept = self._outbox.kept
        for begin in range(0, len(kept), _STATUS_BATCH):
            part = kept[begin : begin + _STATUS_BATCH]
            link.call(uris.MAILBOX_STATUS, [part], timeout_s=_TIMEOUT_S).when_done(self._told_of_kept)

    def _told_of_kept(self, pending: Pending[Any]) -> None:
        states = pending.result() if pending.error is None else None
        if isinstance(states, Mapping):
            self._outbox.settled(
                {name for name, one in states.items() if isinstance(one, Mapping) and one.get("state") in _ENDS}
            )

    # -- sessions ------------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """There is a session."""
        link = self._member.link
        if link is not None and self._outbox.is_keeping:
            self._ask_for_kept(link)
        self._outbox.connected()

    def pause(self) -> None:
        """Make no call for now, and wait for those under way."""
        self._outbox.pause()

    def resume(self) -> None:
        """Go on."""
        self._outbox.resume()
        self._wake()

    @property
    def is_flying(self) -> bool:
        """Whether a call is under way."""
        return self._outbox.is_flying

    def disconnected(self) -> None:
        """The session is gone."""
        self._outbox.disconnected()

    def close(self, error: TrishulaError) -> None:
        """There will be none any more."""
        if self._retrying is not None and self._retrying.active():
            self._retrying.cancel()
        self._retrying = None
        self._outbox.close(error)


class _Group:
    """The outcomes of :meth:`Sending.post_many`, until the last one is there."""

    __slots__ = ("left", "outcome", "outcomes")

    def __init__(self, count: int, outcome: Pending[list[Receipt | TrishulaError]]) -> None:
        self.left = count
        self.outcome = outcome
        self.outcomes: list[Any] = [None] * count


class _Slot:
    """Where one outcome of a group goes."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: _Group, index: int) -> None:
        self._group = group
        self._index = index

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not there yet."""
        return self._group.outcomes[self._index] is None

    def __call__(self, outcome: Receipt | TrishulaError) -> None:
        group = self._group
        if group.outcomes[self._index] is not None:
            # It was given up before.
            return
        group.outcomes[self._index] = outcome
        group.left -= 1
        if group.left == 0:
            group.outcome.resolve(group.outcomes)


def _faults(batch: Batch, error: PayloadNotJson) -> dict[str, TrishulaError]:
    """Which messages of a call that could not be written are at fault; all, if none can be told apart."""
    faults: dict[str, TrishulaError] = {}
    for entry in batch.entries:
        try:
            encode_payload(entry.wire, path=f"message {entry.id}", limit_bytes=2**63)
        except PayloadNotJson as fault:
            faults[entry.id] = fault
    return faults or {entry.id: error for entry in batch.entries}
