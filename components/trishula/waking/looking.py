"""Looking at a mailbox without taking anything out of it, again and again, at a low price for the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.contract.uris import MAILBOX_PEEK
from trishula.front_door.turns import turn_of
from trishula.waking.policy import Look

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["Looker"]

_PAGE = 64
#: How many pages of messages that a model has in hand are passed over: a front door holds no more than one.
_MOST_PAGES = 4
_ANSWER_S = 5.0


class Looker:
    """One mailbox.

    Args:
        bus: joined to look.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._last = Look()
        self._as_of: tuple[Any, Any] | None = None

    def look(self) -> Look:
        """How it stands.

        Raises:
            TrishulaError: no node answered.
        """
        # A peek reads whole messages: while nothing happens at the node one of them is enough.
        page = self._peek({"max": 1})
        as_of = page.get("epoch"), page.get("high_water")
        if not page["pending"]:
            self._last = Look(turn=turn_of(page, "closed"))
        elif as_of != self._as_of or as_of[1] is None or not self._last.pending:
            self._last = self._whole()
        else:
            self._last = Look(self._last.messages, int(page["pending"]), turn_of(page, "closed"))
        self._as_of = as_of
        return self._last

    def _whole(self) -> Look:
        options: dict[str, Any] = {"max": _PAGE}
        for _ in range(_MOST_PAGES):
            page = self._peek(options)
            messages = [one for one in page["messages"] if one.get("state") != "delivered" and "id" in one["message"]]
            if messages or not page.get("more"):
                break
            options["after"] = page["after"]
        return Look(messages, int(page["pending"]), turn_of(page, "closed"))

    def _peek(self, options: dict[str, Any]) -> Any:
        return self._bus.request(MAILBOX_PEEK, options, timeout=_ANSWER_S)
