"""The mode of the whole bus: live, or in fallback, in which agents use files; and whether messages are taken meanwhile.

An operator sets it at one node, and all linked nodes follow: the node writes a record ``mode`` into its journal, and
the others get that as they get every record. The newest word counts, over all journals that a node holds: by ``since``,
then by the name of the node that wrote it. So nodes that were apart agree when they hold the same journals, in whatever
order these came. A word's ``since`` is the writer's time, but always behind that of the word it replaces: else an
operator at a node whose clock is slow could not end what was begun at one whose clock is fast.

While no messages are taken (``sends`` is false) the node delivers what it has, and a COMMAND that it has is answered:
whoever waits for an answer gets it.

Policy only: no I/O, and every verb takes ``now`` (ms).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from trishula.errors import FallbackOn
from trishula_router.store.facts import ModeFacts

__all__ = ["LIVE", "RETRY_S", "BusMode"]

#: What is so before anybody has said anything.
LIVE = ModeFacts("live", True, "", "", 0)
#: When senders are told to try again. Those who listen for the event know sooner, and all outboxes of a bus that asked
#: each second would keep it busy.
RETRY_S = 5.0


class BusMode:
    """The mode as one node knows it.

    Attributes:
        facts: the newest word.
        refuses: whether new messages are refused; read for each message.
    """

    def __init__(self) -> None:
        self.facts = LIVE
        self.refuses = False
        self._writer = ""
        self._issued = 0

    def fold(self, facts: ModeFacts, writer: str) -> bool:
        """Take a word into account; whether it is the newest now.

        Args:
            facts: of a record.
            writer: the name of the node that wrote it.
        """
        if (facts.since, writer) <= (self.facts.since, self._writer):
            return False
        self.facts, self._writer = facts, writer
        self.refuses = facts.mode == "fallback" and not facts.sends
        return True

    def word(self, mode: Literal["live", "fallback"], *, sends: bool, reason: str, by: str, now: int) -> ModeFacts:
        """A word that replaces all that is known; it counts when it is folded in, which is when it is on the disk."""
        self._issued = max(now, self.facts.since + 1, self._issued + 1)
        return ModeFacts(mode, sends or mode == "live", reason, by, self._issued)

    def told(self) -> dict[str, Any]:
        """As it travels: ``{mode, sends, reason, by, since}``."""
        return msgspec.structs.asdict(self.facts)

    def refusal(self, index: int) -> FallbackOn:
        """Why a message is not taken; ``index`` is its place in the call."""
        facts = self.facts
        return FallbackOn(
            f"messages[{index}] is not taken: {facts.by} has put the bus into fallback ({facts.reason}), so it "
            "delivers what it has and takes nothing new, until an operator ends that (trishula fallback off); "
            f"try again in {RETRY_S:g} s",
            retry_after_s=RETRY_S,
        )
