"""The life of one message at its recipient, as decisions: which state follows what happened to it.

::

    accepted ──► delivered ──► done          acked, or a COMMAND that was answered
        ▲            │
        └────────────┤  failed or lost, and attempts are left: back into the mailbox after a pause
                     ├──► dead               attempts used up, or nacked for good
    accepted/delivered ──► expired           its time to live is over, or its instance is gone
    accepted/delivered ──► cancelled         by its sender

What an attempt costs:

* a *failure* (nacked, or the lease ran out without an ack) is the message's or its handler's fault: after
  ``max_attempts`` of them it is dead;
* a *crash* (the agent's process ended while the message's handler ran, see :mod:`.losses`) counts as a failure too, for
  the message may have killed it. Others may have been begun in the same process, and are innocent: a message with
  ``ALONE_AFTER`` crashes goes out as the only such one of its agent, and dies of crashes only after one of those. The
  first crash costs no pause, because an agent that was restarted goes on where it was;
* a *lost session* whose process lives on, or had not begun the message, costs nothing;
* a lost session of a client that tells nothing of its process is usually nobody's fault either, and one loss hits every
  message in the window. It costs no failure, but a message that kills its agent each time must end too: after
  ``LOST_SESSIONS_PER_ATTEMPT * max_attempts`` such losses it is dead all the same.

Policy only: :func:`after_failure`, :func:`after_crash` and :func:`after_lost_session` decide, ``settlement`` does.
Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from trishula.contract.binary import is_marked_json
from trishula_router.settings.options import DeliveryPolicy
from trishula_router.store.messages import Accepted, Draft, Return, StoredMessage, mailbox_of

__all__ = [
    "ALONE_AFTER",
    "LOST_SESSIONS_PER_ATTEMPT",
    "Dead",
    "Entry",
    "after_crash",
    "after_failure",
    "after_lost_session",
]

LOST_SESSIONS_PER_ATTEMPT = 4
#: One crash happens to everybody; that a message was there twice is worth finding out by having it alone.
ALONE_AFTER = 2


class Entry(msgspec.Struct, gc=False):
    """An open message of one mailbox, as the node holds it in memory. Instants in ms.

    Attributes:
        position: of its accepted record: its identity.
        arrival: its place in the order in which messages became durable in this node's store.
        wire: the message as it travels, or ``None`` if it must be read from the store first.
        binary: whether there may be bytes in its payload, which are marked in ``wire``.
        attempts: how often it was delivered.
        failures: how often an attempt failed.
        due_at: not to be delivered before.
        by_deadline: whether ``expires_at`` is its own deadline.
        holder: the address that it was delivered to last, if that is known; other than the recipient if that is a
            capability.
        keeper: of a message to a capability, the node that hands it out, as in the store.
        crashes: how often its agent's process ended while its handler ran, since this node has it in memory.
        losses: how often a session was lost with it, and nobody could say what that meant; likewise.
        accepted_at: when a node accepted it, by this node's clock.
        surfaced_at: when it was first put into a model's context.
        unread_since_s: since when a session behind which a model reads has it unread, in seconds of the clock.
    """

    position: int
    sender: str
    id: str
    recipient: str
    type: str
    priority: int
    expires_at: int
    size_bytes: int
    wire: dict[str, Any] | None = None
    attempts: int = 0
    failures: int = 0
    due_at: int = 0
    by_deadline: bool = False
    holder: str | None = None
    arrival: int = 0
    keeper: str | None = None
    crashes: int = 0
    losses: int = 0
    accepted_at: int = 0
    surfaced_at: int | None = None
    unread_since_s: float | None = None
    binary: bool = False

    @property
    def is_suspect(self) -> bool:
        """Whether it may be what its agent's process dies of, so that it must be out alone."""
        return self.crashes >= ALONE_AFTER

    @property
    def time_is_over(self) -> str:
        """Why it expired, if it did."""
        return "its deadline passed" if self.by_deadline else "its time to live was over"

    @property
    def mailbox(self) -> str:
        """Where it waits, see :func:`mailbox_of`."""
        return mailbox_of(self.recipient, self.position, self.keeper)

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the mailbox: the more urgent first, then as they came.

        Not by position: those of messages that another node accepted are in its own journal's order.
        """
        return self.priority, self.arrival

    @classmethod
    def of(cls, stored: StoredMessage) -> Entry:
        """The entry of a message read from the store."""
        return cls(
            stored.position,
            stored.sender,
            stored.id,
            stored.recipient,
            stored.type,
            stored.priority,
            stored.expires_at,
            stored.size_bytes,
            None,
            stored.attempts,
            stored.failures,
            stored.due_at,
            by_deadline=stored.by_deadline,
            holder=stored.holder,
            arrival=stored.arrival,
            keeper=stored.keeper,
            accepted_at=stored.accepted_at,
            surfaced_at=stored.surfaced_at,
        )

    @classmethod
    def of_draft(cls, draft: Draft, accepted: Accepted, wire: dict[str, Any], recipient: int = 0) -> Entry:
        """The entry of a message that was just stored, for one of its recipients: which of them."""
        return cls(
            accepted.positions[recipient],
            draft.sender,
            draft.id,
            draft.recipients[recipient],
            draft.type,
            draft.priority,
            draft.expires_at,
            len(draft.envelope),
            wire,
            by_deadline=draft.by_deadline,
            arrival=accepted.arrival + recipient,
            accepted_at=wire["accepted_at"],
            binary=is_marked_json(draft.envelope),
        )


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt: ``reason`` goes into the journal and to the sender."""

    reason: str


def after_failure(
    entry: Entry, reason: str, *, requeue: bool, now: int, policy: DeliveryPolicy, random: Callable[[], float]
) -> Return | Dead:
    """What follows an attempt that failed.

    Args:
        entry: the message, with the failures before this one.
        reason: what the agent said, or what the node saw.
        requeue: whether the agent wants it again.
        now: ms.
        policy: the node's.
        random: spreads the pause.
    """
    failures = entry.failures + 1
    if not requeue:
        return Dead(reason)
    if failures >= policy.max_attempts:
        return Dead(f"{failures} of {policy.max_attempts} attempts failed, the last one: {reason}")
    pause_ms = int(policy.backoff.pause_s(failures - 1, random) * 1000)
    return Return(entry.position, failures, now + pause_ms)


def after_crash(entry: Entry, *, now: int, policy: DeliveryPolicy, random: Callable[[], float]) -> Return | Dead:
    """What follows the end of a process in which the message's handler ran; ``entry.crashes`` counts this one too."""
    failures = entry.failures + 1
    if failures >= policy.max_attempts and entry.crashes > ALONE_AFTER:
        return Dead(
            f"{failures} of {policy.max_attempts} attempts failed, the last one: its agent's process ended while its "
            f"handler ran, {entry.crashes} times in all"
        )
    if entry.crashes == 1:
        return Return(entry.position, failures, now)
    return Return(entry.position, failures, now + int(policy.backoff.pause_s(failures - 1, random) * 1000))


def after_lost_session(entry: Entry, *, now: int, policy: DeliveryPolicy) -> Return | Dead:
    """What follows the loss of a session that nobody can say more of; ``entry.losses`` counts this one too."""
    if entry.losses >= policy.max_attempts * LOST_SESSIONS_PER_ATTEMPT:
        return Dead(f"it was delivered {entry.losses} times and each time its agent was lost before it answered")
    return Return(entry.position, entry.failures, now)
