"""``/metrics``: what a node measures, for Prometheus. For operators and for who asks on this machine, nobody else.

The answer needs a word of the store's reader, so it may come a moment later than the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from trishula_router.endpoints import running
from trishula_router.endpoints.page import Answer, Page
from trishula_router.endpoints.visitors import why_stranger
from trishula_router.metrics.exposition import CONTENT_TYPE
from trishula_router.metrics.scrape import Scrape

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["MetricsPage"]

log = Logger()

_PLAIN = b"text/plain; charset=utf-8"
_FOR_OPERATORS = (
    "metrics are for operators, observers and who asks on the node's own machine over loopback; send a token of "
    "theirs: Authorization: Bearer name.secret (Prometheus: authorization.credentials_file)"
)
_NO_NODE = b"the node has not started yet, or is gone; its log node.log says how far it is\n"
_FAILED = b"the metrics could not be read; the node's log says why\n"


class MetricsPage(Page):
    """The text of all metrics."""

    def __init__(self, extra: object = None) -> None:
        super().__init__(extra)
        self._scrapes: tuple[Node, Scrape] | None = None

    def render(self, request: Any) -> bytes | int:
        """Answer a request, as Twisted calls it: now, or when the node was read."""
        node = running.node()
        if request.method != b"GET" or node is None:
            return super().render(request)
        if (why := why_stranger(request, node)) is not None:
            return self.say(request, _refusal(why))
        if self._scrapes is None or self._scrapes[0] is not node:
            self._scrapes = node, Scrape(node)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def tell(outcome: bytes | Failure) -> None:
            if isinstance(outcome, Failure):
                log.failure("the metrics could not be read", failure=outcome)
                said = Answer(_FAILED, _PLAIN, 500)
            else:
                said = Answer(outcome, CONTENT_TYPE)
            if not gone:
                request.write(self.say(request, said))
                request.finish()

        self._scrapes[1].text().addBoth(tell)
        return NOT_DONE_YET

    def answer(self, request: Any) -> Answer:
        """To a HEAD, and while there is no node."""
        node = running.node()
        why = why_stranger(request, node)
        if node is None:
            return Answer(_NO_NODE, _PLAIN, 503)
        if why is None:
            return Answer(b"", CONTENT_TYPE)
        return _refusal(why)


def _refusal(why: str) -> Answer:
    """Why somebody gets no metrics; ``why`` is empty of one who claimed nothing."""
    return Answer(f"{why or _FOR_OPERATORS}\n".encode(), _PLAIN, 401, ((b"www-authenticate", b"Bearer"),))
