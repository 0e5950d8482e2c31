"""Messages to a capability on linked nodes: one node at a time has each, whatever breaks; in the end all are done.

Three nodes without routers, each with agents of its own that come, go, fail and acknowledge, while links are cut and
healed, records get lost, and nodes are killed and started again. Each message is sent once, at one node. At every step:

* no message is out at two nodes, and no two stores say that their node is the one to hand it out;
* what a node's memory has in each mailbox is what its store has.

In the end everything is healed, an agent is at one node only, and every message is done there or before.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula.contract import uris
from trishula_router.mail.shares import Sum
from trishula_router.store.interface import Store
from trishula_router.store.memory import MemoryStore

NAMES = ("agni", "laptop", "rushabdev")
AGENTS = {name: (f"{name}_1", f"{name}_2") for name in NAMES}
DEPLOY = "capability:deploy"


class World:
    """The nodes, and the chance that rules them."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self._chance = chance
        stores: dict[str, Store] = {name: MemoryStore(f"epoch-{name}", name) for name in NAMES}
        agents = ("dc", *(agent for pair in AGENTS.values() for agent in pair))
        self.nodes = Nodes(directory, stores, agents=agents)
        self.nodes.advance(1.0)
        self.ids: list[str] = []
        #: The session of each agent that is there, and what it holds: (token, id) each.
        self.sessions: dict[tuple[str, str], int] = {}
        self.held: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def step(self) -> None:
        chance = self._chance
        name = chance.choice(NAMES)
        if name not in self.nodes.rigs:
            self.boot(name)
        else:
            what = (self._send, self._send, self._come_or_go, self._come_or_go, self._ack, self._nack, self._cut)
            chance.choice((*what, self._heal, self._lose, self._kill))(name)
        self.pass_time(chance.choice((0.0, 0.25, 0.5, 1.0, 3.0)))

    def pass_time(self, seconds: float) -> None:
        self.nodes.settle()
        self.nodes.advance(seconds)
        for (name, agent), session in self.sessions.items():
            rig = self.nodes.rigs[name]
            rig.call(session, uris.DIRECTORY_BEAT, {"sent_at": rig.now()})
            pushed = [(one["token"], one["message"]["id"]) for one in rig.outlet.take(session)]
            self.held[name, agent] += pushed
        self.nodes.settle()
        self.look()

    def _send(self, name: str) -> None:
        rig = self.nodes.rigs[name]
        fresh = [f"m{len(self.ids) + number}" for number in range(self._chance.randint(1, 3))]
        batch = [{"type": "STATUS", "id": one, "to": DEPLOY} for one in fresh]
        receipts = rig.call(rig.join("dc"), uris.MAILBOX_SEND, batch, {"copies": 1})
        assert {receipt["status"] for receipt in receipts} == {"accepted"}
        self.ids += fresh

    def _come_or_go(self, name: str) -> None:
        self.come_or_go(name, self._chance.choice(AGENTS[name]))

    def come_or_go(self, name: str, agent: str) -> None:
        rig = self.nodes.rigs[name]
        if (session := self.sessions.pop((name, agent), None)) is not None:
            rig.leave(session)
            return
        self.sessions[name, agent] = session = rig.join(agent)
        self.held[name, agent] = []
        rig.attach(session, capabilities=["deploy"], window=self._chance.choice((1, 2, 64)))

    def _ack(self, name: str) -> None:
        for (at, agent), session in self.sessions.items():
            if at == name:
                held, self.held[at, agent] = self.held[at, agent], []
                self.nodes.rigs[name].ack(session, *(token for token, _ in held))

    def _nack(self, name: str) -> None:
        for (at, agent), session in self.sessions.items():
            if at == name and self.held[at, agent]:
                token, _ = self.held[at, agent].pop()
                self.nodes.rigs[name].nack(session, token)

    def _cut(self, name: str) -> None:
        other = self._chance.choice([one for one in NAMES if one != name])
        self.nodes.lets_through = lambda sender, to, kind: {sender, to} != {name, other}

    def _heal(self, _: str) -> None:
        self.nodes.heal()

    def _lose(self, _: str) -> None:
        self.nodes.lose_journals()

    def _kill(self, name: str) -> None:
        rig = self.nodes.rigs[name]
        self.nodes.down(name)
        rig.node.is_stopping = True
        assert rig.node._housekeeping is not None
        for timer in rig.node._housekeeping._timers:
            if timer.active():
                timer.cancel()
        for key in [key for key in self.sessions if key[0] == name]:
            del self.sessions[key]

    def boot(self, name: str) -> None:
        self.nodes.boot(name)

    # -- what must hold ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        out = Counter(
            lease.entry.id
            for rig in self.nodes.rigs.values()
            for lease in rig.node.mailroom.leases.values()
            if lease.session is not None and not lease.settling
        )
        keepers = Counter(
            message.id
            for store in self.nodes.stores.values()
            for message in result_of(store.with_ids(self.ids))
            if message.is_kept_here
        )
        assert not [one for one, count in (*out.items(), *keepers.items()) if count > 1]
        for rig in self.nodes.rigs.values():
            assert in_memory(rig) == in_store(rig)
            assert shares_in_memory(rig) == shares_in_store(rig)

    def finish(self) -> None:
        self.nodes.heal()
        for name in NAMES:
            if name not in self.nodes.rigs:
                self.boot(name)
        for name, agent in list(self.sessions):
            self.come_or_go(name, agent)
        last = self._chance.choice(NAMES)
        self.come_or_go(last, AGENTS[last][0])
        for _ in range(60):
            self.pass_time(2.0)
            self._ack(last)
            if all(in_store(rig) == {} for rig in self.nodes.rigs.values()):
                break
        ended = {message.id: message.state_word for message in result_of(self.nodes.stores[last].with_ids(self.ids))}
        # Whoever fails at a message five times has ended it as well.
        assert ended.keys() == set(self.ids)
        assert set(ended.values()) <= {"done", "dead"}
        for rig in self.nodes.rigs.values():
            assert rig.node.mailroom.totals() == (0, 0)
            assert rig.node.mailroom.shares.by_agent() == {}
            assert rig.node.mailroom.shares.total == Sum()


def in_memory(rig: Rig) -> dict[str, int]:
    boxes = rig.node.mailroom._mailboxes.values()
    return {box.address: box.open_messages for box in boxes if box.open_messages}


def shares_in_memory(rig: Rig) -> dict[str, dict[str, tuple[int, int]]]:
    """Who has how much open, by mailbox: (messages, bytes)."""
    boxes = rig.node.mailroom.shares._mailboxes.items()
    return {name: {who: (one.messages, one.size_bytes) for who, one in box.items()} for name, box in boxes}


def shares_in_store(rig: Rig) -> dict[str, dict[str, tuple[int, int]]]:
    boxes = result_of(rig.store.open_mailboxes()).items()
    return {name: {who: (one.messages, one.size_bytes) for who, one in box.senders.items()} for name, box in boxes}


def in_store(rig: Rig) -> dict[str, int]:
    return {name: size.messages for name, size in result_of(rig.store.open_mailboxes()).items()}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_one_node_has_it_at_a_time_and_in_the_end_it_is_done(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), random.Random(seed))
        for _ in range(steps):
            world.step()
        world.finish()
