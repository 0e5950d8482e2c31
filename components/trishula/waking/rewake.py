"""Wake a session of Claude Code by a hook of its own that runs in the background (``asyncRewake``).

Claude Code runs the hook at the session's start and at the end of each turn, and has it stay. When the hook ends with
exit code 2, a session that is idle begins a turn with what stands on the hook's standard error. So here to wake is to
end. One hook stays for each session; one that finds another one ends at once, and so does one whose client is gone.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Mapping

import click

from trishula.waking.policy import Pointer

__all__ = ["REWAKE_CODE", "RewakeHook", "is_interactive", "told_session"]

#: The exit code by which Claude Code knows that it is to go on.
REWAKE_CODE = 2
_MOST_LETTERS = 200
#: As long as a client lets it stay.
_MOST_S = 86_400.0


def is_interactive(environ: Mapping[str, str]) -> bool:
    """Whether the client that ran us stays when its turn is over: ``claude -p`` names another way in."""
    return environ.get("CLAUDE_CODE_ENTRYPOINT", "cli") == "cli"


def told_session() -> str:
    """The session that the client tells its hook on standard input; empty if it tells none."""
    if sys.stdin is None or sys.stdin.isatty() or not select.select([sys.stdin], [], [], 0.5)[0]:
        return ""
    try:
        told = json.loads(sys.stdin.read())
    except ValueError:
        return ""
    session = told.get("session_id") if isinstance(told, dict) else None
    return session[:_MOST_LETTERS] if isinstance(session, str) else ""


class RewakeHook:
    """See :class:`~trishula.waking.adapters.Adapter`.

    Args:
        session: the client's session.
        clock: the time in seconds, from wherever.
    """

    def __init__(self, session: str, clock: Callable[[], float]) -> None:
        self.target = f"claude-code {session}"
        self._parent = os.getppid()
        self._clock = clock
        self._until_s = clock() + _MOST_S

    def is_left_alone(self) -> bool:
        """Whether the client that ran it is gone, or has let go of it."""
        return os.getppid() != self._parent or self._clock() > self._until_s

    def wake(self, pointer: Pointer) -> None:
        click.echo(pointer.text, err=True)
