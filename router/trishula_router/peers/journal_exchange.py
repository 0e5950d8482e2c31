"""Peering: a node's talk with its peers, so that what one accepts is on the disks of all.

What is said, each on a topic of the peer that is meant (``trishula.peer.<to>.<kind>``), one msgpack text an event:

``hello``     who speaks and up to where it holds each journal: twice a second, when a peer comes into sight, and after
              each copy. It is sign of life and acknowledgement in one.
``journal``   a run of records with what else a store needs to copy them (:class:`Extract`).
``presence``  which agents are there, see ``neighbours``.
``canary``    one for an agent here, or that it has come; see ``canary_rounds``. ``agents``: see ``agents_exchange``;
              ``attachment``: see ``attachments.words``.

Clocks of nodes differ, by hours where nobody looks after them. So what has instants in it says when it was sent, and
hellos measure the difference; see :mod:`trishula_router.clocks.peer_clocks`. What is older does neither.

Who speaks is who the link's key says: a text that names another node is refused, as is one that can't be true
(:mod:`.belief`). What is refused changes nothing, so the next word of the real peer is taken as ever; and what a word
made doubtful (:attr:`Peering.faults`) the next good one clears. A peer hands on journals of others too, but not of a
node that is itself there to speak.

Events may get lost, come twice or late (a link breaks, a router restarts). Whoever gets a run that doesn't continue
what it holds says so, and whoever sent one that isn't held after a while sends it again. ``replication`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula.session.carrying import Road
from trishula_router.clocks.clock import Clock, Timer
from trishula_router.clocks.peer_clocks import PeerClocks, ahead_of
from trishula_router.peers.belief import Belief, Hello, Journal, Unbelievable
from trishula_router.peers.copies import Copies
from trishula_router.peers.journal_policy import Replication
from trishula_router.peers.peer_states import clock_warning, told
from trishula_router.store.interface import Copied, Store
from trishula_router.store.runs import Extract, JournalForked

__all__ = ["AGENTS", "ATTACHMENT", "CANARY", "HELLO", "JOURNAL", "KINDS", "PRESENCE", "Peering"]

log = Logger()

HELLO, JOURNAL, PRESENCE, AGENTS = "hello", "journal", "presence", "agents"
CANARY, ATTACHMENT = "canary", "attachment"
#: The topics of a node, behind its name.
KINDS = (HELLO, JOURNAL, PRESENCE, CANARY, AGENTS, ATTACHMENT)

#: A peer that fell silent is noticed after five of them.
HELLO_PERIOD_S = 0.5
#: One event carries at most so many records and bytes of bodies (and at least one record).
RUN_RECORDS = 512
RUN_BYTES = 1024 * 1024
#: While more than that is on its way to a peer, nothing is added to it: it would wait in memory, and our own news of
#: what we hold behind it.
ROAD_BYTES = 4 * 1024 * 1024
#: What a peer isn't told to have arrived it sends again after 3 s: a journal that really is another one than is held
#: here is seen again by then.
FORKED_FOR_S = 10.0
#: A fault that comes back within so long is not logged anew.
_TOLD_FOR_S = 60.0


class Peering:
    """The exchange with all peers of a node.

    Args:
        node: the node's name.
        store: what is held.
        replication: what is decided.
        post: sends a text to a peer: (peer, kind, text).
        absorb: takes what a copy changed, the run that was copied, and by how many ms its sender's clock is ahead.
        sighted: told of peers that came into sight or are away: (peer, whether it is there).
        caught_up: told once, when all peers were heard of and nothing that they hold is missing here.
        clock: timers.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        node: str,
        store: Store,
        replication: Replication,
        *,
        post: Callable[[str, str, bytes], None],
        absorb: Callable[[Copied, Extract, int], None],
        sighted: Callable[[str, bool], None],
        caught_up: Callable[[], None],
        clock: Clock,
        now: Callable[[], int],
    ) -> None:
        self.replication = replication
        #: What makes replication with a peer impossible, as sentences for the operator.
        self.faults: dict[str, str] = {}
        # Those of them that the peer's latest hello made, and the next one may clear.
        self._beyond: set[str] = set()
        # Those that a run of records made: the epoch of its journal, and when. If a run of it can be copied, or none
        # comes that can't, they are over. They say that nothing is taken from a peer, and don't keep anything from it.
        self._forked: dict[str, tuple[str, float]] = {}
        # When each of them was logged last, s.
        self._told_at_s: dict[str, float] = {}
        self.clocks = PeerClocks(replication.peers)
        #: How it stands with the link to a peer; the edge knows.
        self.road_to: Callable[[str], Road | None] = lambda _: None
        #: What runs here, and the digest of the file of agents: told to the peers. Theirs by peer.
        self.about: Callable[[], tuple[str, str]] = lambda: ("", "")
        self._about_peers: dict[str, tuple[str, str]] = {}
        self._belief = Belief(node, store, replication)
        self._node = node
        self._store = store
        self._post = post
        self._absorb = absorb
        self._sighted = sighted
        self._caught_up: Callable[[], None] | None = caught_up
        self._clock = clock
        self._now = now
        self._extracting: set[str] = set()
        self._missed: set[str] = set()
        self._hello_soon: Timer | None = None
        self._pump_soon: Timer | None = None
        self._beat: Timer | None = None
        #: Senders that wait for copies.
        self.copies = Copies(replication, clock.seconds)
        self._stopped = False
        # Whether this node's clock is being set; and how often it was.
        self._is_paused = False
        self._settings = 0

    def start(self) -> None:
        """Begin to say hello, if there is anybody to say it to."""
        if self.replication.peers:
            self._store.on_advance(self._advanced)
            self._again()

    def stop(self) -> None:
        """Say nothing more; who waits for copies is told how many there are."""
        self._stopped = True
        for timer in (self._hello_soon, self._pump_soon, self._beat):
            if timer is not None and timer.active():
                timer.cancel()
        self.copies.stop()

    def _again(self) -> None:
        # First of all: a round that fails must not be the last one.
        self._beat = self._clock.callLater(HELLO_PERIOD_S, self._again)
        now_s = self._clock.seconds()
        for name in self.replication.peers:
            if (road := self.road_to(name)) is not None:
                self.replication.moved(name, road.heard_s)
        for name in self.replication.silent(now_s):
            log.warn("the node {peer} can't be reached: nothing came from it for a while", peer=name)
            self.clocks.lost(name)
            self._sighted(name, False)
        for name, (_, at_s) in list(self._forked.items()):
            if now_s - at_s > FORKED_FOR_S:
                self._clear(name)
        self.copies.look()
        self._say_hello()
        for name in self.replication.peers:
            self._pump(name)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _say_hello(self) -> None:
        held = {origin.epoch: origin.sequence for origin in self._store.origins()}
        steady_ms = self._steady_ms()
        for name in self.replication.peers:
            hello = Hello(
                self._node,
                self._store.epoch,
                held,
                name in self._missed,
                self._now(),
                steady_ms,
                *self.clocks.echo(name, steady_ms),
                *self.about(),
                True,
            )
            self._post(name, HELLO, msgspec.msgpack.encode(self._belief.with_store(hello)))
        self._missed.clear()

    def _steady_ms(self) -> int:
        # 0 stands for none.
        return 1 + round(self._clock.seconds() * 1000)

    def _hello_at_once(self) -> None:
        # One for all that happens in this turn of the reactor.
        if not self._stopped and (self._hello_soon is None or not self._hello_soon.active()):
            self._hello_soon = self._clock.callLater(0, self._say_hello)

    def _advanced(self) -> None:
        if not self._stopped and (self._pump_soon is None or not self._pump_soon.active()):
            self._pump_soon = self._clock.callLater(0, self._pump_all)

    def _pump_all(self) -> None:
        for name in self.replication.peers:
            self._pump(name)

    def _pump(self, name: str) -> None:
        is_at_fault = name in self.faults and name not in self._forked
        if self._stopped or self._is_paused or name in self._extracting or is_at_fault:
            return
        road = self.road_to(name)
        if road is not None and road.queued_bytes > ROAD_BYTES:
            # The peer's next word about what it holds comes when there is room, and the next look half a second later.
            return
        is_moving = road is not None and road.is_moving
        run = self.replication.next_run(name, self._store.origins(), self._clock.seconds(), is_moving=is_moving)
        if run is None:
            return
        self._extracting.add(name)
        settings = self._settings

        def send(extract: Extract) -> None:
            self._extracting.discard(name)
            if self._stopped or not (extract.records or extract.rest):
                return
            if settings != self._settings:
                # Its instants are by the clock as it was.
                self._pump(name)
                return
            journal = Journal(self._node, self._writer_of(run.origin), extract, self._now())
            text = msgspec.msgpack.encode(journal)
            self._post(name, JOURNAL, text)
            self.replication.sent(name, run, extract.last, self._clock.seconds(), size_bytes=len(text))
            self._pump(name)

        def fail(failure: Any) -> None:
            self._extracting.discard(name)
            if not self._stopped:
                log.failure("the journal could not be read for {peer}", failure, peer=name)

        self._store.extract(run.origin, run.after, limit=RUN_RECORDS, limit_bytes=RUN_BYTES).addCallbacks(send, fail)

    def pause(self) -> None:
        """This node's clock is being set: hand out no instants until :meth:`go_on`."""
        self._is_paused = True
        self._settings += 1

    def resume(self) -> None:
        """The clock is set."""
        self._is_paused = False
        self.clocks.was_set()
        self._pump_all()

    def _writer_of(self, number: int) -> str:
        return next((one.node for one in self._store.origins() if one.number == number and number), self._node)

    # -- in ------------------------------------------------------------------------------------------------------------

    def receive_hello(self, peer: str, text: bytes) -> None:
        """A peer told what it holds.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used.
        """
        hello = msgspec.msgpack.decode(text, type=Hello)
        name, own = hello.node, self._store.high_water
        if (why := self._belief.against_hello(peer, hello)) is not None:
            raise Unbelievable(why)
        if self._stopped or not self._is_peer(name):
            return
        beyond = hello.held.get(self._store.epoch, 0) - own
        if beyond > 0:
            self._beyond.add(name)
            self._blame(
                name,
                f"{name} holds {beyond} records of this store's journal that this store doesn't have: somebody has put "
                "an old copy of its file in place by hand; stop the node, and put the copy in place with: "
                "trishula node restore FILE",
            )
            return
        # A fault of the journal stays until that can be copied again.
        if name in self._beyond or self.replication.peers[name].epoch != hello.epoch:
            self._clear(name)
        now_s = self._clock.seconds()
        self._about_peers[name] = hello.version, hello.agents
        self._belief.heed(name, hello)
        self.clocks.heard(
            name,
            sent_at=hello.sent_at,
            mark=hello.mark,
            echo=hello.echo,
            echo_age_ms=hello.echo_age_ms,
            steady_ms=self._steady_ms(),
            now=self._now(),
        )
        self._warn_of_clocks()
        if self.replication.heard(name, hello.epoch, hello.held, own, now_s, missed=hello.missed):
            log.warn("the node {peer} is there", peer=name)
            self._sighted(name, True)
            self._hello_at_once()
        self.copies.look()
        self._look_whether_caught_up()
        self._pump(name)

    def _warn_of_clocks(self) -> None:
        for name, ahead_ms in self.clocks.news():
            if ahead_ms is None:
                log.warn("the clock of the node {peer} agrees with this node's again", peer=name)
            else:
                log.warn("{warning}", warning=clock_warning(name, ahead_ms))

    def _look_whether_caught_up(self) -> None:
        peers = self.replication.peers.values()
        if self._caught_up is None or not all(peer.is_up for peer in peers):
            return
        held = {origin.epoch: origin.sequence for origin in self._store.origins()}
        if not any(self.replication.lacks(peer.name, held) for peer in peers):
            caught_up, self._caught_up = self._caught_up, None
            caught_up()

    def receive_journal(self, peer: str, text: bytes) -> None:
        """A peer sent a run of records.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used.
        """
        journal = msgspec.msgpack.decode(text, type=Journal)
        if self._stopped or not self._is_peer(peer):
            return
        if (why := self._belief.against_journal(peer, journal)) is not None:
            raise Unbelievable(why)
        if any(one.is_up and one.epoch == journal.extract.epoch for one in self._belief.others(peer)):
            # Its writer is there, and brings it itself.
            return
        expected, last = journal.extract.first, journal.extract.last
        ahead_ms = ahead_of(journal.sent_at, self._now())
        self.replication.sent_us(journal.node, journal.extract.epoch, last, self._clock.seconds())

        def copied(copy: Copied) -> None:
            if copy.sequence >= last and self._forked.get(peer, ("", 0.0))[0] == journal.extract.epoch:
                self._clear(peer)
            if copy.sequence < expected - 1:
                self._missed.add(journal.node)
            self._absorb(copy, journal.extract, ahead_ms)
            self._look_whether_caught_up()
            self._hello_at_once()

        def failed(failure: Any) -> None:
            if self._stopped:
                return
            if failure.check(JournalForked):
                self._forked[peer] = journal.extract.epoch, self._clock.seconds()
                self._blame(journal.node, failure.getErrorMessage())
            elif failure.check(StorageFull, StorageFailed):
                # It comes again by itself; the store has logged what it lacks.
                log.debug("records of {peer} could not be copied", peer=journal.node)
            else:
                log.failure("records of {peer} could not be copied", failure, peer=journal.node)

        copying = self._store.copy(journal.writer, journal.extract, ahead_ms).addCallback(copied)
        copying.addErrback(failed)

    def link_lost(self, name: str) -> None:
        """The link to a peer broke, so nothing comes from it: whoever waits for its copies needn't wait in vain."""
        if not self._stopped and self._is_peer(name) and self.replication.lost(name):
            log.warn("the node {peer} can't be reached: the link to it broke", peer=name)
            self.clocks.lost(name)
            self._sighted(name, False)
            self.copies.look()

    def _is_peer(self, name: str) -> bool:
        return name in self.replication.peers

    def _blame(self, name: str, fault: str) -> None:
        now_s = self._clock.seconds()
        told_at_s = self._told_at_s.get(name)
        if name not in self.faults and (told_at_s is None or now_s - told_at_s > _TOLD_FOR_S):
            self._told_at_s[name] = now_s
            log.critical("replication with {peer} stopped: {fault}", peer=name, fault=fault)
        self.faults[name] = fault

    def _clear(self, name: str) -> None:
        self._beyond.discard(name)
        self._forked.pop(name, None)
        if self.faults.pop(name, None) is not None:
            log.warn("replication with {peer} goes on", peer=name)

    def told(self) -> list[dict[str, Any]]:
        """What there is to know of each peer, for ``node.status``."""
        about = self.about(), self._about_peers
        return told(self.replication, self._store, self.clocks, self.faults, *about, self._clock.seconds())

    def missing(self) -> list[dict[str, Any]]:
        """The peers of whose journals there may be more than is held here: how far it goes, and why there may be."""
        held = {origin.epoch: origin.sequence for origin in self._store.origins()} if self.replication.peers else {}
        return [
            {
                "node": name,
                "held": held.get(peer.epoch or "", 0),
                "reason": self.faults.get(name) or f"{name} can't be reached from {self._node}",
            }
            for name, peer in self.replication.peers.items()
            if not peer.is_up or name in self.faults
        ]
