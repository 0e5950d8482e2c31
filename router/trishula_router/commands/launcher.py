"""Crossbar's controller, in a process that does not outlive ``trishula node start``.

Run as ``python -m trishula_router.commands.launcher start --cbdir …``; the arguments are those of ``crossbar``. Its
standard input is a pipe to which nobody writes: the pipe ends when the process that holds its other end does, however
that came about, ``kill -9`` included. Then the whole process group is killed, which is the controller and its workers.

Rejected: ``prctl(PR_SET_PDEATHSIG)``, which is Linux only, reaches the controller and not its workers, and is lost when
the parent dies before the call.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

__all__ = ["main"]


def _die_with_parent() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Start Crossbar with the arguments of this process."""
    # The leader of its own group, or killing the group would kill somebody else.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()
    import crossbar

    sys.argv[0] = "crossbar"
    crossbar.run()


if __name__ == "__main__":
    main()
