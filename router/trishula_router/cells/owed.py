"""Whom this cell owes news of messages: the cells that forwarded them here. Policy only: no I/O.

It is in memory alone, and bounded: a cell that hears nothing asks, and is owed news again from then on.
"""

from __future__ import annotations

from collections import OrderedDict

from trishula_router.cells.letters import FINAL, Key, News

__all__ = ["Owed"]

_MOST = 200_000
#: What is told beside ends.
_ON_THE_WAY = ("delivered", "surfaced")


class Owed:
    """Who is to be told.

    Args:
        most: so many messages are known; of more the one that was asked for the longest ago is let go.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        # By message: cell → ticket.
        self._owed: OrderedDict[Key, dict[str, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._owed)

    def owe(self, key: Key, cell: str, ticket: str) -> None:
        """A cell is to be told of a message, under that ticket."""
        self._owed.setdefault(key, {})[cell] = ticket
        self._owed.move_to_end(key)
        if len(self._owed) > self._most:
            self._owed.popitem(last=False)

    def forget(self, key: Key, cell: str) -> None:
        """A cell was told all that there is to tell."""
        if (owed := self._owed.get(key)) is not None:
            owed.pop(cell, None)
            if not owed:
                del self._owed[key]

    def told(self, key: Key, state: str, reason: str | None) -> list[tuple[str, News]]:
        """A message came to a state: which cells are to be told what."""
        if state not in FINAL and state not in _ON_THE_WAY:
            return []
        owed = self._owed.pop(key, None) if state in FINAL else self._owed.get(key)
        sender, message_id, to = key
        return [
            (cell, News(ticket=ticket, sender=sender, id=message_id, to=to, state=state, reason=reason))
            for cell, ticket in (owed or {}).items()
        ]
