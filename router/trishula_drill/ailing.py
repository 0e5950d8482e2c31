"""The router worker of a drill's node, with a disk and a clock that the drill makes ill.

``python -m trishula_drill.ailing DIALS ARGUMENTS`` puts the illness into its own process, then is
:mod:`trishula_router.launcher` with the arguments. A drill's
configuration names it as the worker's ``python``, a program that Crossbar lets an operator choose: the node itself is
the one of every day, with nothing in it that knows of drills.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path

from trishula_drill.ailing_disk import NoWayIn, use_ailing_disk
from trishula_drill.dials import Dials, use_stepping_clock

__all__ = ["ailing_worker_program", "main"]


def ailing_worker_program(dials: Path) -> str:
    """The text of a program that runs a worker through this module; see :func:`..launcher.worker_program`."""
    command = shlex.join([sys.executable, "-u", "-m", __name__, str(dials)])
    return f'#!/bin/sh\nexec {command} "$@"\n'


def main() -> None:
    """Fall ill, then become the worker."""
    dials = Dials(Path(sys.argv.pop(1)))
    use_stepping_clock(dials)
    # Without it clocks can be set all the same; the drill that needs it has looked before.
    with contextlib.suppress(NoWayIn):
        use_ailing_disk(dials)
    # Only now: what it imports takes the clock by name.
    from trishula_router import launcher

    launcher.main()


if __name__ == "__main__":
    main()
