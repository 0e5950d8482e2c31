"""Losses: what was out with sessions that are gone, until it is known what became of the process that they were of.

That a session is gone says little. Its process may live on, with handlers that run (the network broke), or be dead; and
if it is dead, then one message may have killed it, of the many that it had. A client tells what is to be known of that
when it attaches (:class:`~trishula_router.agents.lives.Life`): a name of this run of its process, and, if it keeps a
file, which run came before this one and what that one had begun and not ended. So of each message that was out is found
out:

=============  =======================================================================================================
``HARMLESS``   the same run is back, or its successor says that it was not begun: the loss says nothing of the message
``CRASHED``    the successor says that it was begun: the process ended while its handler ran
``UNKNOWN``    another run is there, which doesn't follow on the lost one, as far as it knows (it has no file)
=============  =======================================================================================================

What is noted of an address lasts until the next session attaches to it, and is never more than a window. After a
restart of the node nothing is known of what was out before; it costs nothing then.

Policy only, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from trishula_router.agents.lives import Life
from trishula_router.mail.entry import Entry

__all__ = ["Fate", "Losses"]


class Fate(Enum):
    """What the loss of a session says of a message that was out with it."""

    HARMLESS = "harmless"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class Losses:
    """What was out with sessions that are gone, by the address that consumed it."""

    def __init__(self) -> None:
        self._out: dict[str, list[tuple[str, Entry]]] = {}

    def note(self, address: str, run: str, entry: Entry) -> None:
        """A session of that run of a client is gone, and had a message."""
        self._out.setdefault(address, []).append((run, entry))

    def judge(self, address: str, life: Life | None) -> Iterator[tuple[Entry, Fate]]:
        """A session attaches; what that says of each message that was lost. It says so once."""
        for run, entry in self._out.pop(address, ()):
            if life is not None and run == life.run:
                yield entry, Fate.HARMLESS
            elif life is None or run != life.after:
                yield entry, Fate.UNKNOWN
            else:
                yield entry, Fate.CRASHED if (entry.sender, entry.id) in life.begun else Fate.HARMLESS

    def forget(self, address: str) -> None:
        """The address is gone for good."""
        self._out.pop(address, None)
