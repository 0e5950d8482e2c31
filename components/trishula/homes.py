"""Home directories, which a process need not have, and the place in them for what agents keep.

A container's user without an entry has none, nor has a service without ``HOME``. Python says ``RuntimeError`` there,
which nobody expects of a path. Whoever named every place by itself needs no home.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["expanded", "home_directory", "state_directory"]


def home_directory() -> Path | None:
    """The user's home directory, or ``None`` if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def expanded(path: str) -> Path:
    """A path with ``~`` or ``~NAME`` at its beginning replaced.

    Raises:
        ValueError: the home directory that the path begins with is unknown; the sentence says so.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        owner = path.partition("/")[0]
        raise ValueError(
            f"{path!r} begins with the home directory {owner}, which is unknown here; give an absolute path"
        ) from None


def state_directory(
    state: str | os.PathLike[str] | None, environ: Mapping[str, str], home: Path | None
) -> tuple[Path | None, bool]:
    """The directory of all that agents of this machine keep, and whether somebody named the place.

    Args:
        state: the place; ``None``: ``TRISHULA_AGENT_STATE``, else ``$XDG_STATE_HOME/trishula``, else the usual one.
        environ: the environment.
        home: the home directory; without it there is no usual place, and ``None`` is the answer.

    Raises:
        ValueError: as :func:`expanded`, of the place that was named.
    """
    named = state if state is not None else environ.get("TRISHULA_AGENT_STATE") or None
    if named is not None:
        return expanded(os.fspath(named)), True
    base = environ.get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "trishula", False
    return (None if home is None else home / ".local" / "state" / "trishula"), False
