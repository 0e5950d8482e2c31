"""A node under everything that clients, the clock and the power can do to it, against a model of what was promised.

Mailboxes keep 4 messages in memory and few bodies, so that most of what happens leads through the store. The machine
comes in three: on a store that answers at once, on one that holds its answers back (what happens in between, happens
there, and a power cut takes along what was on its way), and on SQLite.

The promises: nothing that was accepted is lost; what was acked or cancelled is never delivered again, also not by
the node's next run; a message reaches only its recipient, and there only the session that consumes the mailbox; first
deliveries keep the sender's order; windows hold; counts are right; the journal is whole; in the end each message is
in exactly one final state.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.support.nodes import LIMITS, POLICY, Outlet, Rig
from tests.support.stores import HeldStore, ReactorQueue, open_sqlite, result_of
from trishula.contract import uris
from trishula.contract.addresses import Address, is_capability, is_nodes_own
from trishula.errors import MailboxBusy, MessageUnknown, TakenOver
from trishula_router.agents import takeovers as takeovers_module
from trishula_router.agents.consumers import URGENT_SHARE
from trishula_router.mail import mailroom as mailroom_module
from trishula_router.mail.mailbox import Mailbox
from trishula_router.mail.mailroom import Mailroom
from trishula_router.mail.shares import Sum
from trishula_router.store.interface import Store
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import MailboxSize, OpenSize, State
from trishula_router.store.sqlite.store import SqliteStore

AGENTS = ("agni", "dc", "rushabdev")
CAPACITY = 4
BODY_BYTES = 500
# Most of it goes to one mailbox, so that it gets full, spills and is filled again.
CAPABILITY = "capability:deploy"
ADDRESSES = st.sampled_from(["agni"] * 6 + ["dc", "rushabdev", "agni/x", "dc/x", CAPABILITY, CAPABILITY])
PICK = st.integers(min_value=0, max_value=10**6)

#: (sender's agent, of a notice the address that it speaks for; id; recipient's address)
Key = tuple[str, str, str]


@dataclass
class Client:
    """A session, as the model knows it."""

    session: int
    agent: str
    attached: str | None = None


@dataclass
class Model:
    """What was promised, and to whom.

    Attributes:
        offered: every message that a client ever tried to send, by recipient.
        to: to whom, by id.
        accepted: those with a receipt; the priority of each.
        over: those of which somebody was told that they are done or cancelled.
        seen: those that were delivered at least once, with their position.
        tokens: of all deliveries ever made: (agent, token, message).
        notices: the node's own messages that were delivered.
        begun: how often a client said of a message that its last run died with it begun.
    """

    offered: set[Key] = field(default_factory=set)
    to: dict[str, str] = field(default_factory=dict)
    accepted: dict[Key, int] = field(default_factory=dict)
    over: set[Key] = field(default_factory=set)
    seen: dict[Key, int] = field(default_factory=dict)
    tokens: list[tuple[str, str, Key]] = field(default_factory=list)
    notices: set[Key] = field(default_factory=set)
    begun: dict[tuple[str, str], int] = field(default_factory=dict)


def numbers(size: Sum | OpenSize) -> tuple[int, int, int, int]:
    """What is open, of all priorities and of the most urgent one."""
    return size.messages, size.size_bytes, size.urgent, size.urgent_bytes


def agent_can(address: str) -> bool:
    """Who can do it: dc can't, and an instance never stands for its agent."""
    return address in ("agni", "rushabdev")


class CheckingOutlet(Outlet):
    """Hands each push to the machine in the very instant in which it happens."""

    def __init__(self, check: Callable[[str, int, list[dict[str, Any]]], None]) -> None:
        super().__init__()
        self._check = check

    def push(self, address: Address, session: int, deliveries: list[dict[str, Any]]) -> None:
        self._check(str(address), session, deliveries)


