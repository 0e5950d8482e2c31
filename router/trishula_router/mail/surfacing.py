"""Surfacing: that a message was put into a model's context, and that it was not in time.

A delivery proves that a process has a message, and an ack that its handler is through. Where the recipient is a model,
neither says that the model has read anything: so whoever puts a message into its context says so by its token
(``mailbox.surfaced``), and the first time is on record. It settles nothing.

A session that has ever said so, with an empty list too, is one behind which a model reads. Of what is delivered to such
a session, and is not surfaced within ``delivery.surface_within``, the sender is told once, and it is *unread* until it
is surfaced or at its end: an alert and ``trishula why`` tell it. Other agents run code, and owe nobody this word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from trishula.contract.addresses import agent_of
from trishula_router.clocks.clock import Clock
from trishula_router.histogram import SLOW_S, Histogram
from trishula_router.mail.entry import Entry
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Mailroom, got
from trishula_router.mail.outlet import News
from trishula_router.store.interface import Store

__all__ = ["Surfacing"]


class Surfacing:
    """See the module's docstring.

    Args:
        mailroom: what is out.
        store: what is durable.
        within_s: how long a model may take until it has a message; 0 if nobody minds.
        clock: of that span.
        now: the wall clock in ms.
        tell: takes news for senders.

    Attributes:
        delays: how many seconds after it was accepted each message was first put into a model's context.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        store: Store,
        within_s: float,
        *,
        clock: Clock,
        now: Callable[[], int],
        tell: Callable[[Iterable[News]], None],
    ) -> None:
        self._mailroom = mailroom
        self._store = store
        self._within_s = within_s
        self._clock = clock
        self._now = now
        self._tell = tell
        self.delays = Histogram(SLOW_S)
        # Sessions behind which a model reads.
        self._readers: set[int] = set()
        # By position: what such a session had and its model has not. Of some of them the sender was told.
        self._unread: dict[int, Entry] = {}
        self._told: set[int] = set()

    async def surfaced(self, agent: str, session: int, told: Sequence[tuple[int, int]]) -> list[bool]:
        """Messages, (position, attempt) each, were put into the context of an agent's model.

        Returns:
            for each, whether it was delivered to the agent by that attempt; that it surfaced is durable then.
        """
        self._readers.add(session)
        out = {p: lease.entry for p, _ in told if (lease := self._mailroom.lease_of(agent, p)) is not None}
        elsewhere = [position for position, _ in told if position not in out]
        stored = await self._store.at_positions(elsewhere) if elsewhere else {}
        known = dict(out)
        known.update({p: Entry.of(message) for p, message in stored.items() if got(agent, message)})
        # A guessed token proves nothing.
        genuine = [(p, n) for p, n in told if p in known and 1 <= n <= known[p].attempts]
        new = {p: n for p, n in genuine if known[p].surfaced_at is None}
        now = self._now()
        first = await self._store.surface(list(new.items()), agent, session, now) if new else []
        for position in new:
            if (entry := out.get(position)) is not None:
                entry.surfaced_at = now
        for position in first:
            self.delays.observe(max(0, now - known[position].accepted_at) / 1000)
        self._tell(News(e.sender, e.id, e.recipient, "surfaced", now) for e in map(known.__getitem__, first))
        of_agent = {position for position, _ in genuine}
        return [position in of_agent for position, _ in told]

    def reads(self, session: int) -> bool:
        """Whether a model reads what is delivered to a session, as far as the session has said."""
        return session in self._readers

    def left(self, session: int) -> None:
        """A session is gone. What its model had not read stays unread until it is."""
        self._readers.discard(session)

    def look(self) -> None:
        """Find what has been with a model's session for too long; to be called now and then."""
        if not self._within_s:
            return
        now_s = self._clock.seconds()
        for session in self._readers:
            for lease in self._mailroom.leases.of_session(session):
                entry = lease.entry
                if entry.surfaced_at is None and not lease.settling:
                    if entry.unread_since_s is None:
                        entry.unread_since_s = now_s
                    self._unread[entry.position] = entry
        for position in [p for p, entry in self._unread.items() if not self._is_unread(entry)]:
            del self._unread[position]
            self._told.discard(position)
        late = [entry for entry in self._late(now_s) if entry.position not in self._told]
        self._told.update(entry.position for entry in late)
        now = self._now()
        self._tell(News(e.sender, e.id, e.recipient, "unread", now) for e in late)

    def _is_unread(self, entry: Entry) -> bool:
        lease = self._mailroom.leases.get(entry.position)
        is_open = self._mailroom.waits(entry) if lease is None else lease.entry is entry and not lease.settling
        return is_open and entry.surfaced_at is None

    def _late(self, now_s: float) -> list[Entry]:
        return [
            entry
            for entry in self._unread.values()
            if entry.unread_since_s is not None and now_s - entry.unread_since_s >= self._within_s
        ]

    def unread(self) -> dict[str, int]:
        """How many messages each agent's model has not had in time; agents without any are left out."""
        late = self._late(self._clock.seconds())
        return dict(Counter(agent_of(entry.holder or entry.recipient) for entry in late if self._is_unread(entry)))

    def unread_in(self, box: Mailbox) -> int | None:
        """How many messages of a mailbox a model's session has and the model has not; ``None`` if it has none."""
        leases = [self._mailroom.leases.get(position) for position in box.in_flight]
        read = [lease.entry for lease in leases if lease is not None and lease.session in self._readers]
        return sum(entry.surfaced_at is None for entry in read) if read else None

    def warning(self, position: int) -> str | None:
        """What is to be said of a message that a model has not had in time; ``None`` if there is nothing."""
        entry = self._unread.get(position)
        if entry is None or position not in self._told or not self._is_unread(entry):
            return None
        return (
            f"{entry.holder or entry.recipient} has it, and its model has not read it within "
            f"{self._within_s:g} s; wake the agent, or look at its inbox tool or hook"
        )
