"""All connections of the router worker: strangers go in time, slow readers fill no memory, dead peers are noticed.

Crossbar and Autobahn (26.10) have no part in this: a connection that never says HELLO stays for ever, what is queued
for a client that doesn't read has no bound, and pings go out each second to each client, of which the client sends just
as many. Here each connection is of our class (:mod:`.guarded_connection`), and our :class:`Connections` look after them
twice a second, all in one round: a timer for each of 2,000 connections would cost more than their messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.logger import Logger

from trishula.contract import uris
from trishula.errors import NodeBusy
from trishula.session.carrying import Road
from trishula_router.client_ips import Proxies, site_of
from trishula_router.clocks.clock import Clock
from trishula_router.realm import LINK_ROLE
from trishula_router.settings.limits import Limits
from trishula_router.upstream.arrivals import Arrivals
from trishula_router.upstream.incoming import Bounds
from trishula_router.upstream.queues import Queues
from trishula_router.upstream.strangers import Step, Strangers, room_for
from trishula_router.upstream.unfinished import Unfinished

__all__ = ["Connections"]

log = Logger()

#: Between two rounds.
ROUND_S = 0.5
#: A peer that answers no ping of ours for so long, and still talks, reads nothing.
_STALLED_S = 60.0
#: Between two lines of the log about strangers.
_TELL_EACH_S = 60.0
#: What waits for a linked node is bounded by what the peers acknowledge; this bound is for a peer that runs wild.
_LINK_FACTOR = 8
#: Whoever is told that it is not let in, and does not go, is cut off after that.
_GOODBYE_S = 1.0


class Connections:
    """Looks after every connection of the worker.

    Args:
        limits: how many strangers, for how long, and how much is queued for one connection.
        clock: timers.
        ended: told the agent, the sentence: whom we have ended because it reads too slowly.
        proxies: who may say for whom a connection is.
        descriptors: how many the process can open beside those that it has.
        refused: told the client's IP, the reason and the sentence: whom the router did not let in.
        freed: told how much memory of an unfinished message is free again.
        by_proxy: told the number of a proxy worker and the client's IP: who has come by it and joined.
        rest: called once a round.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        ended: Callable[[str, str], object],
        proxies: Proxies,
        descriptors: int,
        refused: Callable[[str | None, str, str], object],
        *,
        freed: Callable[[int], object] = lambda size_bytes: None,
        by_proxy: Callable[[int, str], object] = lambda worker, client_ip: None,
        rest: Callable[[], object] = lambda: None,
    ) -> None:
        self.seconds = clock.seconds
        self.proxies = proxies
        self._descriptors = descriptors
        self._refused = refused
        self._limits = limits
        self._clock = clock
        self._ended = ended
        self._rest = rest
        self._by_proxy = by_proxy
        self.bounds = Bounds(Unfinished(), clock.seconds, freed)
        self._strangers = Strangers(limits.handshake_s, limits.strangers_per_address)
        self.arrivals = Arrivals(self, clock, proxies)
        #: What lies in memory for members.
        self.queues = Queues(limits.agent_queue_bytes, limits.queues_bytes)
        self._members: set[Any] = set()
        self._ended_slow = self._ended_strangers = 0
        # Of the latter, how many the log has told of; when it may tell again; and why the last one was ended.
        self._told_of, self._tell_at_s, self._why = 0, 0.0, ""

    def start(self) -> None:
        """Look after them from now on."""
        self._clock.callLater(ROUND_S, self._again)

    def told(self) -> dict[str, int]:
        """For ``node.status``: how many there are, and how many were ended since the node started."""
        return {
            "joined": len(self._members),
            "strangers": len(self._strangers),
            "ended_strangers": self._ended_strangers,
            "ended_slow_readers": self._ended_slow,
            "queued_bytes": self.queues.total_bytes,
        }

    def road_to(self, peer: str) -> Road | None:
        """How it stands with the link that a peer has made to us; ``None`` if there is none."""
        for connection in self._members:
            if role_of(connection) == LINK_ROLE and connection._session._authid == peer:
                return cast("Road | None", connection.road())
        return None

    # -- from the connections ------------------------------------------------------------------------------------------

    def came(self, connection: Any, step: Step) -> None:
        """Somebody came."""
        site = None if connection.client_ip is None else site_of(connection.client_ip)
        self._strangers.came(connection, step, self.seconds(), site)
        most = min(self._limits.strangers, room_for(self._descriptors, len(self._members)))
        while (found := self._strangers.one_too_many(site, most)) is not None:
            oldest, limit = found
            # It may have joined, or be gone, since the last round.
            if self._look_at(oldest) is not None:
                self._dismiss(oldest, f"there are more that have not joined than {limit} allows, or descriptors do")

    def misbehaves(self, connection: Any, why: str) -> None:
        """A stranger does what none may."""
        self._dismiss(connection, why)

    def left(self, connection: Any) -> None:
        """Its socket is closed."""
        self._strangers.went(connection)
        self._members.discard(connection)

    def answered(self, connection: Any, message: Any) -> None:
        """A stranger was told something: that it is let in, or not. It has no second try on that connection."""
        kind = type(message).__name__
        if kind == "Abort":
            # Those with an error of ours are on record.
            if not message.reason.startswith(uris.PREFIX):
                self._refused(connection.client_ip, message.reason, message.message or "")
            connection.is_refused = True
            self._clock.callLater(_GOODBYE_S, connection.dismiss)
        if connection.client_ip is not None and (
            kind == "Welcome" or (kind == "Abort" and message.reason == NodeBusy.uri)
        ):
            self.arrivals.is_earnest(connection.client_ip)
            introduction = getattr(getattr(connection, "transport", None), "introduction", None)
            if introduction is not None:
                self._by_proxy(introduction.worker, connection.client_ip)

    def sent(self, connection: Any) -> None:
        """Something was put into a connection's queue, which may be too long by now."""
        queued = connection.outflow.unsent_bytes
        limit = self._limits.connection_queue_bytes
        if queued <= limit or connection.outflow.is_closed:
            return
        if role_of(connection) == LINK_ROLE:
            limit *= _LINK_FACTOR
        if queued > limit:
            self.end_slow_reader(connection, f"more than {limit} bytes wait for it (limits.connection_queue)")

    # -- rounds --------------------------------------------------------------------------------------------------------

    def _again(self) -> None:
        try:
            self._look_at_strangers()
            self._look_at_members()
            self._tell_of_strangers()
            self._rest()
        except Exception:
            log.failure("a round over the connections failed")
        self._clock.callLater(ROUND_S, self._again)

    def _look_at_strangers(self) -> None:
        now_s = self.seconds()
        for connection in self._strangers:
            found = self._look_at(connection)
            if found is not None and (why := self._strangers.overdue(connection, *found, now_s)) is not None:
                self._dismiss(connection, why)

    def _look_at(self, connection: Any) -> tuple[Step, float] | None:
        """How far a stranger has come by now, and when it was heard last; ``None``: it is no stranger any more."""
        step, heard_s = connection.progress()
        if step is None:
            self._strangers.went(connection)
        elif step is Step.JOINED:
            self._strangers.went(connection)
            self._members.add(connection)
            connection.pulse.begin(self.seconds())
        else:
            return step, heard_s
        return None

    def _look_at_members(self) -> None:
        now_s = self.seconds()
        for connection in list(self._members):
            if connection.progress()[0] is not Step.JOINED:
                # It said GOODBYE and keeps its socket.
                self._members.discard(connection)
                self.came(connection, Step.OPENED)
            elif now_s >= connection.look_at_s:
                connection.look_at_s = now_s + connection.take_pulse()
                stalled_s = connection.outflow.stalled_since_s()
                if stalled_s is not None and now_s - stalled_s > _STALLED_S:
                    self.end_slow_reader(connection, f"it has taken nothing for {_STALLED_S:g} s")

    def _dismiss(self, connection: Any, why: str) -> None:
        self._strangers.went(connection)
        self._ended_strangers += 1
        self._why = why
        connection.dismiss()

    def _tell_of_strangers(self) -> None:
        # Not for each: whoever opens a thousand connections a second would fill the disk with lines.
        more, now_s = self._ended_strangers - self._told_of, self.seconds()
        if more and now_s >= self._tell_at_s:
            self._told_of, self._tell_at_s = self._ended_strangers, now_s + _TELL_EACH_S
            log.warn(
                "connections that had not joined were ended: {more}, the last one because {why}",
                more=more,
                why=self._why,
            )

    def end_slow_reader(self, connection: Any, why: str) -> None:
        """End a connection for which too much lies in memory."""
        self._members.discard(connection)
        self._ended_slow += 1
        session = connection._session
        agent = None if session is None else session._authid
        sentence = f"{agent or 'a client'} reads too slowly: {why}"
        log.warn("a connection is ended: {sentence}", sentence=sentence)
        connection.end_with(sentence)
        if agent is not None:
            self._ended(agent, sentence)


def role_of(connection: Any) -> object:
    """The role of a connection's session; ``None`` if it has none."""
    session = connection._session
    return None if session is None else session._authrole
