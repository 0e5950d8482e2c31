"""A terminal for tests: what runs in it believes that a person sits there, and the test sees its frames.

::

    with contextlib.closing(Terminal("-m", "trishula.cli.main", "top")) as terminal:
        terminal.frame_with("agni")
        terminal.press("q")
        assert terminal.ended() == 0
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

from tests.support.node import environment

__all__ = ["Terminal"]

#: A slow machine takes long; nobody waits so long where it works.
_PATIENCE_S = 60.0
_HOME = "\x1b[H"


class Terminal:
    """A terminal of 80 × 24, in which Python runs as the foreground process of a session of its own.

    Args:
        command: the arguments of Python.
        variables: of the environment.

    Attributes:
        before: the settings of the terminal before anything ran in it.
        seen: what was written to it since the last frame that was waited for.
    """

    def __init__(self, *command: str, **variables: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(80, 24)
        self.before = self.settings()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env=environment(TERM="xterm-256color", **variables),
        )

    def settings(self) -> list[object]:
        """What ``stty`` shows."""
        return list(termios.tcgetattr(self._theirs))

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def frame_with(self, *wanted: str, without: str = "\0") -> str:
        """Wait for a frame in which all of this stands."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            # Of a frame that is being drawn the end is missing: another one has begun, or the keys stand in it.
            for one in self.seen.split(_HOME)[1:]:
                if all(text in one for text in wanted) and without not in one:
                    self.seen = ""
                    return one
            left_s = deadline_s - time.monotonic()
            assert left_s > 0 and self._read(left_s), f"no {wanted} in what was shown: {self.seen[-3000:]!r}"

    def ended(self) -> int:
        """Wait until it ends; its exit code. What it writes is read, because nothing ends that can't write."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline_s, f"it goes on: {self.seen[-3000:]!r}"
            self._read(0.05)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._ours], [], [], wait_s)[0]:
            return False
        self.seen += os.read(self._ours, 65536).decode(errors="replace")
        return True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_PATIENCE_S)
        os.close(self._ours)
        os.close(self._theirs)
