"""What becomes of the links of a node, on record: in its journal, and in its log where the links don't write there.

Each record of the kind ``link`` has ``{peer, event, detail, more?}``:

============  ==================================================================
``event``     when
============  ==================================================================
``proven``    a peer proved its key; ``detail``: whether this node did so too
``up``        the link carries; ``detail``: who made it
``refused``   one of the two nodes refused it; ``detail``: why
``replaced``  a new link took the place of one that had gone silent
``down``      it carries no more; ``detail``: why, where that is known
============  ==================================================================

Who is refused may come again at once, and who has a peer's key may come and go: events beyond a few are counted
(``more``), for each kind of them and each peer, and for all strangers together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger, LogLevel

from trishula_router.peers.link_standing import LinkStandings
from trishula_router.store.facts import LinkFacts
from trishula_router.store.journal import Kind
from trishula_router.token_bucket import Rate, TokenBucket

__all__ = ["LinkRecords"]

log = Logger()

#: Events of one kind and one peer that are on record one by one: so many at once, and one in so many seconds.
_NOTED = 10
_NOTED_PER_S = 0.1
#: Under what those are who named no key that this node knows.
_STRANGER = "a stranger"
_DETAIL_LETTERS = 500
_SENTENCES = {
    "proven": "{peer} proved its key: {detail}{more}",
    "up": "a link of {peer} carries: {detail}{more}",
    "down": "a link of {peer} is over: {detail}{more}",
    "replaced": "the link of {peer} was replaced: {detail}{more}",
    "refused": "no link to {peer}: {detail}{more}",
}


class LinkRecords:
    """Writes down what becomes of links.

    Args:
        note: writes a record.
        seconds: the clock for spans.

    Attributes:
        counts: (peer, event) → how many there were, on record or not.
    """

    def __init__(self, note: Callable[[Kind, LinkFacts], None], seconds: Callable[[], float]) -> None:
        self._note = note
        self._seconds = seconds
        self.counts: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[tuple[str, str], TokenBucket] = {}
        # Of which how many were not noted since the last one that was, and what the latest tells.
        self._more: dict[tuple[str, str], tuple[int, str]] = {}
        self._standings = LinkStandings(seconds())

    def told(self, peer: str) -> dict[str, Any]:
        """How it stands with the link to a peer: see :meth:`.link_standing.LinkStandings.told`."""
        return self._standings.told(peer, self._seconds())

    def made_here(self, peer: str) -> None:
        """This node makes the link to a peer: no record of that."""
        self._standings.made_here(peer)

    def troubled(self, peer: str, why: str) -> None:
        """An attempt of this node to make a link failed: kept for whoever asks, and no record."""
        self._standings.trouble(peer, why[:_DETAIL_LETTERS], self._seconds())

    def proven(self, peer: str, how: str) -> None:
        """A peer proved its key."""
        self._came(peer, "proven", how)

    def up(self, peer: str, how: str, *, is_logged: bool = False) -> None:
        """A link carries; whether the log has it already."""
        self._standings.up(peer, self._seconds())
        self._came(peer, "up", how, is_logged=is_logged)

    def down(self, peer: str, why: str, *, is_logged: bool = False) -> None:
        """A link carries no more; whether the log has it already."""
        self._standings.down(peer, why[:_DETAIL_LETTERS], self._seconds())
        self._came(peer, "down", why, is_logged=is_logged)

    def replaced(self, peer: str, why: str) -> None:
        """A new link took the place of an old one."""
        self._came(peer, "replaced", why)

    def refused(self, peer: str | None, why: str) -> None:
        """A link was refused; of a peer, or of a stranger (``None``)."""
        self._standings.trouble(peer, why[:_DETAIL_LETTERS], self._seconds())
        self._came(peer or _STRANGER, "refused", why)

    def flush(self) -> None:
        """Note the latest of those that were only counted, as soon as it may be: to be called now and then."""
        now_s = self._seconds()
        for key, (more, detail) in list(self._more.items()):
            if self._buckets[key].wait_s(now_s) <= 0.0:
                self._more[key] = more - 1, detail
                self._write(*key, detail)

    def _came(self, peer: str, event: str, detail: str, *, is_logged: bool = False) -> None:
        self.counts[peer, event] += 1
        self._write(peer, event, detail, is_logged=is_logged)

    def _write(self, peer: str, event: str, detail: str, *, is_logged: bool = False) -> None:
        key, now_s = (peer, event), self._seconds()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(Rate(_NOTED_PER_S, _NOTED), now_s)
        more, _ = self._more.pop(key, (0, ""))
        if bucket.wait_s(now_s) > 0.0:
            self._more[key] = more + 1, detail
            return
        bucket.take()
        also = f" ({more} more before)" if more else ""
        level = LogLevel.debug if is_logged else LogLevel.warn
        log.emit(level, _SENTENCES[event], peer=peer, detail=detail, more=also)
        self._note(Kind.LINK, LinkFacts(peer, event, detail[:_DETAIL_LETTERS], more))
