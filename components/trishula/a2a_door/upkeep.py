"""What the door does again and again, whatever becomes of it: one failure must not be the end of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from trishula.errors import TrishulaError

__all__ = ["repeat"]

_log = logging.getLogger("trishula")


async def repeat(every_s: float, *works: Callable[[], Awaitable[object]]) -> None:
    """Do works in turn, with a rest before each round, until this is cancelled.

    A work that raises is logged and done again in the next round: with its traceback, unless the bus is the reason.
    """
    while True:
        await asyncio.sleep(every_s)
        for work in works:
            try:
                await work()
            except TrishulaError as error:
                _log.info("The door's upkeep is done later: %s", error)
            except Exception:
                _log.exception("The door's upkeep failed; it goes on")
