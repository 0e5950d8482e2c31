"""A scrape: reads a node at most once a second, whoever asks how often, and gives all the same text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from trishula.errors import TrishulaError
from trishula_router.metrics import figures, mailboxes
from trishula_router.metrics.exposition import text_of
from trishula_router.settings.certificate_end import CertificateEnd

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["Scrape"]

#: For so long an answer is given again. Who scrapes for monitoring does so every 5 to 60 s.
_FRESH_S = 1.0
#: Whoever scrapes waits for 10 s, as Prometheus does, and is to get all that doesn't come from a disk that hangs.
_PATIENCE_S = 4.0


class Scrape:
    """The scrapes of one node.

    Args:
        node: what is read.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # Where "trishula node start" writes it.
        self._certificate_ends_at = CertificateEnd(node.config.state_dir / "crossbar" / "config.json", node.now)
        self._text = b""
        self._read_s: float | None = None
        self._waiting: list[Deferred[bytes]] | None = None

    def text(self) -> Deferred[bytes]:
        """The text of all metrics, at most a second old."""
        answer: Deferred[bytes] = Deferred()
        if self._read_s is not None and 0.0 <= self._node.seconds() - self._read_s < _FRESH_S:
            answer.callback(self._text)
        elif self._waiting is not None:
            self._waiting.append(answer)
        else:
            self._waiting = [answer]
            Deferred.fromCoroutine(self._read()).addBoth(self._tell)
        return answer

    async def _read(self) -> bytes:
        # mypy can't read the interfaces of zope.
        clock: Any = self._node.clock
        asked = self._node.store.oldest(mailboxes.to_date(self._node))
        try:
            oldest = await asked.addTimeout(_PATIENCE_S, clock)
        except (TrishulaError, TimeoutError):
            # A store that fails is what whoever monitors a node wants to know of; the rest can be read.
            oldest = {}
        self._text = text_of(
            (
                *figures.read(self._node),
                *mailboxes.read(self._node, oldest),
                *figures.of_certificate(self._certificate_ends_at()),
            )
        )
        self._read_s = self._node.seconds()
        return self._text

    def _tell(self, outcome: bytes | Failure) -> None:
        waiting, self._waiting = self._waiting or [], None
        for one in waiting:
            one.callback(outcome)
