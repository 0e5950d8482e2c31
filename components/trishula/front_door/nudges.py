"""Nudges: the line that tells a model, or the hook of its client, that mail waits. What it says and in which form.

A nudge is a pointer: how many messages wait and from whom, never what is in them. So a nudge that is lost, or comes
twice, changes nothing, and a message counts as read only when the model itself has asked for it.

Clients take what a hook prints in different forms:

===============  =====================================  =============================================
client           before a turn (start, prompt)          at the end of a turn (stop)
===============  =====================================  =============================================
``claude-code``  text                                   ``{"decision": "block", "reason": …}``
``codex``        text                                   ``{"decision": "block", "reason": …}``
``gemini``       ``hookSpecificOutput``                 ``{"decision": "deny", "reason": …}``
``cursor``       ``{"additional_context": …}``          ``{"followup_message": …}``
``text``         text                                   text
===============  =====================================  =============================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from trishula.contract.addresses import agent_of
from trishula.front_door.turns import LOW, URGENT

__all__ = ["EVENTS", "FORMS", "Event", "Form", "as_hook", "is_repeated", "pointer"]

Form = Literal["text", "claude-code", "codex", "gemini", "cursor"]
Event = Literal["start", "prompt", "stop"]
FORMS: tuple[Form, ...] = ("text", "claude-code", "codex", "gemini", "cursor")
EVENTS: tuple[Event, ...] = ("start", "prompt", "stop")

_GEMINI = {"start": "SessionStart", "prompt": "BeforeAgent"}
_MOST_SENDERS = 5


def pointer(messages: Sequence[Mapping[str, Any]], waiting: int, event: Event | None = None) -> str:
    """The line; empty if there is nothing to say.

    Args:
        messages: the first of those that are there, as ``mailbox.peek`` tells of them.
        waiting: how many wait.
        event: what it is said at: mail of low priority keeps no turn from ending.
    """
    heads = [one["message"] for one in messages if one.get("state") != "delivered"]
    if not waiting or (event == "stop" and heads and min(map(_priority, heads)) >= LOW):
        return ""
    senders = list(dict.fromkeys(agent_of(str(head.get("from") or "the node")) for head in heads))
    named = ", ".join(senders[:_MOST_SENDERS]) + (", …" if len(senders) > _MOST_SENDERS else "")
    urgent = sum(_priority(head) <= URGENT for head in heads)
    mail = "1 message waits" if waiting == 1 else f"{waiting} messages wait"
    said = f"TRISHULA: {mail} for you" + (f" from {named}" if named else "")
    return f"{said}{f', {urgent} urgent' if urgent else ''}. Call the tool inbox of the server trishula."


def _priority(head: Mapping[str, Any]) -> int:
    return int(head.get("priority", 3))


def as_hook(text: str, form: Form, event: Event) -> str:
    """The same as a client's hook prints it."""
    if not text or form == "text":
        return text
    if form == "cursor":
        if event == "stop":
            return json.dumps({"followup_message": text})
        # Of a prompt its documentation names "continue" alone; the client takes the other key too.
        return json.dumps({**({"continue": True} if event == "prompt" else {}), "additional_context": text})
    if event == "stop":
        return json.dumps({"decision": "deny" if form == "gemini" else "block", "reason": text})
    if form == "gemini":
        return json.dumps({"hookSpecificOutput": {"hookEventName": _GEMINI[event], "additionalContext": text}})
    return text


def is_repeated(told: str) -> bool:
    """Whether a client tells its hook that a turn goes on because of a hook already, or was broken off: let it end."""
    try:
        asked = json.loads(told)
    except ValueError:
        return False
    if not isinstance(asked, dict):
        return False
    # Cursor counts, and says how the turn ended.
    count = asked.get("loop_count")
    is_counted = isinstance(count, int) and count > 0
    return asked.get("stop_hook_active") is True or is_counted or asked.get("status") in ("aborted", "error")
