"""The canaries of a node: a message goes through it every few seconds, and is timed.

One takes the store a commit of one page (4 KiB), which is written over again each time: at one each :data:`PERIOD_S`
that is 24 MB a day of writing to the disk, and no growth of the files, because the write-ahead log has a bound.
:mod:`.lane` says what it proves.
"""

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import NodeFailed, TrishulaError
from trishula_router.health.lane import ThroughRouter, send_canary
from trishula_router.health.trial import Trial
from trishula_router.node import Node

__all__ = ["PERIOD_S", "Canaries"]

log = Logger()

#: Between two, and after one that failed: so soon it is seen that the fault is gone.
PERIOD_S, AGAIN_S = 15.0, 2.0


class Canaries:
    """Sends them.

    Args:
        node: through which they go.
        through: calls the router.

    Attributes:
        trial: of the whole way.
        proof: of the store's part of it.
    """

    def __init__(self, node: Node, through: ThroughRouter) -> None:
        self.trial = Trial()
        self.proof = Trial()
        self._node = node
        self._through = through
        self._number = 0
        self._is_logged = False

    def begin(self) -> None:
        """Send the first one, and go on until the node stops."""
        Deferred.fromCoroutine(self._fly())

    async def _fly(self) -> None:
        node, trial = self._node, self.trial
        self._number += 1
        trial.begin(node.clock.seconds())
        fault = await self._told(send_canary(node, self._number, self._prove, self._through))
        if fault is None:
            trial.passed(node.clock.seconds())
        else:
            trial.failed(fault)
        if not node.is_stopping:
            node.clock.callLater(PERIOD_S if fault is None else AGAIN_S, self.begin)

    async def _prove(self, text: str) -> None:
        self.proof.begin(self._node.clock.seconds())
        fault = await self._told(self._written(text))
        if fault is not None:
            self.proof.failed(fault)
            raise NodeFailed(fault)
        self.proof.passed(self._node.clock.seconds())

    async def _written(self, text: str) -> None:
        if await self._node.store.prove(text) != text:
            raise NodeFailed("the store reads back something else than was written; stop the node and look at the disk")

    async def _told(self, attempt: Awaitable[None]) -> str | None:
        """Why an attempt failed; ``None`` if it did not."""
        try:
            await attempt
        except TrishulaError as error:
            return error.sentence
        except Exception:
            if not self._is_logged and not self._node.is_stopping:
                # Once: it comes every two seconds.
                self._is_logged = True
                log.failure("a message of the node to itself failed")
            return "the node's code failed at it, and its log says where; restart the node"
        return None
