"""A terminal of tmux, in which a client believes that a person sits, on a server of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Screen"]


class Screen:
    """See the module's docstring.

    Args:
        name: of the session, which is what ``tmux -t`` takes.
        socket: of the server.

    Raises:
        OSError: tmux can't be run, or refuses.
    """

    def __init__(self, name: str, socket: Path) -> None:
        self.name = name
        self._base = ["tmux", "-S", str(socket), "-f", os.devnull]

    @property
    def command(self) -> str:
        """The tmux of this server, for a shell."""
        return shlex.join(self._base)

    def _tmux(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        done = subprocess.run([*self._base, *arguments], capture_output=True, text=True, env=environment, timeout=30)
        if done.returncode:
            raise OSError(f"tmux {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def begin(self, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        """Run a program in it; the terminal stays when the program ends, so that its last words can be read."""
        text = f"{shlex.join(command)}; exec sleep 600"
        size = ("-x", "120", "-y", "45")
        self._tmux("new-session", "-d", "-s", self.name, *size, "-c", str(directory), text, environment=environment)

    def text(self) -> str:
        """What a person would see, without empty lines."""
        return re.sub(r"\n\s*\n+", "\n", self._tmux("capture-pane", "-p", "-t", self.name))

    def type(self, text: str) -> None:
        """Type it; the key that ends the line comes by itself, because clients take a line with its end for a paste."""
        self._tmux("send-keys", "-t", self.name, "-l", text)

    def press(self, key: str) -> None:
        """Press one key, by tmux's name for it."""
        self._tmux("send-keys", "-t", self.name, key)

    def end(self) -> None:
        """End it, and what runs in it."""
        self._tmux("kill-server")
