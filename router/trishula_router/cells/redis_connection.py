"""A road's connection to the Redis that joins the cells: made when it is used, and thrown away after a fault.

Each step waits for :data:`TIMEOUT_S` at most. Behind a Sentinel the connection after a fault goes to whichever Redis is
the master then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula_router.cells.road import RoadFailed
from trishula_router.redis_client import connect, connect_by_sentinel, sentence_of
from trishula_router.settings.cells import CellOptions

if TYPE_CHECKING:
    import redis

__all__ = ["TIMEOUT_S", "RedisConnection", "carry_out"]

TIMEOUT_S = 5.0


class RedisConnection:
    """See the module's docstring.

    Args:
        options: with ``redis``.
        base: the state directory, where relative paths start.
    """

    def __init__(self, options: CellOptions, base: Path) -> None:
        self._options = options
        self._base = base
        self._client: redis.Redis | None = None

    @property
    def where(self) -> str:
        """Host and port, or the sentinels; no user."""
        options = self._options
        if options.sentinels:
            return f"{options.sentinel_master} of {', '.join(options.sentinels)}"
        return f"{options.address.host}:{options.address.port}"

    def client(self) -> redis.Redis:
        """The client; within :meth:`step`, for it may have to ask the sentinels."""
        if self._client is None:
            options = self._options
            by: tuple[Any, ...] = options.address, options.redis_password, options.redis_ca, self._base
            self._client = (
                connect_by_sentinel(
                    *by,
                    timeout_s=TIMEOUT_S,
                    sentinels=options.sentinel_addresses,
                    master=options.sentinel_master,
                )
                if options.sentinels
                else connect(*by, timeout_s=TIMEOUT_S)
            )
        return self._client

    @contextlib.contextmanager
    def step(self, close: Callable[[], object]) -> Iterator[None]:
        """Make a :class:`.road.RoadFailed` of what goes wrong meanwhile.

        Args:
            close: the road's own, called first; it calls :meth:`close`.
        """
        try:
            yield
        except Exception as error:
            close()
            why = sentence_of(error, "cells.redis_password", TIMEOUT_S)
            if why is None:
                raise
            raise RoadFailed(why) from None

    def close(self) -> None:
        """Throw the connection away; the next step makes another one."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()


def carry_out(pipeline: Any) -> None:
    """Carry a pipeline out; raise the first fault in it.

    Left to itself it would put the beginning of what was sent into the fault's text.
    """
    fault = next((one for one in pipeline.execute(raise_on_error=False) if isinstance(one, Exception)), None)
    if fault is not None:
        raise fault
