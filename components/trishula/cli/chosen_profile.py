"""The profile that was chosen on this machine: its name and the one before, in a file beside the profiles.

The command line uses it where neither ``--profile`` nor ``TRISHULA_PROFILE`` names one. Programs don't, nor does
``trishula agent run``: an agent must not become another one at its next start because somebody chose a profile in a
terminal. Nor does ``trishula bench``, which loads a bus with messages.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from trishula.homes import home_directory

__all__ = ["NAME_RULE", "Chosen", "choose", "complete_profile", "is_profile_name", "profiles_in", "read_chosen"]

_FILE = "chosen-profile.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
NAME_RULE = "letters, digits, and '_', '-' or '.' behind the first of them, at most 63"

#: The name of the profile, and of the one before; ``None`` where there is none.
Chosen = tuple[str | None, str | None]


def is_profile_name(name: object) -> bool:
    """Whether it can be a profile's name: it never leads out of the folder of profiles."""
    return isinstance(name, str) and _NAME.match(name) is not None


def profiles_in(folder: Path) -> list[str]:
    """The names of the TOML files there, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml") if is_profile_name(path.stem))


def complete_profile(ctx: object, param: object, incomplete: str) -> list[str]:
    """The names of profiles that begin so, for a shell that completes a command line."""
    home = home_directory()
    found = [] if home is None else profiles_in(home / ".config" / "trishula")
    return [name for name in found if name.startswith(incomplete)]


def read_chosen(folder: Path) -> Chosen:
    """What was chosen; a file that is not there, or that somebody has spoilt, chooses nothing."""
    try:
        told = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, None
    if not isinstance(told, dict):
        return None, None
    name, previous = (told.get(key) for key in ("profile", "previous"))
    return name if is_profile_name(name) else None, previous if is_profile_name(previous) else None


def choose(folder: Path, name: str) -> None:
    """Remember a profile, and which one it was before; whoever reads meanwhile sees the one or the other.

    Raises:
        OSError: it can't be written.
    """
    before, _ = read_chosen(folder)
    previous = read_chosen(folder)[1] if before == name else before
    # mkstemp makes it 0600.
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{_FILE}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"profile": name, "previous": previous}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / _FILE)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
