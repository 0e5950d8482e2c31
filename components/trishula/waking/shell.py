"""Wake anything by a command of the shell. What it may say to a model is in its environment:

========================  ============================================================================================
``TRISHULA_WAKE_TEXT``    one line for the model: how many messages wait, and from whom
``TRISHULA_WAKE_ID``      the id of a message that waits
``TRISHULA_WAKE_FROM``    the agent that sent it
``TRISHULA_WAKE_COUNT``   how many messages wait
``TRISHULA_WAKE_URGENT``  how many of them are urgent
========================  ============================================================================================

None of them holds a character that a shell would take for more than a letter, in whichever quotes, except that the text
has spaces, commas and a colon.
"""

from __future__ import annotations

from trishula.waking.adapters import run_program
from trishula.waking.policy import Pointer

__all__ = ["ShellCommand"]


class ShellCommand:
    """See :class:`~trishula.waking.adapters.Adapter`.

    Args:
        command: what the shell runs.
        timeout_s: how long it may take.
    """

    def __init__(self, command: str, timeout_s: float) -> None:
        self.target = f"command {command}"
        self._command = command
        self._timeout_s = timeout_s

    def wake(self, pointer: Pointer) -> None:
        variables = {
            "TRISHULA_WAKE_TEXT": pointer.text,
            "TRISHULA_WAKE_ID": pointer.message_id,
            "TRISHULA_WAKE_FROM": pointer.sender,
            "TRISHULA_WAKE_COUNT": str(pointer.count),
            "TRISHULA_WAKE_URGENT": str(pointer.urgent),
        }
        run_program(self._command, variables, self._timeout_s)
