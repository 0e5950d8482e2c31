"""Connections that have not joined: how long they may take, and how many there may be. Policy, no I/O.

A stranger costs a file descriptor and some memory before anybody asked for its token. Each step of a join has its own
time, counted from the step before, so that whoever owes the next one is the other end:

=============  =========================================================================================================
``ARRIVED``    the TCP connection is there; an HTTP request is to come, which makes it a WebSocket
``ASKED``      it was another request, which is being answered
``OPENED``     the WebSocket is open; a HELLO is to come. Clients that want to go back to their first node keep such a
               connection, with pings, until the node has been there for long enough: whoever pings has more time
``GREETED``    a HELLO came; an AUTHENTICATE is to come
=============  =========================================================================================================

The number counts for all steps together, and so does the smaller one of those that come from one IP address
(:mod:`trishula_router.client_ips`). Beyond either the one goes that has been a stranger for longest, of that address or
of all: who has just come, and is in earnest, needs milliseconds, also behind the router of a site where somebody else
is not. Members don't count: a site may have thousands of agents behind one address.

A stranger takes a descriptor (:func:`room_for`), of which a process has so many, and the store and the members need
theirs: strangers get half of what is left for connections at most, and nothing of what members have taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = ["Step", "Strangers", "room_for"]

#: The longest time for which a client watches the node that it would rather be joined to, and a tenth more: see
#: :mod:`trishula.session.failback_policy`.
_WATCH_S = 800.0
#: A client that watches pings at least so often.
_PINGS_EACH_S = 5.0


class Step(IntEnum):
    """How far a stranger has come."""

    ARRIVED = 0
    ASKED = 1
    OPENED = 2
    GREETED = 3
    JOINED = 4


#: What the other end owes.
_OWED = {
    Step.ARRIVED: "a WebSocket was to come of it",
    Step.ASKED: "it was to take the answer to its request",
    Step.OPENED: "it was to say HELLO",
    Step.GREETED: "it was to say who it is (AUTHENTICATE)",
}
#: A request of another kind, such as for a page, may take so long, also if its client reads slowly.
_REQUEST_S = 60.0


@dataclass(slots=True, eq=False)
class _Stranger:
    """One connection that has not joined.

    Attributes:
        step: how far it has come.
        since_s: since when it has been there.
        site: what it counts for; ``None`` if that is not known.
        is_overdue: whether the last look found its time over.
    """

    step: Step
    since_s: float
    site: str | None
    is_overdue: bool = False


#: Descriptors that connections leave to the store, the links and the rest of the process; of few, a quarter.
_KEPT, _KEPT_SHARE = 128, 4
#: However few are left: without any nobody could join.
_LEAST = 8


def room_for(descriptors: int, members: int) -> int:
    """How many strangers there may be, as far as descriptors go.

    Args:
        descriptors: how many the process could open when it had no connections.
        members: how many connections have joined.
    """
    room = descriptors - min(_KEPT, descriptors // _KEPT_SHARE)
    return max(_LEAST, min(room // 2, room - members))


class Strangers:
    """All connections that have not joined, each under a key of its owner's.

    Args:
        patience_s: for each step.
        most_of_one: how many there may be of one address.
    """

    def __init__(self, patience_s: float, most_of_one: int) -> None:
        self._patience_s = patience_s
        self._most_of_one = most_of_one
        # All, and those of each address; the oldest first.
        self._there: dict[Any, _Stranger] = {}
        self._of: dict[str, dict[Any, None]] = {}

    def __len__(self) -> int:
        return len(self._there)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._there))

    def came(self, key: object, step: Step, now_s: float, site: str | None) -> None:
        """One came, or left its session.

        Args:
            key: which.
            step: how far it has come.
            now_s: the clock.
            site: what it counts for; ``None``: it counts among all and for no address, as behind a proxy that has
                not said yet for whom it came.
        """
        self.went(key)
        self._there[key] = _Stranger(step, now_s, site)
        if site is not None:
            self._of.setdefault(site, {})[key] = None

    def went(self, key: object) -> None:
        """One joined, or is gone."""
        stranger = self._there.pop(key, None)
        if stranger is not None and stranger.site is not None:
            others = self._of[stranger.site]
            del others[key]
            if not others:
                del self._of[stranger.site]

    def one_too_many(self, site: str | None, most: int) -> tuple[Any, str] | None:
        """Who is to go because there are too many, and of which limit; ``None`` if there aren't.

        Args:
            site: of whoever came last.
            most: how many there may be in all.
        """
        same = {} if site is None else self._of.get(site, {})
        if len(same) > self._most_of_one:
            return next(iter(same)), "limits.strangers_per_address"
        return (next(iter(self._there)), "limits.strangers") if len(self._there) > most else None

    def overdue(self, key: object, step: Step, heard_s: float, now_s: float) -> str | None:
        """Take note how far one has come by now; returns why it must go, if its time is over.

        It is over only at the second look that finds it so: what came while the reactor was busy is read in between.

        Args:
            step: how far it has come.
            heard_s: when the last byte came of it.
        """
        stranger = self._there[key]
        if step > stranger.step:
            stranger.step, stranger.since_s = step, now_s
        patience_s = self._patience_s
        if stranger.step is Step.ASKED:
            patience_s = max(patience_s, _REQUEST_S)
        elif stranger.step is Step.OPENED and heard_s > stranger.since_s and now_s - heard_s <= _PINGS_EACH_S:
            patience_s = max(patience_s, _WATCH_S)
        was_overdue, stranger.is_overdue = stranger.is_overdue, now_s - stranger.since_s > patience_s
        if not (was_overdue and stranger.is_overdue):
            return None
        return f"{_OWED[stranger.step]} within {patience_s:g} s"
