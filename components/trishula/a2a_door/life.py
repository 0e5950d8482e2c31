"""The life of a task, out of the life of its COMMAND: which events of A2A follow from what the bus tells. No I/O.

============================  =============  =================================================================
the bus tells                 the task is    and
============================  =============  =================================================================
accepted                      submitted      it is on a node's disk
delivered                     working        the agent has it; ``metadata.stage`` is ``delivered``
surfaced                      working        it is in a model's context; ``metadata.stage`` is ``surfaced``
RESULT                        completed      the payload is the artifact
done, no answer in time       completed      without an artifact
ERROR of the agent            failed         ``rejected`` if the agent has no such procedure, or not for these arguments
dead                          failed         ``rejected`` if the agent gave it back for good
expired                       failed
cancelled                     canceled
============================  =============  =================================================================

Events are maps: ``{"status": {"state", "parts", "stage"?}}``, ``{"artifact": {"artifactId", "name", "parts"}}`` and
``{"said": message}`` for what a caller said to a task. :func:`folded` makes a task of them; the SDK's side makes A2A's
own events (:mod:`trishula.a2a_door.handler`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trishula.a2a_door.parts import Parts, parts_of
from trishula.contract.addresses import is_nodes_own
from trishula.contract.message import Message
from trishula.errors import ArgumentInvalid, MessageExpired, NotAllowed, ProcedureUnknown

__all__ = ["ANSWER_GRACE_MS", "ENDED", "Event", "Snapshot", "Told", "events_after", "folded"]

Event = dict[str, Any]

ENDED = frozenset({"completed", "failed", "canceled", "rejected"})
#: A message may be done before its answer is on record, if whoever acknowledged it answers by itself.
ANSWER_GRACE_MS = 10_000
#: By these errors an agent says that it won't do it, and not that it tried.
_REFUSALS = {error.uri for error in (ProcedureUnknown, ArgumentInvalid, NotAllowed)}
#: How a node begins the reason of a dead letter that was tried in vain; every other reason is the agent's own.
_IN_VAIN = re.compile(r"\d+ of \d+ attempts failed\b|it was delivered \d+ times and ")


@dataclass(frozen=True, slots=True)
class Told:
    """What the bus tells of a COMMAND.

    Attributes:
        state: ``accepted``, ``delivered``, ``done``, ``dead``, ``expired`` or ``cancelled``.
        is_surfaced: whether it was put into a model's context.
        answer: the RESULT or ERROR that there is.
        settled_ms: since when it is over, by the clock that ``now_ms`` is of.
        is_refused: whether there is an answer that must not be taken, because of its signature.
    """

    state: str
    is_surfaced: bool = False
    answer: Message | None = None
    settled_ms: int | None = None
    is_refused: bool = False


def events_after(state: str, stage: str, told: Told, now_ms: int) -> list[Event]:
    """The events that follow, for a task that is in ``state`` and in ``stage`` (empty: not delivered yet)."""
    if state in ENDED:
        return []
    events: list[Event] = []
    seen = "surfaced" if told.is_surfaced else "" if told.state == "accepted" else "delivered"
    if seen and seen != stage and stage != "surfaced" and told.state not in ("expired", "cancelled"):
        events.append({"status": {"state": "working", "parts": [], "stage": seen}})
    return events + _ending(told, now_ms)


def _ending(told: Told, now_ms: int) -> list[Event]:
    answer = told.answer
    if told.state == "cancelled":
        return [_ended("canceled", "the task was taken back")]
    if told.is_refused:
        return [_ended("failed", "its answer was refused for its signature; the door's log says why")]
    if answer is not None and answer.type == "RESULT":
        parts = parts_of(answer.payload)
        artifact = [{"artifact": {"artifactId": answer.id, "name": "answer", "parts": parts}}] if parts else []
        return [*artifact, _ended("completed")]
    if answer is not None:
        return [_failed(answer)]
    if told.state in ("dead", "expired"):
        return [_ended("failed", f"the task ended on the bus as {told.state}; trishula why tells the reason")]
    if told.state == "done" and told.settled_ms is not None and now_ms - told.settled_ms >= ANSWER_GRACE_MS:
        return [_ended("completed", "the agent is through with it, and sent no answer")]
    return []


def _failed(answer: Message) -> Event:
    payload = answer.payload if isinstance(answer.payload, Mapping) else {}
    error, reason = payload.get("error"), str(payload.get("reason", ""))
    if is_nodes_own(answer.id):
        # Expired, or a dead letter: given back for good, or tried in vain.
        is_refused = error != MessageExpired.uri and bool(reason) and _IN_VAIN.match(reason) is None
    else:
        # An agent may send any value here.
        is_refused = isinstance(error, str) and error in _REFUSALS
    said = payload.get("message")
    parts = parts_of(said if isinstance(said, str) and said else answer.payload)
    return _ended("rejected" if is_refused else "failed", parts=parts)


def _ended(state: str, text: str | None = None, parts: Parts | None = None) -> Event:
    return {"status": {"state": state, "parts": parts if parts is not None else parts_of(text)}}


@dataclass(slots=True)
class Snapshot:
    """A task as its events made it.

    Attributes:
        state: its state.
        stage: ``""``, ``delivered`` or ``surfaced``.
        parts: what was said with the state.
        changed_ms: since when it is in that state.
        artifacts: its artifacts.
        said: what its caller said to it, oldest first.
    """

    state: str
    stage: str
    parts: Parts
    changed_ms: int
    artifacts: list[dict[str, Any]]
    said: list[dict[str, Any]]


def folded(events: Iterable[tuple[int, Event]]) -> Snapshot:
    """The task that events, each with its instant in ms, come to."""
    task = Snapshot("submitted", "", [], 0, [], [])
    for at_ms, event in events:
        if "status" in event:
            status = event["status"]
            task.state, task.parts, task.changed_ms = status["state"], status["parts"], at_ms
            task.stage = status.get("stage", task.stage)
        elif "artifact" in event:
            task.artifacts.append(event["artifact"])
        elif "said" in event:
            task.said.append(event["said"])
    return task
