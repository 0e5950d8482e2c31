"""What an agent of the bus has under way at an agent of A2A, in the door's file: which COMMAND is which task there.

A COMMAND is noted before it is sent on, and its task as soon as the other side has named it. So a process that takes
up a COMMAND again after a crash asks for the task in the place of giving it anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Errand", "Errands"]


@dataclass(frozen=True, slots=True)
class Errand:
    """A COMMAND that is sent on.

    Attributes:
        sender, command: the agent that sent it, and its id.
        task: the task's id there; empty as long as it is not known.
        context: its context there.
        is_open: whether the other side waits for one more message, to go on with it.
    """

    sender: str
    command: str
    task: str = ""
    context: str = ""
    is_open: bool = False


class Errands:
    """See the module's docstring.

    Args:
        connection: the file (an ``sqlite3.Connection``; :mod:`trishula.a2a_door.ledger` alone knows SQLite).
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def find(self, sender: str, command: str) -> Errand | None:
        """What is known of a COMMAND."""
        query = "SELECT sender, command, task, context, is_open FROM errand WHERE sender = ? AND command = ?"
        row = self._connection.execute(query, (sender, command)).fetchone()
        return None if row is None else Errand(row[0], row[1], row[2], row[3], bool(row[4]))

    def note(self, errand: Errand, now_ms: int) -> None:
        """It is under way, or goes on."""
        self._connection.execute(
            "INSERT OR REPLACE INTO errand VALUES (?, ?, ?, ?, ?, ?)",
            (errand.sender, errand.command, errand.task, errand.context, errand.is_open, now_ms),
        )

    def forget(self, before_ms: int) -> None:
        """Forget what was noted last before an instant."""
        self._connection.execute("DELETE FROM errand WHERE noted_ms < ?", (before_ms,))