class NodeMachine(RuleBasedStateMachine):
    """The rules; see the module."""

    HOLDS = False

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.path = Path(self._directory.name)
        self._patches: list[Any] = [
            patch.object(mailroom_module, "Mailbox", partial(Mailbox, capacity=CAPACITY)),
            patch.object(mailroom_module, "BODY_CACHE_BYTES", BODY_BYTES),
            # Whoever comes takes over here, however often that is.
            patch.object(takeovers_module, "FREE", 10**9),
        ]
        for each in self._patches:
            each.start()
        self.clock = Clock()
        self.model = Model()
        self.clients: dict[int, Client] = {}
        self.faults: list[Failure] = []
        self.graves: list[Rig] = []
        self.last_session = 0
        self.last_id = 0
        self.last_run = 0
        self.runs: dict[str, str] = {}
        self.store = HeldStore(self.make_store())
        self.rig = self.make_rig()

    def make_store(self) -> Store:
        return MemoryStore("epoch-1")

    def make_rig(self) -> Rig:
        policy = replace(POLICY, window=3, instance_grace_s=100.0)
        rig = Rig(self.path, self.store, self.clock, policy=policy, limits=replace(LIMITS, mailbox_messages=40))
        rig.outlet = CheckingOutlet(self.pushed)
        # The node was wired to the recorder that the rig made first.
        rig.node.delivery._outlet = rig.outlet
        rig._sessions = self.last_session
        self.wait(Deferred.fromCoroutine(rig.node.start()))
        return rig

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Wait for the store; only where nothing is held back."""
        return result_of(deferred)

    def calm(self) -> None:
        """Let everything that is under way come to its end."""
        self.store.holding = False
        for _ in range(3):
            self.store.let_all()
            self.turn()

    def turn(self) -> None:
        """Turns of the reactor, without time passing."""
        self.rig.settle()

    def begin(self, client: Client, uri: str, args: Iterable[Any], told: Callable[[Any], None]) -> None:
        """Call; ``told`` runs in the very instant of the answer."""
        answer = self.rig.begin(client.session, uri, *args)
        answer.addCallback(told)
        answer.addErrback(self.failed)
        self.turn()

    def must_not(self, answer: object) -> None:
        raise AssertionError(f"that was to be refused, and the answer was {answer}")

    def failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, MailboxBusy | MessageUnknown | TakenOver):
            self.faults.append(failure)

    def client(self, pick: int) -> Client:
        clients = list(self.clients.values())
        return clients[pick % len(clients)]

    # -- what the node says --------------------------------------------------------------------------------------------

    def pushed(self, address: str, session: int, deliveries: list[dict[str, Any]]) -> None:
        assert session in self.clients, f"pushed to session {session}, which is gone"
        assert self.clients[session].attached == address, f"{address} was pushed to a session that isn't attached to it"
        self.delivered(address, session, deliveries)

    def delivered(self, address: str, session: int, deliveries: list[dict[str, Any]]) -> None:
        agent = Address.parse(address).agent
        for delivery in deliveries:
            message = delivery["message"]
            to = message["to"] if is_capability(message["to"]) else address
            sender = message["from"] if is_nodes_own(message["id"]) else Address.parse(message["from"]).agent
            key = (sender, message["id"], to)
            position, attempt, *_ = delivery["token"].split(".")
            assert self.clients[session].agent == agent, f"{key} was delivered to a stranger"
            assert message["to"] in (to, "broadcast")
            if is_nodes_own(key[1]):
                self.notice(key, message)
            else:
                assert key in self.model.offered, f"{key} was never sent"
                assert message["payload"] == key[1]
            assert key not in self.model.over, f"{key} was delivered again after it was over"
            assert int(attempt) == delivery["attempt"]
            if key not in self.model.seen and not is_capability(to):
                self.first_delivery(key, int(position), message["priority"])
            self.model.tokens.append((agent, delivery["token"], key))

    def notice(self, key: Key, message: dict[str, Any]) -> None:
        recipient, sender = key[0], Address.parse(key[2]).agent
        assert message["type"] == "ERROR"
        assert (sender, message["reply_to"], recipient) in self.model.offered, f"{key} tells of nothing that was sent"
        self.model.notices.add(key)

    def first_delivery(self, key: Key, position: int, priority: int) -> None:
        if not self.HOLDS:
            # While answers are held back, two fetches at once may get theirs in any order.
            sender, _, recipient = key
            overtaken = [
                other
                for other, at in self.model.seen.items()
                if (other[0], other[2]) == (sender, recipient)
                and self.model.accepted.get(other) == priority
                and at > position
            ]
            assert not overtaken, f"{key} came after {overtaken}"
        self.model.seen[key] = position

    # -- clients -------------------------------------------------------------------------------------------------------

    @initialize()
    def begin_with_everybody(self) -> None:
        for agent in AGENTS:
            self.join(agent)

    @rule(agent=st.sampled_from(AGENTS))
    def join(self, agent: str) -> None:
        session = self.rig.join(agent)
        self.last_session = session
        self.clients[session] = Client(session, agent)

    @precondition(lambda self: self.clients)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        """A client's connection breaks."""
        client = self.client(pick)
        del self.clients[client.session]
        self.rig.leave(client.session)

    @precondition(lambda self: self.clients)
    @rule(
        pick=PICK,
        instance=st.sampled_from([None, None, "x"]),
        window=st.integers(1, 6),
        process=st.sampled_from(["silent", "same", "next", "next", "stranger"]),
        begun=st.integers(0, 3),
    )
    def attach(self, pick: int, instance: str | None, window: int, process: str, begun: int) -> None:
        client = self.client(pick)
        address = str(Address(client.agent, instance))
        if client.attached is not None:
            return
        for other in self.clients.values():
            if other.attached == address:
                if other.session > client.session:
                    # Who joined earlier doesn't take over from who joined later.
                    self.begin(client, uris.MAILBOX_ATTACH, [{"instance": instance}], self.must_not)
                    return
                other.attached = None
        client.attached = address
        # dc can't do it.
        capabilities = [CAPABILITY.partition(":")[2]] if agent_can(address) else []
        options = {"instance": instance, "window": window, "capabilities": capabilities}
        options.update(self.life(client, address, process, begun))
        self.begin(client, uris.MAILBOX_ATTACH, [options], lambda _: None)

    def life(self, client: Client, address: str, process: str, begun: int) -> dict[str, Any]:
        """What the client tells of its process: nothing, the run that was there, the one that follows, or another."""
        before = self.runs.get(address)
        if process == "silent":
            return {}
        if process == "same" and before is not None:
            return {"run": before}
        self.last_run += 1
        self.runs[address] = f"r{self.last_run}"
        if process == "stranger" or before is None:
            return {"run": self.runs[address]}
        left = [key[:2] for agent, _, key in self.model.tokens[-begun:] if agent == client.agent] if begun else []
        for key in set(left):
            self.model.begun[key] = self.model.begun.get(key, 0) + 1
        return {"run": self.runs[address], "after": before, "begun": [list(key) for key in left]}

    @precondition(lambda self: self.clients)
    @rule(pick=PICK, to=ADDRESSES, count=st.integers(1, 12), priority=st.integers(1, 3), brief=st.booleans())
    def send(self, pick: int, to: str, count: int, priority: int, brief: bool) -> None:
        messages = []
        for _ in range(count):
            self.last_id += 1
            messages.append({"id": f"m{self.last_id}", "to": to, "priority": priority})
            if brief:
                messages[-1]["ttl_ms"] = 30_000
        self.offer(self.client(pick), messages)

    @precondition(lambda self: self.clients)
    @rule(pick=PICK)
    def broadcast(self, pick: int) -> None:
        self.last_id += 1
        self.offer(self.client(pick), [{"id": f"m{self.last_id}", "to": "broadcast", "priority": 2}])

    @precondition(lambda self: self.clients and self.model.offered)
    @rule(pick=PICK, which=PICK, instance=st.sampled_from([None, "x", "again"]))
    def send_again(self, pick: int, which: int, instance: str | None) -> None:
        """The same message, perhaps by another instance of its agent."""
        offered = sorted(self.model.offered)
        sender, message_id, recipient = offered[which % len(offered)]
        for client in self.clients.values():
            if client.agent == sender:
                priority = self.model.accepted.get((sender, message_id, recipient), 3)
                message: dict[str, Any] = {"id": message_id, "to": self.model.to[message_id], "priority": priority}
                if instance is not None:
                    message["from"] = f"{sender}/{instance}"
                self.offer(client, [message])
                return

    @precondition(lambda self: self.clients and self.model.accepted)
    @rule(pick=PICK, which=PICK, to=ADDRESSES)
    def reuse_an_id(self, pick: int, which: int, to: str) -> None:
        """Another message under an id that was accepted: it must not be taken for the first."""
        accepted = sorted(self.model.accepted)
        sender, message_id, _ = accepted[which % len(accepted)]
        for client in self.clients.values():
            if client.agent == sender:
                message = {"type": "STATUS", "id": message_id, "to": to, "payload": "another"}

                def told(receipts: list[dict[str, Any]]) -> None:
                    (receipt,) = receipts
                    assert receipt.get("error") == "trishula.error.id_reused", receipt

                self.begin(client, uris.MAILBOX_SEND, [[message]], told)
                return

    def offer(self, client: Client, messages: list[dict[str, Any]]) -> None:
        keys = []
        for message in messages:
            to = message["to"]
            recipients = [name for name in AGENTS if name != client.agent] if to == "broadcast" else [to]
            keys.append([(client.agent, message["id"], recipient) for recipient in recipients])
            message.update(type="STATUS", payload=message["id"])
            self.model.to[message["id"]] = to
            self.model.offered.update(keys[-1])

        def told(receipts: list[dict[str, Any]]) -> None:
            assert [receipt["id"] for receipt in receipts] == [message["id"] for message in messages]
            for receipt, message, mine in zip(receipts, messages, keys, strict=True):
                if receipt["status"] == "accepted":
                    missed = {one["to"] for one in receipt.get("missed", ())}
                    got = [key for key in mine if key[2] not in missed]
                    assert got, "accepted for nobody"
                    assert not any(key in self.model.accepted for key in mine), "accepted twice"
                    self.model.accepted.update(dict.fromkeys(got, message["priority"]))
                elif receipt["status"] == "refused":
                    assert receipt["error"].rpartition(".")[2] in ("mailbox_full", "instance_unknown"), receipt
                    assert not any(key in self.model.accepted for key in mine), "refused what was accepted before"

        self.begin(client, uris.MAILBOX_SEND, [messages], told)

    # -- receivers -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.clients)
    @rule(
        pick=PICK,
        most=st.integers(1, 6),
        wait_s=st.sampled_from([0, 0, 3]),
        instance=st.sampled_from([None, None, "x"]),
    )
    def fetch(self, pick: int, most: int, wait_s: int, instance: str | None) -> None:
        client = self.client(pick)
        address = str(Address(client.agent, instance))

        def told(answer: dict[str, Any]) -> None:
            assert len(answer["deliveries"]) <= most
            if answer["deliveries"]:
                assert client.session in self.clients, "a session that is gone fetched messages"
            self.delivered(address, client.session, answer["deliveries"])

        self.begin(client, uris.MAILBOX_FETCH, [{"max": most, "wait_s": wait_s, "instance": instance}], told)

    def some_tokens(self, which: int, count: int) -> list[tuple[str, str, Key]]:
        tokens = self.model.tokens
        start = which % len(tokens)
        return (tokens[start:] + tokens[:start])[:count]

    @precondition(lambda self: self.clients and self.model.tokens)
    @rule(pick=PICK, which=PICK, count=st.integers(1, 8))
    def ack(self, pick: int, which: int, count: int) -> None:
        self.ack_those(self.client(pick), self.some_tokens(which, count))

    @precondition(lambda self: self.clients and self.model.tokens)
    @rule(count=st.integers(1, 10))
    def ack_the_latest(self, count: int) -> None:
        agent = self.model.tokens[-1][0]
        for client in self.clients.values():
            if client.agent == agent:
                self.ack_those(client, self.model.tokens[-count:])
                return

    def ack_those(self, client: Client, tokens: list[tuple[str, str, Key]]) -> None:
        def told(answers: list[bool]) -> None:
            for answer, (agent, _, key) in zip(answers, tokens, strict=True):
                if is_capability(key[2]):
                    # It may have moved on: then it is whoever's has it now, by whichever token.
                    assert not answer or client.agent in {one for one, _, it in self.model.tokens if it == key}
                else:
                    assert answer is (agent == client.agent)
                if answer:
                    self.model.over.add(key)

        self.begin(client, uris.MAILBOX_ACK, [[token for _, token, _ in tokens]], told)

    @precondition(lambda self: self.clients and self.model.tokens)
    @rule(pick=PICK, which=PICK, count=st.integers(1, 4), requeue=st.sampled_from([True, True, True, False]))
    def nack(self, pick: int, which: int, count: int, requeue: bool) -> None:
        client = self.client(pick)
        tokens = self.some_tokens(which, count)

        def told(answers: list[bool]) -> None:
            for answer, (agent, _, _) in zip(answers, tokens, strict=True):
                assert not answer or agent == client.agent

        items = [{"token": token, "reason": "no", "requeue": requeue} for _, token, _ in tokens]
        self.begin(client, uris.MAILBOX_NACK, [items], told)

    @precondition(lambda self: self.clients and self.model.tokens)
    @rule(pick=PICK, which=PICK)
    def working(self, pick: int, which: int) -> None:
        ((_, token, _),) = self.some_tokens(which, 1)
        self.begin(self.client(pick), uris.MAILBOX_WORKING, [token, 90], lambda _: None)

    @precondition(lambda self: self.clients and self.model.tokens)
    @rule(pick=PICK, which=PICK, count=st.integers(0, 4))
    def surfaced(self, pick: int, which: int, count: int) -> None:
        client = self.client(pick)
        tokens = self.some_tokens(which, count)

        def told(answers: list[bool]) -> None:
            for answer, (agent, _, key) in zip(answers, tokens, strict=True):
                # What was to a capability is whoever's has it now.
                assert not answer or agent == client.agent or is_capability(key[2])

        self.begin(client, uris.MAILBOX_SURFACED, [[token for _, token, _ in tokens]], told)

    @precondition(lambda self: self.clients and self.model.offered)
    @rule(pick=PICK, which=PICK)
    def cancel(self, pick: int, which: int) -> None:
        client = self.client(pick)
        offered = sorted(self.model.offered)
        sender, message_id, _ = offered[which % len(offered)]

        def told(answers: list[bool]) -> None:
            if answers[0]:
                assert sender == client.agent
                # Of a broadcast, those that were not settled are cancelled; none comes after it.
                self.model.over |= {key for key in self.model.offered if key[:2] == (sender, message_id)}

        self.begin(client, uris.MAILBOX_CANCEL, [[message_id]], told)

    @precondition(lambda self: self.clients)
    @rule(pick=PICK, which=PICK, purge=st.sampled_from([False, False, False, True]))
    def look_after_dead_letters(self, pick: int, which: int, purge: bool) -> None:
        client = self.client(pick)
        uri = uris.ADMIN_DEAD_PURGE if purge else uris.ADMIN_DEAD_REPLAY

        def listed(answer: dict[str, Any]) -> None:
            seqs = [letter["seq"] for letter in answer["letters"]]
            if seqs and client.session in self.clients:
                start = which % len(seqs)
                self.begin(client, uri, [seqs[start : start + 3]], lambda _: None)

        self.begin(client, uris.ADMIN_DEAD_LIST, [{}], listed)

    # -- time and power ------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 11.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        # A machine that was suspended wakes up with one jump; what is due, is due then.
        self.clock.advance(seconds)
        self.turn()
        self.clock.advance(0.25)
        self.turn()

    @rule()
    def power_cut(self) -> None:
        self.rig.crash()
        self.store.cut_power()
        self.start_again(self.store.inner)

    def start_again(self, store: Store) -> None:
        # A coroutine that is collected runs its "finally"; one of a dead process doesn't, so it is kept.
        self.graves.append(self.rig)
        self.store = HeldStore(store)
        self.clients = {}
        self.rig = self.make_rig()
        for agent in AGENTS:
            self.join(agent)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def nothing_failed(self) -> None:
        assert not self.faults, self.faults[0].getTraceback()

    @invariant()
    def windows_hold(self) -> None:
        leases = list(self.rig.node.mailroom.leases.values())
        for consumer in self.rig.node.consumers.all():
            held = sum(lease.consumer is consumer for lease in leases)
            assert consumer.in_flight == held, f"{consumer.address}: {consumer.in_flight} counted, {held} held"
            assert held <= consumer.window

    @invariant()
    def who_is_gone_holds_nothing(self) -> None:
        holders = {lease.session for lease in self.rig.node.mailroom.leases.values() if not lease.settling}
        assert holders <= self.clients.keys()

    @invariant()
    def counts_are_right(self) -> None:
        if not self.HOLDS:
            self.check_books()

    def check_books(self) -> None:
        """What memory believes is what the store knows; only while nothing is under way."""
        room: Mailroom = self.rig.node.mailroom
        stored = self.wait(self.store.open_mailboxes())
        counted = {
            address: (mailbox.open_messages, mailbox.open_bytes)
            for address, mailbox in room._mailboxes.items()
            if (mailbox.open_messages, mailbox.open_bytes) != (0, 0)
        }
        assert counted == {address: (size.messages, size.size_bytes) for address, size in stored.items()}
        self.check_shares(room, stored)
        in_memory = [
            entry
            for mailbox in room._mailboxes.values()
            for entry in (*mailbox._waiting.values(), *mailbox.in_flight.values())
        ]
        assert room._cached_bytes == sum(entry.size_bytes for entry in in_memory if entry.wire is not None)
        assert room._cached_bytes <= BODY_BYTES
        held = {position for mailbox in room._mailboxes.values() for position in mailbox.in_flight}
        assert held == set(room.leases)
        assert not any(lease.settling for lease in room.leases.values())
        for mailbox in room._mailboxes.values():
            assert len(mailbox._waiting) <= 40
            if mailbox._frontier is None:
                assert len(mailbox._waiting) + len(mailbox.in_flight) == mailbox.open_messages

    def check_shares(self, room: Mailroom, stored: dict[str, MailboxSize]) -> None:
        """Who has how much open is what the store knows: in each mailbox, and in all."""
        shares = room.shares
        counted = {
            address: {agent: numbers(one) for agent, one in senders.items()}
            for address, senders in shares._mailboxes.items()
        }
        known = {
            address: {agent: numbers(one) for agent, one in size.senders.items()} for address, size in stored.items()
        }
        assert counted == known
        for agent, one in shares.by_agent().items():
            mine = [numbers(size.senders[agent]) for size in stored.values() if agent in size.senders]
            assert numbers(one) == tuple(map(sum, zip(*mine, strict=True)))
            names = [address for address, size in stored.items() if is_capability(address) and agent in size.senders]
            assert one.capabilities == len(names)
        assert set(shares.by_agent()) == {agent for size in stored.values() for agent in size.senders}
        everybody = [(0, 0, 0, 0), *map(numbers, shares.by_agent().values())]
        assert numbers(shares.total) == tuple(map(sum, zip(*everybody, strict=True)))

    # -- the end -------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.rig.crash()
            self.close_store()
            for each in self._patches:
                each.stop()
            self._directory.cleanup()

    def close_store(self) -> None:
        pass

    def drain(self) -> None:
        """Let the agents work off all there is; then judge."""
        self.calm()
        self.nothing_failed()
        for session in list(self.clients):
            del self.clients[session]
            self.rig.leave(session)
        self.calm()
        self.check_books()
        # Pauses and the grace of instances go by, and what is left goes to the agents.
        for _ in range(2):
            self.clock.advance(400.0)
            self.calm()
            self.clock.advance(11.0)
            self.calm()
        for agent in AGENTS:
            session = self.rig.join(agent)
            self.clients[session] = Client(session, agent, agent)
            self.rig.attach(session, window=6, capabilities=["deploy"] if agent_can(agent) else [])
        for _ in range(400):
            self.calm()
            left = [one for one in self.model.tokens if one[2] not in self.model.over]
            if not left:
                break
            for client in list(self.clients.values()):
                mine = [one for one in left if one[0] == client.agent]
                for start in range(0, len(mine), 500):
                    self.ack_those(client, mine[start : start + 500])
        self.calm()
        self.nothing_failed()
        self.windows_hold()
        self.check_books()
        self.judge()

    def judge(self) -> None:
        """Everything that was accepted is in one final state, and the journal is whole."""
        assert self.wait(self.store.open_mailboxes()) == {}
        assert self.rig.node.mailroom.leases == {}
        ids = sorted({key[1] for key in self.model.accepted})
        final = {
            (Address.parse(it.sender).agent, it.id, it.recipient): it.state
            for it in self.wait(self.store.with_ids(ids))
        }
        assert set(self.model.accepted) <= set(final), "what was accepted is not there"
        for key, state in final.items():
            assert state is not State.OPEN
            assert key in self.model.offered
            if state is State.DEAD:
                self.judge_notice(key)
                self.judge_death(key)
        verdict = self.wait(self.store.verify())
        assert verdict.damages == ()

    def judge_death(self, key: Key) -> None:
        """Nothing died of a crash but what had been begun each time, and once alone."""
        for history in self.wait(self.store.history(key[1])):
            if (history.message.sender, history.message.recipient) == (key[0], key[2]):
                reasons = [record.facts for record in history.records if record.kind == "dead"]
                if any(b"process ended" in facts for facts in reasons):
                    assert self.model.begun.get(key[:2], 0) >= 3, (
                        f"{key} died of {self.model.begun.get(key[:2])} crashes"
                    )

    def judge_notice(self, key: Key) -> None:
        """Who sent what is dead was told."""
        sender, message_id, recipient = key
        (dead,) = [
            it
            for it in self.wait(self.store.with_ids([message_id]))
            if (Address.parse(it.sender).agent, it.recipient) == (sender, recipient)
        ]
        notice_id = f"node:single:{self.store.epoch}:{dead.position}:dead"
        (notice,) = self.wait(self.store.with_ids([notice_id]))
        assert (notice.sender, Address.parse(notice.recipient).agent) == (recipient, sender)
        # An instance that was never there reads nothing.
        assert notice.state is State.DONE or notice.recipient != sender


