"""Whose files count: each agent of a working directory knows the keys of the signatures of all the others.

``agents/AGENT/files/keys.json`` has, of each agent, the public key that its token makes. Keys are added and never taken
away, for a token that is no longer here may still sign elsewhere: whoever withdraws a token takes its key out by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trishula.files.signature import KEYS_FILE, FileKey, KnownKeys

__all__ = ["FILES_FOLDER", "add_file_keys"]

#: An agent's folder for messages as files, below its directory.
FILES_FOLDER = "files"


def add_file_keys(directory: Path, agents: Iterable[str]) -> dict[str, bool]:
    """Have each agent know the keys of all; each file's path below ``directory``, and whether it was made or added to.

    Args:
        directory: the working directory.
        agents: all of the bus; one whose directory is gone, because it is on its own machine, gets nothing here, and
            the others know the key that they knew.

    Raises:
        FolderUnusable: a file of keys can't be read or written, or is none.
        OSError: a token can't be read, or a folder can't be made.
    """
    here = [agent for agent in agents if (directory / "agents" / agent).is_dir()]
    files = {agent: directory / "agents" / agent / FILES_FOLDER / KEYS_FILE for agent in here}
    keys: dict[str, dict[bytes, None]] = {}
    for agent in here:
        for other, known in KnownKeys(files[agent]).agents().items():
            keys.setdefault(other, {}).update(dict.fromkeys(known))
        token = directory / "agents" / agent / f"{agent}.token"
        if token.exists():
            keys.setdefault(agent, {})[FileKey.from_token(token.read_text().strip()).public] = None
    changed = {}
    for file in files.values():
        file.parent.mkdir(mode=0o700, exist_ok=True)
        changed[str(file.relative_to(directory))] = KnownKeys(file).trust_all(keys)
    return changed
