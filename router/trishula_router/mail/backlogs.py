"""Backlogs: what waits in each mailbox of this node, for whom, since when, who fills it and who takes from it.

The numbers are this node's. Linked nodes all hold an agent's open messages, and what is out is known where it is out
alone: of a mailbox that is consumed at another node, ``pending`` counts what waits there **and what is being handled
there**, as far as the news of it has come here, and ``in_flight`` is 0. So add no numbers of several nodes up. What is
to a capability has one keeper at a time, and is listed by that node alone.

An answer stays cheap, however much waits: depths and senders are counted with each message that comes and goes
(:mod:`.shares`), the ages are found by the store's index on its reader's thread, and where very many senders fill many
mailboxes they are looked through in turns of the reactor.

Policy only but for that: no I/O of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from trishula.contract.addresses import Address, is_capability
from trishula_router.agents.consumers import Consumers
from trishula_router.clocks.clock import Clock
from trishula_router.mail.delivery import Delivery
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Mailroom, is_of
from trishula_router.store.interface import Store

__all__ = ["Backlogs", "Elsewhere"]

#: Names of senders, and of agents that serve a capability, in one answer.
_NAMES_TOLD = 5
#: Senders looked through in one turn of the reactor: a millisecond or two. A mailbox takes as long as so many of them.
_SENDERS_AT_ONCE = 10_000
_MAILBOX_COSTS = 40

#: Where a mailbox is consumed that isn't here: (its node, the host of its client); ``None`` if nowhere in reach.
Elsewhere = Callable[[Address], tuple[str, str | None] | None]


class Backlogs:
    """The mailboxes of a node, as operators are told.

    Args:
        node: this node's name.
        mailroom: where they are.
        store: knows how old their messages are.
        consumers: to whom they are pushed.
        delivery: who waits for them otherwise.
        elsewhere: see :data:`Elsewhere`.
        entry_of: what the directory tells of an agent.
        unread: how many messages that a mailbox's holders have are not in the context of the model that reads them;
            ``None`` where no model does.
        able: the agents here that are present and serve a capability, and the nodes elsewhere that have some.
        clock: timers, and spans.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        node: str,
        mailroom: Mailroom,
        store: Store,
        consumers: Consumers,
        delivery: Delivery,
        *,
        elsewhere: Elsewhere,
        entry_of: Callable[[str], Mapping[str, Any]],
        able: Callable[[str], tuple[Sequence[str], Sequence[str]]],
        unread: Callable[[Mailbox], int | None],
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self._node = node
        self._mailroom = mailroom
        self._store = store
        self._consumers = consumers
        self._fetches = delivery.fetches
        self._elsewhere = elsewhere
        self._entry_of = entry_of
        self._able = able
        self._unread = unread
        self._clock = clock
        self._now = now

    async def page(self, agent: str | None, limit: int) -> list[dict[str, Any]]:
        """The mailboxes that have something open or are consumed, the deepest first.

        Args:
            agent: only those of this agent and its instances, or of this capability's address.
            limit: at most so many.

        Returns:
            ``{address, pending, in_flight, bytes, oldest_at, consumer, senders, able?, able_at?, unread?}`` each.
            ``oldest_at`` (ms) is when the oldest of them was accepted, of those that came first in each urgency;
            ``None`` if nothing is open.
        """
        chosen = self._chosen(agent, limit)
        oldest = await self._store.oldest([box.address for box in chosen if not box.is_empty])
        told, looked = [], 0
        for box in chosen:
            looked += self._mailroom.shares.senders(box.address) + _MAILBOX_COSTS
            if looked > _SENDERS_AT_ONCE:
                await self._breath()
                looked = 0
            told.append(self._told(box, oldest.get(box.address)))
        # Some has come and gone since they were chosen.
        told.sort(key=lambda one: (-one["pending"] - one["in_flight"], one["address"]))
        return told

    def _chosen(self, agent: str | None, limit: int) -> list[Mailbox]:
        boxes = {box.address: box for box in self._mailroom.kept_here() if not box.is_empty}
        for address in (*self._consumers.addresses(), *self._fetches.awaited()):
            # Not made in the mailroom: a question leaves nothing behind.
            boxes.setdefault(address, Mailbox(address))
        if agent is not None:
            boxes = {address: box for address, box in boxes.items() if is_of(agent, address)}
            boxes = boxes or {agent: Mailbox(agent)}
        return heapq.nsmallest(limit, boxes.values(), key=lambda box: (-box.open_messages, box.address))

    def _breath(self) -> Deferred[None]:
        pause: Deferred[None] = Deferred()
        self._clock.callLater(0, pause.callback, None)
        return pause

    def _told(self, box: Mailbox, oldest_at: int | None) -> dict[str, Any]:
        pending, in_flight = self._mailroom.counts(box.address)
        told: dict[str, Any] = {
            "address": box.address,
            "pending": pending,
            "in_flight": in_flight,
            "bytes": box.open_bytes,
            "oldest_at": oldest_at,
            "consumer": self._consumer(box.address),
            "senders": [
                {"agent": agent, "messages": count}
                for agent, count in self._mailroom.shares.top_senders(box.address, _NAMES_TOLD)
            ],
        }
        if is_capability(box.address):
            here, nodes = self._able(box.address)
            told |= {"able": list(here[:_NAMES_TOLD]), "able_at": list(nodes)}
        unread = self._unread(box)
        return told if unread is None else {**told, "unread": unread}

    def _consumer(self, address: str) -> dict[str, Any] | None:
        if is_capability(address):
            return None
        parsed, now = Address.parse(address), self._now()
        facts: dict[str, Any] = {"agent": parsed.agent, "node": self._node, "session": None, "since": None}
        if parsed.instance is not None:
            facts["instance"] = parsed.instance
        consumer, waiting = self._consumers.get(address), self._fetches.first(address)
        if consumer is not None:
            facts["session"] = consumer.session
            facts["since"] = now - round(1000 * (self._clock.seconds() - consumer.since_s))
            host = None if consumer.life is None else consumer.life.host
            facts["by"] = "attach"
        elif waiting is not None:
            facts["session"], facts["by"], host = waiting.session, "fetch", None
        elif (there := self._elsewhere(parsed)) is not None:
            facts["node"], host = there
            facts["by"] = "attach"
        else:
            return None
        if host is not None:
            facts["host"] = host
        busy_until = self._entry_of(parsed.agent).get("busy_until") if parsed.instance is None else None
        if busy_until is not None and busy_until > now:
            facts["busy_until"] = busy_until
        return facts