class HoldingNodeMachine(NodeMachine):
    """On a store that takes its time."""

    HOLDS = True

    def make_rig(self) -> Rig:
        rig = super().make_rig()
        self.store.holding = True
        return rig

    @rule(count=st.integers(1, 4))
    def some_writes_finish(self, count: int) -> None:
        self.store.let_write(count)
        self.turn()

    @rule(count=st.integers(1, 2))
    def some_reads_finish(self, count: int) -> None:
        self.store.let_read(count)
        self.turn()

    @rule()
    def all_finishes(self) -> None:
        self.calm()
        self.check_books()
        self.store.holding = True

    @rule()
    def agni_works_off_what_it_has(self) -> None:
        latest = [one for one in self.model.tokens[-8:] if one[0] == "agni"]
        for client in self.clients.values():
            if client.agent == "agni" and latest:
                self.ack_those(client, latest)
                return


class SqliteNodeMachine(NodeMachine):
    """On SQLite: after each call everything that is under way comes to its end."""

    def make_store(self) -> Store:
        self.calls = ReactorQueue()
        self.sqlite: SqliteStore = open_sqlite(self.path, self.calls)
        return self.sqlite

    def wait(self, deferred: Deferred[Any]) -> Any:
        return self.calls.wait(deferred)

    def turn(self) -> None:
        for _ in range(6):
            self.rig.settle()
            # Both threads have answered all that was asked before.
            self.calls.wait(self.sqlite.at_positions([]))
            self.calls.wait(self.sqlite.bodies([]))
        self.rig.settle()

    def begin(self, client: Client, uri: str, args: Iterable[Any], told: Callable[[Any], None]) -> None:
        super().begin(client, uri, args, told)
        self.turn()

    @rule()
    def power_cut(self) -> None:
        self.rig.crash()
        self.calls.wait(self.sqlite.close())
        self.sqlite = open_sqlite(self.path, self.calls)
        self.start_again(self.sqlite)

    def close_store(self) -> None:
        self.calls.wait(self.sqlite.close())


