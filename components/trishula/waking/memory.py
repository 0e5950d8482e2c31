"""What outlives a waker's process: which mail it told of. A small file of JSON, one waker at a time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from trishula.consumer.agent_state import directory_of
from trishula.errors import StateBusy, StateUnusable
from trishula.files.disk import put
from trishula.homes import home_directory
from trishula.runtime.file_lock import FileHeld, FileLock

__all__ = ["Memory"]

_FOLDER = "waking"


class Memory:
    """The file of one waker, held until :meth:`release`.

    Args:
        agent: whose mail it wakes for.
        target: what it wakes; another target has another file, and may run beside it.

    Raises:
        StateBusy: another process wakes the same target for the same agent.
        StateUnusable: there is no place for the file.
    """

    def __init__(self, agent: str, target: str) -> None:
        directory, _ = directory_of(agent, None, os.environ, home_directory())
        if directory is None:
            raise StateUnusable(
                "which mail was told of is kept in the home directory, and there is none: set HOME or "
                "TRISHULA_AGENT_STATE"
            )
        self._directory = directory / _FOLDER
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        self._name = f"{name}.json"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(self._directory / f"{name}.lock")
        except FileHeld as held:
            by = f" (process {held.words.decode(errors='replace')})" if held.words.isdigit() else ""
            raise StateBusy(
                f"another trishula wake{by} wakes the same for {agent} already; end it, or leave this one out"
            ) from None
        except OSError as error:
            raise self._unusable(error) from None
        self._lock.write(str(os.getpid()).encode())

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._directory / self._name

    def read(self) -> object:
        """What was kept; ``None`` if there is nothing, or nothing that can be read: then mail is told of once more."""
        try:
            found: object = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return None
        return found

    def keep(self, value: object) -> None:
        """Have the value on the disk in place of the one before.

        Raises:
            StateUnusable: it can't be written; what was there before is.
        """
        try:
            put(self._directory, self._name, json.dumps(value).encode())
        except OSError as error:
            raise self._unusable(error) from None

    def release(self) -> None:
        """Let another process have it."""
        self._lock.release()

    def _unusable(self, error: OSError) -> StateUnusable:
        return StateUnusable(
            f"which mail was told of can't be kept in {self._directory}: {error.strerror or error}; make it writable, "
            "or set TRISHULA_AGENT_STATE"
        )
