"""The node's part in its proxy workers: the port is opened here, and one of them that ends is replaced.

Each has a listening socket of its own on the one port (``SO_REUSEPORT``): the kernel hands out who comes by a hash, so
that all have about as many. With one socket for all, the one that woke up last would get most, and connections of
agents stay for days. The sockets are opened in the router worker and stay open there. So nobody else can take the port
while a proxy worker is replaced, and whoever connects meanwhile waits a moment and is not refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from twisted.logger import Logger

from trishula_router.clocks.clock import Clock
from trishula_router.privacy import NotPrivate
from trishula_router.proxy_workers.task import Task
from trishula_router.settings.faults import ConfigError, Fault
from trishula_router.settings.options import NodeConfig
from trishula_router.settings.proxy_socket import proxy_socket_of

__all__ = ["ProxyWorkers", "make_private"]

log = Logger()

_LOOK_S = 0.2
#: Before one that ended is replaced: doubled each time that it ends again within a minute.
_FIRST_S, _MOST_S, _WELL_S = 0.2, 30.0, 60.0
_LINE_CHARACTERS = 500
_READ_BYTES = 65_536


def make_private(directory: Path) -> None:
    """Make the socket's directory, or find out that it is there and nobody else may look into it.

    Raises:
        NotPrivate: it is another user's, or open to others.
        OSError: it can't be made.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise NotPrivate(
            f"{directory} must be a directory of the node's user with mode 0700, and no link: the proxy workers reach "
            "the node by a socket in it, and say there whom they came for; remove it, and the node makes it anew"
        )


class ProxyWorkers:
    """All of them.

    Args:
        config: the node's.
        clock: timers.
    """

    def __init__(self, config: NodeConfig, clock: Clock) -> None:
        self._clock = clock
        self._config = config
        self._path = proxy_socket_of(config.state_dir)
        self._endpoint: Mapping[str, Any] = config.proxy_endpoint or {}
        self._slots: list[_Slot] = []

    def begin(self) -> None:
        """Open the port now, and start them as soon as the router worker listens.

        Raises:
            ConfigError: the port can't be had.
            NotPrivate: others could reach the socket.
        """
        make_private(self._path.parent)
        # Of a node that was killed; Crossbar makes it anew, and then it is time to start.
        self._path.unlink(missing_ok=True)
        try:
            sockets = [_listen(self._endpoint) for _ in range(self._config.proxy_workers)]
        except OSError as error:
            rule = "it must be a port that can be listened on there: "
            rule += "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
            raise ConfigError((Fault("extra.proxy_endpoint.port", self._endpoint.get("port"), rule),)) from None
        limits = self._config.limits
        task = Task(
            router=str(self._path),
            tls=self._endpoint.get("tls"),
            proxies=self._config.proxies,
            handshake_s=limits.handshake_s,
            strangers=limits.strangers,
            strangers_per_address=limits.strangers_per_address,
        )
        self._slots = [_Slot(number, one, task) for number, one in enumerate(sockets, 1)]
        self._look()

    def told(self) -> dict[str, int]:
        """For ``node.status``: how many there are to be, and how many there are."""
        return {"wanted": self._config.proxy_workers, "running": sum(slot.is_running for slot in self._slots)}

    def joined(self, number: int, client_ip: str) -> None:
        """A client has joined that came by one of them, which keeps the pace of those who don't."""
        for slot in self._slots[number - 1 : number]:
            slot.tell(client_ip)

    def _look(self) -> None:
        if self._path.exists():
            for slot in self._slots:
                slot.look(self._clock.seconds())
        self._clock.callLater(_LOOK_S, self._look)


class _Slot:
    """The place of one.

    Args:
        number: from 1.
        listening: its socket.
        task: what it is told.
    """

    def __init__(self, number: int, listening: socket.socket, task: Task) -> None:
        self._number = number
        self._listening = listening
        self._task = (
            msgspec.json.encode(msgspec.structs.replace(task, number=number, listening=listening.fileno())) + b"\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_s = self._started_s = 0.0
        self._pause_s = _FIRST_S
        self._said = b""

    @property
    def is_running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def tell(self, client_ip: str) -> None:
        """Tell it who has joined; if it is busy or gone, it does without."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                os.write(self._process.stdin.fileno(), f"{client_ip}\n".encode())

    def look(self, now_s: float) -> None:
        """Start it, if it is not there and its time has come; pass on what it says."""
        if self._process is None:
            if now_s >= self._start_at_s:
                self._start(now_s)
            return
        code = self._process.poll()
        self._listen_to(self._process)
        if code is None:
            return
        self._pause_s = _FIRST_S if now_s - self._started_s > _WELL_S else min(2 * self._pause_s, _MOST_S)
        self._start_at_s = now_s + self._pause_s
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process = None
        log.warn(
            "proxy worker {number} ended ({code}), and with it the connections that it carried; another one takes its "
            "place in {pause} s",
            number=self._number,
            code=code,
            pause=f"{self._pause_s:g}",
        )

    def _start(self, now_s: float) -> None:
        self._started_s = now_s
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trishula_router.proxy_workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(self._listening.fileno(),),
        )
        stdin, stderr = self._process.stdin, self._process.stderr
        if stdin is not None and stderr is not None:
            os.set_blocking(stderr.fileno(), False)
            # It is there before the process is, and less than a pipe holds.
            os.write(stdin.fileno(), self._task)
            os.set_blocking(stdin.fileno(), False)

    def _listen_to(self, process: subprocess.Popen[bytes]) -> None:
        data = None
        if process.stderr is not None:
            with contextlib.suppress(BlockingIOError):
                data = os.read(process.stderr.fileno(), _READ_BYTES)
        *lines, self._said = (self._said + (data or b"")).split(b"\n")
        self._said = self._said[:_LINE_CHARACTERS]
        for line in lines:
            if text := line.decode(errors="replace").strip():
                log.warn(
                    "proxy worker {number}: {said}", number=self._number, said=ascii(text)[1:-1][:_LINE_CHARACTERS]
                )


def _listen(endpoint: Mapping[str, Any]) -> socket.socket:
    """A socket that listens where Crossbar would.

    Raises:
        OSError: it can't be had.
    """
    host, port = str(endpoint.get("interface", "")).strip(), int(endpoint["port"])
    is_v6 = ":" in host or endpoint.get("version") == 6
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    found = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            one.setsockopt(socket.SOL_SOCKET, option, 1)
        if "user_timeout" in endpoint and hasattr(socket, "TCP_USER_TIMEOUT"):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(endpoint["user_timeout"]))
        one.bind(found[0][4])
        one.listen(int(endpoint.get("backlog", 50)))
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one
