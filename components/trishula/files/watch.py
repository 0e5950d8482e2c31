"""Tells when something changes in a directory, as far as its file system tells: inotify and its like, by watchdog.

It is a hint, and no more. Over NFS, in some containers and where a directory was moved away, no word comes; so whoever
uses this looks by himself every few seconds too, and asks for the watch anew by then (:meth:`Watch.renew`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trishula.distribution import INSTALL_FILES

__all__ = ["Watch"]

_log = logging.getLogger("trishula")

#: Not those that reading itself causes: a scan would cause the next one.
_CHANGES = ("created", "moved", "modified", "closed")
_JOIN_S = 5.0


class Watch:
    """See the module's docstring. Its methods block for a moment, and belong to one thread at a time.

    Args:
        directory: what is watched, without what is below.
        changed: called in a thread of the watch's own: it must do next to nothing.
    """

    def __init__(self, directory: Path, changed: Callable[[], object]) -> None:
        self._directory = directory
        self._changed = changed
        self._observer: Any = None
        self._watched: tuple[int, int] | None = None
        self._has_complained = False

    def renew(self) -> None:
        """Begin to watch, if it is not watched, or if another directory has taken its place (a disk was mounted)."""
        try:
            status = os.stat(self._directory)
        except OSError:
            self.stop()
            return
        if self._watched == (status.st_dev, status.st_ino) and self._observer.is_alive():
            return
        self.stop()
        try:
            self._observer = self._begun()
        except ImportError:
            self._complain(f"watchdog is not installed: {INSTALL_FILES}")
        except OSError as error:
            # Most often inotify's limits.
            self._complain(str(error.strerror or error))
        else:
            self._watched = status.st_dev, status.st_ino

    def stop(self) -> None:
        """Watch no more."""
        observer, self._observer, self._watched = self._observer, None, None
        if observer is not None:
            observer.stop()
            observer.join(_JOIN_S)

    def _begun(self) -> Any:
        # Late: it is an extra.
        from watchdog.events import FileSystemEventHandler
        from watchdog.observers import Observer

        changed = self._changed

        class Heard(FileSystemEventHandler):
            def on_any_event(self, event: Any) -> None:
                if event.event_type in _CHANGES and not event.is_directory:
                    changed()

        # On a directory that goes, and at our own stop, it tells of its threads as of errors.
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)
        observer = Observer()
        observer.schedule(Heard(), str(self._directory))
        observer.start()
        return observer

    def _complain(self, reason: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning("%s can't be watched (%s); it is looked at every few seconds", self._directory, reason)
