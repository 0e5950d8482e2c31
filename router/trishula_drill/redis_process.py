"""Redis as a process of a drill: it keeps nothing on disk, and is killed, flushed, frozen, slow and cut off."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from trishula.tools.temporary_node import ToolFailed
from trishula_drill.proxy import free_port
from trishula_router.settings.redis_server import INSTALL_REDIS

__all__ = ["RedisProcess"]

_START_S = 20.0


class RedisProcess:
    """``redis-server`` on a port of this machine.

    Args:
        directory: its own.

    Raises:
        ToolFailed: there is none on this machine, or no library for it.
    """

    def __init__(self, directory: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ToolFailed("this drill needs redis-server, which is not installed here: apt install redis-server")
        try:
            import redis
        except ModuleNotFoundError:
            raise ToolFailed(f"this drill needs the library for Redis: {INSTALL_REDIS}") from None
        self.port = free_port()
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += ["--save", ""]
        self._client: Any = redis.Redis(port=self.port, socket_timeout=10.0)
        self._fault = redis.RedisError
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers.

        Raises:
            ToolFailed: it doesn't come to it.
        """
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:
            with contextlib.suppress(self._fault):
                if self._client.ping():
                    return
            time.sleep(0.02)
        raise ToolFailed(f"redis-server did not answer on port {self.port} within {_START_S:g} s")

    def kill(self) -> None:
        """End it at once, with all that it has."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._client.connection_pool.disconnect()

    def flush(self) -> None:
        """Have it forget everything."""
        self._client.flushall()

    def slow(self, for_s: float) -> None:
        """Have it answer nobody for a while."""
        self._client.client_pause(round(for_s * 1000), all=True)

    def cut(self) -> None:
        """Reset all connections to it; new ones are welcome."""
        self._client.client_kill_filter(_type="normal", skipme=True)

    def freeze(self) -> None:
        """SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
