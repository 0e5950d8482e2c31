"""A page of the documentation, walked through as its reader would: its files are saved, its commands are typed.

What counts on a page:

``literalinclude`` with ``:caption: NAME``
    the file is saved as NAME, where the terminals are.
``code-block:: console`` with ``:caption: TERMINAL``
    what is typed in that terminal (one without a caption is "a terminal"), behind ``$``, and what is to be seen then.
    ``...`` stands for anything, in a line or for whole lines. A command that goes on is left alone once its lines were
    seen; a block without ``$`` waits for more lines of it, and ``^C`` ends it.

Each terminal is bash on a terminal of 80 columns.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

__all__ = ["Block", "Saved", "Walkthrough", "read_page"]

#: A node starts within four seconds, on a busy machine within ten times as long.
_PATIENCE_S = 60.0
_PROMPT = "<ready>"
_ANYTHING = "..."


@dataclass
class Block:
    """What is typed in one terminal, and seen there.

    Attributes:
        terminal: the terminal's name.
        steps: pairs of what is typed (``None``: nothing, ``^C``: Ctrl-C) and the lines that are to be seen after it.
        line: where it stands, for people.
    """

    terminal: str
    line: int
    steps: list[tuple[str | None, list[str]]] = field(default_factory=list)


@dataclass(frozen=True)
class Saved:
    """A file that the reader saves."""

    source: Path
    name: str


def read_page(page: Path) -> list[Block | Saved]:
    """What a reader of the page does, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    done: list[Block | Saved] = []
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"( *)\.\. (code-block|literalinclude):: (\S+)", line)
        if directive is None:
            continue
        indent, kind, argument = directive.groups()
        body = []
        for below in lines[number + 1 :]:
            if below.strip() and not below.startswith(indent + "   "):
                break
            body.append(below)
        body = textwrap.dedent("\n".join(body)).splitlines()
        options = dict(re.findall(r"^:([\w-]+): ?(.*)$", "\n".join(body), re.MULTILINE))
        if kind == "literalinclude" and "caption" in options and "start-after" not in options:
            done.append(Saved((page.parent / argument).resolve(), options["caption"]))
        elif kind == "code-block" and argument == "console":
            block = Block(options.get("caption", "a terminal"), number + 1)
            _read_steps(block, [text for text in body if not re.match(r":[\w-]+:", text)])
            done.append(block)
    return done


def _read_steps(block: Block, lines: list[str]) -> None:
    for line in lines:
        if line.startswith("$ "):
            block.steps.append((line[2:], []))
        elif line == "^C":
            block.steps.append((line, []))
        elif line.startswith("> ") and block.steps and not block.steps[-1][1]:
            command, _ = block.steps[-1]
            block.steps[-1] = (f"{command}\n{line[2:]}", [])
        elif line.strip():
            if not block.steps:
                block.steps.append((None, []))
            block.steps[-1][1].append(line)


class _Terminal:
    """bash on a pseudo-terminal."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        master, slave = pty.openpty()
        self._master = master
        self.text = ""
        self.seen = 0
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=directory,
            env={**environment, "PS1": f"{_PROMPT}\n", "PS2": ""},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # Its controlling terminal, so that Ctrl-C is what it is for a person.
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(slave)
        self.wait([], is_over=True)
        self.type("stty -echo columns 80 rows 40")
        self.wait([], is_over=True)

    def type(self, text: str) -> None:
        """Type a line, or Ctrl-C."""
        self.seen = len(self.text)
        os.write(self._master, b"\x03" if text == "^C" else f"{text}\n".encode())

    def wait(self, lines: list[str], *, is_over: bool) -> None:
        """Wait until these lines were seen since, and the prompt behind them unless the command goes on."""
        wanted = _pattern(lines)
        until = time.monotonic() + _PATIENCE_S
        while True:
            new = self.text[self.seen :]
            over = new.rstrip().endswith(_PROMPT)
            if (over or not is_over) and wanted.search(new.replace(f"{_PROMPT}\n", "")):
                return
            # A command that is over says nothing more.
            if (over and is_over) or time.monotonic() > until:
                raise AssertionError("wanted:\n{}\n\nseen:\n{}".format("\n".join(lines), new[-3000:]))
            if select.select([self._master], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):
                    self.text += os.read(self._master, 65536).decode(errors="replace").replace("\r\n", "\n")

    def close(self) -> None:
        """End it, and what runs in it."""
        # What runs in it is asked first; bash itself, which shrugs at anything but a hangup, goes last.
        for number, patience_s in ((signal.SIGINT, 0.2), (signal.SIGTERM, 10.0), (signal.SIGKILL, 0.0)):
            until = time.monotonic() + patience_s
            for pid in self._jobs():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self._jobs() and time.monotonic() < until:
                time.sleep(0.05)
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _jobs(self) -> list[int]:
        """What bash has begun and has not ended."""
        command = ["ps", "-s", str(self._process.pid), "-o", "pid="]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return [int(pid) for pid in found if int(pid) != self._process.pid]


def _pattern(lines: list[str]) -> re.Pattern[str]:
    parts = []
    for line in lines:
        if line.strip() == _ANYTHING:
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(r"[^\n]*?".join(map(re.escape, line.rstrip().split(_ANYTHING))) + r"[ ]*\n")
    return re.compile("^" + "".join(parts), re.MULTILINE)


class Walkthrough:
    """The reader of one page, in a directory of its own.

    Args:
        directory: an empty one.
        environment: of the terminals.
        ports: ports that the page names; each becomes a free one.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], ports: tuple[int, ...]) -> None:
        self._directory = directory
        self._environment = {
            **environment,
            "HOME": str(directory / "home"),
            "TERM": "dumb",
            "NO_COLOR": "1",
            "PAGER": "cat",
        }
        self._environment.pop("TRISHULA_AGENT_STATE", None)
        (directory / "home").mkdir()
        self._ports = {str(port): str(_free_port()) for port in ports}
        self._terminals: dict[str, _Terminal] = {}

    def __enter__(self) -> Walkthrough:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for terminal in reversed(self._terminals.values()):
            terminal.close()

    def walk(self, page: Path) -> None:
        """Do what the page says.

        Raises:
            AssertionError: what the page promises is not to be seen.
        """
        done = read_page(page)
        for number, step in enumerate(done):
            if isinstance(step, Saved):
                shutil.copy(step.source, self._directory / step.name)
                continue
            later = [one for one in done[number + 1 :] if isinstance(one, Block) and one.terminal == step.terminal]
            try:
                self._do(step, typed_next=later[0].steps[0][0] if later else "")
            except AssertionError as error:
                screens = "\n".join(f"--- {name}\n{one.text[-2000:]}" for name, one in self._terminals.items())
                raise AssertionError(f"{page.name}, line {step.line}: {error}\n\n{screens}") from None

    def _do(self, block: Block, *, typed_next: str | None) -> None:
        terminal = self._terminals.get(block.terminal)
        if terminal is None:
            terminal = self._terminals[block.terminal] = _Terminal(self._directory, self._environment)
        following = [*(typed for typed, _ in block.steps[1:]), typed_next]
        for (typed, lines), after in zip(block.steps, following, strict=True):
            if typed is not None:
                terminal.type(self._with_ports(typed))
            # A command goes on if what comes next in its terminal is no other one.
            terminal.wait([self._with_ports(line) for line in lines], is_over=after not in (None, "^C"))

    def _with_ports(self, text: str) -> str:
        for named, free in self._ports.items():
            text = re.sub(rf"\b{named}\b", free, text)
        return text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
