"""The terminal of ``trishula top``: however it ends, it is as it was. In real processes and a real terminal."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.support.terminal import Terminal

SHOW = """
import logging, sys
from rich.console import Console
from rich.text import Text
from trishula.cli.top_screen import screen
with screen(Console()) as shown:
    logging.getLogger("trishula").warning("a line in the middle of a frame")
    shown.show([Text("has keys: " + str(shown.has_keys))])
    while True:
        pressed = shown.keys(60)
        if pressed == "x":
            raise ValueError("of a bug")
        if pressed == "q":
            sys.exit(0)
        shown.show([Text("pressed " + pressed)])
"""


def is_restored(terminal: Terminal) -> bool:
    # The other screen is left, the cursor is there again, and keys are as before.
    return (
        terminal.settings() == terminal.before
        and "\x1b[?1049l" in terminal.seen
        and "\x1b[?25h" in terminal.seen.rpartition("\x1b[?25l")[2]
    )


@pytest.mark.parametrize("end", ["q", "x", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_before(end: str | signal.Signals) -> None:
    with contextlib.closing(Terminal("-c", SHOW)) as terminal:
        frame = terminal.frame_with("has keys: True")
        assert "in the middle" not in frame
        assert terminal.settings() != terminal.before
        # Ctrl-Z doesn't stop it.
        terminal.press("\x1ap")
        terminal.frame_with("pressed p")
        if isinstance(end, str):
            terminal.press(end)
        else:
            os.kill(terminal.process.pid, end)
        code = terminal.ended()
        assert (code == 0) == (end == "q"), terminal.seen
        assert is_restored(terminal), terminal.seen
