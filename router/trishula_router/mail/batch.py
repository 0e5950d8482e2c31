"""What one call of ``mailbox.send`` brought, beside who made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trishula_router.clocks.sender_clock import SenderClock

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of one call.

    Attributes:
        raws: the messages as they came.
        signatures: the signature of each, or ``None``; empty if none is signed.
        copies: on how many nodes the sender insists; ``None``: on as many as are usual and can be had.
        clock: the sender's.
        beat: takes a heartbeat of the session, with the time that its clock showed, if it told one.
        proof: by what the session proved whose it is, see :attr:`.Session.proof`.
    """

    raws: Sequence[object]
    signatures: Sequence[str | None]
    copies: int | None
    clock: SenderClock
    beat: Callable[[int | None], None]
    proof: str = ""

    def signature(self, index: int) -> str:
        """The signature of one message; "" if it has none."""
        return (self.signatures[index] or "") if self.signatures else ""
