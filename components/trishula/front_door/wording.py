"""What a model is told: receipts, counts, agents and lives of messages, in short lines of text.

A model pays for each word it reads, so there are no tables and no JSON. What other agents have a hand in (their
progress, their reasons) stands behind the mark of quoted text, as in :mod:`trishula.front_door.framing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from trishula.cli.words import NOTHING, facts_of, local_time, plain
from trishula.contract.answers import AgentInfo, MessageHistory, MessageStatus
from trishula.contract.receipts import Receipt
from trishula.errors import TrishulaError
from trishula.front_door.asking import Answered
from trishula.front_door.desk import InHand
from trishula.front_door.framing import quoted
from trishula.front_door.member import Counts

__all__ = [
    "agents_told",
    "cut",
    "empty_told",
    "error_told",
    "history_told",
    "open_told",
    "receipt_told",
    "states_told",
    "unanswered_told",
]

#: Ids that are named one by one.
_MOST_NAMED = 10


def receipt_told(receipt: Receipt, to: str) -> str:
    """What a sender has in hand."""
    if receipt.status == "duplicate":
        said = f"{receipt.id} was sent before and is on disk; nothing was sent twice."
    else:
        copies = receipt.copies or 1
        where = f"{copies} nodes" if copies > 1 else f"the node {receipt.node}" if receipt.node else "the node"
        said = f"{receipt.id} to {plain(to)} is accepted and on the disk of {where}."
    if receipt.warning is not None:
        said += f" {plain(receipt.warning)}."
    for one in receipt.missed[:_MOST_NAMED]:
        said += f"\nnot to {plain(one.to)}: {plain(one.detail or one.error or 'no reason given')}"
    return said


def empty_told(counts: Counts, in_hand: int) -> str:
    """That nothing is there to show, with the proof."""
    elsewhere = max(0, counts.in_flight - in_hand)
    if counts.pending == 0 and elsewhere == 0:
        return f"No new message: 0 wait on the node, as of its record {counts.high_water}."
    parts = []
    if counts.pending:
        parts.append(f"{counts.pending} wait on the node for their next attempt, or for room in your hands")
    if elsewhere:
        parts.append(f"{elsewhere} are in the hands of another session of yours")
    return f"No new message now; {' and '.join(parts)} (record {counts.high_water})."


def open_told(in_hand: Sequence[InHand]) -> str:
    """What the model has in hand; empty if nothing."""
    if not in_hand:
        return ""
    ids = ", ".join(one.message.id for one in in_hand[:_MOST_NAMED])
    more = "" if len(in_hand) <= _MOST_NAMED else f" and {len(in_hand) - _MOST_NAMED} more"
    return f"Open in your hands ({len(in_hand)}): {ids}{more}. Settle each by ack, reply or nack."


def agents_told(found: Sequence[AgentInfo], most: int) -> str:
    """The agents, one a line."""
    if not found:
        return "No agent fits."
    lines = [_agent(one) for one in found[:most]]
    if len(found) > most:
        lines.append(f"({len(found) - most} more: ask with presence, with capability, or with a larger most)")
    return "\n".join(lines)


def _agent(one: AgentInfo) -> str:
    facts = [f"{one.agent}: {one.presence}"]
    if one.busy_until is not None:
        facts.append(f"until {_instant(one.busy_until)}")
    if one.last_seen_at is not None and not one.is_present:
        facts.append(f"last seen {_instant(one.last_seen_at)}")
    if one.capabilities:
        facts.append(f"can {', '.join(map(plain, one.capabilities))}")
    line = "; ".join(facts)
    return line if one.progress is None else f"{line}\n{quoted(plain(one.progress))}"


def states_told(states: Mapping[str, MessageStatus], asked: Sequence[str]) -> str:
    """Where messages stand, one a line."""
    lines = []
    for message_id in asked:
        one = states.get(message_id)
        if one is None:
            lines.append(f"{message_id}: unknown; neither sent nor received by you, or forgotten")
            continue
        line = f"{message_id}: {one.state}, from {plain(one.sender or '?')} to {plain(one.recipient or '?')}"
        if one.attempts > 1:
            line += f", {one.attempts} attempts"
        at = one.settled_at or one.delivered_at or one.accepted_at
        line += f", since {_instant(at)}"
        if one.surfaced_at is not None:
            line += f"; in a model's context since {_instant(one.surfaced_at)}"
        if one.recipients:
            line += "; " + ", ".join(f"{plain(to)}: {state}" for to, state in list(one.recipients.items())[:50])
        lines.append(line)
    return "\n".join(lines)


def history_told(history: MessageHistory) -> str:
    """The lives of an id, each with its events."""
    lines = []
    for life in history.lives:
        heading = f"{life.id}: {life.type} from {plain(life.sender or '?')} to {plain(life.recipient or '?')}"
        lines.append(f"{heading}: {life.state}, {life.attempts} attempts")
        for event in life.events:
            facts = facts_of(event.details, ("from", "to", "id", "type", "sha256", "digest"))
            lines.append(quoted(f"{_instant(event.at)} {event.kind} at {plain(event.node or '?')} {facts}".rstrip()))
        if life.warning is not None:
            lines.append(quoted(life.warning))
    lines += [f"not all is known: {plain(one.get('reason'))}" for one in history.missing]
    return "\n".join(lines) or "Nothing is known."


def error_told(error: TrishulaError) -> str:
    """An error as one sentence, with its id and whether to try again."""
    said = plain(error.sentence)
    message_id = getattr(error, "message_id", None)
    if message_id is not None and str(message_id) not in said:
        said += f" (id {message_id})"
    if error.temporary:
        wait = "" if error.retry_after_s is None else f" after {error.retry_after_s:g} s"
        said += f"; this may pass: try again{wait}"
    return said


def unanswered_told(message_id: str, answered: Answered, wait_s: float) -> str:
    """That a question has no answer, and what to do."""
    if answered.is_over:
        return f"No answer: the question {message_id} is {answered.state}; why tells the reason."
    if answered.state == "done":
        return f"The question {message_id} is done, and its answer is not kept any more; why tells what is known."
    said = (
        f"Unknown: no answer to {message_id} within {wait_s:g} s. It may be in work. Wait on with ask and "
        f"message_id={message_id}; an answer comes to your inbox as well; cancel takes the question back."
    )
    return said if answered.warning is None else f"{said} {plain(answered.warning)}."


def cut(text: str, letters: int) -> str:
    """A text of so many characters at most, cut at the end of a line, with a sentence that says so."""
    if len(text) <= letters:
        return text
    kept = text[:letters].rpartition("\n")[0] or text[:letters]
    return f"{kept}\n(cut: {len(text) - len(kept)} of {len(text)} characters are left out)"


def _instant(at: datetime | None) -> str:
    return NOTHING if at is None else local_time(at.timestamp() * 1000, "seconds")
