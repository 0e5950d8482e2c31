"""``trishula top`` in a real terminal, against a real node that is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import NodeProcess, environment

pytestmark = pytest.mark.node

#: A slow machine takes long; nobody waits so long where it works.
_PATIENCE_S = 60.0
_HOME = "\x1b[H"


class Terminal:
    """A terminal of 80 × 24, in which a command runs as the foreground process of a session of its own."""

    def __init__(self, *args: str, **variables: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(80, 24)
        self.before = self.settings()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trishula.cli.main", *args],
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


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path / "state")
    node.token("zebra")
    node.token("boss", operator=True)
    node.token("wall", observer=True)
    with node:
        yield node


def test_a_live_terminal(node: NodeProcess) -> None:
    sent = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "send", "zebra", "hello"],
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["boss"]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sent.returncode == 0, sent.stderr
    # An observer, because none of the questions needs more.
    terminal = Terminal("top", TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["wall"])
    with contextlib.closing(terminal):
        # Registered, sent to by whom, and what waits for it that nobody takes.
        shown = terminal.frame_with("zebra", "boss", "nobody", "q: quit")
        assert terminal.settings() != terminal.before
        assert shown.count("zebra") == 3
        terminal.resize(60, 12)
        narrow = terminal.frame_with("zebra", "q: quit")
        assert narrow.count("\n") == 11
        node.kill()
        terminal.frame_with("The node is gone", "zebra", "q: quit")
        terminal.press("q")
        assert terminal.ended() == 0, terminal.seen
        assert terminal.settings() == terminal.before
        # The other screen is left, and the cursor is there again.
        assert "\x1b[?1049l" in terminal.seen and "\x1b[?25h" in terminal.seen
        assert "Traceback" not in terminal.seen
