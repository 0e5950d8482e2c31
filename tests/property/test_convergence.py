"""Stores that hold the same journals have the same states, in whatever order and portions the journals came.

Three stores do what nodes do (accept, deliver, hand over, settle, replay, purge) while runs of their journals reach
each other at random: late, twice, in portions of any size, passed on by a third. In the end each gets all, and then:

* each message has the same state everywhere, and it is that of a plain model, which reads the three journals by the
  rules in ``store/standing.py`` and knows nothing of how stores work;
* each message to a capability has the same keeper everywhere, the one that the model reads out of the journals; and at
  no time has one that a single node accepted two of them;
* when it first surfaced is the same everywhere, and the earliest of what the nodes noted;
* what ``copy`` told along the way (arrived, settled, reopened, moved) is exactly how the open messages changed;
* the clocks of the nodes differ, and when a message was accepted and when it expires is the same on all of them, each
  by its own clock;
* every store verifies, and hands out messages of equal urgency in the order in which they came.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.support.stores import ReactorQueue, open_sqlite, result_of
from trishula.contract.addresses import agent_of, is_capability
from trishula_router.store.interface import Store
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import Draft, Return, State, StoredMessage
from trishula_router.store.runs import Extract

T = TypeVar("T")
#: (agent, id, recipient, digest)
Key = tuple[str, str, str, str]

NODES = ("agni", "rushabdev", "laptop")
ENDS = (State.DONE, State.DEAD, State.EXPIRED, State.CANCELLED)
#: How far the clocks of the nodes are ahead, ms.
AHEADS_MS = {"agni": 0, "rushabdev": 100_000_000, "laptop": 300_000_000}
#: Till when messages live by a clock that is right, if they are not replayed.
EXPIRES_AT = 10**9

RANKS = ("expired", "cancelled", "dead")


class Peer:
    """One node's store, and the open messages as its mailroom would know them."""

    def __init__(self, node: str, directory: Path | None) -> None:
        self.node = node
        self.ahead_ms = AHEADS_MS[node]
        self._directory = directory
        self._calls = ReactorQueue()
        self.store: Store = MemoryStore(f"epoch-of-{node}", node) if directory is None else self._open()
        #: With their keepers.
        self.open: dict[int, str | None] = {}

    def _open(self) -> Store:
        assert self._directory is not None
        return open_sqlite(self._directory, self._calls, epoch=f"epoch-of-{self.node}", node=self.node)

    def do(self, deferred: Deferred[T]) -> T:
        return result_of(deferred) if self._directory is None else self._calls.wait(deferred)

    def close(self) -> None:
        self.do(self.store.close())

    def restart(self) -> None:
        if self._directory is not None:
            self.close()
            self.store = self._open()

    def messages(self) -> list[StoredMessage]:
        return self.do(self.store.with_ids([f"m{number}" for number in range(12)]))

    def copy(self, source: Peer, node: str, extract: Extract) -> None:
        copied = self.do(self.store.copy(node, extract, source.ahead_ms - self.ahead_ms))
        for message, former in copied.moved:
            assert self.open[message.position] == former != message.keeper
            self.open[message.position] = message.keeper
        self.note(*copied.arrived, *copied.reopened)
        for message, _ in copied.settled:
            assert self.open.pop(message.position) == message.keeper
        told = (*copied.moved, *copied.settled)
        for message in (*copied.arrived, *copied.reopened, *(message for message, _ in told)):
            assert self.do(self.store.at_positions([message.position]))[message.position] == message

    def note(self, *messages: StoredMessage) -> None:
        """Messages are open from now on."""
        self.open |= {message.position: message.keeper for message in messages}

    def still_open(self) -> dict[int, str | None]:
        """What is open by the store."""
        return {message.position: message.keeper for message in self.messages() if message.state is State.OPEN}

    def held(self, epoch: str) -> int:
        return next((origin.sequence for origin in self.store.origins() if origin.epoch == epoch), 0)


