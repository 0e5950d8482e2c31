"""The terminal while ``trishula top`` has it: another screen, keys that come one by one, and all as before at the end.

However the command ends, with an error, by Ctrl-C or by SIGTERM, the terminal gets back what it was. Ctrl-Z does
nothing meanwhile: a shell would come back to a terminal without echo.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Group
from rich.live import Live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.text import Text

__all__ = ["Screen", "screen"]


class Screen:
    """What is shown, and which keys were pressed; see :func:`screen`."""

    def __init__(self, live: Live, keyboard: int | None) -> None:
        self._live = live
        self._keyboard = keyboard

    @property
    def has_keys(self) -> bool:
        """Whether keys come; they don't where standard input is no terminal."""
        return self._keyboard is not None

    def show(self, lines: Sequence[Text]) -> None:
        """Draw a frame over what is there."""
        self._live.update(Group(*lines), refresh=True)

    def keys(self, wait_s: float) -> str:
        """The keys that were pressed, waiting so long at most for one."""
        if self._keyboard is None:
            time.sleep(wait_s)
            return ""
        if not select.select([self._keyboard], [], [], wait_s)[0]:
            return ""
        try:
            pressed = os.read(self._keyboard, 64)
        except OSError:
            pressed = b""
        if not pressed:
            # The terminal is gone: nobody can press a key any more.
            self._keyboard = None
        return pressed.decode("latin-1")


@contextlib.contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """Take the terminal, and give it back.

    Args:
        console: writes to a terminal.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(_signals())
        undo.enter_context(_silence())
        keyboard = undo.enter_context(_cbreak())
        live = undo.enter_context(
            Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        )
        yield Screen(live, keyboard)


@contextlib.contextmanager
def _cbreak() -> Iterator[int | None]:
    """Keys one by one and without an echo; Ctrl-C stays what it is."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        # A terminal that is gone has nothing to be put back.
        with contextlib.suppress(termios.error, OSError):
            # What was typed meanwhile was for us, and not for the shell.
            termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    def end(number: int, at: FrameType | None) -> NoReturn:
        raise click.exceptions.Exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No line of a log in the middle of a frame: without a handler, Python writes warnings to standard error."""
    nowhere = logging.NullHandler()
    logging.getLogger().addHandler(nowhere)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(nowhere)
