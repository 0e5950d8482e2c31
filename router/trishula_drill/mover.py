"""What moves files between the folders of a drill's agents: rsync where it is installed, else the same by hand."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from trishula.files.folder import INBOX, OUTBOX

__all__ = ["Mover"]

_EVERY_S = 0.3
_TIMEOUT_S = 30.0


class Mover:
    """A thread that moves each file from its sender's outbox to its recipient's inbox, again and again.

    Args:
        folders: agent → its folder.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._rsync = shutil.which("rsync")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.moved = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Move no more; returns when nothing is under way."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S)

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            for folder in self._folders.values():
                self._move(folder / OUTBOX)

    def _move(self, outbox: Path) -> None:
        names: dict[str, list[str]] = defaultdict(list)
        for path in sorted(outbox.glob("[!.]*.json")):
            # It may be withdrawn meanwhile, as by any other program.
            with contextlib.suppress(FileNotFoundError):
                names[json.loads(path.read_bytes())["to"]].append(path.name)
        for recipient, some in names.items():
            if recipient in self._folders:
                self._carry(outbox, self._folders[recipient] / INBOX, some)

    def _carry(self, outbox: Path, inbox: Path, names: list[str]) -> None:
        if self._rsync is not None:
            # With 23 or 24 a file was gone when its turn came.
            subprocess.run(
                [self._rsync, "--archive", "--remove-source-files", "--files-from=-", f"{outbox}/", f"{inbox}/"],
                input="\n".join(names).encode(),
                # Of a file that its agent withdrew meanwhile it says so, on either.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT_S,
                check=False,
            )
            self.moved += len(names)
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(outbox / name, inbox / f".{name}.tmp")
                (inbox / f".{name}.tmp").replace(inbox / name)
                (outbox / name).unlink()
                self.moved += 1
