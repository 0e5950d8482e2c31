"""From the door's file to A2A's objects, as their JSON is. No I/O, no SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from trishula.a2a_door.ledger import TaskRow
from trishula.a2a_door.life import Event, folded

__all__ = ["stream_response_of", "task_of"]


def task_of(row: TaskRow, events: Sequence[tuple[int, int, Event]]) -> dict[str, Any]:
    """A task, from its events."""
    snapshot = folded((at_ms, event) for _, at_ms, event in events)
    last = max((number for number, _, event in events if "status" in event), default=0)
    task: dict[str, Any] = {
        "id": row.id,
        "contextId": row.context,
        "status": _status(row, last, {"state": snapshot.state, "parts": snapshot.parts}, snapshot.changed_ms),
        "artifacts": snapshot.artifacts,
        "history": [_said(row, message) for message in snapshot.said if message],
    }
    if snapshot.stage:
        task["metadata"] = {"stage": snapshot.stage}
    return task


def stream_response_of(row: TaskRow, number: int, at_ms: int, event: Event) -> dict[str, Any] | None:
    """An event for a stream or a webhook; ``None`` if it is none of those that callers are told."""
    whose = {"taskId": row.id, "contextId": row.context}
    if "artifact" in event:
        return {"artifactUpdate": {**whose, "artifact": event["artifact"], "lastChunk": True}}
    if "status" in event:
        update = {**whose, "status": _status(row, number, event["status"], at_ms)}
        if stage := event["status"].get("stage"):
            update["metadata"] = {"stage": stage}
        return {"statusUpdate": update}
    return None


def _status(row: TaskRow, number: int, status: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    instant = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told: dict[str, Any] = {"state": f"TASK_STATE_{status['state'].upper()}", "timestamp": instant}
    if status["parts"]:
        told["message"] = {
            "messageId": f"{row.id}.{number}",
            "taskId": row.id,
            "contextId": row.context,
            "role": "ROLE_AGENT",
            "parts": status["parts"],
        }
    return told


def _said(row: TaskRow, message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "taskId": row.id, "contextId": row.context}
