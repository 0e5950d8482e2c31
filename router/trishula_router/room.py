"""Room: places in mailboxes, taken before a message is stored, so that sends that are under way don't overfill one.

Each recipient is judged by itself. A message to one address is refused if there is no place for it; a broadcast goes to
all who have one, and its receipt names the others: one agent that reads nothing must not silence everybody. Only a
broadcast that nobody has a place for is refused, and then waits like any other message.

Policy only, no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence

from trishula.errors import MailboxFull
from trishula.names import is_capability
from trishula_router.limits import Limits
from trishula_router.mailroom import Mailroom
from trishula_router.store.interface import Draft

__all__ = ["FULL_RETRY_S", "Missed", "Room"]

#: How soon a sender may try a full mailbox again: long enough for a consumer to work a window off.
FULL_RETRY_S = 1.0
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

    def take(self, recipients: Sequence[str], size_bytes: int) -> tuple[tuple[str, ...], Missed]:
        """Reserve a place with each recipient that has one; returns those that have, and those that don't.

        Raises:
            MailboxFull: none of them has one.
        """
        missed: Missed = {}
        for recipient in recipients:
            fault = self._fault(recipient, size_bytes)
            if fault is not None:
                missed[recipient] = fault
        if missed and len(missed) == len(recipients):
            raise _all_full(missed)
        taken = tuple(recipient for recipient in recipients if recipient not in missed) if missed else tuple(recipients)
        for recipient in taken:
            self._mailroom.mailbox(recipient).reserve(size_bytes)
        return taken, missed

    def give_back(self, draft: Draft) -> None:
        """The message was not stored: its places are free again."""
        for recipient in draft.recipients:
            self._mailroom.mailbox(recipient).discount(len(draft.envelope))
            if is_capability(recipient):
                self._mailroom.drop_if_empty(recipient)

    def _fault(self, recipient: str, size_bytes: int) -> MailboxFull | None:
        mailbox = self._mailroom.mailbox(recipient)
        if mailbox.open_messages >= self._limits.mailbox_messages:
            rule = f"{self._limits.mailbox_messages} messages (limits.mailbox_messages)"
        elif mailbox.open_bytes + size_bytes > self._limits.mailbox_bytes:
            rule = f"{self._limits.mailbox_bytes} bytes (limits.mailbox)"
        else:
            return None
        return MailboxFull(
            f"the mailbox of {recipient} is full: the node keeps {rule} for one address; the message was not accepted, "
            "try again when the recipient has worked some off",
            retry_after_s=FULL_RETRY_S,
        )


def _all_full(missed: Missed) -> MailboxFull:
    if len(missed) == 1:
        return next(iter(missed.values()))
    names = ", ".join(list(missed)[:_NAMES_TOLD]) + (" and others" if len(missed) > _NAMES_TOLD else "")
    return MailboxFull(
        f"the mailboxes of all {len(missed)} recipients are full: {names}; the message was not accepted, try again "
        "when one of them has worked some off",
        retry_after_s=FULL_RETRY_S,
    )
