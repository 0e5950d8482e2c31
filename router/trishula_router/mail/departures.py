"""Departures: what becomes of the mail of agents that are registered no more.

When a name goes from the agents file nobody can take its mail: nobody can join under it. So all that is open for it and
for its instances ends as dead, with the reason, and its senders are told. The letters can be shown, and replayed if the
agent comes back.

The names that were registered are remembered in the store, so that one which goes while the node is down is noticed at
the next start. Where the same name is at work at a linked node, its mail is left alone: nodes have files of their own,
and one of them may have stopped to know the agent before it was told to.

An operator may do the same to any agent's mailbox at any time (:meth:`Departures.purge`), and to all that an agent has
sent and that is still open (:meth:`Departures.purge_sender`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.contract.addresses import is_agent_name, is_capability
from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, StorageFailed, StorageFull
from trishula_router.background import log_fault
from trishula_router.mail.endings import Endings
from trishula_router.mail.mailroom import Mailroom, is_of
from trishula_router.store.interface import Store
from trishula_router.store.messages import State

__all__ = ["Departures"]

log = Logger()

#: Under what the store remembers who was registered.
_KEY = "registered"


class Roll(Protocol):
    """Who is registered; :class:`trishula_router.agents.principals.Principals` in a node."""

    version: int

    def names(self) -> tuple[str, ...]: ...


class Departures:
    """Ends the mail of agents that go.

    Args:
        roll: who is registered.
        store: remembers that.
        mailroom: which mailboxes there are.
        endings: ends what is in them.
        is_elsewhere: whether an address is at work at a linked node.
    """

    def __init__(
        self,
        roll: Roll,
        store: Store,
        mailroom: Mailroom,
        endings: Endings,
        is_elsewhere: Callable[[str], bool],
    ) -> None:
        self._roll = roll
        self._store = store
        self._mailroom = mailroom
        self._endings = endings
        self._is_elsewhere = is_elsewhere
        self._known: frozenset[str] = frozenset()
        self._version: int | None = None
        # Those that went and whose mail could not be ended yet.
        self._gone: set[str] = set()

    async def begin(self) -> None:
        """Learn who was registered when the last run of the node ended."""
        text = (await self._store.remembered(_KEY)).get(_KEY)
        if text is not None:
            self._known = frozenset(msgspec.json.decode(text, type=list[str]))
        self.look()

    def look(self) -> None:
        """See who went; costs nothing as long as the agents file doesn't change."""
        if self._roll.version != self._version:
            self._version = self._roll.version
            names = frozenset(self._roll.names())
            self._gone = (self._gone | self._known) - names
            if names != self._known:
                self._known = names
                kept: Deferred[None] = self._store.remember({_KEY: msgspec.json.encode(sorted(names)).decode()})
                kept.addErrback(log_fault, log, "it could not be kept who is registered")

    async def end(self) -> None:
        """End the mail of those that went; only once it is known who is at work at linked nodes."""
        for agent in sorted(self._gone):
            try:
                ended = await self._end(agent, f"{agent} is registered no more")
            except (StorageFull, StorageFailed):
                # It is tried again.
                return
            self._gone.discard(agent)
            if ended:
                log.warn(
                    "{agent} is registered no more: {ended} messages to it are dead letters now",
                    agent=agent,
                    ended=ended,
                )

    async def purge(self, agent: str, by: str) -> int:
        """End all that is open for an agent and its instances, registered or not; how many messages.

        Raises:
            ArgumentInvalid: that is no agent's name.
        """
        if not is_agent_name(agent):
            raise ArgumentInvalid(f"agent is {show_value(agent)}, which is no agent's name")
        return await self._end(agent, f"the mailbox of {agent} was purged by {by}", everywhere=True)

    async def purge_sender(self, agent: str, by: str) -> int:
        """End all that is open from an agent and its instances, in whichever mailbox; how many messages.

        What waits for a capability at another node is that node's to end.

        Raises:
            ArgumentInvalid: that is no agent's name.
        """
        if not is_agent_name(agent):
            raise ArgumentInvalid(f"agent is {show_value(agent)}, which is no agent's name")
        ended, reason = 0, f"all open mail from {agent} was purged by {by}"
        for address in self._mailroom.shares.mailboxes_of(agent):
            ended += await self._endings.close_sender(address, agent, State.DEAD, reason)
            if is_capability(address):
                self._mailroom.drop_if_empty(address)
        return ended

    def open_from(self, agent: str) -> int:
        """How many messages of an agent are open, with what the node told it of its own."""
        return self._mailroom.shares.of_agent(agent).messages

    def open_for(self, agent: str) -> int:
        """How many messages are open for an agent and its instances."""
        return sum(sum(self._mailroom.counts(one)) for one in self._mailroom.addresses() if is_of(agent, one))

    async def _end(self, agent: str, reason: str, *, everywhere: bool = False) -> int:
        ended = 0
        addresses: Collection[str] = [one for one in self._mailroom.addresses() if is_of(agent, one)]
        for address in addresses:
            if everywhere or not self._is_elsewhere(address):
                ended += await self._endings.close_mailbox(address, State.DEAD, reason)
        return ended
