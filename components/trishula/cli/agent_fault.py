"""An error in an agent's own code, told to its author: their file, their line, what is wrong there.

Such an error is no bug of the command line, and it is not for a list of frames to hide where it is. The frame that is
shown is the last one of the author's own: an error that a decorator of ours raises is shown where the decorator stands,
a module that can't be imported where it is imported.
"""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

import click

import trishula
from trishula.exit_codes import Exit

__all__ = ["AgentFault", "fault_in"]

_OURS = Path(trishula.__file__).parent
_LIBRARIES = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class AgentFault(click.ClickException):
    """The agent's own file is wrong: the command line names it, and it can't be run."""

    exit_code = int(Exit.USAGE)


def fault_in(target: str, error: Exception) -> AgentFault | None:
    """What to tell the author of ``target``; ``None`` if no line of theirs has to do with the error.

    Args:
        target: what was to be run, as the command line names it.
        error: what came out of it.
    """
    what = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError) and error.filename is not None and not _is_library(error.filename):
        place = (error.filename, error.lineno or 1)
        text = _mark(error) or _line_of(*place)
    else:
        own = _own_frame(error.__traceback__)
        if own is None:
            return None
        place, text = own, _line_of(*own)
    shown = "".join(f"\n    {line}" for line in text.splitlines())
    return AgentFault(
        f"the agent {target!r} can't be run, because of an error in its own code: {what}\n"
        f"  {_short(place[0])}, line {place[1]}:{shown}\n"
        "(set TRISHULA_DEBUG=1 for the traceback)"
    )


def _own_frame(frames: TracebackType | None) -> tuple[str, int] | None:
    """File and line of the last frame that is neither ours nor a library's."""
    own = [
        (frame.filename, frame.lineno or 1) for frame in traceback.extract_tb(frames) if not _is_library(frame.filename)
    ]
    return own[-1] if own else None


def _is_library(filename: str) -> bool:
    path = Path(filename)
    # Of what Python brings along in itself, such as <frozen importlib>, nobody has a file to mend.
    return filename.startswith("<") or any(path.is_relative_to(place) for place in (_OURS, *_LIBRARIES))


def _line_of(filename: str, number: int) -> str:
    return linecache.getline(filename, number).strip()


def _mark(error: SyntaxError) -> str:
    """The line as it stands in the file, with a mark under the place."""
    line = (error.text or "").rstrip("\n")
    stripped = line.lstrip()
    if not stripped:
        return ""
    offset = (error.offset or 1) - 1 - (len(line) - len(stripped))
    return f"{stripped}\n{' ' * offset}^" if 0 <= offset <= len(stripped) else stripped


def _short(filename: str) -> str:
    """The file as somebody in this directory would name it."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