class Cluster:
    """The nodes and the chance that rules them."""

    def __init__(self, chance: random.Random, peers: list[Peer]) -> None:
        self._chance = chance
        self.peers = peers
        self._at = 1000
        self._under_way: list[tuple[Peer, str, Extract]] = []
        #: When messages were accepted, by a clock that is right.
        self.accepted_at: set[int] = set()
        #: Those that were replayed; till when they live then, tests of their own look at.
        self.replayed: set[Key] = set()

    def _at_of(self, peer: Peer) -> int:
        return self._at + peer.ahead_ms

    def step(self) -> None:
        chance = self._chance
        self._at += chance.randint(0, 5)
        peer = chance.choice(self.peers)
        if chance.random() < 0.45:
            self._exchange(peer)
            return
        do = (
            *(self._accept, self._deliver, self._settle, self._settle, self._replay, self._purge, self._fail),
            *(self._hand_over, self._hand_over, self._surface),
        )
        chance.choice(do)(peer)
        if chance.random() < 0.05:
            peer.restart()
        assert peer.still_open() == peer.open
        self._look_at_keepers()

    def _accept(self, peer: Peer) -> None:
        self.accepted_at.add(self._at)
        drafts = [
            Draft(
                self._chance.choice(("dc", "dc/1", "dc/2", "web")),
                f"m{self._chance.randrange(12)}",
                tuple(self._chance.sample(("agni", "rush", "capability:deploy"), self._chance.randint(1, 3))),
                "STATUS",
                self._chance.choice((1, 3)),
                EXPIRES_AT + peer.ahead_ms,
                b'{"n":%d}' % self._at,
                # Now and then an agent uses an id for another message, and nodes that don't know it yet accept both.
                digest="other" if self._chance.random() < 0.2 else "one",
            )
            for _ in range(self._chance.randint(1, 3))
        ]
        for accepted in peer.do(peer.store.append(drafts, self._at_of(peer))):
            if not accepted.duplicate:
                peer.note(*peer.do(peer.store.at_positions(accepted.positions)).values())

    def _some(self, peer: Peer, *states: State) -> list[StoredMessage]:
        fitting = [message for message in peer.messages() if message.state in states]
        return self._chance.sample(fitting, min(len(fitting), self._chance.randint(1, 4)))

    def _deliver(self, peer: Peer) -> None:
        chosen = self._some(peer, State.OPEN)
        if chosen:
            attempts = [(message.position, message.attempts + 1) for message in chosen]
            peer.do(peer.store.deliver(attempts, "agni", 1, self._at_of(peer)))

    def _fail(self, peer: Peer) -> None:
        chosen = self._some(peer, State.OPEN)
        if chosen:
            returns = [Return(message.position, message.failures + 1, self._at_of(peer)) for message in chosen]
            peer.do(peer.store.give_back(returns, "it failed", self._at_of(peer)))

    def _surface(self, peer: Peer) -> None:
        # Whatever became of them, and also such as surfaced before.
        pairs = [(message.position, max(1, message.attempts)) for message in self._some(peer, *State)]
        known = {message.position for message in peer.messages() if message.surfaced_at is not None}
        first = peer.do(peer.store.surface(pairs, "agni", 1, self._at_of(peer)))
        assert set(first) == {position for position, _ in pairs} - known

    def _settle(self, peer: Peer) -> None:
        # Also what is settled already: the store has to know by itself.
        chosen = [message.position for message in self._some(peer, *State)]
        if chosen:
            peer.do(peer.store.settle(chosen, self._chance.choice(ENDS), "why", self._at_of(peer)))
            for position in chosen:
                peer.open.pop(position, None)

    def _replay(self, peer: Peer) -> None:
        chosen = self._some(peer, State.DEAD)
        self.replayed |= {_key_of(message) for message in chosen}
        revived = {message.position: EXPIRES_AT + self._at_of(peer) for message in chosen}
        peer.note(*peer.do(peer.store.replay(revived, self._at_of(peer))))

    def _hand_over(self, peer: Peer) -> None:
        # Also what is not this node's to hand over: the store has to know by itself.
        chosen = [message.position for message in self._some(peer, *State)]
        to = self._chance.choice([node for node in NODES if node != peer.node])
        peer.note(
            *(one for one in peer.do(peer.store.hand_over(chosen, to, self._at_of(peer))) if one.state is State.OPEN)
        )

    def _look_at_keepers(self) -> None:
        """No message that one node accepted has two keepers."""
        keepers: dict[Key, list[str]] = defaultdict(list)
        for peer in self.peers:
            for message in peer.messages():
                if message.is_kept_here and is_capability(message.recipient):
                    keepers[_key_of(message)].append(peer.node)
        acceptors = plain_claims(self.peers)
        for key, nodes in keepers.items():
            assert len(nodes) <= sum(hop == 0 for hop, _ in acceptors[key])

    def _purge(self, peer: Peer) -> None:
        if self._chance.random() < 0.3:
            peer.do(peer.store.purge([message.position for message in self._some(peer, State.DEAD)], self._at_of(peer)))

    def _exchange(self, peer: Peer) -> None:
        if self._under_way and self._chance.random() < 0.3:
            peer.copy(*self._chance.choice(self._under_way))
            return
        source = self._chance.choice([one for one in self.peers if one is not peer])
        origin = self._chance.choice(source.store.origins())
        after = max(0, peer.held(origin.epoch) - self._chance.choice((0, 0, 0, 1, 3)))
        run = self._run(source, origin.number, after, self._chance.randint(1, 6))
        self._under_way.append(run)
        peer.copy(*run)

    def _run(self, source: Peer, number: int, after: int, limit: int) -> tuple[Peer, str, Extract]:
        limit_bytes = self._chance.choice((300, 10**6))
        extract = source.do(source.store.extract(number, after, limit=limit, limit_bytes=limit_bytes))
        return source, source.store.place(number << 48)[0] or source.node, extract

    def exchange_all(self) -> None:
        """Everybody gets everything."""
        while self._missing():
            for source, peer, number, epoch in self._missing():
                before = peer.held(epoch)
                run = self._run(source, number, before, self._chance.randint(1, 20))
                peer.copy(*run)
                assert peer.held(epoch) == max(before, run[2].first + len(run[2].records) - 1)

    def _missing(self) -> list[tuple[Peer, Peer, int, str]]:
        return [
            (source, peer, origin.number, origin.epoch)
            for source in self.peers
            for origin in source.store.origins()
            for peer in self.peers
            if origin.sequence > peer.held(origin.epoch)
        ]


