"""Settlement: what comes back from deliveries, and what ends a message without one.

A message that is out comes back acked, nacked, with its lease over or with its session lost; ``lifecycle`` decides what
follows, this module does it: in the store first, then in memory, then towards the sender. Expiry and cancellation end
messages wherever they are.

An ack frees its place in the window at once, so that the next message doesn't wait for the disk; the ack itself is
answered only when it is durable. If the store refuses, nothing was settled: the message waits again, and its receiver,
which knows its id, only acks once more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import MessageUnknown, StorageFailed, StorageFull
from trishula_router.clock import Clock
from trishula_router.lifecycle import Dead, Entry, after_failure, after_lost_session
from trishula_router.mailbox import BEFORE_ALL
from trishula_router.mailroom import Mailroom, is_of
from trishula_router.options import DeliveryPolicy
from trishula_router.store.interface import Return, State, Store

__all__ = ["STORE_RETRY_MS", "News", "Settlement", "run"]

log = Logger()

#: How long what the store could not settle or read stays out of the way, so that a full disk is no busy loop.
STORE_RETRY_MS = 5000
#: Messages settled in one go where nobody waits for an answer.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class News:
    """What became of a message, for its sender. ``at`` in ms."""

    sender: str
    id: str
    recipient: str
    state: str
    at: int
    reason: str | None = None


class Settlement:
    """Ends messages, or gives them back.

    Args:
        mailroom: what is out and what waits.
        store: what is durable.
        policy: attempts and pauses.
        clock: leases.
        now: the wall clock in ms.
        random: spreads pauses.
        tell: takes news for senders.
        has_room: called with an address whose mailbox can perhaps deliver again.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        policy: DeliveryPolicy,
        *,
        clock: Clock,
        now: Callable[[], int],
        random: Callable[[], float],
        tell: Callable[[Iterable[News]], None],
        has_room: Callable[[str], None],
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._policy = policy
        self._clock = clock
        self._now = now
        self._random = random
        self._tell = tell
        self._has_room = has_room

    async def settle(self, entries: Sequence[Entry], state: State, reason: str | None) -> None:
        """Bring messages that were released or claimed to a final state, durably; then tell their senders."""
        if not entries:
            return
        for address in {entry.recipient for entry in entries}:
            self._has_room(address)
        now = self._now()
        try:
            await self._store.settle([entry.position for entry in entries], state, reason, now)
        except (StorageFull, StorageFailed):
            self._mailroom.put_back(entries, now + STORE_RETRY_MS)
            raise
        self._mailroom.settled(entries)
        word = state.name.lower()
        self._tell(News(e.sender, e.id, e.recipient, word, now, reason) for e in entries)

    # -- the receiver's verbs ------------------------------------------------------------------------------------------

    async def ack(self, agent: str, positions: Sequence[int]) -> list[bool]:
        """Messages are done.

        Also those that the agent doesn't hold any more (its session was lost, the lease ran out, the node was
        restarted, it is in the dead letters): that the work was done is true whoever holds the message now.

        Returns:
            for each, whether it is a message to the agent; it is done then, durably.
        """
        released = {p: entry for p in positions if (entry := self._mailroom.release(agent, p)) is not None}
        known = set(released)
        entries = list(released.values())
        elsewhere = [position for position in positions if position not in known]
        if elsewhere:
            for position, stored in (await self._store.at_positions(elsewhere)).items():
                if not is_of(agent, stored.recipient):
                    continue
                known.add(position)
                if stored.state is State.DONE or self._mailroom.is_settling(position):
                    continue
                entry = Entry.of(stored)
                # What is dead or expired is in no mailbox any more; only an open message is somewhere to be claimed.
                entries.append(self._mailroom.claim(entry) if stored.state is State.OPEN else entry)
        await self.settle(entries, State.DONE, None)
        return [position in known for position in positions]

    async def nack(self, agent: str, refused: Sequence[tuple[int, str, bool]]) -> list[bool]:
        """Attempts failed: (position, reason, requeue) each.

        Returns:
            for each, whether the agent held it; if not, it was settled or given back before, and nothing is changed.
        """
        outcome = []
        for position, reason, requeue in refused:
            entry = self._mailroom.release(agent, position)
            outcome.append(entry is not None)
            if entry is not None:
                await self._fail([entry], reason, requeue=requeue)
        return outcome

    def working(self, agent: str, position: int, for_s: float) -> int:
        """Extend the lease of a message to ``for_s`` from now; returns its new end in ms.

        Raises:
            MessageUnknown: the agent doesn't hold it (any more).
        """
        lease = self._mailroom.leases.get(position)
        if lease is None or lease.settling or not is_of(agent, lease.entry.recipient):
            raise MessageUnknown(
                f"{agent} holds no message {position}: it was settled, or given back after its lease ran out or its "
                "session was lost"
            )
        lease.until_s = self._clock.seconds() + for_s
        return self._now() + int(for_s * 1000)

    # -- what time and the network do ----------------------------------------------------------------------------------

    def lost(self, session: int, address: str | None = None) -> None:
        """A session is gone, or was taken over at one address: what it held waits again."""
        now = self._now()
        decided = []
        for lease in self._mailroom.leases.values():
            if lease.session != session or lease.settling or address not in (None, lease.entry.recipient):
                continue
            lease.settling = True
            lease.free()
            decided.append((lease.entry, after_lost_session(lease.entry, now=now, policy=self._policy)))
        if decided:
            run(self._carry_out(decided, "its session was lost", now))

    def take_back_overdue(self) -> None:
        """Leases that ran out without an ack."""
        clock_s = self._clock.seconds()
        overdue = [lease for lease in self._mailroom.leases.values() if lease.until_s <= clock_s and not lease.settling]
        for lease in overdue:
            lease.settling = True
            lease.free()
        if overdue:
            run(self._fail([lease.entry for lease in overdue], "no ack came within its lease", requeue=True))

    async def _fail(self, entries: Sequence[Entry], reason: str, *, requeue: bool) -> None:
        now = self._now()
        decided = [
            (e, after_failure(e, reason, requeue=requeue, now=now, policy=self._policy, random=self._random))
            for e in entries
        ]
        await self._carry_out(decided, reason, now)

    async def _carry_out(self, decided: Sequence[tuple[Entry, Return | Dead]], reason: str, now: int) -> None:
        failed: list[Return] = []
        for entry, decision in decided:
            if isinstance(decision, Return):
                # A lost session that cost nothing needs no record: that the message is open says it all.
                if decision.failures != entry.failures:
                    failed.append(decision)
                entry.failures = decision.failures
                self._mailroom.put_back([entry], decision.due_at if decision.due_at > now else 0)
        for address in {entry.recipient for entry, _ in decided}:
            self._has_room(address)
        if failed:
            await self._store.give_back(failed, reason, now)
        for entry, decision in decided:
            if isinstance(decision, Dead):
                await self.settle([entry], State.DEAD, decision.reason)

    # -- endings without a delivery ------------------------------------------------------------------------------------

    def settle_soon(self, entries: Iterable[Entry], state: State, reason: str) -> None:
        """Settle messages that nobody waits for."""
        run(self.settle([self._mailroom.claim(entry) for entry in entries], state, reason))

    async def cancel(self, positions: Sequence[int]) -> list[bool]:
        """Cancel messages that are not settled; the caller has checked whose they are. Returns which were cancelled."""
        stored = await self._store.at_positions(positions)
        entries = {
            position: self._mailroom.claim(Entry.of(message))
            for position, message in stored.items()
            if message.state is State.OPEN and not self._mailroom.is_settling(position)
        }
        await self.settle(list(entries.values()), State.CANCELLED, "cancelled by its sender")
        return [position in entries for position in positions]

    async def expire(self) -> int:
        """Settle messages whose time is over, also those that nobody asks for; returns how many.

        What is out is left alone: its receiver works on it, and if it comes back its time is looked at again.
        """
        over = await self._store.at_positions(await self._store.expired(self._now(), _BATCH))
        entries = [
            self._mailroom.claim(Entry.of(message))
            for position, message in over.items()
            if message.state is State.OPEN and position not in self._mailroom.leases
        ]
        await self.settle(entries, State.EXPIRED, "its time to live was over")
        return len(entries)

    async def close_mailbox(self, address: str, reason: str) -> None:
        """Expire all that is open for an address that is gone for good."""
        while True:
            stored = await self._store.head(address, BEFORE_ALL, _BATCH)
            entries = [
                self._mailroom.claim(Entry.of(message))
                for message in stored
                if not self._mailroom.is_settling(message.position)
            ]
            if not entries:
                break
            await self.settle(entries, State.EXPIRED, reason)
        self._mailroom.drop_if_empty(address)


def run(work: Coroutine[Deferred[Any], Any, Any]) -> None:
    """Let a coroutine go its way; a fault in it is the node's, so it is logged and the node goes on."""
    Deferred.fromCoroutine(work).addErrback(lambda failure: log.failure("delivery failed", failure))
