"""Why a node could not start: one text from the node to the command that started it, by way of a small file.

Crossbar stands between the two. The command starts Crossbar's controller, the controller starts a worker, and the node
is a component within the worker. When the node gives up, the controller ends with an exit code that says nothing, and
the controller hands none of the command's open pipes on to its worker. What does reach the worker is the environment:
the command names a file there (:data:`FAILURE_FILE`), the node writes into the file why it gives up
(:func:`write_failure`), and the command reads the file once the processes have ended (:func:`take_failure`).

A node that is started by ``crossbar start`` finds no file named, and says why it gives up in Crossbar's log alone.

Rejected: to look for the text in the log. Whatever clients make Crossbar write stands there too, and could be taken for
the node's own words.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["FAILURE_FILE", "take_failure", "write_failure"]

#: The environment variable in which whoever starts a node's processes names the file, by its absolute path.
FAILURE_FILE = "TRISHULA_FAILURE_FILE"


def write_failure(why: str, environment: Mapping[str, str]) -> None:
    """Say why this node gives up, to whoever asked for that; on the disk when this returns.

    Args:
        why: one sentence, or several lines.
        environment: of this process.
    """
    path = environment.get(FAILURE_FILE)
    if not path:
        return
    # A disk that takes no file is no reason to stay: the log says it too.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(f"{why}\n")
            file.flush()
            os.fsync(file.fileno())


def take_failure(path: Path) -> str | None:
    """What a node that has ended said, and remove the file; ``None`` if the node said nothing."""
    why = ""
    with contextlib.suppress(OSError):
        why = path.read_text(encoding="utf-8", errors="replace").strip()
        path.unlink()
    return why or None
