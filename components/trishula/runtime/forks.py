"""What ``fork`` leaves behind: it copies a process without the thread of its reactor.

A verb in the child would wait for that thread until its time is over, and the child's socket is the parent's. So the
child is told at once, by :func:`check_process` and :func:`check_reactor`.
"""

from __future__ import annotations

import os
import threading

from trishula.errors import BusUnreachable

__all__ = ["check_process", "check_reactor"]

_ADVICE = (
    "and a connection can't be shared: join in the child before the parent does, or start the child anew (with "
    'multiprocessing: get_context("spawn"))'
)


def check_process(pid: int) -> None:
    """Refuse to use in a forked child what the process ``pid`` has joined.

    Raises:
        BusUnreachable: this is another process.
    """
    if os.getpid() != pid:
        raise BusUnreachable(
            f"process {os.getpid()} was forked from process {pid} after that had joined the bus, {_ADVICE}"
        )


def check_reactor() -> None:
    """Refuse to hand work over to a reactor that runs in the parent alone.

    Raises:
        BusUnreachable: its thread is not in this process.
    """
    # Late: Twisted takes its time, and a program that has no reactor yet never comes here.
    from twisted.python import threadable

    if threadable.ioThread not in {thread.ident for thread in threading.enumerate()}:
        raise BusUnreachable(f"process {os.getpid()} was forked from one that runs an agent, {_ADVICE}")
