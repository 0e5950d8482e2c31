"""Turns: whether a model is at work, what may interrupt it, and what others are told meanwhile. Decisions, no I/O.

=========  ======================================  ==============================================================
priority   while a turn is open                    in the inbox
=========  ======================================  ==============================================================
1, 2       announced with the next tool's result   first, whole
3          waits until the turn is closed          whole
4, 5       waits until the model looks             as a digest: who, and the first words; ``read`` has the rest
=========  ======================================  ==============================================================

An announcement says that mail is there and from whom, and nothing of what is in it. A model in a turn is *busy* for
the directory until the instant that it named, so nobody takes one that thinks for one that is gone.

The node keeps the turn (``directory.turn``), whoever says it: the model by its tool, or a hook by ``trishula turn``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trishula.cli.words import plain
from trishula.contract.addresses import agent_of

__all__ = [
    "LOW",
    "TURN_STATES",
    "URGENT",
    "Head",
    "TurnState",
    "announcement",
    "doing_of",
    "head_of",
    "progress_of",
    "turn_of",
]

TurnState = Literal["open", "closed", "blocked"]
TURN_STATES: tuple[TurnState, ...] = get_args(TurnState)

#: From this priority on mail interrupts a turn (1 is most urgent).
URGENT = 2
#: From this priority on mail is shown as a digest.
LOW = 4
#: What a node takes.
_PROGRESS_LETTERS, _DOING_LETTERS = 1000, 900


@dataclass(frozen=True, slots=True)
class Head:
    """The most urgent message that waits on the node.

    Attributes:
        sender: the agent that sent it.
        priority: 1 (most urgent) to 5.
    """

    sender: str
    priority: int


def head_of(page: Mapping[str, Any]) -> Head | None:
    """The first message of a page of ``mailbox.peek`` that is in nobody's hands."""
    for one in page.get("messages", ()):
        if one.get("state") != "delivered":
            message = one["message"]
            return Head(agent_of(str(message.get("from") or "the node")), int(message.get("priority", 3)))
    return None


def turn_of(page: Mapping[str, Any], known: TurnState) -> TurnState:
    """The turn that a page of ``mailbox.peek`` tells; a node of the release before leaves us with what is known."""
    told = page.get("turn")
    return next((state for state in TURN_STATES if state == told), known)


def announcement(head: Head | None, pending: int, state: TurnState) -> str:
    """The line that a model gets beside what it asked for; empty if it is left in peace."""
    if head is None or not pending:
        return ""
    mail = "1 message waits" if pending == 1 else f"{pending} messages wait"
    if head.priority <= URGENT:
        return f"(Urgent mail from {plain(head.sender)} waits: call inbox now.)"
    return f"({mail}: call inbox before you end.)" if state == "closed" and head.priority < LOW else ""


def doing_of(doing: str | None) -> str | None:
    """What a turn is about, as a node takes it."""
    return plain(doing or "").strip()[:_DOING_LETTERS] or None


def progress_of(state: TurnState, doing: str | None) -> str | None:
    """What others are told of a model in a turn."""
    words = plain(doing or "")
    if state == "blocked":
        words = f"waits for a human: {words}" if words else "waits for a human"
    return words[:_PROGRESS_LETTERS] or None
