"""What was delivered: drop repeats, and know which deliveries to acknowledge. The decisions of a receiver, no I/O.

A message is delivered again when its ack was lost, its lease ran out, or a node and its peer both deliver it. Ids
belong to their sender, so (``from``, ``id``) is the key. Each key is in one of three states:

=============  =====================================================================================================
*unknown*      run the handler
*running*      the handler runs, waits for its turn, or has returned and its reply is under way: a repeat only brings a
               newer token, to be acknowledged later
*handled*      the handler returned and its reply, if any, was accepted: a repeat is acknowledged at once
=============  =====================================================================================================

Tokens belong to one session with one node: when it is lost they are forgotten, for the next node may use the same words
for other messages. The repeat that follows brings new ones.

The memory is bounded by age and by count: altogether, per sender, so that one sender can't make it forget another, and
by the number of senders, of which it forgets the one that was silent for longest. A repeat from beyond these bounds
would run again; the age is that of the default ttl, after which the node itself delivers nothing more.

With a :class:`Record` (an agent's file, :mod:`trishula.agent_file`) it outlives the process: the record holds what the
memory holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from trishula.message import DEFAULT_TTL_MS

__all__ = ["Inbox", "Record", "Verdict"]


class Verdict(Enum):
    """What to do with a delivery."""

    RUN = "run"
    RUNNING = "running"
    HANDLED = "handled"


class Record(Protocol):
    """Where the memory outlives the process; changes are written together, at the end of the turn."""

    def remember(self, sender: str, message_id: str, at_ms: int) -> None:
        """A message is handled."""

    def forget(self, sender: str, message_id: str) -> None:
        """It is not remembered any more."""


class Inbox:
    """See the module's docstring."""

    def __init__(
        self,
        *,
        ids: int = 200_000,
        ids_per_sender: int = 20_000,
        senders: int = 1_000,
        age_ms: int = DEFAULT_TTL_MS,
        record: Record | None = None,
    ) -> None:
        self._ids = ids
        self._ids_per_sender = ids_per_sender
        self._senders = senders
        self._age_ms = age_ms
        self._record = record
        # Both levels in the order of use: the first is the oldest. A plain dict would search for its first key through
        # all that were deleted before it.
        self._handled: OrderedDict[str, OrderedDict[str, int]] = OrderedDict()
        self._count = 0
        self._running: dict[tuple[str, str], list[str]] = {}
        # Of the running ones: those that are on record, for their reply is.
        self._answered: set[tuple[str, str]] = set()

    def restore(self, record: Record | None, handled: Iterable[tuple[str, str, int]]) -> None:
        """Keep the memory on record from now on; ``handled`` is what the record holds, the oldest first."""
        self._record = None
        own = [(sender, message_id, at) for sender, known in self._handled.items() for message_id, at in known.items()]
        self._record = record
        for sender, message_id, at_ms in handled:
            self._remember(sender, message_id, at_ms)
        for sender, message_id, at_ms in own:
            self._remember(sender, message_id, at_ms)
            if record is not None:
                record.remember(sender, message_id, at_ms)

    def resume(self, sender: str, message_id: str) -> None:
        """An earlier run handled it, and its reply is still under way."""
        self._running.setdefault((sender, message_id), [])
        self._answered.add((sender, message_id))

    def admit(self, sender: str, message_id: str, token: str) -> Verdict:
        """A delivery came; after ``RUN`` tell :meth:`handled` or :meth:`failed`."""
        tokens = self._running.get((sender, message_id))
        if tokens is not None:
            tokens.append(token)
            return Verdict.RUNNING
        known = self._handled.get(sender)
        if known is not None and message_id in known:
            return Verdict.HANDLED
        self._running[(sender, message_id)] = [token]
        return Verdict.RUN

    def answered(self, sender: str, message_id: str, now_ms: int) -> None:
        """The handler is through and its reply is on its way: on record they are handled together, from now on."""
        if self._record is not None and (sender, message_id) not in self._answered:
            self._answered.add((sender, message_id))
            self._record.remember(sender, message_id, now_ms)

    def handled(self, sender: str, message_id: str, now_ms: int) -> list[str]:
        """The handler is through, and its reply, if any, is safe. Returns the tokens to acknowledge now."""
        key = (sender, message_id)
        self._remember(sender, message_id, now_ms)
        if key in self._answered:
            self._answered.discard(key)
        elif self._record is not None:
            self._record.remember(sender, message_id, now_ms)
        return self._running.pop(key, [])

    def _remember(self, sender: str, message_id: str, now_ms: int) -> None:
        known = self._handled.get(sender)
        if known is None:
            if len(self._handled) >= self._senders:
                self._forget_sender(next(iter(self._handled)))
            known = self._handled[sender] = OrderedDict()
        else:
            self._handled.move_to_end(sender)
            if message_id in known:
                return
            if len(known) >= self._ids_per_sender:
                self._forget_oldest(sender, known)
        if self._count >= self._ids:
            # Of the one that fills it most.
            fullest = max(self._handled, key=lambda name: len(self._handled[name]))
            self._forget_oldest(fullest, self._handled[fullest])
        known[message_id] = now_ms
        self._count += 1

    def _forget_oldest(self, sender: str, known: OrderedDict[str, int]) -> None:
        message_id, _ = known.popitem(last=False)
        self._count -= 1
        if self._record is not None:
            self._record.forget(sender, message_id)

    def _forget_sender(self, sender: str) -> None:
        known = self._handled[sender]
        while known:
            self._forget_oldest(sender, known)
        del self._handled[sender]

    def failed(self, sender: str, message_id: str) -> list[str]:
        """The handler failed, or was not run: a repeat runs it. Returns the tokens to give back now."""
        self._answered.discard((sender, message_id))
        return self._running.pop((sender, message_id), [])

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def running(self) -> Iterable[tuple[tuple[str, str], str]]:
        """The keys that are running, each with its newest token (none, if its session is gone)."""
        return [(key, tokens[-1]) for key, tokens in self._running.items() if tokens]

    def token(self, sender: str, message_id: str) -> str | None:
        """The newest token of a running one; ``None`` if its session is gone."""
        tokens = self._running.get((sender, message_id))
        return tokens[-1] if tokens else None

    def link_lost(self) -> None:
        """The session is gone: its tokens mean nothing to the next one."""
        for tokens in self._running.values():
            tokens.clear()

    def forget(self, now_ms: int) -> None:
        """Drop what is too old; to be called now and then."""
        oldest_ms = now_ms - self._age_ms
        for sender, known in list(self._handled.items()):
            # In the order of handling, so the old ones stand first.
            while known and next(iter(known.values())) <= oldest_ms:
                self._forget_oldest(sender, known)
            if not known:
                del self._handled[sender]
