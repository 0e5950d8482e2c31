"""The links that peers have made to this node: which session is whose, and what becomes of a second one of a name.

Two links of one peer would carry each event twice. So while the first one lives, a second one is refused, whoever makes
it: with a stolen key one can't push the real node out. It lives as long as something comes over it: nodes say hello
twice a second. One over which nothing came for :data:`SILENT_S` is taken for dead before pings have shown that it is,
and the new one takes its place, so that a node that lost its network is not kept waiting.

Policy only: instants are seconds, no I/O.
"""

from __future__ import annotations

__all__ = ["SILENT_S", "PeerLinks"]

#: Three hellos.
SILENT_S = 1.5


class PeerLinks:
    """Who is at the other end of each link that a peer has made."""

    def __init__(self) -> None:
        self._peers: dict[int, str] = {}
        # When the latest link of each was let in: it takes a moment until it is a session, and until it is heard.
        self._let_in_s: dict[str, float] = {}

    def came(self, session: int, peer: str) -> None:
        """A link became a session."""
        self._peers[session] = peer

    def went(self, session: int) -> str | None:
        """A session is over; whose link it was, if it was one."""
        peer = self._peers.pop(session, None)
        if peer is not None and not self.has(peer):
            self._let_in_s.pop(peer, None)
        return peer

    def has(self, peer: str) -> bool:
        """Whether a peer has a link to this node."""
        return peer in self._peers.values()

    def let_in(self, peer: str, heard_s: float | None, now_s: float) -> list[int] | None:
        """A peer proved its key.

        Args:
            peer: its name.
            heard_s: when something came over its link last, if that is known.
            now_s: the clock.

        Returns:
            The sessions whose place the new link takes; ``None`` if it is refused.
        """
        since_s = self._let_in_s.get(peer)
        if since_s is not None and now_s - max(since_s, heard_s or since_s) < SILENT_S:
            return None
        self._let_in_s[peer] = now_s
        return [session for session, name in self._peers.items() if name == peer]
