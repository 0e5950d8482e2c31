"""Recalls: a message that is cancelled while somebody has it.

Whoever has it is told on its inbox topic, so that it can stop what runs: an event without deliveries, whose second
argument names what was cancelled. And an answer that comes all the same (from a handler that can't be stopped, from a
client that doesn't listen) is refused: its caller was told that the COMMAND is cancelled.

The memory of that is this node's, of the last :data:`_REMEMBERED` cancelled COMMANDs that had gone out; it ends with
the node's process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trishula.contract.addresses import Address
from trishula.contract.message import Message
from trishula.errors import MessageCancelled
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailroom import Mailroom

__all__ = ["Recalls"]

#: Handlers that run on for nobody end within hours; by then that many cancelled ones are another day's.
_REMEMBERED = 10_000

#: A message that is out: who has it, by which session.
_Out = tuple[Entry, str, int]


class Recalls:
    """Tells holders, and knows whose answers come too late.

    Args:
        mailroom: what is out.
        tell: tells a session something: (address, session, what).
        token: the token of a message's latest delivery.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        tell: Callable[[Address, int, dict[str, Any]], None],
        token: Callable[[Entry], str],
    ) -> None:
        self._mailroom = mailroom
        self._tell = tell
        self._token = token
        self._cancelled: dict[tuple[str, str], None] = {}

    def out(self, positions: Iterable[int]) -> list[_Out]:
        """Which of these messages were pushed to a session and are with it; to be asked before they are settled."""
        found = []
        for position in positions:
            lease = self._mailroom.leases.get(position)
            if lease is not None and not lease.settling and lease.consumer is not None and lease.session is not None:
                found.append((lease.entry, lease.consumer.address, lease.session))
        return found

    def cancelled(self, entries: Iterable[Entry], out: Iterable[_Out]) -> None:
        """Messages are cancelled, durably; ``out`` is who has them."""
        for entry in entries:
            if entry.type == "COMMAND" and entry.attempts:
                if len(self._cancelled) >= _REMEMBERED:
                    del self._cancelled[next(iter(self._cancelled))]
                self._cancelled[entry.sender, entry.id] = None
        by_session: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for entry, holder, session in out:
            told = {"from": entry.sender, "id": entry.id, "token": self._token(entry)}
            by_session.setdefault((holder, session), []).append(told)
        for (holder, session), told_all in by_session.items():
            self._tell(Address.parse(holder), session, {"cancelled": told_all})

    def check(self, answer: Message) -> None:
        """Refuse the answer to a COMMAND that its sender has cancelled.

        Raises:
            MessageCancelled: it is one.
        """
        if not self._cancelled or answer.reply_to is None or answer.type not in ("RESULT", "ERROR"):
            return
        if (answer.to, answer.reply_to) in self._cancelled:
            raise MessageCancelled(
                f"the COMMAND {answer.reply_to} was cancelled by {answer.to}, which waits for no answer any more"
            )
