"""How it stands with the link to each peer, and why there is none: for whoever operates either of the two nodes.

The side that makes a link knows why an attempt failed: nobody listens, a certificate, another key. The side that is
linked to knows whom it refused and why, or that nobody came. Each keeps its latest cause with its time. A cause goes
when the link carries; what comes later, such as a second link that is refused, stands beside the link that is there.

Policy only: instants are seconds of the clock for spans, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["LinkStandings"]


@dataclass(slots=True)
class _Standing:
    """Of one peer.

    Attributes:
        is_ours: whether this node makes the link.
        links: how many carry: two, while one takes the place of another.
        up_s: since when the latest carries; ``None`` while none does.
        trouble: what went wrong last; ``None`` since all is well.
        trouble_s: when.
        troubles: how often something did since all was well.
    """

    is_ours: bool = False
    links: int = 0
    up_s: float | None = None
    trouble: str | None = None
    trouble_s: float = 0.0
    troubles: int = 0


class LinkStandings:
    """What is known of each peer's link.

    Args:
        now_s: when the node started.
    """

    def __init__(self, now_s: float) -> None:
        self._started_s = now_s
        self._peers: dict[str, _Standing] = {}
        # Whoever was refused and named no key that this node knows: perhaps a peer with another key than we have of it.
        self._strangers = _Standing()

    def _of(self, peer: str | None) -> _Standing:
        return self._strangers if peer is None else self._peers.setdefault(peer, _Standing())

    def made_here(self, peer: str) -> None:
        """This node makes the link to a peer."""
        self._of(peer).is_ours = True

    def up(self, peer: str, now_s: float) -> None:
        """A link carries."""
        there = self._of(peer)
        there.links += 1
        there.up_s, there.trouble, there.troubles = now_s, None, 0

    def down(self, peer: str, why: str, now_s: float) -> None:
        """One carries no more. The end of an old one may come behind the beginning of the one in its place."""
        there = self._of(peer)
        there.links = max(0, there.links - 1)
        if not there.links:
            there.up_s = None
            self.trouble(peer, why, now_s)

    def trouble(self, peer: str | None, why: str, now_s: float) -> None:
        """An attempt failed, or was refused; of a peer, or of a stranger (``None``)."""
        there = self._of(peer)
        there.trouble, there.trouble_s, there.troubles = why, now_s, there.troubles + 1

    def told(self, peer: str, now_s: float) -> dict[str, Any]:
        """``{up, made_by, up_for_s, trouble, trouble_s_ago, troubles}``: spans in seconds.

        ``made_by`` is ``"this node"`` or ``"the peer"``, by the configuration of this node. ``trouble`` is a clause; a
        peer that is awaited and never came has one too.
        """
        there = self._peers.get(peer, _Standing())
        why, at_s, troubles = there.trouble, there.trouble_s, there.troubles
        if there.up_s is None and not there.is_ours:
            strangers = self._strangers
            if strangers.trouble is not None and (why is None or strangers.trouble_s > at_s):
                why = f"somebody was refused who is perhaps {peer} with another key: {strangers.trouble}"
                at_s, troubles = strangers.trouble_s, strangers.troubles
            elif why is None:
                why, at_s = f"{peer} is to make the link, and has not come since this node started", self._started_s
        return {
            "up": there.up_s is not None,
            "made_by": "this node" if there.is_ours else "the peer",
            "up_for_s": None if there.up_s is None else round(now_s - there.up_s, 3),
            "trouble": why,
            "trouble_s_ago": None if why is None else round(now_s - at_s, 3),
            "troubles": troubles,
        }
