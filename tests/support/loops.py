"""Threads for what wants an asyncio loop of its own: in the tests' thread Twisted's asyncio reactor runs one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["in_own_loop", "in_own_thread"]


def in_own_thread(work: Callable[[], object]) -> None:
    """Do something in a thread of its own, and raise here what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def in_own_loop(main: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """:func:`asyncio.run`, in a thread of its own."""
    in_own_thread(lambda: asyncio.run(main()))
