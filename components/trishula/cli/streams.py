"""Standard output and standard error, as terminals and pipes are: of any encoding, shut, full, or gone.

:func:`prepare` is called once, by the program itself: from then on no character and no slow reader ends a command.
:func:`end` is for what can't be helped: it says why nothing more can be written there.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import traceback
from typing import TextIO

from trishula.cli.words import is_unicode

__all__ = ["end", "is_of_output", "prepare"]

_ERRORS = "trishula-words"
#: The modules that write to the streams, and open no file.
_WRITERS = frozenset(
    {"rich.console", "click.utils", "trishula.cli.inbox", "trishula.cli.main", "trishula.cli.state", "__main__"}
)
#: What our own sentences and tables have besides ASCII, for terminals that don't.
_SPELT = str.maketrans({"–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "·": "-", "’": "'", "“": '"', "”": '"'})


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    # An escape shows which character it was; a question mark would not.
    return "".join(
        spelt if (spelt := char.translate(_SPELT)).isascii() else ascii(char)[1:-1] for char in text
    ), error.end


def prepare() -> None:
    """Let both streams write every character in some way, and wait for a reader that is slow."""
    codecs.register_error(_ERRORS, _spell)
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and not is_unicode(stream):
            reconfigure(errors=_ERRORS)
        # A parent, such as Node.js, may have set its pipe to refuse what doesn't fit; Python would lose that.
        with contextlib.suppress(OSError, ValueError):
            os.set_blocking(stream.fileno(), True)


def is_of_output(error: OSError) -> bool:
    """Whether an error came out of a write to one of the streams: from where the command line writes, and nothing else.

    To ask the stream itself would not do: what it couldn't write may be gone from it.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__") in _WRITERS


def end(stream: TextIO | None) -> None:
    """Send what is still to be written there to nowhere: Python would complain once more when it flushes at its end."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
