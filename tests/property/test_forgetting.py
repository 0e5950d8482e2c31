"""Stores that forget at random lose no acceptance, take none for an old one, bring none back, and agree in the end.

Three stores do what nodes do, and what retention has them do: bodies go, journals and copies are cut, rows are dropped,
each when it likes, by a clock and a span of its own, and told of the others by hellos that come late or not at all. A
plain list of all that each of them ever wrote into its journal says what is to be. Records ``accepted`` of one key, one
content and one use are one message, and then:

* none is accepted as one that any node has forgotten;
* none that a node has forgotten comes back to it;
* each is on each node as what the records of its own positions make of it, or was forgotten there when it was over.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.property.test_convergence import NODES, RANKS, Cluster, Peer, made
from trishula.contract.addresses import agent_of
from trishula_router.archiving.copies import held_by_all
from trishula_router.archiving.dropping import Dropping
from trishula_router.peers.journal_policy import Replication
from trishula_router.store.facts import ArchivedFacts
from trishula_router.store.messages import Draft, State, StoredMessage

#: (agent, id, recipient, digest, use)
Message = tuple[str, str, str, str, int]

#: For how long each remembers ids, ms; a step takes some.
IDS_MS = {"agni": 20, "rushabdev": 60, "laptop": 130}
#: For how long messages live, ms.
TTL_MS = 15


class Linked:
    """What a node beside its store needs to forget, and what it forgot."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.replication = Replication(peer.store.epoch, [node for node in NODES if node != peer.node])
        self.dropping = Dropping(peer.store, self.replication)
        self.logged = 0
        self.dropped: set[Message] = set()


