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

Who is refused may come again at once, and a stranger as often as it likes: refusals beyond a few are counted
(``more``), for each peer, and for all strangers together. Only who has a peer's key can make the others happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from trishula_router.journal import Kind
from trishula_router.rates import Rate, TokenBucket

__all__ = ["LinkRecords"]

log = Logger()

#: Refusals of one peer that are on record one by one: so many at once, and one in so many seconds.
_NOTED = 5
_NOTED_PER_S = 0.1
#: Under what those are who named no key that this node knows.
_STRANGER = "a stranger"
_DETAIL_LETTERS = 500


class LinkRecords:
    """Writes down what becomes of links.

    Args:
        note: writes a record.
        seconds: the clock for spans.
    """

    def __init__(self, note: Callable[[Kind, Mapping[str, Any]], None], seconds: Callable[[], float]) -> None:
        self._note = note
        self._seconds = seconds
        self._buckets: dict[str, TokenBucket] = {}
        # Of whom how many were not noted since the last one that was, and the reason of the latest.
        self._more: dict[str, tuple[int, str]] = {}

    def proven(self, peer: str, how: str) -> None:
        """A peer proved its key."""
        log.info("{peer} proved its key; {how}", peer=peer, how=how)
        self._write(peer, "proven", how)

    def up(self, peer: str, how: str) -> None:
        """A link carries."""
        self._write(peer, "up", how)

    def down(self, peer: str, why: str) -> None:
        """A link carries no more."""
        self._write(peer, "down", why)

    def replaced(self, peer: str, why: str) -> None:
        """A new link took the place of an old one."""
        log.warn("the link of {peer} was replaced: {why}", peer=peer, why=why)
        self._write(peer, "replaced", why)

    def refused(self, peer: str | None, why: str) -> None:
        """A link was refused; of a peer, or of a stranger (``None``)."""
        name, now_s = peer or _STRANGER, self._seconds()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = TokenBucket(Rate(_NOTED_PER_S, _NOTED), now_s)
        more, _ = self._more.pop(name, (0, ""))
        if bucket.wait_s(now_s) > 0.0:
            self._more[name] = more + 1, why
            return
        bucket.take()
        log.warn("no link to {peer}: {why}{more}", peer=name, why=why, more=f" ({more} more before)" if more else "")
        self._write(name, "refused", why, **({"more": more} if more else {}))

    def flush(self) -> None:
        """Note the latest refusal of those that were only counted, as soon as it may be: to be called now and then."""
        now_s = self._seconds()
        for name, (more, why) in list(self._more.items()):
            if self._buckets[name].wait_s(now_s) <= 0.0:
                self._more[name] = more - 1, why
                self.refused(None if name == _STRANGER else name, why)

    def _write(self, peer: str, event: str, detail: str, **more: int) -> None:
        self._note(Kind.LINK, {"peer": peer, "event": event, "detail": detail[:_DETAIL_LETTERS], **more})
