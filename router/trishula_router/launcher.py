"""Crossbar's processes as ``trishula node start`` runs them: they don't outlive it, and they start faster.

``python -m trishula_router.launcher start --cbdir …`` is Crossbar's controller; the arguments are those of
``crossbar``. Its standard input is a pipe to which nobody writes: the pipe ends when the process that holds its other
end does, however that came about, ``kill -9`` included. Then the whole process group is killed, which is the controller
and its workers. Rejected: ``prctl(PR_SET_PDEATHSIG)``, which is Linux only, reaches the controller and not its workers,
and is lost when the parent dies before the call.

``python -m trishula_router.launcher -u -m crossbar.worker.main …`` is a worker: the controller starts its
workers with these arguments and whatever program the worker's option ``python`` names (:func:`worker_program`).

Most of a node's start is Crossbar's imports, in each of the two processes. More than half of that goes without a change
in what they do: see :func:`_import_quickly` and :mod:`trishula_router.late_imports`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import runpy
import shlex
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType

from trishula_router.late_imports import import_late
from trishula_router.privacy import keep_private
from trishula_router.process_log import LOG_FILE, LogFile, for_controller, for_worker

__all__ = ["allow_files", "descriptors_left", "main", "worker_program"]

_WORKER_MODULE = "crossbar.worker.main"
_LOGGING = "crossbar._logging"
#: Set in the environment of a process that imports everything as it comes.
_PLAINLY = "TRISHULA_PLAIN_IMPORTS"
#: How many objects more than were freed make the collector look. A call of 128 messages makes thousands, nearly all
#: freed by their count; with Python's 700 the collector ran several times a call, at some 8 % of the throughput.
#: Everybody waits while it looks: 10 to 20 ms for the 20,000 that floods of requests leave behind, 6 ms for these.
_COLLECT_AFTER_OBJECTS = 10_000
#: After how many such rounds the next one is over all that is young too, and after how many of those over what is not
#: frozen (:mod:`trishula_router.old_objects`). So each looks at 20,000 and at 40,000 objects at most; with Python's 10
#: and 10 there were pauses of 60 and of 170 ms, with 2 and 3 of 80.
_OLDER_AFTER_ROUNDS = (1, 1)
#: Each connection is an open file, and many systems let a program have 1024 unless it asks for more. The second number
#: is what macOS gives at most.
_OPEN_FILES = (65_536, 10_240)


#: For the C library's allocator, unless the environment says otherwise. Blocks from 2 MiB on are taken from the
#: system, and go back to it when they are freed: by default that bound grows with the first large block that is freed,
#: to 32 MiB, and then a node keeps what the largest messages of its life took. With 128 KiB each copy of a message of
#: 1 MiB, of which a dozen are made on its way, was paid for page by page: 14 ms of the worker for a message, and 9 so.
#: More arenas than one for the reactor and one for the store's threads would each keep its own.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "2097152", "MALLOC_TRIM_THRESHOLD_": "8388608", "MALLOC_ARENA_MAX": "2"}


def worker_program() -> str:
    """The text of a program that runs a worker through this module.

    A shell script, because Crossbar wants one absolute path, and a ``#!`` line takes neither a space nor a long path;
    and because the allocator reads its settings before Python begins.
    """
    command = shlex.join([sys.executable, "-u", "-m", "trishula_router.launcher"])
    settings = "".join(f'export {name}="${{{name}:-{value}}}"\n' for name, value in _ALLOCATOR.items())
    return f'#!/bin/sh\n# Written by "trishula node start"; see {__name__}.\n{settings}exec {command} "$@"\n'


def main() -> None:
    """Become the controller or a worker, as the arguments of this process say."""
    keep_private()
    allow_files()
    if _WORKER_MODULE in sys.argv:
        _import_quickly()
        for_worker(importlib.import_module(_LOGGING))
        # What python -m would do with the arguments behind the module's name.
        del sys.argv[1 : sys.argv.index(_WORKER_MODULE) + 1]
        runpy.run_module(_WORKER_MODULE, run_name="__main__", alter_sys=True)
        return
    # The leader of its own group, or killing the group would kill somebody else.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, name="parent-watch", daemon=True).start()
    if os.environ.get(LOG_FILE):
        log = LogFile(Path(os.environ[LOG_FILE]))
        threading.Thread(target=log.follow, name="log-file", daemon=True).start()
    crossbar = _import_quickly()
    for_controller(importlib.import_module(_LOGGING), os.environ)
    sys.argv[0] = "crossbar"
    crossbar.run()


def allow_files() -> None:
    """Let this process and its children have as many open files as the system lets them, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for count in _OPEN_FILES:
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return


def descriptors_left() -> int:
    """How many files this process can open beside those that it has."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Without a limit there are as many as anybody can use.
    return (_OPEN_FILES[0] if most == resource.RLIM_INFINITY else most) - len(os.listdir("/dev/fd"))


def _die_with_parent() -> None:
    try:
        while os.read(0, 1):
            pass
    except OSError:
        pass
    os.killpg(0, signal.SIGKILL)


def _import_quickly() -> ModuleType:
    """Import Crossbar.

    Without the collector, which would look at half a million new objects again and again and free none. They are then
    frozen: they live as long as the process, and the collector's later rounds, each a pause for all agents, skip them.
    """
    gc.disable()
    if _PLAINLY not in os.environ:
        import_late()
    try:
        crossbar = importlib.import_module("crossbar")
    except Exception:
        if _PLAINLY in os.environ:
            raise
        # A release of a package that uses it otherwise: begin again without the trick, as the same process.
        os.environ[_PLAINLY] = "1"
        os.execv(sys.executable, [sys.executable, "-u", "-m", __spec__.name, *sys.argv[1:]])
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, *_OLDER_AFTER_ROUNDS)
    gc.enable()
    return crossbar


if __name__ == "__main__":
    main()
