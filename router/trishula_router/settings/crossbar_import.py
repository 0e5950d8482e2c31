"""Crossbar's own modules in a command: imported without what their import does to a process that is no node.

The import takes 2 s, so only the commands that can't do without import Crossbar, when they run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["importing_crossbar"]

_TERMINAL = "/dev/tty"


@contextlib.contextmanager
def importing_crossbar() -> Iterator[None]:
    """Within this, import what is needed of Crossbar.

    Crossbar's import does two things that are undone here, or kept from it:

    * It raises Python's recursion limit to 100,000 (in py_ecc). The deep nesting of the next file that the command
      reads would then end the process, instead of being told as a fault.
    * It writes an empty line to the terminal, past all redirections, to find out whether there is one. Each command
      would begin with it. So for the time of the import there is no terminal. Rejected: an import in a process without
      a terminal, for which everybody would wait another 2 s.
    """
    import txaio

    txaio.use_twisted()
    recursion_limit, exists = sys.getrecursionlimit(), os.path.exists
    os.path.exists = lambda path: path != _TERMINAL and exists(path)
    try:
        yield
    finally:
        os.path.exists = exists
        sys.setrecursionlimit(recursion_limit)
