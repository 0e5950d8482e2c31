"""A real Redis on a free port, for tests that mirror to it: it is killed, stopped, flushed and locked by them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pytest

__all__ = ["RedisServer", "needs_redis", "until"]

T = TypeVar("T")

_FOUND = shutil.which("redis-server")
#: Without it the tests are skipped, but where it must be there.
needs_redis = pytest.mark.skipif(
    _FOUND is None and os.environ.get("TRISHULA_REQUIRE_REDIS") != "1", reason="redis-server is not installed"
)


def until(look: Callable[[], T], holds: Callable[[T], bool], timeout_s: float = 60.0) -> T:
    """Look until something holds; what was seen then."""
    deadline = time.monotonic() + timeout_s
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"it did not come to hold within {timeout_s:g} s: {seen}"
        time.sleep(0.05)
    return seen


#: A test may have its server die and come back; what a test itself starts must have ended with it.
_KEEPER = 'while [ -e run ]; do [ -e hold ] || "$@"; sleep 0.05; done'


class RedisServer:
    """``redis-server``, which keeps nothing on disk.

    Args:
        directory: its own.
        password: what it asks for; empty for none.
        more: further arguments.
    """

    def __init__(self, directory: Path, password: str = "", more: Sequence[str] = ()) -> None:
        assert _FOUND is not None, "TRISHULA_REQUIRE_REDIS is set, and there is no redis-server"
        self.password = password
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._command = [_FOUND, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += ["--save", "", *(["--requirepass", password] if password else []), *more]
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._client: Any = None

    def start(self) -> None:
        """Start it, also after :meth:`kill`, and wait until it answers."""
        import redis

        (self._directory / "run").touch()
        (self._directory / "hold").unlink(missing_ok=True)
        if self._keeper is None:
            self._keeper = subprocess.Popen(
                ["sh", "-c", _KEEPER, "sh", *self._command],
                cwd=self._directory,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._client = redis.Redis(port=self.port, password=self.password or None, socket_timeout=20.0)
        until(self._answers, bool)
        self._pid = int(self._client.info("server")["process_id"])

    def _answers(self) -> bool:
        import redis

        with contextlib.suppress(redis.RedisError):
            return bool(self._client.ping())
        return False

    @property
    def client(self) -> Any:
        """A client of it."""
        return self._client

    def signal(self, number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        os.kill(self._pid, number)

    def kill(self) -> None:
        """End it at once."""
        (self._directory / "hold").touch()
        self.signal(signal.SIGKILL)
        self._client.connection_pool.disconnect()

    def entries(self, stream: str) -> list[tuple[str, dict[bytes, bytes]]]:
        """All entries of a stream, with their ids."""
        return [(entry_id.decode(), fields) for entry_id, fields in self._client.xrange(stream)]

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        (self._directory / "run").unlink()
        if not (self._directory / "hold").exists():
            self.kill()
        self._client.close()
        if self._keeper is not None:
            self._keeper.wait(20.0)
