"""The clocks of a node's peers: by how much each is ahead of this node's, as the hellos of both show.

Two different things are known of a peer's clock:

* *When it wrote what it just sent*: every text with instants in it says at which instant it was sent, by the sender's
  clock. What lies between that and now is the way, so instants become spans and are counted on here
  (:func:`ahead_of`). This needs no measuring, holds for a clock that was set a moment ago, and errs by the time that
  the text was under way, always to the same side: a message lives longer by it, never shorter.
* *By how much it is ahead*, for people (:class:`PeerClocks`): as NTP does, from four instants. A hello carries a mark,
  the answering hello brings the mark back and says how long it was kept, so the way there and back is known; half of it
  is what the sender's instant is old. Of the last samples the one with the shortest way counts.

Differences below :data:`TOLERATED_MS` are none: they are within what the way takes.

Policy only: it takes clocks and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["TOLERATED_MS", "WARNED_MS", "PeerClocks", "ahead_of"]

#: What the way takes, and what is left of a difference where both follow NTP.
TOLERATED_MS = 1000
#: From so much on operators are told.
WARNED_MS = 2000
#: Hellos come twice a second, and more often under load.
_SAMPLES = 8
#: A mark that comes back after so long is one of a former life, or says nothing.
_LONGEST_WAY_MS = 10_000


def ahead_of(sent_at: int, now: int) -> int:
    """By how many ms the sender's clock is ahead, as far as a text shows that was sent at ``sent_at`` and is here now.

    Args:
        sent_at: ms, by the sender's clock; 0 if it told none, as nodes of older versions do.
        now: ms, by this node's clock.
    """
    ahead_ms = sent_at - now if sent_at else 0
    return ahead_ms if abs(ahead_ms) >= TOLERATED_MS else 0


@dataclass(slots=True)
class _Clock:
    """What is known of one peer's clock.

    Attributes:
        samples: (the way in ms, by how much it is ahead in ms), the oldest first.
        mark: that of its last hello; 0 before that.
        marked_ms: when that was heard.
        is_told: whether it was told that it differs.
    """

    samples: list[tuple[int, int]] = field(default_factory=list)
    mark: int = 0
    marked_ms: int = 0
    is_told: bool = False


class PeerClocks:
    """The clocks of all peers.

    Args:
        peers: their names.
    """

    def __init__(self, peers: Iterable[str]) -> None:
        self._clocks = {name: _Clock() for name in peers}

    def echo(self, name: str, steady_ms: int) -> tuple[int, int]:
        """What a hello to a peer brings back: (its last mark, how many ms ago that was heard); 0 if there is none."""
        clock = self._clocks[name]
        return clock.mark, steady_ms - clock.marked_ms if clock.mark else 0

    def heard(
        self, name: str, *, sent_at: int, mark: int, echo: int, echo_age_ms: int, steady_ms: int, now: int
    ) -> None:
        """A hello came.

        Args:
            name: the peer's.
            sent_at: when it was sent, by the peer's clock; 0 if the peer is of an older version.
            mark: to be brought back to the peer.
            echo: the mark of this node's that it brought back, and how long the peer had kept it.
            echo_age_ms: see ``echo``.
            steady_ms: this node's clock for spans.
            now: this node's clock for instants, ms.
        """
        clock = self._clocks[name]
        clock.mark, clock.marked_ms = mark, steady_ms
        way_ms = steady_ms - echo - echo_age_ms
        if not sent_at or not echo or not 0 <= way_ms <= _LONGEST_WAY_MS:
            return
        sample = way_ms, sent_at + way_ms // 2 - now
        if clock.samples:
            best = min(clock.samples)
            # Each is right to half of its way. Further apart, one of the two clocks was set.
            if abs(sample[1] - best[1]) > (sample[0] + best[0]) // 2 + TOLERATED_MS:
                clock.samples.clear()
        clock.samples = [*clock.samples[-_SAMPLES + 1 :], sample]

    def was_set(self) -> None:
        """This node's clock was set: what was measured by it says nothing any more."""
        for clock in self._clocks.values():
            clock.samples.clear()

    def lost(self, name: str) -> None:
        """A peer is away; its clock may be set meanwhile."""
        self._clocks[name].samples.clear()

    def ahead_ms(self, name: str) -> int | None:
        """By how much a peer's clock is ahead of this node's; ``None`` if that isn't known (yet)."""
        clock = self._clocks.get(name)
        return min(clock.samples)[1] if clock is not None and clock.samples else None

    def differs(self, name: str) -> bool:
        """Whether operators are to be told of a difference."""
        ahead_ms = self.ahead_ms(name)
        return ahead_ms is not None and abs(ahead_ms) >= WARNED_MS

    def news(self) -> list[tuple[str, int | None]]:
        """What to tell operators since the last call.

        Returns:
            peers whose clocks differ from now on, each with by how much it is ahead; ``None``: it no longer differs.
        """
        told: list[tuple[str, int | None]] = []
        for name, clock in self._clocks.items():
            ahead_ms = self.ahead_ms(name)
            if ahead_ms is not None and clock.is_told != (
                abs(ahead_ms) >= (TOLERATED_MS if clock.is_told else WARNED_MS)
            ):
                clock.is_told = not clock.is_told
                told.append((name, ahead_ms if clock.is_told else None))
        return told
