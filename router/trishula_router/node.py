"""The node: its life, and what comes to it from outside, without a word of WAMP.

The services of a node are made and wired in :mod:`trishula_router.services`; what runs by the clock is in
:mod:`trishula_router.housekeeping`. What the node offers to clients is in :mod:`trishula_router.verbs.procedures`,
built of the services. The edge registers the procedures and hands over what comes, by :meth:`Node.serve`; tests
drive a node without a router.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula.errors import (
    NodeStopping,
    NotAllowed,
    ReadsTooSlowly,
    StorageFailed,
    StorageFull,
    TrishulaError,
)
from trishula_router.agents.callers import Caller, Verb
from trishula_router.alerting import notifier_of
from trishula_router.canary_rounds import LOOK_S, CanaryRounds
from trishula_router.housekeeping import Housekeeping
from trishula_router.measuring import last_record_at, recorder_of
from trishula_router.services import CATCHING_UP, Services
from trishula_router.session_news import tell_of_sessions
from trishula_router.store.facts import NodeStartedFacts, NodeStoppedFacts
from trishula_router.store.journal import Kind

__all__ = [
    "Node",
]

log = Logger()

#: How long a node that starts waits for its peers' news before it delivers what it has; so long, and no longer, a
#: message waits for a peer that is away.
CATCH_UP_PATIENCE_S = 1.5


class Node(Services):
    """A node: its services, and what comes to them from outside."""

    #: Where the key is with which the node signs; the edge says it. A node in memory has none.
    crossbar_dir: Path | None = None
    _housekeeping: Housekeeping | None = None

    @cached_property
    def canary_rounds(self) -> CanaryRounds:
        """Canaries between agents; also of a node that is never started, which clients attach to all the same."""
        return CanaryRounds(self)

    def _built(self) -> None:
        tell_of_sessions(self)

    async def start(self) -> None:
        """Take over what the store holds, and begin to work."""
        sizes = await self.store.open_mailboxes()
        lived_until = await last_record_at(self.store)
        self.mailroom.load(sizes)
        if self.store.high_water:
            self.instances.begin(self.clock.seconds())
        for address in sizes:
            self.instances.remember(address, self.clock.seconds())
        self.directory.recall(await self.last_seen.before())
        await self.turns.recall()
        await self.fallback.begin()
        self.principals.heed_time(self.now() / 1000)
        await self.revoking.begin()
        await self.leases.rounds.begin()
        await self.departures.begin()
        await self.attachments.begin()
        self.timekeeper.remember()
        facts = NodeStartedFacts(self.config.node, self.version, os.getpid())
        try:
            await self.store.note(Kind.NODE_STARTED, facts, self.now())
        except StorageFull:
            # It can't take anything, and can still hand over what it has.
            log.failure("the node's store is full; it starts all the same, and refuses what is sent")
        await self.change_records.begin()
        await self.sharing.begin()
        for mirror in self.mirrors:
            await mirror.begin()
        self.notifier = await notifier_of(self)
        self.recorder = recorder_of(self)
        self.recorder.begin(lived_until)
        self._housekeeping = Housekeeping(self)
        self._housekeeping.start()
        self.listener.canary, self.neighbourhood.knowing = self.canary_rounds.receive, self.canary_rounds.knowing
        self._housekeeping.every(LOOK_S, self.canary_rounds.look)
        if self.config.peers:
            # What was done elsewhere while this node was away is not to be delivered again, if that can be known soon.
            self.delivery.hold_back(CATCHING_UP)
            self.gate.shut(lambda: self.delivery.let_go(CATCHING_UP))
            self._housekeeping.later(CATCH_UP_PATIENCE_S, self.gate.open)
        self.peering.start()
        self.neighbourhood.start()

    async def stop(self) -> None:
        """Accept nothing more, make durable what was accepted, and close the store."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.peering.stop()
        self.neighbourhood.stop()
        self.sharing.stop()
        if self._housekeeping is not None:
            self._housekeeping.stop()
            await self.recorder.stop()
        try:
            await self.store.note(Kind.NODE_STOPPED, NodeStoppedFacts(self.config.node), self.now())
        except (StorageFull, StorageFailed):
            log.failure("that the node stopped could not be noted")
        await self.store.close()

    def link_lost(self, peer: str) -> None:
        """The link to a peer broke."""
        self.peering.link_lost(peer)

    async def authenticate(self, realm: object, authid: object, details: Mapping[str, Any]) -> dict[str, str]:
        """Whose session a joining client gets; see :meth:`~trishula_router.agents.door.Door.authenticate`."""
        await self.gate.passed()
        return self.door.authenticate(realm, authid, details)

    # -- sessions ------------------------------------------------------------------------------------------------------

    def session_joined(self, agent: str, session: int, role: str, client_ip: str | None = None) -> None:
        """A client joined as an agent, from an IP address."""
        self.sessions.joined(session, agent, role, client_ip, self.now())

    def session_left(self, session: int) -> None:
        """A client's session is gone."""
        self.sessions.left(session)

    def ended_slow_reader(self, agent: str, sentence: str) -> None:
        """The edge ended a client's connection, which would have filled the memory."""
        self.refusals.refused(agent, ReadsTooSlowly, sentence, self.clock.seconds())

    def exceeded(self, agent: str, error: TrishulaError) -> None:
        """An agent was refused what goes beyond its quotas."""
        self.refusals.refused(agent, type(error), error.sentence, self.clock.seconds())

    def seconds(self) -> float:
        """The clock for spans."""
        return self.clock.seconds()

    def answer_forged(self, agent: str, sentence: str) -> None:
        """A session of an agent answered what it was not asked."""
        self.refusals.refused(agent, NotAllowed, sentence, self.clock.seconds())

    # -- the way in ----------------------------------------------------------------------------------------------------

    async def serve(self, verb: Verb, caller: Caller, args: tuple[Any, ...]) -> Any:
        """Run a procedure for a caller who may give up: what it has begun goes on all the same."""
        return await _to_its_end(self.carry_out(verb, caller, args))

    async def carry_out(self, verb: Verb, caller: Caller, args: tuple[Any, ...]) -> Any:
        """Run a procedure for a caller: every way in leads through here.

        It must not be cancelled, see :func:`_to_its_end`.
        """
        if self.is_stopping:
            raise NodeStopping("the node is stopping and takes no more calls; try another node, or this one later")
        if self.sessions.is_gone(caller.session):
            # Its last calls may come after the news that it is gone; what they took would wait for nobody.
            raise NotAllowed(f"session {caller.session} of {caller.agent} is gone; join again")
        now = self.now()
        # Its first call may overtake the news that it joined.
        session = self.sessions.joined(caller.session, caller.agent, caller.role, None, now)
        self.directory.sign_of_life(session, now)
        if self.joins.served(session):
            took_s = self.clock.seconds() - session.authenticated_s
            self.measures.connects.observe(round(1000 * max(0.0, took_s)))
        return await verb(caller, args)


def _to_its_end(work: Coroutine[Deferred[Any], Any, Any]) -> Deferred[Any]:
    """The outcome of work that goes on when its caller goes away.

    Autobahn cancels the Deferred of a call that is interrupted. Work that is cut off between the store and the memory
    would leave messages that are stored and in no mailbox.
    """
    answer: Deferred[Any] = Deferred()

    def tell(outcome: object) -> None:
        if answer.called and isinstance(outcome, Failure):
            log.info("a call whose caller is gone failed: {why}", why=outcome.getErrorMessage())
        answer.callback(outcome)

    Deferred.fromCoroutine(work).addBoth(tell)
    return answer