# -- long lives --------------------------------------------------------------------------------------------------------

#: How often each thing happens, in a life that is busy enough to reach the corners: full mailboxes, refills that are
#: overtaken, takeovers while bodies are read. Hypothesis finds short ways to a fault; these find the long ones.
WEIGHTS = {
    "send": 14,
    "ack_the_latest": 14,
    "attach": 8,
    "fetch": 6,
    "nack": 4,
    "time_passes": 4,
    "join": 3,
    "ack": 3,
    "cancel": 3,
    "send_again": 2,
    "reuse_an_id": 1,
    "leave": 2,
    "working": 1,
    "look_after_dead_letters": 1,
    "broadcast": 1,
    "power_cut": 0.6,
    "some_writes_finish": 30,
    "some_reads_finish": 15,
    "all_finishes": 2,
}


def live(machine: NodeMachine, seed: int, steps: int) -> None:
    """Let a machine live through so many random steps, and judge it at the end."""
    chance = random.Random(seed)
    known = {name: weight for name, weight in WEIGHTS.items() if hasattr(machine, name)}
    arguments: dict[str, Callable[[], dict[str, Any]]] = {
        "send": lambda: {
            "pick": any_number(),
            "to": chance.choice(["agni"] * 6 + ["dc", "rushabdev", "agni/x", "dc/x", CAPABILITY, CAPABILITY]),
            "count": chance.randint(1, 8),
            "priority": chance.randint(1, 3),
            "brief": chance.random() < 0.1,
        },
        "ack_the_latest": lambda: {"count": chance.randint(1, 10)},
        "attach": lambda: {
            "pick": any_number(),
            "instance": chance.choice([None, None, None, "x"]),
            "window": chance.randint(1, 6),
            "process": chance.choice(["silent", "same", "next", "next", "stranger"]),
            "begun": chance.randint(0, 3),
        },
        "fetch": lambda: {
            "pick": any_number(),
            "most": chance.randint(1, 6),
            "wait_s": chance.choice([0, 0, 3]),
            "instance": chance.choice([None, None, "x"]),
        },
        "nack": lambda: {
            "pick": any_number(),
            "which": any_number(),
            "count": chance.randint(1, 4),
            "requeue": chance.random() < 0.8,
        },
        "time_passes": lambda: {"seconds": chance.choice([0.25, 0.25, 1.0, 1.0, 3.0, 11.0, 61.0, 400.0])},
        "join": lambda: {"agent": chance.choice(["agni", *AGENTS])},
        "ack": lambda: {"pick": any_number(), "which": any_number(), "count": chance.randint(1, 8)},
        "look_after_dead_letters": lambda: {
            "pick": any_number(),
            "which": any_number(),
            "purge": chance.random() < 0.2,
        },
        "cancel": lambda: {"pick": any_number(), "which": any_number()},
        "send_again": lambda: {
            "pick": any_number(),
            "which": any_number(),
            "instance": chance.choice([None, "x", "again"]),
        },
        "reuse_an_id": lambda: {
            "pick": any_number(),
            "which": any_number(),
            "to": chance.choice(["agni", "dc", CAPABILITY]),
        },
        "leave": lambda: {"pick": any_number()},
        "working": lambda: {"pick": any_number(), "which": any_number()},
        "broadcast": lambda: {"pick": any_number()},
        "some_writes_finish": lambda: {"count": chance.randint(1, 4)},
        "some_reads_finish": lambda: {"count": chance.randint(1, 2)},
    }

    def any_number() -> int:
        return chance.randrange(10**6)

    try:
        machine.begin_with_everybody()
        for _ in range(steps):
            (name,) = chance.choices(list(known), list(known.values()))
            needs_tokens = name in ("ack", "ack_the_latest", "nack", "working")
            needs_messages = name in ("cancel", "send_again")
            if not machine.clients and name not in ("join", "time_passes", "power_cut"):
                name = "join"
            elif (
                (needs_tokens and not machine.model.tokens)
                or (needs_messages and not machine.model.offered)
                or (name == "reuse_an_id" and not machine.model.accepted)
            ):
                name = "send"
            getattr(machine, name)(**arguments.get(name, dict)())
            machine.nothing_failed()
            machine.windows_hold()
            machine.who_is_gone_holds_nothing()
            machine.counts_are_right()
    finally:
        machine.teardown()


