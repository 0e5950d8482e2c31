"""The router's part of a canary's way: a procedure of the node's own that gives back what it is handed."""

from __future__ import annotations

from typing import Any

from autobahn.wamp.exception import ApplicationError, TransportLost

from trishula.contract import uris
from trishula.errors import NodeFailed

__all__ = ["RoundTrip"]


class RoundTrip:
    """Calls through the router and back.

    Args:
        session: the node's, which registers the procedure and calls it.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    async def offer(self) -> None:
        """Register the procedure."""
        await self._session.register(_give_back, uris.CANARY)

    async def __call__(self, told: Any) -> Any:
        """Hand something over to the router, and give what came back.

        Raises:
            NodeFailed: the router doesn't bring it back, as one that is about to end. That is no bug of the node's: a
                traceback in its log would hide the reason for which the router ends, which is told from there.
        """
        try:
            return await self._session.call(uris.CANARY, told)
        except (ApplicationError, TransportLost) as error:
            said = next(iter(error.args), type(error).__name__)
            raise NodeFailed(f"the router does not bring it back ({said}); restart the node") from error


def _give_back(told: Any) -> Any:
    return told
