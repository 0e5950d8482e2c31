"""What was delivered: drop repeats, and know which deliveries to acknowledge. The decisions of a receiver, no I/O.

A message is delivered again when its ack was lost, its lease ran out, or a node and its peer both deliver it. Ids
belong to their sender, so (``from``, ``id``) is the key. Each key is in one of three states:

=============  =====================================================================================================
*unknown*      run the handler
*running*      the handler runs (or waits for its turn): a repeat only brings a newer token, to be acknowledged later
*handled*      the handler returned and its reply, if any, was accepted: a repeat is acknowledged at once
=============  =====================================================================================================

Tokens belong to one session with one node: when it is lost they are forgotten, for the next node may use the same words
for other messages. The repeat that follows brings new ones.

The memory is bounded by count, per sender and by the number of senders, and by age. A repeat from beyond these bounds
would run again; the age is that of the default ttl, after which the node itself delivers nothing more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum

from trishula.message import DEFAULT_TTL_MS

__all__ = ["Inbox", "Verdict"]


class Verdict(Enum):
    """What to do with a delivery."""

    RUN = "run"
    RUNNING = "running"
    HANDLED = "handled"


class Inbox:
    """See the module's docstring."""

    def __init__(self, *, ids_per_sender: int = 20_000, senders: int = 1_000, age_ms: int = DEFAULT_TTL_MS) -> None:
        self._ids_per_sender = ids_per_sender
        self._senders = senders
        self._age_ms = age_ms
        # Both levels are in the order of insertion: the first is the oldest. A plain dict would search for its first
        # key through all that were deleted before it.
        self._handled: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()
        self._running: dict[tuple[str, str], list[str]] = {}

    def admit(self, sender: str, message_id: str, token: str) -> Verdict:
        """A delivery came; after ``RUN`` tell :meth:`handled` or :meth:`failed`."""
        known = self._handled.get(sender)
        if known is not None and message_id in known:
            return Verdict.HANDLED
        tokens = self._running.get((sender, message_id))
        if tokens is not None:
            tokens.append(token)
            return Verdict.RUNNING
        self._running[(sender, message_id)] = [token]
        return Verdict.RUN

    def handled(self, sender: str, message_id: str, now_ms: int) -> list[str]:
        """The handler is through: remember it. Returns the tokens to acknowledge now."""
        known = self._handled.get(sender)
        if known is None:
            if len(self._handled) >= self._senders:
                self._handled.popitem(last=False)
            known = self._handled[sender] = OrderedDict()
        elif len(known) >= self._ids_per_sender:
            known.popitem(last=False)
        known[message_id] = now_ms
        return self._running.pop((sender, message_id), [])

    def failed(self, sender: str, message_id: str) -> list[str]:
        """The handler failed, or was not run: a repeat runs it. Returns the tokens to give back now."""
        return self._running.pop((sender, message_id), [])

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def running(self) -> Iterable[tuple[tuple[str, str], str]]:
        """The keys that are running, each with its newest token (none, if its session is gone)."""
        return [(key, tokens[-1]) for key, tokens in self._running.items() if tokens]

    def link_lost(self) -> None:
        """The session is gone: its tokens mean nothing to the next one."""
        for tokens in self._running.values():
            tokens.clear()

    def forget(self, now_ms: int) -> None:
        """Drop what is too old; to be called now and then."""
        oldest_ms = now_ms - self._age_ms
        for sender, known in list(self._handled.items()):
            # In the order of handling, so the old ones stand first.
            for message_id, handled_ms in list(known.items()):
                if handled_ms > oldest_ms:
                    break
                del known[message_id]
            if not known:
                del self._handled[sender]