class Forgetful(Cluster):
    """A cluster whose nodes forget."""

    def __init__(self, chance: random.Random, peers: list[Peer]) -> None:
        super().__init__(chance, peers)
        self.linked = {peer.node: Linked(peer) for peer in peers}
        #: What each node accepted, by (node, sequence); and what was told of it: (kind, life) each.
        self.messages: dict[tuple[str, int], Message] = {}
        self.told: dict[Message, list[tuple[str, Any]]] = defaultdict(list)
        self._early: list[tuple[tuple[str, int], tuple[str, Any]]] = []

    def step(self) -> None:
        chance = self._chance
        self._at += chance.randint(0, 5)
        peer = chance.choice(self.peers)
        linked = self.linked[peer.node]
        turn = chance.random()
        if turn < 0.2:
            self._exchange(peer)
        elif turn < 0.23:
            self.exchange_all()
        elif turn < 0.5:
            other = chance.choice([one for one in self.peers if one is not peer])
            self._hello(peer, other)
        elif turn < 0.7:
            self._cut(linked)
        elif turn < 0.8:
            self._drop(linked)
        else:
            do = (self._accept, self._accept, self._deliver, self._settle, self._settle, self._replay, self._purge)
            chance.choice((*do, self._surface))(peer)
        if chance.random() < 0.03:
            peer.restart()
            linked.dropping = Dropping(peer.store, linked.replication)
        self._log(linked)
        assert peer.still_open() == peer.open
        # None comes back.
        assert not {message_of(row) for row in peer.messages()} & linked.dropped

    def _accept(self, peer: Peer) -> None:
        at = self._at_of(peer)
        drafts = [
            Draft(
                self._chance.choice(("dc", "dc/1", "web")),
                f"m{self._chance.randrange(5)}",
                tuple(self._chance.sample(("agni", "rush"), self._chance.randint(1, 2))),
                "STATUS",
                3,
                at + TTL_MS,
                b"{}",
                digest="other" if self._chance.random() < 0.2 else "one",
            )
            for _ in range(self._chance.randint(1, 3))
        ]
        for accepted in peer.do(peer.store.append(drafts, at, ids_since=at - IDS_MS[peer.node])):
            if not accepted.duplicate:
                peer.note(*peer.do(peer.store.at_positions(accepted.positions)).values())

    def _replay(self, peer: Peer) -> None:
        chosen = self._some(peer, State.DEAD)
        revived = {message.position: self._at_of(peer) + TTL_MS for message in chosen}
        peer.note(*peer.do(peer.store.replay(revived, self._at_of(peer))))

    def _hello(self, teller: Peer, hearer: Peer) -> None:
        """As peers.belief has it."""
        replication = self.linked[hearer.node].replication
        held = {origin.epoch: origin.sequence for origin in teller.store.origins()}
        replication.heard(teller.node, teller.store.epoch, held, hearer.store.high_water, 0.0)
        known = replication.peers[teller.node]
        known.base, known.first_use = teller.store.base().sequence, teller.store.first_use
        known.bare = dict(self.linked[teller.node].replication.bare)
        hearer.do(hearer.store.raise_first_use(known.first_use))

    def _cut(self, linked: Linked) -> None:
        peer, replication, now = linked.peer, linked.replication, self._at_of(linked.peer)
        # Dead letters stay longer at some.
        dead_before = now - 10 * IDS_MS[peer.node] * (peer.node == "laptop")
        peer.do(peer.store.forget(0, 100, before=now - 5, dead_before=dead_before, at=now))
        self._log(linked)
        base, until = peer.store.base(), held_by_all(replication, peer.store.high_water)
        records = peer.do(peer.store.records(after=base.sequence, limit=self._chance.randint(1, 40)))
        old = [record for record in records if record.position <= until]
        if old and not base.is_behind:
            last = old[-1]
            facts = ArchivedFacts(base.sequence + 1, last.position, base.digest.hex(), last.digest.hex(), 1, "f", "0")
            peer.do(peer.store.archived(facts, now))
        peer.do(peer.store.cut(self._chance.randint(1, 40)))
        for origin in peer.store.origins()[1:]:
            writer = next((one for one in replication.peers.values() if one.epoch == origin.epoch), None)
            if writer is not None:
                others = (replication.durable_at(it, origin.epoch) for it in replication.peers if it != writer.name)
                end = min(writer.base, origin.sequence, *others)
                peer.do(peer.store.cut_copy(origin.number, end, self._chance.randint(1, 40)))
        peer.do(peer.store.let_go(0, 1000))

    def _drop(self, linked: Linked) -> None:
        peer, now = linked.peer, self._at_of(linked.peer)
        before = {message_of(row): row for row in peer.messages()}
        limit = self._chance.choice((1, 3, 100))
        peer.do(Deferred.fromCoroutine(linked.dropping.round(now - IDS_MS[peer.node], now, limit, 200)))
        gone = before.keys() - {message_of(row) for row in peer.messages()}
        assert all(before[one].state is not State.OPEN for one in gone)
        linked.dropped |= gone

    def _log(self, linked: Linked) -> None:
        """Write down what a node wrote into its journal, before any of it is cut."""
        peer = linked.peer
        for record in peer.do(peer.store.records(after=linked.logged, limit=10_000)):
            linked.logged = record.position
            facts: dict[str, Any] = msgspec.json.decode(record.facts)
            if record.kind == "accepted":
                key = agent_of(facts["from"]), facts["id"], facts["to"], facts["digest"], facts.get("use", 0)
                # None is accepted as one that is forgotten.
                assert not any(key in one.dropped for one in self.linked.values()), key
                self.messages[peer.node, record.position] = key
                self.told.setdefault(key, [])
            elif record.kind in (*RANKS, "done", "replayed", "purged"):
                for index, position in enumerate(facts["messages"]):
                    node, sequence = peer.store.place(position)
                    lives = facts.get("lives")
                    self.told[self.messages[node or peer.node, sequence]].append(
                        (record.kind, lives[index] if lives else 0)
                    )

    def look(self) -> None:
        """Compare each store with the list of all records."""
        for linked in self.linked.values():
            rows = linked.peer.messages()
            found = {message_of(row): row.state.name.lower() for row in rows}
            assert len(found) == len(rows)
            assert found.keys() | linked.dropped == set(self.messages.values())
            assert found == {key: end_of(self.told[key]) for key in found}
            assert all(end_of(self.told[key]) != "open" for key in linked.dropped)
            assert linked.peer.do(linked.peer.store.verify()).damages == ()


def message_of(row: StoredMessage) -> Message:
    return agent_of(row.sender), row.id, row.recipient, row.digest, row.use


def end_of(told: list[tuple[str, Any]]) -> str:
    kinds = {kind for kind, _ in told}
    if "done" in kinds:
        return "done"
    if "purged" in kinds:
        return "dead"
    life = max((life for kind, life in told if kind == "replayed"), default=0)
    ends = [kind for kind, of in told if kind in RANKS and of == life]
    return max(ends, key=RANKS.index) if ends else "open"


def forgetting(peers: list[Peer], seed: int, steps: int) -> int:
    """Run it; how many messages were forgotten."""
    cluster = Forgetful(random.Random(seed), peers)
    try:
        for _ in range(steps):
            cluster.step()
        cluster.exchange_all()
        cluster.look()
        return sum(len(linked.dropped) for linked in cluster.linked.values())
    finally:
        for peer in peers:
            peer.close()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(50, 400))
def test_stores_in_memory_forget_nothing_that_is_needed(seed: int, steps: int) -> None:
    forgetting([Peer(node, None) for node in NODES], seed, steps)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32), steps=st.integers(50, 300))
def test_stores_of_both_kinds_forget_nothing_that_is_needed(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        peers = [Peer(node, None if node == "laptop" else made(Path(directory) / node)) for node in NODES]
        forgetting(peers, seed, steps)


@pytest.mark.parametrize("seed", range(3))
def test_they_do_forget(seed: int) -> None:
    assert forgetting([Peer(node, None) for node in NODES], seed, 800) > 0
