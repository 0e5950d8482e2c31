"""Settlement: what comes back from deliveries, and what ends a message without one.

A message that is out comes back acked, nacked, with its lease over or with its session lost; ``entry`` decides what
follows, this module does it: in the store first, then in memory, then towards the sender. Who cancels, and whose time
is over, comes here by ``endings``.

An ack frees its place in the window at once, so that the next message doesn't wait for the disk; the ack itself is
answered only when it is durable. If the store refuses, nothing was settled: the message waits again, and its receiver,
which knows its id, only acks once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest

from twisted.internet.defer import Deferred

from trishula.contract.signed import SIGNATURE_REFUSED
from trishula.errors import MessageUnknown, StorageFailed, StorageFull
from trishula_router.agents.lives import Life
from trishula_router.background import run
from trishula_router.clocks.clock import Clock
from trishula_router.histogram import SLOW_S, Histogram
from trishula_router.mail.entry import Dead, Entry, after_crash, after_failure, after_lost_session
from trishula_router.mail.losses import Fate, Losses
from trishula_router.mail.mailroom import Mailroom, got
from trishula_router.mail.notices import Notices
from trishula_router.mail.outlet import News
from trishula_router.settings.options import DeliveryPolicy
from trishula_router.spans import Spans
from trishula_router.store.interface import Store
from trishula_router.store.messages import Accepted, Return, State, mailbox_of, payer_of

__all__ = ["STORE_RETRY_MS", "Settlement", "by_reason"]

#: How long what the store could not settle or read stays out of the way, so that a full disk is no busy loop.
STORE_RETRY_MS = 5000


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
        notices: writes what senders are told by message.

    Attributes:
        settled: how many messages this node brought to each final state.
        lifetimes: how many seconds after it was accepted each message was done.
        spans: the same in ms, to be taken.
        signatures_refused: how many messages were given back for want of a good signature.
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
        notices: Notices,
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._policy = policy
        self._clock = clock
        self._now = now
        self._random = random
        self._tell = tell
        self._notices = notices
        # What was pushed to agents, and what was fetched: a script that looks into a mailbox says nothing of its agent.
        self._losses = Losses()
        self._fetched = Losses()
        # Dead letters that are being acked, and such that are being replayed: the one waits for the other.
        self._ending: set[int] = set()
        self._replaying: set[int] = set()
        self.settled: Counter[State] = Counter()
        self.lifetimes = Histogram(SLOW_S)
        self.signatures_refused = 0
        self.spans = Spans()
        # No lease runs out before, see take_back_overdue.
        self._none_overdue_before_s = 0.0

    async def settle(self, entries: Sequence[Entry], state: State, reason: str | None) -> None:
        """Bring messages that were released or withdrawn to a final state, durably; then tell their senders."""
        if not entries:
            return
        self._make_room(entries)
        now = self._now()
        notices = self._notices.of(entries, state, reason, now)
        for notice in notices:
            # Whatever the mailbox holds: a sender that was too busy to read is told all the same.
            draft = notice.draft
            to = draft.recipients[0]
            self._mailroom.reserve(to, payer_of(draft.sender, draft.id, to), len(draft.envelope), draft.priority)
        drafts = [notice.draft for notice in notices]
        outcomes: list[Accepted] = []
        try:
            outcomes = await self._store.settle([entry.position for entry in entries], state, reason, now, drafts)
        except (StorageFull, StorageFailed):
            self._mailroom.put_back(entries, now + STORE_RETRY_MS)
            raise
        finally:
            for notice, outcome in zip_longest(notices, outcomes):
                if outcome is None or outcome.duplicate:
                    draft = notice.draft
                    to, payer = draft.recipients[0], payer_of(draft.sender, draft.id, draft.recipients[0])
                    self._mailroom.discount(to, payer, len(draft.envelope), draft.priority)
        self._mailroom.settled(entries)
        self.settled[state] += len(entries)
        for entry in entries if state is State.DONE else ():
            lived_ms = max(0, now - entry.accepted_at)
            self.lifetimes.observe(lived_ms / 1000)
            self.spans.observe(lived_ms)
        word = state.name.lower()
        self._tell(News(e.sender, e.id, e.recipient, word, now, reason) for e in entries)
        self._mailroom.arrived(
            [
                Entry.of_draft(notice.draft, outcome, notice.wire)
                for notice, outcome in zip(notices, outcomes, strict=True)
                if not outcome.duplicate
            ]
        )

    def _make_room(self, entries: Iterable[Entry]) -> None:
        for address in {address for e in entries for address in (e.recipient, e.holder) if address is not None}:
            self._mailroom.has_room(address)

    # -- the receiver's verbs ------------------------------------------------------------------------------------------

    async def ack(self, agent: str, positions: Sequence[int]) -> list[bool]:
        """Messages are done.

        Also those that the agent doesn't hold any more (its session was lost, the lease ran out, the node was
        restarted, it is in the dead letters): that the work was done is true whoever holds the message now.

        Returns:
            for each, whether it is a message to the agent; it is done then, durably.
        """
        released = {p: entry for p in positions if (entry := self._mailroom.release(agent, p)) is not None}
        await self.settle(list(released.values()), State.DONE, None)
        known = set(released)
        elsewhere = [position for position in positions if position not in known]
        if elsewhere:
            known |= await self._ack_elsewhere(agent, elsewhere)
        return [position in known for position in positions]

    async def _ack_elsewhere(self, agent: str, positions: Sequence[int]) -> set[int]:
        """Settle what the agent doesn't hold; returns which of it are messages to the agent."""
        known = set()
        while positions:
            entries, settling = [], []
            for position, stored in (await self._store.at_positions(positions)).items():
                if not got(agent, stored):
                    continue
                known.add(position)
                if stored.state is State.OPEN and self._mailroom.is_settling(position):
                    # It is somebody else's to end (a cancel, an ack like this one), and may fail. The store answers
                    # in order, so asking again is waiting for it.
                    settling.append(position)
                elif position in self._replaying:
                    # It was dead when the store was asked, and may be back in its mailbox now.
                    settling.append(position)
                elif stored.state is not State.DONE:
                    entry = Entry.of(stored)
                    # What is dead or expired is in no mailbox any more; only an open one is somewhere to be withdrawn.
                    entries.append(self._mailroom.withdraw(entry) if stored.state is State.OPEN else entry)
            ending = {entry.position for entry in entries}
            self._ending |= ending
            try:
                await self.settle(entries, State.DONE, None)
            finally:
                self._ending -= ending
            positions = settling
        return known

    async def replay(self, revived: Mapping[int, int], by: str) -> set[int]:
        """Put dead letters back into their mailboxes, to expire at the given instants; returns which are there now.

        One that is being acked in this moment is left alone: the work was done after all. ``by`` is who asked for it.
        """
        mine = {p: expires_at for p, expires_at in revived.items() if p not in self._ending | self._replaying}
        if not mine:
            return set()
        self._replaying |= mine.keys()
        try:
            replayed = await self._store.replay(mine, self._now(), by)
        finally:
            self._replaying -= mine.keys()
        for message in replayed:
            mailbox = mailbox_of(message.recipient, message.position, message.keeper)
            payer = payer_of(message.sender, message.id, message.recipient)
            self._mailroom.reserve(mailbox, payer, message.size_bytes, message.priority)
        self._mailroom.arrived([Entry.of(message) for message in replayed])
        return {message.position for message in replayed}

    async def nack(self, agent: str, refused: Sequence[tuple[int, int, str, bool]]) -> list[bool]:
        """Attempts failed: (position, attempt, reason, requeue) each.

        Returns:
            for each, whether the agent held it by that attempt; if not, it was settled or given back before, and
            nothing is changed.
        """
        outcome = []
        together: dict[tuple[str, bool], list[Entry]] = {}
        for position, attempt, reason, requeue in refused:
            entry = self._mailroom.release(agent, position, attempt)
            outcome.append(entry is not None)
            if entry is not None:
                self.signatures_refused += reason.startswith(SIGNATURE_REFUSED)
                together.setdefault((reason, requeue), []).append(entry)
        # All are begun before the first is waited for: what waits for the store at the same time shares its commit.
        begun = [
            Deferred.fromCoroutine(self._fail(entries, reason, requeue=requeue))
            for (reason, requeue), entries in together.items()
        ]
        fault: StorageFull | StorageFailed | None = None
        for one in begun:
            try:
                await one
            except (StorageFull, StorageFailed) as error:
                fault = error
        if fault is not None:
            raise fault
        return outcome

    def working(self, agent: str, position: int, attempt: int, for_s: float) -> int:
        """Extend the lease of a message to at least ``for_s`` from now; returns its new end in ms.

        Raises:
            MessageUnknown: the agent doesn't hold it by that attempt (any more).
        """
        lease = self._mailroom.lease_of(agent, position, attempt)
        if lease is None:
            raise MessageUnknown(
                f"{agent} holds no message {position}: it was settled, or given back after its lease ran out or its "
                "session was lost"
            )
        left_s = max(lease.until_s - self._clock.seconds(), for_s)
        lease.until_s = self._clock.seconds() + left_s
        return self._now() + round(left_s * 1000)

    # -- what time and the network do ----------------------------------------------------------------------------------

    def lost(self, session: int, address: str | None = None) -> None:
        """A session is gone, or was taken over at one address: what it held waits again.

        What that says of it is seen when the next session attaches (:meth:`met`), if the client tells of its process.
        A takeover says nothing: whoever is taken over lives.
        """
        now = self._now()
        decided = []
        for lease in self._mailroom.leases.of_session(session):
            entry = lease.entry
            if lease.settling or address not in (None, entry.holder):
                continue
            losses = self._fetched if lease.consumer is None else self._losses
            lease.settling = True
            lease.free()
            if lease.run is None:
                decided.append((entry, self._after_unknown(entry, now)))
                continue
            if address is None and entry.holder is not None:
                losses.note(entry.holder, lease.run, entry)
            decided.append((entry, Return(entry.position, entry.failures, now)))
        if decided:
            run(self._carry_out(decided, "its session was lost", now))

    def met(self, address: str, life: Life | None) -> None:
        """A session attaches to an address, and tells what became of the process of the one before it."""
        self._judge(self._losses.judge(address, life))

    def fetching(self, address: str, run_name: str | None) -> None:
        """A client fetches from an address: whether it is the one that lost what it had fetched there."""
        self._judge(self._fetched.judge(address, None if run_name is None else Life(run_name)))

    def _judge(self, fates: Iterable[tuple[Entry, Fate]]) -> None:
        now = self._now()
        decided = []
        for entry, fate in fates:
            if fate is Fate.HARMLESS:
                continue
            is_waiting = self._mailroom.waits(entry)
            if fate is Fate.CRASHED:
                entry.crashes += 1
                decision = after_crash(entry, now=now, policy=self._policy, random=self._random)
                if not is_waiting:
                    # Another agent has it by now: it costs the next attempt what this one was.
                    entry.failures += 1
            else:
                decision = self._after_unknown(entry, now)
            if is_waiting:
                decided.append((self._mailroom.withdraw(entry), decision))
        if decided:
            run(self._carry_out(decided, "its agent's process ended while its handler ran", now))

    def _after_unknown(self, entry: Entry, now: int) -> Return | Dead:
        entry.losses += 1
        return after_lost_session(entry, now=now, policy=self._policy)

    def take_back_overdue(self) -> None:
        """Leases that ran out without an ack."""
        clock_s = self._clock.seconds()
        if clock_s < self._none_overdue_before_s:
            return
        # What goes out from now on has its whole lease before it, and a lease is only ever extended: so nothing runs
        # out before the first of these does, and until then nobody has to look.
        first_s, overdue = clock_s + self._policy.lease_s, []
        for lease in self._mailroom.leases.values():
            if not lease.settling:
                if lease.until_s <= clock_s:
                    overdue.append(lease)
                else:
                    first_s = min(first_s, lease.until_s)
        self._none_overdue_before_s = first_s
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
        dead: dict[str, list[Entry]] = {}
        for entry, decision in decided:
            if isinstance(decision, Dead):
                dead.setdefault(decision.reason, []).append(entry)
            else:
                # A lost session that cost nothing needs no record: that the message is open says it all.
                if decision.failures != entry.failures:
                    failed.append(decision)
                entry.failures = decision.failures
                self._mailroom.put_back([entry], decision.due_at if decision.due_at > now else 0)
        self._make_room(entry for entry, _ in decided)
        # Each is tried whatever becomes of the others: what nobody puts back would be out for ever.
        fault: StorageFull | StorageFailed | None = None
        if failed:
            try:
                await self._store.give_back(failed, reason, now)
            except (StorageFull, StorageFailed) as error:
                fault = error
        for why, entries in dead.items():
            try:
                await self.settle(entries, State.DEAD, why)
            except (StorageFull, StorageFailed) as error:
                fault = error
        if fault is not None:
            raise fault

    # -- endings without a delivery ------------------------------------------------------------------------------------

    def settle_soon(self, entries: Iterable[Entry], state: State, reason: str) -> None:
        """Settle messages that nobody waits for."""
        run(self.settle([self._mailroom.withdraw(entry) for entry in entries], state, reason))

    def expire_soon(self, entries: Iterable[Entry]) -> None:
        """The time of messages is over; each says which time that was."""
        for reason, those in by_reason(entries).items():
            self.settle_soon(those, State.EXPIRED, reason)

    def forget_losses(self, address: str) -> None:
        """A mailbox is closed: what its sessions lost is nobody's any more."""
        self._losses.forget(address)
        self._fetched.forget(address)


def by_reason(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Messages whose time is over, by which time that was."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.time_is_over, []).append(entry)
    return found
