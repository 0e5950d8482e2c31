"""Messages that no handler of the agent takes: which are refused, and which are done with a line in the log."""

from __future__ import annotations

import logging

from trishula.consumer.routes import Routes
from trishula.contract.addresses import BROADCAST
from trishula.contract.message import Message
from trishula.contract.texts import REASON_LENGTH, show_value

__all__ = ["Unhandled"]

_log = logging.getLogger("trishula")


class Unhandled:
    """See the module's docstring; it complains about each kind of them once.

    Args:
        routes: the handlers that there are.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._complained: set[str] = set()

    def reason(self, message: Message) -> str | None:
        """Why a message is refused, for its sender; ``None`` if it is not."""
        if message.type in ("RESULT", "ERROR"):
            # Refusing them would answer an error with an error. They are on record, and here.
            _log.warning(
                "%s %s from %s (answer to %s) has no handler: %s",
                message.type, message.id, message.sender, message.reply_to, str(message.payload)[:REASON_LENGTH],
            )  # fmt: skip
            return None
        which, reason = f"of type {message.type}", f"no handler takes {message.type} messages"
        if self._routes.sorts(message.type):
            which += " and of other subjects"
            reason += f" with the subject {show_value(message.subject)}"
        if message.to == BROADCAST:
            # Who sends to all doesn't expect that all care.
            self._complain(f"Broadcasts {which} come, and no handler takes them")
            return None
        self._complain(f"Messages {which} come, and no handler takes them: they are refused")
        return f"{reason} here"

    def _complain(self, sentence: str) -> None:
        if sentence not in self._complained:
            self._complained.add(sentence)
            _log.warning("%s", sentence)
