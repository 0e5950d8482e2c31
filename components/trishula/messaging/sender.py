"""Messages on their way out: the outbox, the calls that carry its batches, the awaitables of those who sent.

What goes out when, and again, is decided in :mod:`trishula.messaging.outbox`, which does no I/O; :class:`Sending` makes
the calls that the outbox asks for, and tells it how they ended. One turn, one call: ``post`` only writes down what is
to be sent, :meth:`Sending.flush` at the end of the turn makes the calls.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trishula.contract import uris
from trishula.contract.limits import NodeLimits
from trishula.contract.message import check
from trishula.contract.payload import pack
from trishula.contract.receipts import Receipt
from trishula.contract.texts import show_value
from trishula.errors import KeyUnknown, MessageInvalid, OutcomeUnknown, TrishulaError
from trishula.messaging.entries import Batch, Entry, Limits, OutboxFile, SavedMessage
from trishula.messaging.groups import Group, Slot
from trishula.messaging.outbox import Outbox
from trishula.messaging.refusals import too_large
from trishula.messaging.replication_news import ReplicationNews
from trishula.messaging.urgency import priority_of
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Surroundings, Timer
from trishula.session.membership import Membership
from trishula.session.transport import Ending, Link, LinkLost

__all__ = ["Done", "Sending"]

_log = logging.getLogger("trishula")

#: A node that has not answered a send by then has trouble of its own; the same ids go out again.
_TIMEOUT_S = 30.0

#: The random part of a message's id: nobody guesses one that he has not seen.
ID_WORD_BYTES = 8

_to_msgpack = msgspec.msgpack.Encoder().encode

Done = Callable[[Receipt | TrishulaError], object]


class Sending:
    """See the module's docstring.

    Args:
        around: clocks and randomness.
        member: says why there is no node.
        sender: our address, if messages must name it: an instance's.
        limits: how much the outbox takes and sends at once.
        wake: called when there is something to flush.
        under_replicated: called when messages have fewer copies than needed, so that news of them are wanted.
        emptied: called when no message is without a receipt any more.
        sign: the signature of an encoded message; ``None`` for none.

    Attributes:
        replication_news: learns what becomes of such messages.
        filing: told of each message that is queued, while each goes by a second road as well; else ``None``.
        refused_for_now: told why, each time when a node refuses a message or a call for now.
    """

    def __init__(
        self,
        around: Surroundings,
        member: Membership,
        *,
        sender: str | None,
        limits: Limits,
        wake: Callable[[], None],
        under_replicated: Callable[[], None],
        emptied: Callable[[], None],
        sign: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        self._around = around
        self._clock = around.clock
        self._member = member
        self._sender = sender
        self._sign = sign
        self._wake = wake
        self._under_replicated = under_replicated
        self._outbox = Outbox(
            random=around.random,
            limits=limits,
            emptied=emptied,
            refused=lambda error: self.refused_for_now(error),
        )
        self.filing: Callable[[Entry], object] | None = None
        self.refused_for_now: Callable[[TrishulaError], object] = lambda _: None
        self.replication_news = ReplicationNews(self._outbox, wake)
        self._is_in_file = False
        #: The session of a node that takes no signatures, and of one that doesn't take what our clock says.
        self._unsigned: Link | None = None
        self._undated: Link | None = None
        self._retrying: Timer | None = None
        self._retrying_at_s = 0.0
        self._id_numbers = itertools.count(1)

    def __len__(self) -> int:
        """How many messages have no receipt yet."""
        return len(self._outbox)

    def new_id(self) -> str:
        """A new message id: a number that tells people the order, and a random word of its own.

        With one word for a client, who has seen one of its ids could tell the next ones, and answer COMMANDs that were
        never given to it. The number comes first, so that what is sent in a row stands in a row in a node's index of
        ids: with the word first each message touches a page of its own there, and a node took a third longer for it.
        """
        return f"{next(self._id_numbers)}.{self._around.word(ID_WORD_BYTES)}"

    # -- in ------------------------------------------------------------------------------------------------------------

    def post(
        self,
        wire: dict[str, Any],
        done: Done,
        copies: int | None = None,
        *,
        held: Callable[[TrishulaError], object] | None = None,
        is_reply: bool = False,
        path: str = "message",
    ) -> bool:
        """Queue one message, or tell ``done`` at once why not; whether it is queued.

        The message is checked and encoded now, as the node would check it; what its sender changes afterwards doesn't
        travel. ``held`` and ``is_reply``: see :class:`trishula.messaging.entries.Entry`. Refusals begin with ``path``.
        """
        if wire.get("id") is None:
            wire["id"] = self.new_id()
        if self._sender is not None:
            wire.setdefault("from", self._sender)
        try:
            if self._member.end is not None:
                raise self._member.end
            message = _encoded(wire, self._member.limits, path)
            entry = Entry(
                *(wire["id"], wire["to"], message, done),
                copies=copies,
                enough=self._enough(copies),
                priority=priority_of(wire),
                held=held,
                is_dated=wire.get("deadline_at") is not None,
                is_reply=is_reply,
                signature=self._sign(message),
            )
            self._outbox.add(entry)
        except TrishulaError as error:
            done(error)
            return False
        if self.filing is not None:
            self.filing(entry)
        self._wake()
        return True

    def _enough(self, copies: int | None) -> int | None:
        """With how many copies a message needs no keeping: who asks for one asks for speed, and not for less."""
        return 2 if copies == 1 and len(self._member.settings.urls) > 1 else copies

    def post_many(
        self, messages: Iterable[object], copies: int | None, timeout_s: float | None
    ) -> Pending[list[Receipt]]:
        """Queue many, with one awaitable for all; see :meth:`trishula.verbs.Verbs.send_many`."""
        now_ms = self._around.now_ms()
        outcome: Pending[list[Receipt]] = Pending()
        wires: list[dict[str, Any]] = []
        for index, message in enumerate(messages):
            if not isinstance(message, Mapping):
                outcome.reject(MessageInvalid(f"messages[{index}] is {show_value(message)}; a message must be a map"))
                return outcome
            wires.append({"type": "STATUS", "id": None, "timestamp": now_ms, **message})
        group = Group(len(wires), outcome)
        if not wires:
            outcome.resolve([])
        slots = [Slot(group, index) for index in range(len(wires))]
        for index, (slot, wire) in enumerate(zip(slots, wires, strict=True)):
            self.post(wire, slot, copies, path=f"messages[{index}]")
        if timeout_s is not None and not outcome.done:
            timer = self._clock.callLater(timeout_s, self._give_up, wires, slots, timeout_s)
            outcome.when_done(lambda _: timer.cancel() if timer.active() else None)
        return outcome

    def _give_up(self, wires: list[dict[str, Any]], slots: list[Slot], timeout_s: float) -> None:
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
        if self._is_in_file:
            self._wake()
        refusal = entry.refusal
        if refusal is None or self._member.link is None:
            return self._member.unreachable(timeout_s)
        sentence = f"the message {message_id} was refused for {timeout_s:g} s, and is given up: {refusal.sentence}"
        return type(refusal)(sentence, retry_after_s=refusal.retry_after_s)

    def unsettled(self) -> list[Entry]:
        """The messages that have no receipt, in the order of sending."""
        return sorted(self._outbox.entries(), key=lambda entry: entry.number)

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
        messages = [msgspec.Raw(entry.message) for entry in batch.entries]
        options: dict[str, Any] = {}
        if batch.copies is not None:
            options["copies"] = batch.copies
        if link is not self._undated and any(entry.is_dated for entry in batch.entries):
            # What our clock says, so that the node understands the deadlines: one of the two may be wrong.
            options["sent_at"] = self._around.now_ms()
        if self._is_signed(link, batch):
            options["signatures"] = [entry.signature for entry in batch.entries]
        args: list[Any] = [messages, options] if options else [messages]
        link.call(uris.MAILBOX_SEND, args, timeout_s=_TIMEOUT_S).when_done(
            lambda pending: self._offered(link, batch, pending)
        )

    def _is_signed(self, link: Link, batch: Batch) -> bool:
        return link is not self._unsigned and any(entry.signature for entry in batch.entries)

    def _offered(self, link: Link, batch: Batch, pending: Pending[Any]) -> None:
        error = pending.error
        now_s = self._clock.seconds()
        if isinstance(error, KeyUnknown) and link is not self._undated:
            # A node of an earlier release, or of the first one; it took nothing of this call.
            if self._is_signed(link, batch):
                self._unsigned = link
                _log.warning("The node takes no signatures: who requires them refuses what goes there")
            else:
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
            if self._outbox.under_replicated:
                self._under_replicated()
        elif isinstance(error, TrishulaError):
            self._outbox.failed(batch, error, now_s, is_cut=isinstance(error, LinkLost))
            if error.temporary:
                self.refused_for_now(error)
        else:
            raise error
        if len(self._outbox) or self._is_in_file:
            # What is settled is written down as well.
            self._wake()

    # -- an agent's file -----------------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether the outbox takes nothing more."""
        return self._outbox.is_full

    def restore(
        self, file: OutboxFile, messages: Sequence[SavedMessage], done_of: Callable[[dict[str, Any]], Done]
    ) -> None:
        """Keep the outbox in a file from now on, and send what an earlier run left there.

        Args:
            file: the file.
            messages: what it holds.
            done_of: who hears what becomes of a message of the earlier run.
        """
        last = max((message.number for message in messages), default=0)
        self._outbox.write_to(file, last)
        self._is_in_file = True
        for saved in messages:
            self._restore(file, saved, done_of)
        if messages:
            self._outbox.sort()
            self._wake()

    def _restore(self, file: OutboxFile, saved: SavedMessage, done_of: Callable[[dict[str, Any]], Done]) -> None:
        wire = msgspec.msgpack.decode(saved.message)
        done = done_of(wire)
        try:
            # An earlier release left there what no node can read, and offered it on each session, which it ended.
            message = _encoded(wire, self._member.limits, "message")
        except TrishulaError as error:
            _log.error(
                "Set aside: the %s %s to %s, which an earlier run left, can't be sent: %s",
                wire.get("type"), wire.get("id"), wire.get("to"), error,
            )  # fmt: skip
            file.drop(saved.number)
            file.set_aside(saved.message, str(error))
            done(error)
            return
        entry = Entry(
            *(wire["id"], wire["to"], message, done),
            copies=saved.copies,
            enough=self._enough(saved.copies),
            priority=priority_of(wire),
            is_dated=wire.get("deadline_at") is not None,
            is_reply=True,
            signature=self._sign(message),
        )
        self._outbox.restore(entry, saved.number)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def connected(self) -> None:
        """There is a session."""
        link = self._member.link
        if link is not None and self._outbox.under_replicated:
            self.replication_news.ask(link)
        self._outbox.connected()
        limits = self._member.limits
        self._outbox.keep_within(limits.room_bytes, limits.batch_messages)

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

    def disconnected(self, ending: Ending | None = None) -> None:
        """The session is gone; ``ending``: how the node ended it, if it did without a goodbye."""
        set_aside = self._outbox.disconnected(ending)
        if set_aside is not None:
            # Whoever sent it may not have waited for its receipt.
            _log.error("Set aside: %s", set_aside)
            if self._is_in_file:
                self._wake()

    def close(self, error: TrishulaError) -> None:
        """There will be none any more."""
        if self._retrying is not None and self._retrying.active():
            self._retrying.cancel()
        self._retrying = None
        self._outbox.close(error)


def _encoded(wire: Mapping[str, Any], limits: NodeLimits, path: str) -> bytes:
    """A message as it travels.

    Raises:
        MessageInvalid, KeyUnknown, PayloadNotJson, PayloadTooLarge: what a node would say of it.
    """
    raw = dict(wire)
    if raw.get("payload") is not None:
        packed = pack(raw["payload"], path=f"{path}.payload", limit_bytes=limits.payload_bytes)
        raw["payload"] = msgspec.Raw(packed)
    message = check(raw, path=path)
    encoded = _to_msgpack(message)
    if len(encoded) > limits.room_bytes:
        raise too_large(message.id, message.to, len(encoded), limits.room_bytes)
    return encoded