@pytest.mark.parametrize("seed", range(6))
def test_a_long_life(seed: int) -> None:
    live(NodeMachine(), seed, 400)


@pytest.mark.parametrize("seed", range(12))
def test_a_long_life_on_a_slow_store(seed: int) -> None:
    live(HoldingNodeMachine(), seed, 800)


def test_a_long_life_on_sqlite() -> None:
    live(SqliteNodeMachine(), 1, 150)


# -- a flood -----------------------------------------------------------------------------------------------------------


def test_memory_stays_bounded_with_many_messages(tmp_path: Path) -> None:
    count, batch = 50_000, 1000
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), limits=replace(LIMITS, mailbox_share=1.0)).start()
    dc, agni = rig.join("dc"), rig.join("agni")
    mailbox = rig.node.mailroom.mailbox("agni")
    body = "x" * 2000
    for start in range(0, count, batch):
        # The later, the more urgent, now and then: what memory holds must change with it.
        priority = 2 if start % 5000 == 0 else 3
        rig.send(
            dc,
            *(
                {"id": f"m{start + index}", "to": "agni", "payload": body, "priority": priority}
                for index in range(batch)
            ),
        )
        assert len(mailbox._waiting) <= 2048
        assert len(mailbox._ready) <= 2048
        assert rig.node.mailroom._cached_bytes <= mailroom_module.BODY_CACHE_BYTES
    assert rig.node.mailroom.counts("agni") == (count, 0)
    rig.attach(agni, window=1024)
    seen: list[tuple[int, int]] = []
    while deliveries := rig.pushed():
        seen += [(one["message"]["priority"], int(one["message"]["id"][1:])) for one in deliveries]
        rig.ack(agni, *(one["token"] for one in deliveries))
        # And those that would have had the places of this window, and the one before, that are left to urgent ones.
        assert len(mailbox._waiting) <= 2048 + 2 * 1024 // URGENT_SHARE
        assert rig.node.mailroom._cached_bytes <= mailroom_module.BODY_CACHE_BYTES
    assert len(seen) == count
    assert seen == sorted(seen)
    assert rig.node.mailroom.counts("agni") == (0, 0)


# -- short ones --------------------------------------------------------------------------------------------------------

TestNode = NodeMachine.TestCase
TestNode.settings = settings(max_examples=60, stateful_step_count=60)
TestNodeOnASlowStore = HoldingNodeMachine.TestCase
TestNodeOnASlowStore.settings = settings(max_examples=100, stateful_step_count=100)
TestNodeOnSqlite = SqliteNodeMachine.TestCase
TestNodeOnSqlite.settings = settings(max_examples=8, stateful_step_count=30)
