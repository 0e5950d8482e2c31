"""What a node keeps is its owner's alone: modes 0600 and 0700 for all that it writes, from the first byte on.

What agents say to each other stands in the store, and the hashes of their tokens beside it. So the processes of a node
and of the commands around it make files that nobody else may open (:func:`keep_private`), and a state directory into
which others may look is refused with the command that mends it: whoever opened it may have meant to, and a node that
went on would hide it. A directory with nothing in it is only closed. Files of earlier releases, which were made with
whatever mode the shell gives, are closed as well (:func:`close_files`): nothing but the directory was between them and
others.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NotPrivate", "check_directory", "close_files", "keep_private"]

#: What group and others may do.
_OTHERS = 0o077
#: The names of a node's files begin so; the file of agents has a check of its own, which does not mend.
_OURS = ("node.", "store.", "restored")
#: A node's directories in its state directory.
_DIRECTORIES = ("crossbar", "attachments", "proxy")
#: Crossbar gives its public key mode 0644 at each start: nobody has left it open, and nobody needs to be told.
_PUBLIC_KEY = Path("crossbar", "key.pub")


class NotPrivate(Exception):
    """Others may look into the state directory, or change it; the text says what to do."""


def keep_private() -> int:
    """Let nobody else open what this process makes from now on; the mask of before."""
    return os.umask(_OTHERS)


def check_directory(state_dir: Path) -> None:
    """Find out whether a state directory is its owner's alone; one that is empty is made so.

    Raises:
        NotPrivate: it is not.
        OSError: it can't be looked at.
    """
    status = state_dir.stat()
    mode = stat.S_IMODE(status.st_mode)
    shown = shlex.quote(str(state_dir))
    if status.st_uid != os.geteuid():
        raise NotPrivate(
            f"the state directory {state_dir} belongs to another user (uid {status.st_uid}), who can read and change "
            f"what a node keeps in it; run the command as that user, or run: chown -R {os.geteuid()} {shown}"
        )
    if not mode & _OTHERS:
        return
    if not any(state_dir.iterdir()):
        state_dir.chmod(mode & ~_OTHERS)
        return
    raise NotPrivate(
        f"the state directory {state_dir} has mode {mode:04o}, so that others on this machine can look into it, and "
        f"what agents say to each other is in it; run: chmod go-rwx {shown}"
    )


def close_files(state_dir: Path) -> list[str]:
    """Close the files of a node that others may open; the names of those that should not have been open.

    Raises:
        NotPrivate: some are another user's.
    """
    closed = []
    for path in _files(state_dir):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)) or not mode & _OTHERS:
            continue
        try:
            path.chmod(mode & ~_OTHERS)
        except OSError:
            shown = shlex.quote(str(path))
            raise NotPrivate(
                f"{path} has mode {mode:04o} and belongs to another user (uid {status.st_uid}), so that others on this "
                f"machine can open it; as root run: chown {os.geteuid()} {shown} && chmod go-rwx {shown}"
            ) from None
        name = path.relative_to(state_dir)
        if name != _PUBLIC_KEY:
            closed.append(str(name))
    return closed


def _files(state_dir: Path) -> Iterator[Path]:
    for path in sorted(state_dir.iterdir()):
        if path.name.startswith(_OURS):
            yield path
        elif path.name in _DIRECTORIES and path.is_dir() and not path.is_symlink():
            yield path
            yield from sorted(path.iterdir())
