"""The processes of a drill: the node and its clients, as things that can be killed, frozen and started again.

Everything here is plain ``subprocess``; a process is only ever signalled by an object that started it, and psutil
compares start times, so that a process which got an old id is never touched.
"""

from __future__ import annotations

import contextlib
import math
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

from trishula.messaging.agent_file import read_handled
from trishula.session.begun import noted_handled
from trishula.tools.temporary_node import ToolFailed, command, surroundings_of, undisturbed
from trishula_drill.history import Ended, History
from trishula_drill.worker import Progress, Task, agent_directory

__all__ = ["ClientProcess", "NodeProcess"]

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0


def _signal(members: Sequence[psutil.Process], *numbers: signal.Signals) -> None:
    for number in numbers:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)


class NodeProcess:
    """``trishula node start`` on a state directory and a port, again and again.

    Args:
        state: the state directory.
        port: always the same, so that clients find it again.
        errors: a file for what it says on standard error.
    """

    def __init__(self, state: Path, port: int, errors: Path) -> None:
        self._state = state
        self._port = port
        self._errors = errors
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    def start(self, config: Path) -> None:
        """Start it, and wait until it is ready.

        Raises:
            ToolFailed: if it doesn't become so.
        """
        self.spawn(config)
        self.wait_ready()

    def spawn(self, config: Path) -> None:
        """Start it, and don't wait: see :meth:`wait_ready`."""
        args = command("node", "start", "--config", str(config), "--state", str(self._state))
        with self._errors.open("ab") as errors, undisturbed():
            # A session of its own: Ctrl-C in the terminal is for us, and we end it.
            self._process = subprocess.Popen(
                [*args, "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=surroundings_of(),
                start_new_session=True,
            )
        self._is_ready = False

    def wait_ready(self) -> None:
        """Wait until it listens, if it doesn't yet.

        Raises:
            ToolFailed: if it doesn't come to it.
        """
        if self._is_ready:
            return
        if self._process is None or self._process.stdout is None:
            raise ToolFailed("the node was not started, or without a pipe")
        stdout = self._process.stdout
        self._is_ready = bool(select.select([stdout], [], [], _START_TIMEOUT_S)[0] and stdout.readline())
        if not self._is_ready:
            said = self._errors.read_text(errors="replace").strip().splitlines()
            self.kill()
            raise ToolFailed(f"the node did not start: {said[-1] if said else 'it said nothing'}")

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def _family(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def freeze(self) -> None:
        """Stop all its processes, as a host that hangs does."""
        _signal(self._family(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        _signal(self._family(), signal.SIGCONT)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""
        family = self._family()
        # Stopped first, so that none of them sees another one go and still does something about it.
        _signal(family, signal.SIGSTOP, signal.SIGKILL)
        self._reap(family)

    def stop(self) -> None:
        """Stop it in order.

        Raises:
            ToolFailed: if it doesn't end in time; it was killed then.
        """
        if self._process is None:
            return
        family = self._family()
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ToolFailed(f"the node did not stop within {_STOP_TIMEOUT_S:g} s") from None
        self._reap(family)

    def _reap(self, family: Sequence[psutil.Process]) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        left = psutil.wait_procs(list(family), timeout=5.0)[1]
        _signal(left, signal.SIGKILL)


class ClientProcess:
    """One client of a drill, through all its lives.

    Args:
        task: what it does.
        ends: is told when a life of it is over.
        within: a command that runs it elsewhere, such as ``ip netns exec NAME``; its process must stay the same.

    Attributes:
        name: the agent that it is.
        runs: how many lives it has had.
        receipts, handled: over all lives, as far as told.
        port: of the node that it is joined to; empty if it is to none.
        joined_at_s: since when, by the monotonic clock; never, if it isn't.
    """

    def __init__(self, task: Task, ends: History, within: Sequence[str] = ()) -> None:
        self.name = task.name
        self.runs = 0
        self.receipts = 0
        self.handled = 0
        self.is_quiet = False
        self.port = ""
        self.joined_at_s = math.inf
        self._task = task
        self._ends = ends
        self._within = within
        self._run = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._before = (0, 0)
        self._ready = False

    @property
    def role(self) -> str:
        """What it does."""
        return self._task.role

    def start(self) -> None:
        """Begin a life; it is not ready yet."""
        self.runs += 1
        self._run = f"{self._task.run}.{self.runs}"
        self._before = (self.receipts, self.handled)
        self._ready = False
        task = msgspec.structs.replace(self._task, run=self._run, seed=f"{self._task.seed}/{self.runs}")
        with (Path(task.directory) / f"{self.name}.errors").open("ab") as errors, undisturbed():
            self._process = process = subprocess.Popen(
                [*self._within, sys.executable, "-m", "trishula_drill.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=surroundings_of(),
                start_new_session=True,
            )
        # Lines of an earlier life must not count for this one.
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(process, self._lines), daemon=True).start()
        self._write(msgspec.json.encode(task))

    def _write(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(line + b"\n")
                self._process.stdin.flush()

    def look(self) -> None:
        """Take in what it said.

        Raises:
            ToolFailed: it failed.
        """
        while not self._lines.empty():
            line = self._lines.get()
            self.receipts = self._before[0] + line.receipts
            self.handled = self._before[1] + line.handled
            self._ready = self._ready or line.kind == "ready"
            self.is_quiet = self.is_quiet or line.kind == "quiet"
            port = str(urlsplit(line.url).port or "")
            if port != self.port:
                self.port, self.joined_at_s = port, time.monotonic() if port else math.inf
            if line.kind == "failed":
                raise ToolFailed(f"the client {self.name} failed: {line.sentence}")
        if self._process is not None and self._process.poll() is not None:
            raise ToolFailed(f"the client {self.name} ended by itself with {self._process.returncode}")

    @property
    def is_ready(self) -> bool:
        """Whether this life has joined."""
        self.look()
        return self._ready

    def say(self, word: str) -> None:
        """Give it a command."""
        self._write(word.encode())

    def freeze(self) -> None:
        """Stop it, as a laptop that sleeps does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it on the spot."""
        if self._process is not None:
            at_ns = time.monotonic_ns()
            self._process.kill()
            self._end()
            # It is dead: what is on record now is what its next life finds there.
            self._ends.tell(Ended(at_ns, self._run, True, self._on_record()))

    def drop(self) -> None:
        """End it on the spot, for good: the drill is over, or breaks off, and nobody asks any more what it left."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def quit(self) -> None:
        """End it in order; if it doesn't, on the spot."""
        if self._process is None:
            return
        self._write(b"quit")
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return
        self._ends.tell(Ended(time.monotonic_ns(), self._run, False))
        self._end()

    def _on_record(self) -> frozenset[tuple[str, str]] | None:
        if self._task.role != "agent":
            return None
        directory = agent_directory(self._task)
        return read_handled(directory) | noted_handled(directory)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()


def _listen(process: subprocess.Popen[bytes], lines: queue.SimpleQueue[Progress]) -> None:
    if process.stdout is None:
        return
    with process.stdout:
        for line in process.stdout:
            with contextlib.suppress(msgspec.MsgspecError):
                lines.put(msgspec.json.decode(line, type=Progress))
