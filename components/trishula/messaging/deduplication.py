"""What was delivered: drop repeats, and know which deliveries to acknowledge. The decisions of a receiver, no I/O.

A message is delivered again when its ack was lost, its lease ran out, or a node and its peer both deliver it. Ids
belong to agents, so (the agent of ``from``, ``id``) is the key, whichever instance of it sent. Each key is in one of
three states:

=============  =====================================================================================================
*unknown*      run the handler
*running*      the handler runs, waits for its turn, or has returned and its reply is under way: a repeat only brings a
               newer token, to be acknowledged later
*handled*      the handler returned and its reply, if any, was accepted: a repeat is acknowledged at once
=============  =====================================================================================================

Another message under a key that is known, told by its content, is *foreign*. A node lets none in; two nodes that can't
reach each other, and one of a release before, may accept two. It is neither dropped nor run for the first one.

Tokens belong to one session with one node: when it is lost they are forgotten, for the next node may use the same words
for other messages. The repeat that follows brings new ones. Tokens of the second road belong to no session and stay.

The memory is bounded by age and by count: altogether, per agent, so that one agent can't make it forget another, and
by the number of agents, of which it forgets the one that was silent for longest. A repeat from beyond these bounds
would run again; the age is that of the default ttl, after which the node itself delivers nothing more.

With a :class:`InboxFile` (an agent's, :mod:`trishula.messaging.agent_file`) the memory outlives the process: the
file holds what the memory holds.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

import msgspec

from trishula.contract.addresses import agent_of
from trishula.contract.message import DEFAULT_TTL_MS, Message
from trishula.messaging.second_road import is_of_second_road

__all__ = ["Inbox", "InboxFile", "Remembered", "Treatment", "content_of"]

#: (agent, id, when it was handled in ms, its content or ``None`` if that is not known)
Remembered = tuple[str, str, int, int | None]

_encode = msgspec.json.Encoder(order="deterministic").encode


def content_of(message: Message) -> int:
    """A checksum of what makes a message the same as another one, as the node sees it."""
    return zlib.crc32(_encode((message.type, message.to, message.procedure, message.payload)))


class Treatment(Enum):
    """What to do with a delivery."""

    RUN = "run"
    RUNNING = "running"
    HANDLED = "handled"
    FOREIGN = "foreign"


class InboxFile(Protocol):
    """Where the memory outlives the process; changes are written together, at the end of the turn."""

    def remember(self, sender: str, message_id: str, at_ms: int, content: int | None = None) -> None:
        """A message of an agent is handled."""

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
        file: InboxFile | None = None,
    ) -> None:
        self._ids = ids
        self._ids_per_sender = ids_per_sender
        self._senders = senders
        self._age_ms = age_ms
        self._file = file
        # Both levels in the order of use: the first is the oldest. A plain dict would search for its first key through
        # all that were deleted before it.
        self._handled: OrderedDict[str, OrderedDict[str, tuple[int, int | None]]] = OrderedDict()
        self._count = 0
        self._running: dict[tuple[str, str], list[str]] = {}
        self._contents: dict[tuple[str, str], int | None] = {}
        # Of the running ones: those that are in the file, for their reply is.
        self._answered: set[tuple[str, str]] = set()

    def restore(self, file: InboxFile | None, handled: Iterable[Remembered]) -> None:
        """Keep the memory in a file from now on; ``handled`` is what the file holds, the oldest first."""
        self._file = None
        own = [(agent, message_id, *one) for agent, known in self._handled.items() for message_id, one in known.items()]
        self._file = file
        for remembered in handled:
            self._remember(*remembered)
        for remembered in own:
            self._remember(*remembered)
            if file is not None:
                file.remember(*remembered)

    def recover(self, sender: str, message_id: str, now_ms: int, content: int) -> None:
        """An earlier run handled it, and may not have come to write that into the file."""
        agent = agent_of(sender)
        if message_id not in self._handled.get(agent, ()):
            self._remember(agent, message_id, now_ms, content)
            if self._file is not None:
                self._file.remember(agent, message_id, now_ms, content)

    def resume(self, sender: str, message_id: str) -> None:
        """An earlier run handled it, and its reply is still under way."""
        key = agent_of(sender), message_id
        self._running.setdefault(key, [])
        self._answered.add(key)

    def admit(self, sender: str, message_id: str, token: str, content: int | None = None) -> Treatment:
        """A delivery came; after ``RUN`` tell :meth:`handled` or :meth:`failed`.

        Args:
            sender, message_id: the message's.
            token: the delivery's.
            content: see :func:`content_of`; ``None``: whatever is known under the key is a repeat.
        """
        key = agent_of(sender), message_id
        tokens = self._running.get(key)
        if tokens is not None:
            if _differ(self._contents.get(key), content):
                return Treatment.FOREIGN
            tokens.append(token)
            return Treatment.RUNNING
        known = self._handled.get(key[0])
        if known is not None and message_id in known:
            return Treatment.FOREIGN if _differ(known[message_id][1], content) else Treatment.HANDLED
        self._running[key] = [token]
        self._contents[key] = content
        return Treatment.RUN

    def answered(self, sender: str, message_id: str, now_ms: int) -> None:
        """The handler is through and its reply is on its way: in the file they are handled together, from now on."""
        key = agent_of(sender), message_id
        if self._file is not None and key not in self._answered:
            self._answered.add(key)
            self._file.remember(*key, now_ms, self._contents.get(key))

    def handled(self, sender: str, message_id: str, now_ms: int) -> list[str]:
        """The handler is through, and its reply, if any, is safe. Returns the tokens to acknowledge now."""
        key = agent_of(sender), message_id
        content = self._contents.pop(key, None)
        self._remember(*key, now_ms, content)
        if key in self._answered:
            self._answered.discard(key)
        elif self._file is not None:
            self._file.remember(*key, now_ms, content)
        return self._running.pop(key, [])

    def _remember(self, agent: str, message_id: str, now_ms: int, content: int | None) -> None:
        known = self._handled.get(agent)
        if known is None:
            if len(self._handled) >= self._senders:
                self._forget_agent(next(iter(self._handled)))
            known = self._handled[agent] = OrderedDict()
        else:
            self._handled.move_to_end(agent)
            if message_id in known:
                return
            if len(known) >= self._ids_per_sender:
                self._forget_oldest(agent, known)
        if self._count >= self._ids:
            # Of the one that fills it most.
            fullest = max(self._handled, key=lambda name: len(self._handled[name]))
            self._forget_oldest(fullest, self._handled[fullest])
        known[message_id] = now_ms, content
        self._count += 1

    def _forget_oldest(self, agent: str, known: OrderedDict[str, tuple[int, int | None]]) -> None:
        message_id, _ = known.popitem(last=False)
        self._count -= 1
        if self._file is not None:
            self._file.forget(agent, message_id)

    def _forget_agent(self, agent: str) -> None:
        known = self._handled[agent]
        while known:
            self._forget_oldest(agent, known)
        del self._handled[agent]

    def failed(self, sender: str, message_id: str) -> list[str]:
        """The handler failed, or was not run: a repeat runs it. Returns the tokens to give back now."""
        key = agent_of(sender), message_id
        self._answered.discard(key)
        self._contents.pop(key, None)
        return self._running.pop(key, [])

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def running(self) -> Iterable[tuple[tuple[str, str], str]]:
        """The keys that are running, each with its newest token (none, if its session is gone)."""
        return [(key, tokens[-1]) for key, tokens in self._running.items() if tokens]

    def token(self, sender: str, message_id: str) -> str | None:
        """The newest token of a running one; ``None`` if its session is gone."""
        tokens = self._running.get((agent_of(sender), message_id))
        return tokens[-1] if tokens else None

    def link_lost(self) -> None:
        """The session is gone: its tokens mean nothing to the next one."""
        for tokens in self._running.values():
            tokens[:] = [token for token in tokens if is_of_second_road(token)]

    def forget(self, now_ms: int) -> None:
        """Drop what is too old; to be called now and then."""
        oldest_ms = now_ms - self._age_ms
        for agent, known in list(self._handled.items()):
            # In the order of handling, so the old ones stand first.
            while known and next(iter(known.values()))[0] <= oldest_ms:
                self._forget_oldest(agent, known)
            if not known:
                del self._handled[agent]


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other
