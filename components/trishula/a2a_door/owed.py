"""Webhooks of tasks and the notifications that are owed to them, in the door's file.

A notification is owed from the transaction in which its event came to be (:meth:`trishula.a2a_door.ledger.Ledger.note`)
until a webhook has taken it, or it is given up. A webhook gets its notifications one at a time, in the order of the
events. What became of each, and after how many attempts, stays in the file: it is the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["Hook", "Owed", "Push"]


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook of a task: A2A's configuration, as its JSON is."""

    task: str
    id: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Push:
    """A notification.

    Attributes:
        task, hook: whose.
        event: the number of the event that it tells of.
        created_ms: since when it is owed.
        attempts: how often it was tried.
        due_ms: when to try it next; ``None`` when that is over.
        ended_ms: when it was over.
        outcome: what came of the last attempt.
        caller: whose task it is, where :meth:`Owed.due` tells.
    """

    task: str
    hook: str
    event: int
    created_ms: int
    attempts: int
    due_ms: int | None
    ended_ms: int | None
    outcome: str
    caller: str = ""


_PUSH = "created_ms, attempts, due_ms, ended_ms, outcome"


class Owed:
    """See the module's docstring.

    Args:
        connection: the door's file (an ``sqlite3.Connection``; :mod:`trishula.a2a_door.ledger` alone knows SQLite).
        transaction: makes what is done within it one.
    """

    def __init__(self, connection: Any, transaction: Callable[[], AbstractContextManager[Any]]) -> None:
        self._connection = connection
        self._transaction = transaction

    def put_hook(self, hook: Hook, now_ms: int) -> None:
        """Set or change one; of a task that ended before, it is told the end."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO hook VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET config = excluded.config",
                (hook.task, hook.id, msgspec.json.encode(hook.config).decode()),
            )
            connection.execute(
                "INSERT OR IGNORE INTO push SELECT task.id, ?, max(number), ?, 0, ?, NULL, '' FROM event "
                "JOIN task ON task.id = event.task WHERE task.id = ? AND stage = 'ended' GROUP BY task.id",
                (hook.id, now_ms, now_ms, hook.task),
            )

    def hooks(self, task_id: str) -> list[Hook]:
        """Those of a task."""
        query = "SELECT task, id, config FROM hook WHERE task = ? ORDER BY id"
        rows = self._connection.execute(query, (task_id,)).fetchall()
        return [Hook(task, id, msgspec.json.decode(config)) for task, id, config in rows]

    def drop_hook(self, task_id: str, hook_id: str) -> None:
        """Remove one, and what is owed to it."""
        self._connection.execute("DELETE FROM hook WHERE task = ? AND id = ?", (task_id, hook_id))

    def due(self, now_ms: int, most: int, most_of_caller: int) -> list[Push]:
        """The next notification of each webhook, if it is due: so many, and so many of each caller."""
        query = (
            f"SELECT task, hook, event, {_PUSH}, caller FROM ("
            "SELECT due.*, caller, row_number() OVER (PARTITION BY caller ORDER BY due_ms) AS place FROM ("
            f"SELECT task, hook, min(event) AS event, {_PUSH} FROM push WHERE due_ms IS NOT NULL GROUP BY task, hook"
            ") AS due JOIN task ON task.id = due.task WHERE due_ms <= ?) WHERE place <= ? ORDER BY due_ms LIMIT ?"
        )
        return [Push(*row) for row in self._connection.execute(query, (now_ms, most_of_caller, most))]

    def next_due_ms(self) -> int | None:
        """When the next one is due."""
        query = (
            "SELECT min(due_ms) FROM (SELECT due_ms, min(event) FROM push WHERE due_ms IS NOT NULL GROUP BY task, hook)"
        )
        due_ms: int | None = self._connection.execute(query).fetchone()[0]
        return due_ms

    def note(self, push: Push, due_ms: int | None, now_ms: int, outcome: str) -> None:
        """An attempt was made; ``due_ms`` says when to try again, ``None`` that it is over."""
        self._connection.execute(
            "UPDATE push SET attempts = attempts + 1, due_ms = ?, ended_ms = ?, outcome = ? "
            "WHERE task = ? AND hook = ? AND event = ?",
            (due_ms, now_ms if due_ms is None else None, outcome, push.task, push.hook, push.event),
        )

    def of(self, task_id: str) -> list[Push]:
        """All that was owed to a task's webhooks, in the order of the events, and what became of it."""
        query = f"SELECT task, hook, event, {_PUSH} FROM push WHERE task = ? ORDER BY event, hook"
        return [Push(*row) for row in self._connection.execute(query, (task_id,))]