def plain_model(peers: list[Peer]) -> dict[Key, str]:
    """The state of each message, from what the nodes wrote into their own journals, and nothing else."""
    told: dict[Key, list[tuple[str, int]]] = defaultdict(list)
    keys: dict[tuple[str, int], Key] = {}
    records = [(peer, record) for peer in peers for record in peer.do(peer.store.records(after=0, limit=100_000))]
    for peer, record in records:
        facts: dict[str, Any] = msgspec.json.decode(record.facts)
        if record.kind == "accepted":
            keys[peer.node, record.position] = _key_in(facts)
    for key in keys.values():
        told[key] = []
    for peer, record in records:
        if record.kind not in (*RANKS, "done", "replayed", "purged"):
            continue
        facts = msgspec.json.decode(record.facts)
        for index, position in enumerate(facts["messages"]):
            node, sequence = peer.store.place(position)
            told[keys[node or peer.node, sequence]].append(
                (record.kind, facts.get("lives", {}) and facts["lives"][index])
            )
    return {key: _end_of(list_of) for key, list_of in told.items()}


def plain_surfacings(peers: list[Peer]) -> dict[Key, int]:
    """When each message first surfaced, by the earliest record of all nodes' own journals."""
    keys: dict[tuple[str, int], Key] = {}
    records = [(peer, record) for peer in peers for record in peer.do(peer.store.records(after=0, limit=100_000))]
    for peer, record in records:
        if record.kind == "accepted":
            keys[peer.node, record.position] = _key_in(msgspec.json.decode(record.facts))
    found: dict[Key, int] = {}
    for peer, record in records:
        for position, _ in msgspec.json.decode(record.facts)["messages"] if record.kind == "surfaced" else ():
            node, sequence = peer.store.place(position)
            key = keys[node or peer.node, sequence]
            found[key] = min(record.at, found.get(key, record.at))
    return found


