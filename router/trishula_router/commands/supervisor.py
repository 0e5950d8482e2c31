"""The process of ``trishula node start``: one Crossbar node as its child, from the first breath to the last.

The life of :class:`Supervisor`: :meth:`~Supervisor.start` spawns the controller in a session of its own (a Ctrl-C in
the terminal then reaches us alone, and we stop the node in order); :meth:`~Supervisor.wait_ready` waits until the
embedded component has written ``node.json`` and the port upgrades to WebSocket; :meth:`~Supervisor.supervise` waits
until the node ends, or ends it when a signal asks. However it ends, nothing of its process group is left.

Why a node ended by itself: the node says so in the file ``node.failure`` (:mod:`trishula_router.failure_file`). Where
Crossbar ended before the node could write the file, the log is asked (:mod:`trishula_router.commands.node_log`).

A node ends when its parent does: see :mod:`trishula_router.launcher`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import psutil

from trishula.contract import uris
from trishula.log_lines import FORMAT_VARIABLE, goes_to_journal
from trishula_router.commands.node_log import LOG_LIMIT_BYTES, crossbars_reason, is_port_taken, trim_log
from trishula_router.commands.service_manager import VARIABLES, any_certificate
from trishula_router.failure_file import FAILURE_FILE, take_failure
from trishula_router.process_log import JOURNAL, LOG_FILE, NODE_NAME, crossbar_level
from trishula_router.settings.crossbar_config import ListenEndpoint

__all__ = [
    "NodeFailed",
    "PortTaken",
    "Supervisor",
    "free_port",
    "has_ended",
    "read_ready_file",
    "try_to_listen",
    "upgrades",
]

#: A node listens after 2 to 4 s here; a small or busy machine may take ten times as long.
READY_TIMEOUT_S = 60.0
#: How long a node may take to stop in order: to answer what it has in hand and close its store.
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02


class NodeFailed(Exception):
    """The node did not start, or ended by itself; the text says why."""


class PortTaken(NodeFailed):
    """The node did not start, because somebody else listens on its port."""


class Supervisor:
    """One node's processes.

    Args:
        state_dir: the node's state directory; Crossbar's own is ``crossbar`` in it, with its ``config.json``.
        address: where it will listen.
        node: its name, for its log.
        log_format: ``text`` or ``json``, as :mod:`trishula.log_lines` has them.
        log_level: from which level on its log has lines.
    """

    def __init__(
        self,
        state_dir: Path,
        address: ListenEndpoint,
        node: str = "",
        log_format: str = "text",
        log_level: str = "warning",
    ) -> None:
        self._crossbar_dir = state_dir / "crossbar"
        self._ready_file = state_dir / "node.json"
        self._failure_file = state_dir / "node.failure"
        self.log = state_dir / "node.log"
        self.address = address
        self._log_options = {FORMAT_VARIABLE: log_format, LOG_FILE: str(self.log.absolute()), NODE_NAME: node}
        self._log_level = log_level
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._asked_to_stop = False

    # -- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Spawn the controller."""
        self._ready_file.unlink(missing_ok=True)
        self._failure_file.unlink(missing_ok=True)
        # Left by a node that was killed; we hold the lock of the state directory, so no node has it in use.
        (self._crossbar_dir / "node.pid").unlink(missing_ok=True)
        trim_log(self.log)
        # The number is not that of the standard error of what runs here, which the log takes.
        journal = os.dup(2) if goes_to_journal(os.environ, 2) else None
        environment = _environment(self._failure_file) | self._log_options
        if journal is not None:
            environment[JOURNAL] = str(journal)
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as log:
            self._log_start = os.fstat(log.fileno()).st_size
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "trishula_router.launcher"),
                    *("start", "--cbdir", str(self._crossbar_dir), "--config", "config.json"),
                    # Below "warning" no line of Crossbar's own is written: see trishula_router.process_log.
                    *("--loglevel", crossbar_level(self._log_level), "--color", "false", "--logformat", "standard"),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own process group, and no terminal: to ours Crossbar would write empty lines.
                start_new_session=True,
                env=environment,
                pass_fds=() if journal is None else (journal,),
            )
        if journal is not None:
            os.close(journal)

    @property
    def pid(self) -> int:
        """The controller's process id."""
        return self._require_child().pid

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the node serves.

        Raises:
            NodeFailed: if it ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while not (self._ready_file.exists() and upgrades(self.address)):
            if self._asked_to_stop:
                return
            if self._has_ended():
                raise self._failure("the node ended while it started", is_starting=True)
            if time.monotonic() > deadline:
                raise self._failure(f"the node was not ready after {timeout_s:.0f} s", is_starting=True)
            time.sleep(_POLL_S)

    # -- the end -------------------------------------------------------------------------------------------------------

    def stop_on_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGHUP (the terminal is gone) stop the node in order; a second one at once.

        Unless SIGHUP is ignored already: that is what ``nohup`` does, so that the node outlives its terminal.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked_to_stop:
            self.kill()
        self._asked_to_stop = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, signal.SIGTERM)

    @property
    def asked_to_stop(self) -> bool:
        """Whether a signal came."""
        return self._asked_to_stop

    def supervise(self, look: Callable[[], None] = lambda: None) -> None:
        """Wait until the node ends.

        Args:
            look: called several times a second while it runs.

        Raises:
            NodeFailed: if nobody asked it to.
        """
        deadline: float | None = None
        while not self._has_ended():
            if self._asked_to_stop and deadline is None:
                deadline = time.monotonic() + STOP_TIMEOUT_S
            if deadline is not None and time.monotonic() > deadline:
                break
            if trim_log(self.log):
                self._log_start = 0
            look()
            time.sleep(_POLL_S if self._asked_to_stop else 0.1)
        self.kill()
        if not self._asked_to_stop:
            raise self._failure("the node ended by itself")

    def kill(self) -> None:
        """End whatever is left of the node's process group."""
        if self._child is None or self._child.returncode is not None:
            return
        # The group may outlive its leader. Its id can't be another's: the leader has not been waited for until here.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._ready_file.unlink(missing_ok=True)

    # -- what went wrong -----------------------------------------------------------------------------------------------

    def _failure(self, what: str, *, is_starting: bool = False) -> NodeFailed:
        """What the node says of why it ended; what Crossbar logged, if the node had no chance to say anything."""
        self.kill()
        why = take_failure(self._failure_file)
        if why is None:
            logged = self._logged()
            if is_starting and is_port_taken(logged):
                return PortTaken(f"port {self.address.port} of {self.address.host or 'this machine'} is in use")
            why = crossbars_reason(logged)
        return NodeFailed(f"{what}: {why}; the log {self.log} has the rest")

    def _logged(self) -> str:
        """What the log gained since this node's start."""
        try:
            log = self.log.open("rb")
        except FileNotFoundError:
            # logrotate renamed it, and the node ended before it made another one.
            return ""
        with log:
            # A log that is shorter was set aside since, by us or by logrotate.
            log.seek(self._log_start if os.fstat(log.fileno()).st_size >= self._log_start else 0)
            return log.read(LOG_LIMIT_BYTES).decode(errors="replace")

    def _has_ended(self) -> bool:
        return has_ended(self.pid)

    def _require_child(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise NodeFailed("the node was not started")
        return self._child


def has_ended(pid: int) -> bool:
    """Whether a child of this process has ended. It stays in place, and with it the id of its group: see ``kill``."""
    if hasattr(os, "waitid"):
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True
    # macOS has it only from Python 3.13 on.
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def upgrades(address: ListenEndpoint, timeout_s: float = 1.0) -> bool:
    """Whether a WebSocket handshake succeeds there: listening alone would be too early to call it ready."""
    host = address.here
    request = (
        f"GET /{uris.WEBSOCKET_PATH} HTTP/1.1\r\nHost: {host}:{address.port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: wamp.2.msgpack\r\n\r\n"
    )
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host, address.port), timeout_s))
            if address.certificate is not None:
                connection = stack.enter_context(any_certificate().wrap_socket(connection))
            connection.sendall(request.encode())
            return connection.recv(64).startswith(b"HTTP/1.1 101 ")
    except OSError:
        return False


def try_to_listen(address: ListenEndpoint) -> None:
    """Listen there for a moment, as the node will.

    Raises:
        OSError: it can't be done: somebody else does, or it is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As Twisted does: a port whose old connections linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
        probe.listen(1)


def free_port(host: str) -> int:
    """A port that nobody listens on. Somebody may take it before the node does: then try another one."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def read_ready_file(state_dir: Path) -> dict[str, object] | None:
    """What a running node says of itself; ``None`` if none runs here."""
    try:
        raw = json.loads((state_dir / "node.json").read_bytes())
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None


def _environment(failure_file: Path) -> dict[str, str]:
    """What the node's processes find in their environment."""
    from trishula_router.store.sqlite.holding import STARTED_BY

    # A token in the environment of whoever starts the node is not the node's business, nor is what systemd is told.
    inherited = {key: value for key, value in os.environ.items() if key not in ("TRISHULA_TOKEN", *VARIABLES)}
    return inherited | {STARTED_BY: "trishula node start", FAILURE_FILE: str(failure_file)}
