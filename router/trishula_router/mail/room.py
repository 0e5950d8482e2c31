"""Room: places in mailboxes, taken before a message is stored, so that sends that are under way don't overfill one.

Each recipient is judged by itself. A message to one address is refused if there is no place for it; a broadcast goes to
all who have one, and its receipt names the others: one agent that reads nothing must not silence everybody. Only a
broadcast that nobody has a place for is refused, and then waits like any other message.

A place is the sender's, too: no agent has more than its share of a mailbox and of the store, and some room is kept for
urgent mail (:mod:`.shares`). What an agent has open for capabilities is bounded by their number as well: a mailbox is
made for each that is named, and anybody may name any.

Policy only, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from trishula.contract.addresses import agent_of, is_capability
from trishula.contract.units import show_bytes
from trishula.errors import MailboxFull, StorageFull
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.shares import MESSAGE_BYTES, SPARED, URGENT, Part
from trishula_router.settings.limits import Limits
from trishula_router.store.messages import Draft

__all__ = ["FULL_RETRY_S", "STORE_RETRY_S", "Missed", "Room"]

#: How soon a sender may try a full mailbox again: long enough for a consumer to work a window off.
FULL_RETRY_S = 1.0
#: How soon it may try again if it has too much open in all: that changes more slowly.
STORE_RETRY_S = 5.0
#: Names of full mailboxes in a sentence.
_NAMES_TOLD = 5

#: Recipients of a broadcast that don't get it, each with why.
Missed = dict[str, MailboxFull]


class Room:
    """The places in all mailboxes of a node.

    Args:
        mailroom: where they are.
        limits: how many there are.
    """

    def __init__(self, mailroom: Mailroom, limits: Limits) -> None:
        self._mailroom = mailroom
        self._limits = limits
        share, kept = limits.mailbox_share, limits.urgent_room
        self._messages = Part(limits.mailbox_messages, int(limits.mailbox_messages * kept), share)
        self._bytes = Part(limits.mailbox_bytes, _kept_bytes(limits.mailbox_bytes, limits), share)
        self._store = Part(limits.store_bytes, _kept_bytes(limits.store_bytes, limits), limits.store_share)
        # Read for each message.
        self._ample = (self._messages.ample, self._bytes.ample, self._store.ample)
        self._refused = dict.fromkeys(("mailbox_share", "store_share", "open_messages", "open_capabilities"), 0)

    def take(
        self, sender: str, recipients: Sequence[str], size_bytes: int, priority: int
    ) -> tuple[tuple[str, ...], Missed]:
        """Reserve a place with each recipient that has one; returns those that have, and those that don't.

        Raises:
            MailboxFull: none of them has one.
            StorageFull: the sender's agent has as much open in all as it may.
        """
        agent, is_urgent = agent_of(sender), priority <= URGENT
        self._check_store(agent, size_bytes, len(recipients), is_urgent)
        missed: Missed = {}
        for recipient in recipients:
            fault = self._fault(agent, recipient, size_bytes, is_urgent)
            if fault is not None:
                missed[recipient] = fault
        if missed and len(missed) == len(recipients):
            raise _all_full(missed)
        taken = tuple(recipient for recipient in recipients if recipient not in missed) if missed else tuple(recipients)
        for recipient in taken:
            self._mailroom.reserve(recipient, agent, size_bytes, priority)
        return taken, missed

    def give_back(self, draft: Draft) -> None:
        """The message was not stored: its places are free again."""
        for recipient in draft.recipients:
            self._mailroom.discount(recipient, agent_of(draft.sender), len(draft.envelope), draft.priority)
            if is_capability(recipient):
                self._mailroom.drop_if_empty(recipient)

    def told(self) -> dict[str, int]:
        """For ``node.status``: how many messages were refused since the node started, because of whose they were."""
        return dict(self._refused)

    def _check_store(self, agent: str, size_bytes: int, count: int, is_urgent: bool) -> None:
        shares, cost = self._mailroom.shares, (size_bytes + MESSAGE_BYTES) * count
        total = shares.total.cost_bytes
        if shares.total.messages + count <= self._limits.open_messages and total + cost <= self._ample[2]:
            return
        own = shares.of_agent(agent)
        if own.messages < SPARED:
            # Whoever sends little is refused by the store, if by anybody.
            return
        if own.messages + count > self._limits.open_messages and not (is_urgent and own.urgent < SPARED):
            self._refused["open_messages"] += 1
            raise StorageFull(
                f"{agent} has {own.messages} messages at this node that are not settled, and one agent may have "
                f"{self._limits.open_messages} (limits.open_messages); the message was not accepted, try again when "
                "some are done, or cancel some",
                retry_after_s=STORE_RETRY_S,
            )
        if not self._store.is_fair(own.cost_bytes, own.urgent_cost_bytes, total, cost, is_urgent):
            self._refused["store_share"] += 1
            raise StorageFull(
                f"{agent} has messages at this node that are not settled and take {show_bytes(own.cost_bytes)}, its "
                f"share of the {show_bytes(self._limits.store_bytes)} of the store (limits.store_share); the message "
                "was not accepted, try again when some are done, or cancel some",
                retry_after_s=STORE_RETRY_S,
            )

    def _fault(self, agent: str, recipient: str, size_bytes: int, is_urgent: bool) -> MailboxFull | None:
        mailbox = self._mailroom.mailbox(recipient)
        messages, total_bytes = mailbox.open_messages, mailbox.open_bytes
        if (
            messages < self._ample[0]
            and total_bytes + size_bytes <= self._ample[1]
            and (messages or not is_capability(recipient))
        ):
            return None
        shares, limits = self._mailroom.shares, self._limits
        own = shares.of(recipient, agent)
        if not own.messages and is_capability(recipient):
            there = shares.of_agent(agent).capabilities
            if there >= limits.open_capabilities:
                return self._capabilities_full(agent, recipient)
        for part, total, size, rule in (
            (self._messages, messages, 1, f"{limits.mailbox_messages} messages (limits.mailbox_messages)"),
            (self._bytes, total_bytes, size_bytes, f"{limits.mailbox_bytes} bytes (limits.mailbox)"),
        ):
            if not part.is_open(total, size, is_urgent):
                kept = "" if is_urgent or not part.kept else ", and the rest of it for priority 1 (limits.urgent_room)"
                return MailboxFull(
                    f"the mailbox of {recipient} is full: the node keeps {rule} for one address{kept}; the message was "
                    "not accepted, try again when the recipient has worked some off",
                    retry_after_s=FULL_RETRY_S,
                )
        # There is room; is it the sender's?
        if own.messages < SPARED and self._are_open(messages, total_bytes, size_bytes, is_urgent=False):
            return None
        if is_urgent and not own.urgent:
            return None
        if self._messages.is_fair(own.messages, own.urgent, messages, 1, is_urgent) and self._bytes.is_fair(
            own.size_bytes, own.urgent_bytes, total_bytes, size_bytes, is_urgent
        ):
            return None
        self._refused["mailbox_share"] += 1
        return MailboxFull(
            f"the mailbox of {recipient} holds {own.messages} messages of {agent}, {show_bytes(own.size_bytes)}: its "
            "share, the rest is for others (limits.mailbox_share); the message was not accepted, try again when the "
            "recipient has worked some off",
            retry_after_s=FULL_RETRY_S,
        )

    def _are_open(self, messages: int, total_bytes: int, size_bytes: int, *, is_urgent: bool) -> bool:
        return self._messages.is_open(messages, 1, is_urgent) and self._bytes.is_open(
            total_bytes, size_bytes, is_urgent
        )

    def _capabilities_full(self, agent: str, recipient: str) -> MailboxFull:
        self._refused["open_capabilities"] += 1
        self._mailroom.drop_if_empty(recipient)
        return MailboxFull(
            f"{agent} has messages open to {self._limits.open_capabilities} capabilities already "
            f"(limits.open_capabilities); that to {recipient} was not accepted, try again when some are done, or "
            "cancel some",
            retry_after_s=FULL_RETRY_S,
        )


def _kept_bytes(room_bytes: int, limits: Limits) -> int:
    """How many bytes are for urgent mail only: never so many that the largest message has no room."""
    return max(0, min(int(room_bytes * limits.urgent_room), room_bytes - 2 * limits.payload_bytes))


def _all_full(missed: Missed) -> MailboxFull:
    if len(missed) == 1:
        return next(iter(missed.values()))
    names = ", ".join(list(missed)[:_NAMES_TOLD]) + (" and others" if len(missed) > _NAMES_TOLD else "")
    return MailboxFull(
        f"the mailboxes of all {len(missed)} recipients are full: {names}; the message was not accepted, try again "
        "when one of them has worked some off",
        retry_after_s=FULL_RETRY_S,
    )
