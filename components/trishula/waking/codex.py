"""Wake a session of Codex by ``codex queue``, which is there from 0.149 on.

Codex keeps the line in a queue of its own. A session that is open and idle begins a turn with it; one that works takes
it when its turn is over; one that is not open takes it when it is opened again. So that the command went well says
that Codex has the line, and not that a model had it.
"""

from __future__ import annotations

from trishula.waking.adapters import run_program
from trishula.waking.policy import Pointer

__all__ = ["CodexQueue"]


class CodexQueue:
    """See :class:`~trishula.waking.adapters.Adapter`.

    Args:
        thread: the session's UUID or exact name.
        timeout_s: how long the command may take.
    """

    def __init__(self, thread: str, timeout_s: float) -> None:
        self.target = f"codex {thread}"
        self._thread = thread
        self._timeout_s = timeout_s

    def wake(self, pointer: Pointer) -> None:
        run_program(["codex", "queue", f"--thread={self._thread}", f"--message={pointer.text}"], {}, self._timeout_s)
