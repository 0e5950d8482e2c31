"""A node of one's own for as long as a ``with`` block lasts: what the bench measures and the demo shows.

It is started as anybody would start one, by ``trishula node start`` in a process of its own, on a state directory that
is made for it and removed with it. Nothing here imports the router: it only has to be installed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from trishula.errors import TrishulaError

__all__ = ["ThrowawayNode", "ToolFailed", "command", "surroundings_of", "terminate", "undisturbed"]

#: Crossbar listens after about three seconds; a busy machine needs several times as long.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


class ToolFailed(TrishulaError):
    """A program that the bench or the demo started did not do what it should."""


def command(*args: str) -> list[str]:
    """The command line of ``trishula …`` for a process of its own, with this very Python."""
    return [sys.executable, "-m", "trishula.cli.main", *args]


def surroundings_of(url: str | None = None, token: str | None = None, agents: Path | None = None) -> dict[str, str]:
    """The environment for a child: ours, but with this bus and this identity, and not with ours.

    ``agents`` is where an agent keeps its file; without it an agent would keep it where those of the user do.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRISHULA_")}
    if url is not None:
        environment["TRISHULA_URL"] = url
    if token is not None:
        environment["TRISHULA_TOKEN"] = token
    if agents is not None:
        environment["TRISHULA_AGENT_STATE"] = str(agents)
    return environment


def terminate(processes: Mapping[str, subprocess.Popen[bytes]], timeout_s: float = STOP_TIMEOUT_S) -> list[str]:
    """End processes: ask all, then wait for each; those that had to be killed, by name."""
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    stubborn = []
    for name, process in processes.items():
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            stubborn.append(name)
            process.kill()
            process.wait()
    return stubborn


#: Signals whose default is to end a process on the spot, with everything it started left behind.
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Answer signals after the block: a child that was just started must be on record before we may leave.

    Handlers, not a mask: a child would inherit the mask, and couldn't be terminated.
    """
    if not _is_main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDINGS)}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


class ThrowawayNode:
    """A durable node that ends, with all it stored, when the block does.

    Args:
        port: 0 takes a free one.
        prefix: of the temporary directory's name.

    Attributes:
        url: where it listens, inside of the block.
        directory: the temporary directory; the state directory is below it.
    """

    def __init__(self, *, port: int = 0, prefix: str = "trishula-") -> None:
        self.url = ""
        self._port = port
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self.directory = Path()

    @property
    def state(self) -> Path:
        """The node's state directory."""
        return self.directory / "state"

    @property
    def pid(self) -> int | None:
        """The node's process."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> ThrowawayNode:
        self._handlers = {number: signal.signal(number, _leave) for number in _ENDINGS} if _is_main_thread() else {}
        try:
            with undisturbed():
                self.directory = Path(tempfile.mkdtemp(prefix=self._prefix))
                # For a signal that comes before the block has begun, or after it has ended.
                atexit.register(self._remove)
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        args = command("node", "start", "--state", str(self.state), "--port", str(self._port))
        with (self.directory / "errors.txt").open("wb") as errors, undisturbed():
            # A session of its own: Ctrl-C in the terminal is for us, and we stop the node in order.
            self._process = subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=surroundings_of(),
                start_new_session=True,
            )
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], START_TIMEOUT_S)[0]:
            raise ToolFailed(f"the node was not ready after {START_TIMEOUT_S:g} s{self._said()}")
        self.url = stdout.readline().decode().strip()
        if not self.url:
            raise ToolFailed(f"the node did not start{self._said()}")

    def _said(self) -> str:
        text = (self.directory / "errors.txt").read_text(errors="replace").strip()
        return f": {text.splitlines()[-1].removeprefix('trishula: ')}" if text else ""

    def token(self, name: str, *, operator: bool = False, serve: Iterable[str] = ()) -> str:
        """Register an agent, which may announce the capabilities in ``serve``; its token."""
        more = [*(["--operator"] if operator else []), *(f"--serve={one}" for one in serve)]
        args = command("token", "new", name, "--state", str(self.state), "--json", *more)
        done = subprocess.run(args, capture_output=True, text=True, env=surroundings_of(), check=False)
        if done.returncode:
            raise ToolFailed(f"no token could be made for {name}: {done.stderr.strip().removeprefix('trishula: ')}")
        return str(json.loads(done.stdout)["token"])

    def is_running(self) -> bool:
        """Whether its process still runs."""
        return self._process is not None and self._process.poll() is None

    def _end(self) -> None:
        # A second Ctrl-C must not leave half of it behind; it is bounded in time anyway.
        held = signal.signal(signal.SIGINT, signal.SIG_IGN) if _is_main_thread() else None
        try:
            self._remove()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            if _is_main_thread():
                signal.signal(signal.SIGINT, held)

    def _remove(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if terminate({"node": process}):
                # Its own children outlive a killed supervisor; the group is all of them.
                _kill_group(process.pid)
            if process.stdout is not None:
                process.stdout.close()
        if self.directory.name:
            shutil.rmtree(self.directory, ignore_errors=True)
        atexit.unregister(self._remove)


def _kill_group(pid: int) -> None:
    """Kill what is left of a process group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
