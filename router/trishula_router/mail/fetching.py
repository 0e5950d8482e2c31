"""Fetches: who pulls messages from a mailbox, and waits where there are none.

A fetch is under way from the call until its answer. It takes what is there; where nothing is, it waits in line until
something comes, its time is over, or whoever asked is gone. :class:`Fetches` keeps the account; the delivery takes the
messages.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from trishula.contract.addresses import agent_of

__all__ = ["Fetch", "Fetches"]


@dataclass(slots=True, eq=False)
class Fetch:
    """A ``fetch`` under way: it is being served, or waits for a message.

    Attributes:
        run: of the client's process, if that was told.
        over: whether its time is over, or whoever asked gone; it doesn't (go on to) wait then.
        gone: whether its session is gone, or it was cancelled; it takes nothing then.
    """

    address: str
    session: int
    room: int
    run: str | None = None
    answer: Deferred[list[dict[str, Any]]] = field(default_factory=Deferred)
    over: bool = False
    gone: bool = False


class Fetches:
    """The fetches of a node that are under way."""

    def __init__(self) -> None:
        self._of_session: dict[int, set[Fetch]] = {}
        self._of_agent: Counter[str] = Counter()
        self._waiting: dict[str, list[Fetch]] = {}
        # By session that is there: the addresses that it has fetched from.
        self._fetched: dict[int, set[str]] = {}
        #: Another one whenever these are others.
        self.version = 0

    def fetchers(self) -> dict[str, int]:
        """The addresses that somebody who is there has fetched from, and a session that did."""
        return {address: session for session, those in self._fetched.items() for address in those}

    def of_session(self, session: int) -> int:
        """How many of a session are under way."""
        return len(self._of_session.get(session, ()))

    def of_agent(self, agent: str) -> int:
        """How many of an agent are under way."""
        return self._of_agent[agent]

    def awaited(self) -> list[str]:
        """The addresses that somebody waits for."""
        return list(self._waiting)

    def is_awaited(self, address: str) -> bool:
        """Whether somebody waits for messages of an address."""
        return address in self._waiting

    def first(self, address: str) -> Fetch | None:
        """The one that has waited for an address for longest, if any does."""
        return self._waiting[address][0] if address in self._waiting else None

    def begin(self, fetch: Fetch) -> None:
        """A fetch is under way from now on."""
        self._of_session.setdefault(fetch.session, set()).add(fetch)
        self._of_agent[agent_of(fetch.address)] += 1
        fetched = self._fetched.setdefault(fetch.session, set())
        if fetch.address not in fetched:
            fetched.add(fetch.address)
            self.version += 1

    def end(self, fetch: Fetch) -> None:
        """It is answered."""
        mine, agent = self._of_session[fetch.session], agent_of(fetch.address)
        mine.discard(fetch)
        if not mine:
            del self._of_session[fetch.session]
        self._of_agent[agent] -= 1
        if not self._of_agent[agent]:
            del self._of_agent[agent]

    def wait(self, fetch: Fetch, *, first: bool) -> None:
        """Have it wait, behind the others or before them."""
        waiting = self._waiting.setdefault(fetch.address, [])
        waiting.insert(0 if first else len(waiting), fetch)

    def next(self, address: str) -> Fetch:
        """Take the first one that waits out of its line; there is one."""
        fetch = self._waiting[address][0]
        self._stop_waiting(fetch)
        return fetch

    def _stop_waiting(self, fetch: Fetch) -> None:
        waiting = self._waiting[fetch.address]
        waiting.remove(fetch)
        # Instances come and go under ever new names.
        if not waiting:
            del self._waiting[fetch.address]

    def left(self, session: int) -> None:
        """A session is gone: what it waited for doesn't come."""
        self.version += self._fetched.pop(session, None) is not None
        for fetch in tuple(self._of_session.get(session, ())):
            self.give_up(fetch)

    def give_up(self, fetch: Fetch) -> None:
        """Whoever asked is gone, or has cancelled it."""
        fetch.gone = True
        self.end_wait(fetch)

    def end_wait(self, fetch: Fetch) -> None:
        """Its time is over. One that is being served just now is answered when it was."""
        fetch.over = True
        if fetch in self._waiting.get(fetch.address, ()):
            self._stop_waiting(fetch)
            fetch.answer.callback([])
