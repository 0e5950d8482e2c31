"""How long to wait before trying again: one pure policy for reconnects and for redelivery.

The n-th pause is ``first_s * factor**n``, capped at ``cap_s``, then spread by *jitter* so that many clients which lost
the same node do not come back in one instant. The source of randomness is an argument: a simulation replays it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """A growing, capped, jittered pause.

    Attributes:
        first_s: the first pause, in seconds, before jitter.
        factor: by how much each pause is longer than the one before it.
        cap_s: no pause is longer, jitter included.
        jitter: the share of the pause that is random: 0.2 means 80 % to 100 % of it.
    """

    first_s: float
    factor: float
    cap_s: float
    jitter: float = 0.2

    def pause_s(self, failures: int, random: Callable[[], float]) -> float:
        """The pause after so many ``failures`` in a row (from 0), in seconds.

        Args:
            failures: how often it failed before this pause; 0 gives the shortest pause.
            random: returns a number in [0, 1), as :func:`random.random` does.
        """
        # The exponent is bounded before the power is taken: a client that has been alone for a week must not meet an
        # OverflowError in its retry loop.
        grown = self.first_s * self.factor ** min(failures, 64)
        return min(grown, self.cap_s) * (1.0 - self.jitter * random())