def plain_claims(peers: list[Peer]) -> dict[Key, list[tuple[int, str]]]:
    """Which nodes were ever to hand out a message to a capability, with the hop, from the nodes' own journals."""
    claims: dict[Key, list[tuple[int, str]]] = defaultdict(list)
    keys: dict[tuple[str, int], Key] = {}
    records = [(peer, record) for peer in peers for record in peer.do(peer.store.records(after=0, limit=100_000))]
    for peer, record in records:
        facts: dict[str, Any] = msgspec.json.decode(record.facts)
        if record.kind == "accepted":
            keys[peer.node, record.position] = key = _key_in(facts)
            if is_capability(facts["to"]):
                claims[key].append((0, peer.node))
    for peer, record in records:
        if record.kind == "handed":
            facts = msgspec.json.decode(record.facts)
            for position, hop in zip(facts["messages"], facts["hops"], strict=True):
                node, sequence = peer.store.place(position)
                claims[keys[node or peer.node, sequence]].append((hop, facts["keeper"]))
    return claims


def keepers(peer: Peer) -> dict[Key, str]:
    """Who hands out each message to a capability, as one node sees it."""
    found = {}
    for message in peer.messages():
        if is_capability(message.recipient):
            accepted_by = peer.store.place(message.position)[0]
            keeper = accepted_by if message.keeper is None else message.keeper
            found[_key_of(message)] = keeper or peer.node
    return found


def _key_of(message: StoredMessage) -> Key:
    return agent_of(message.sender), message.id, message.recipient, message.digest


def _key_in(facts: dict[str, Any]) -> Key:
    return agent_of(facts["from"]), facts["id"], facts["to"], facts["digest"]


def _end_of(told: list[tuple[str, Any]]) -> str:
    kinds = {kind for kind, _ in told}
    if "done" in kinds:
        return "done"
    if "purged" in kinds:
        return "dead"
    life = max((life for kind, life in told if kind == "replayed"), default=0)
    ends = [kind for kind, of in told if kind in RANKS and (of or 0) == life]
    return max(ends, key=RANKS.index) if ends else "open"


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_stores_in_memory_converge(seed: int, steps: int) -> None:
    converge([Peer(node, None) for node in NODES], seed, steps)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
# A broadcast that another node has of two nodes, for one of its recipients.
@example(seed=102, steps=46)
@example(seed=103, steps=113)
def test_stores_in_files_converge(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        converge([Peer(node, made(Path(directory) / node)) for node in NODES], seed, steps)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_stores_of_both_kinds_converge(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        converge(
            [Peer(node, None if node == "laptop" else made(Path(directory) / node)) for node in NODES], seed, steps
        )


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def converge(peers: list[Peer], seed: int, steps: int) -> None:
    cluster = Cluster(random.Random(seed), peers)
    try:
        for _ in range(steps):
            cluster.step()
        cluster.exchange_all()
        expected = plain_model(peers)
        expected_keepers = {key: max(claims)[1] for key, claims in plain_claims(peers).items()}
        for peer in peers:
            peer.restart()
            assert states(peer) == expected
            assert keepers(peer) == expected_keepers
            assert peer.still_open() == peer.open
            assert peer.do(peer.store.verify()).damages == ()
            assert in_order(peer)
            assert bodies_of_open(peer)
            for message in peer.messages():
                assert message.accepted_at - peer.ahead_ms in cluster.accepted_at
                if _key_of(message) not in cluster.replayed:
                    assert message.expires_at - peer.ahead_ms == EXPIRES_AT
            assert surfacings(peer) == plain_surfacings(peers)
        assert len({tuple(sorted(attempts(peer).items())) for peer in peers}) == 1
    finally:
        for peer in peers:
            peer.close()


def states(peer: Peer) -> dict[Key, str]:
    return {_key_of(it): it.state.name.lower() for it in peer.messages()}


def attempts(peer: Peer) -> dict[Key, int]:
    return {_key_of(it): it.attempts for it in peer.messages()}


def surfacings(peer: Peer) -> dict[Key, int]:
    return {_key_of(it): it.surfaced_at for it in peer.messages() if it.surfaced_at is not None}


def in_order(peer: Peer) -> bool:
    """Whether arrivals are different, and the head of each mailbox is sorted by urgency and arrival."""
    messages = peer.messages()
    heads = [peer.do(peer.store.head(to, (0, 0), 1000)) for to in {message.recipient for message in messages}]
    orders = [[(message.priority, message.arrival) for message in head] for head in heads]
    return len({message.arrival for message in messages}) == len(messages) and all(o == sorted(o) for o in orders)


def bodies_of_open(peer: Peer) -> bool:
    bodies = peer.do(peer.store.bodies(sorted(peer.open)))
    return bodies.keys() == peer.open.keys()
