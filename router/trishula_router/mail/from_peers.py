"""Inflow: what records that were copied from a peer change in this node's memory.

The store has the new states already; here the mailboxes follow, so that this node delivers what arrived, and no longer
what was settled elsewhere, and senders that listen here learn of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from trishula.contract.binary import is_marked_json
from trishula_router.mail.conversations import Conversations
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.outlet import News
from trishula_router.mail.recalls import Recalls
from trishula_router.store.interface import Copied
from trishula_router.store.journal import SEQUENCE_MASK
from trishula_router.store.messages import State, mailbox_of, payer_of
from trishula_router.store.runs import Extract

__all__ = ["Inflow"]


class Inflow:
    """Brings the mailboxes up to date.

    Args:
        mailroom: what waits and what is out.
        is_consumed: whether the messages of an address go out to somebody here.
        tell: takes news for senders.
        recalls: tells who has a message that is cancelled.
        conversations: follows who answers whom.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        *,
        is_consumed: Callable[[str], bool],
        tell: Callable[[Iterable[News]], None],
        recalls: Recalls,
        conversations: Conversations,
        now: Callable[[], int],
    ) -> None:
        self._mailroom = mailroom
        self._is_consumed = is_consumed
        self._tell = tell
        self._recalls = recalls
        self._conversations = conversations
        self._now = now

    def absorb(self, copied: Copied, extract: Extract, ahead_ms: int) -> None:
        """Follow what was copied, from that run.

        Args:
            copied: what it changed.
            extract: the run.
            ahead_ms: by how much the clock of whoever sent it is ahead of this node's.
        """
        for message, former in copied.moved:
            # First, because what was settled as well is looked for where it is now.
            self._mailroom.move(message, former)
            self._mailroom.has_room(message.recipient)
        self._conversations.copied(copied.arrived, self._now())
        new = [*copied.arrived, *copied.reopened]
        for message in new:
            # Whatever the mailbox holds: the node that accepted it has applied the limits.
            mailbox = mailbox_of(message.recipient, message.position, message.keeper)
            payer = payer_of(message.sender, message.id, message.recipient)
            self._mailroom.reserve(mailbox, payer, message.size_bytes, message.priority)
        if new:
            entries = [Entry.of(message) for message in new]
            for entry in entries:
                if self._is_consumed(entry.recipient):
                    # It goes out at once, and needn't be read back from the store for that.
                    entry.wire = _wire_of(entry, extract)
            self._mailroom.arrived(entries)
        # One that is being settled here as well leaves its mailbox with that.
        settled = [one for one in copied.settled if not self._mailroom.is_settling(one[0].position)]
        out = self._recalls.out(m.position for m, _ in settled if m.state is State.CANCELLED)
        cancelled = [Entry.of(m) for m, _ in copied.settled if m.state is State.CANCELLED]
        entries = [self._mailroom.withdraw(Entry.of(message)) for message, _ in settled]
        self._mailroom.settled(entries)
        self._recalls.cancelled(cancelled, out)
        for address in {address for e in entries for address in (e.recipient, e.holder) if address is not None}:
            self._mailroom.has_room(address)
        now = self._now()
        self._tell(
            News(m.sender, m.id, m.recipient, m.state_word, min(now, (m.settled_at or now) - ahead_ms), reason)
            for m, reason in copied.settled
        )
        for message in copied.surfaced:
            self._mailroom.surfaced(message.position, message.surfaced_at)
        self._tell(
            News(m.sender, m.id, m.recipient, "surfaced", min(now, (m.surfaced_at or now) - ahead_ms))
            for m in copied.surfaced
        )


def _wire_of(entry: Entry, extract: Extract) -> dict[str, Any] | None:
    particulars = extract.messages.get(entry.position & SEQUENCE_MASK)
    body = None if particulars is None else extract.bodies.get(particulars.body)
    if body is None:
        return None
    wire: dict[str, Any] = msgspec.json.decode(body)
    entry.binary = is_marked_json(body)
    # A dead letter that was replayed has the position of another run.
    return wire if wire.get("id") == entry.id and wire.get("from") == entry.sender else None
