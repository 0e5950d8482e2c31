"""A real node as a process of its own, for tests, the demo and the benchmarks: plain subprocess code, no fixtures.

::

    with NodeProcess(tmp_path / "state") as node:
        token = node.token("agni")
        ... node.url ...
        node.kill()       # as a power cut does it: every process at once, kill -9
        node.restart()    # the same state directory, another port unless told otherwise
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

__all__ = ["NodeDied", "NodeProcess", "environment", "is_alive"]

ROOT = Path(__file__).resolve().parents[2]


class NodeDied(AssertionError):
    """The node did not come up, or not down; the text has what it said."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a process under test: our sources, and none of the TRISHULA_… settings of whoever tests."""
    clean = {
        key: value
        for key, value in os.environ.items()
        # Where agents of this test keep their files is set for each test.
        if not key.startswith("TRISHULA_") or key == "TRISHULA_AGENT_STATE"
    }
    path = [str(ROOT / "components"), str(ROOT / "router"), clean.get("PYTHONPATH", "")]
    return {**clean, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def _heed_signals() -> None:
    """Undo what whoever runs the tests ignores (under ``nohup``, or in a shell's background): a node would keep it."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class NodeProcess:
    """``trishula node start`` on a state directory.

    Args:
        state_dir: made if it isn't there; it is left behind, a temporary directory is the caller's.
        config: a configuration other than the shipped one.
        port: 0 takes a free one at each start.
        within: a command that runs it elsewhere, such as ``ip netns exec NAME``; its process must stay the same.

    Attributes:
        url: where it listens; empty while it doesn't.
        tokens: the tokens made so far, by agent.
    """

    def __init__(
        self, state_dir: Path, *, config: Path | None = None, port: int = 0, within: Sequence[str] = ()
    ) -> None:
        self.state_dir = state_dir
        self.url = ""
        self.tokens: dict[str, str] = {}
        self._config = config
        self._port = port
        self._within = within
        self._process: subprocess.Popen[str] | None = None
        self._family: list[psutil.Process] = []

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, *, port: int | None = None, timeout_s: float = 60.0) -> str:
        """Start it and wait until it is ready; the address."""
        self.spawn(port=port)
        self.url = self.wait_ready(timeout_s)
        return self.url

    def spawn(self, *, port: int | None = None) -> subprocess.Popen[str]:
        """Start it and don't wait: see :meth:`wait_ready`."""
        command = [*self._within, sys.executable, "-m", "trishula_router"]
        command += ["node", "start", "--state", str(self.state_dir)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        # Its own port again only by wish: in the meantime somebody else may have taken it.
        command += ["--port", str(self._port if port is None else port)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            preexec_fn=_heed_signals,
        )
        return self._process

    def wait_ready(self, timeout_s: float = 60.0) -> str:
        """The first line that it prints: its address.

        Raises:
            NodeDied: if it ends before, or says nothing in time.
        """
        process = self.process
        stdout = process.stdout
        if stdout is None:
            raise NodeDied("the node was started without a pipe")
        if not select.select([stdout], [], [], timeout_s)[0]:
            self.kill()
            raise NodeDied(f"the node was not ready after {timeout_s:.0f} s:\n{self.log()[-4000:]}")
        line = stdout.readline().strip()
        if not line:
            errors = process.communicate(timeout=15.0)[1]
            raise NodeDied(f"the node ended with {process.returncode}: {errors}\n{self.log()[-4000:]}")
        self._family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return line

    def stop(self, timeout_s: float = 20.0) -> int:
        """Stop it in order (SIGTERM); its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._ended(timeout_s)

    def kill(self) -> None:
        """End all its processes at once, as a power cut does: kill -9."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            self._family = [
                psutil.Process(self._process.pid),
                *psutil.Process(self._process.pid).children(recursive=True),
            ]
        # Stopped first, so that none of them sees another one go and still does something about it.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for member in self._family:
                # psutil compares the start time: a process that got an old id is not touched.
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.send_signal(number)
        self._ended(10.0)

    def restart(self, *, port: int | None = None) -> str:
        """Start it again on the same state; the address. It must have ended, one way or the other."""
        if self._process is not None:
            self.stop()
        return self.start(port=port)

    def _ended(self, timeout_s: float) -> int:
        process = self.process
        try:
            process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise NodeDied(f"the node did not end within {timeout_s:.0f} s:\n{self.log()[-4000:]}") from None
        finally:
            left = _wait_gone(self._family, 5.0)
            self._process, self._family, self.url = None, [], ""
        if left:
            raise NodeDied(f"the node ended and left processes behind: {left}")
        return process.returncode

    def __enter__(self) -> NodeProcess:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self.stop() if kind is None else self.kill()

    # -- what one may ask ----------------------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of ``trishula node start``."""
        if self._process is None:
            raise NodeDied("the node does not run")
        return self._process

    @property
    def port(self) -> int:
        """The port of :attr:`url`."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def worker_pid(self) -> int:
        """The router worker, in which our services run."""
        return int(json.loads((self.state_dir / "node.json").read_text())["pid"])

    def processes(self) -> list[psutil.Process]:
        """``node start``, Crossbar's controller and its worker, as they were when it became ready."""
        return list(self._family)

    def token(self, name: str, operator: bool = False, serve: Sequence[str] = (), observer: bool = False) -> str:
        """Make a token with ``trishula token new``; works before the start as well as after it.

        ``serve``: the capabilities that the agent may announce.
        """
        roles = [*(["--operator"] if operator else []), *(["--observer"] if observer else [])]
        more = ["--replace", *roles, *(f"--serve={one}" for one in serve)]
        done = self.command("token", "new", name, *more, "--state", str(self.state_dir))
        self.tokens[name] = str(json.loads(done)["token"])
        return self.tokens[name]

    def command(self, *arguments: str) -> str:
        """Run a command of the node with ``--json``; what it printed."""
        done = subprocess.run(
            [*self._within, sys.executable, "-m", "trishula_router", *arguments, "--json"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60.0,
        )
        if done.returncode:
            raise NodeDied(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def log(self) -> str:
        """The node's log so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self.state_dir / "node.log").read_text(errors="replace")
        return ""

    def wait_log(self, text: str, timeout_s: float = 10.0) -> str:
        """Wait until the log has ``text``."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log():
            if time.monotonic() > deadline:
                raise NodeDied(f"{text!r} did not come up in the log within {timeout_s:.0f} s:\n{self.log()[-4000:]}")
            time.sleep(0.02)
        return self.log()


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that ended and that nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_gone(family: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until all have ended; kills and returns those that have not in time."""
    deadline = time.monotonic() + timeout_s
    while alive := [member for member in family if is_alive(member)]:
        if time.monotonic() > deadline:
            for member in alive:
                member.kill()
            return alive
        time.sleep(0.005)
    return []
