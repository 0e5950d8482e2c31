"""Which message ends sessions: the outbox's way to find the one that a node can't take, and to go on without it.

A frame that a node can't read ends the session of whoever sent it. What we write is checked before
(:mod:`trishula.contract.payload`), so this is for what slips through all the same: a fault of ours, a node or a proxy
with a limit of its own. Without it the message would be offered again on each new session and end that as well, for
ever, and no other message would pass.

When a node ends a session, what was under way is noted. What was under way twice is *suspect*, and goes out in parts of
an eighth, one call at a time; a part that ends the session again is cut into eighths, down to single messages. A part
that is answered is innocent. Halves would cost an innocent neighbour fewer calls, but six lost sessions to find one
message among 64, each with a pause before the next; single messages at once would cost as many round trips.

A message that was alone under way when a node ended the session is *guilty* after

* two times, if the node closed the WebSocket with a code that complains of what it was sent;
* three times, if it only dropped the connection, as nodes of earlier releases do: that can be a node that was killed,
  but hardly three times in the milliseconds which one small message takes;
* five times, if it is large: a slow line may break while it is on its way.

A session that we gave up ourselves, because nobody answered our pings, accuses nobody; neither does a goodbye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from trishula.session.transport import Ending

__all__ = ["Suspicion", "guilty"]

_PARTS = 8
_SUSPECT_AFTER = 2
_GUILTY_IF_TOLD = 2
_GUILTY = 3
_GUILTY_IF_LARGE = 5
#: Up to here a message takes no longer than what joins a session, also over a slow line.
_SMALL_BYTES = 64 * 1024


@dataclass(slots=True)
class Suspicion:
    """What speaks against one message.

    Attributes:
        losses: how many sessions ended while it was under way.
        alone: at how many of these it was the only one.
        part: with how many others it may go out at most, itself included; 0: it is no suspect.
    """

    losses: int = 0
    alone: int = 0
    part: int = 0


class Suspect(Protocol):
    """A message under way."""

    suspicion: Suspicion | None

    @property
    def size_bytes(self) -> int:
        """How large it is."""


S = TypeVar("S", bound=Suspect)


def guilty(batches: Sequence[Sequence[S]], ending: Ending) -> S | None:
    """Note that a node ended a session.

    Args:
        batches: the messages of each call that was under way.
        ending: how it ended.

    Returns:
        the message that is proven to be the reason, if one is.
    """
    is_alone = len(batches) == 1 and len(batches[0]) == 1
    for batch in batches:
        for entry in batch:
            seen = entry.suspicion = entry.suspicion or Suspicion()
            seen.losses += 1
            seen.alone += is_alone
            if seen.losses >= _SUSPECT_AFTER:
                seen.part = max(1, len(batch) // _PARTS)
            if is_alone and seen.alone >= _proof(entry, ending):
                return entry
    return None


def _proof(culprit: Suspect, ending: Ending) -> int:
    if ending.is_told:
        return _GUILTY_IF_TOLD
    return _GUILTY if culprit.size_bytes <= _SMALL_BYTES else _GUILTY_IF_LARGE
