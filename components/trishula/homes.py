"""Home directories, which a process need not have: a container's user without an entry, a service without ``HOME``.

Python says ``RuntimeError`` there, which nobody expects of a path. Whoever named every place by itself needs no home.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["expanded", "home_directory"]


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
