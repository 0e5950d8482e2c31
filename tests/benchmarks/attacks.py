# ruff: noqa: T201  # a script that prints
"""What others notice while one agent, or a stranger, does its worst to a node: their delays, and the node's memory.

::

    .venv/bin/python -m tests.benchmarks.attacks                      # all of them, less than 3 min
    .venv/bin/python -m tests.benchmarks.attacks calls deaf_sessions  # only some
    .venv/bin/python -m tests.benchmarks.attacks --seconds 3          # of each

On a node of its own, with the shipped limits, two agents have a light load: 50 messages a second from one to the other,
each timed from the call of ``mailbox.send`` to the event at its recipient. Beside them one attack after the other runs
for some seconds, from a process of its own, which is as fast as it can (``nice``, so that it takes the processor from
nobody; its memory is bounded). Printed are of each attack the delays of the two, and the largest memory of the node's
router worker. Wanted are a p99 below 50 ms and less than 400 MiB, whatever is tried.

The attacks whose names begin with ``stolen_key`` meet another node: one that is linked with a second one, which lives,
and with a third, whose key the attacker has and whose link it takes.

No test: how fast a machine is decides nothing. What each attack meets, the tests of ``tests/integration`` hold.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import psutil

from tests.support.cluster import Cluster
from tests.support.flood import burst, frame, keep
from tests.support.node import ROOT, NodeProcess, environment
from tests.support.peers import WELCOME, NodeKey, come_in
from tests.support.raw import RawClient
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula_router.settings.node_key import read_public_key

MIB = 1024 * 1024
#: Each an agent with a token; the last one is an attacker's second name.
SENDER, TAKER, VICTIM, EVE, MALLORY = AGENTS = ("agni", "dc", "rushabdev", "eve", "mallory")
LOAD_PER_S = 50.0
PUBLISH, SUBSCRIBE, UNSUBSCRIBE, CALL, CANCEL, REGISTER = 16, 32, 34, 48, 49, 64
#: What an attacker may take of the machine's memory.
ATTACKER_BYTES = 1024 * MIB
#: The linked nodes: the one that is attacked, one that is at its side, and the one whose key the attacker has.
ATTACKED, BESIDE, STOLEN = "agni", "laptop", "rushabdev"


@dataclass(frozen=True)
class Stolen:
    """What an attacker has of a linked node.

    Attributes:
        state: the state directory with its key, which it was stolen from.
        attacked_key: the public key of the node that is attacked.
    """

    state: str
    attacked_key: str


class Attacker:
    """What an attack works with.

    Args:
        url: of the node.
        tokens: of all agents.
        until_s: when to end, by the monotonic clock.
        stolen: of linked nodes, what of a node was stolen.
    """

    def __init__(self, url: str, tokens: dict[str, str], until_s: float, stolen: Stolen | None = None) -> None:
        self.url = url
        self._tokens = tokens
        self._until_s = until_s
        self._stolen = stolen

    def goes_on(self) -> bool:
        """Whether there is time."""
        return time.monotonic() < self._until_s

    @contextlib.contextmanager
    def session(self, agent: str = EVE, **options: Any) -> Iterator[RawClient]:
        """A session of an agent."""
        with RawClient(self.url, **options) as client:
            client.open()
            client.join(agent, self._tokens[agent])
            yield client

    @contextlib.contextmanager
    def link(self) -> Iterator[RawClient]:
        """A link, in the place of the node whose key it has.

        Raises:
            AssertionError: if the node lets no link in; one that it has just lost may live on for it for a moment.
        """
        assert self._stolen is not None
        key = NodeKey.stolen(Path(self._stolen.state))
        with RawClient(self.url, path=f"/{uris.PEER_PATH}") as client:
            answer = come_in(client, ATTACKED, STOLEN, key, self._stolen.attacked_key)
            assert answer[0] == WELCOME, answer
            yield client

    def again(self, work: Callable[[], None]) -> None:
        """Do work again and again, whatever the node does to it."""
        while self.goes_on():
            with contextlib.suppress(OSError, AssertionError, ValueError):
                work()

    def many(self, count: int, work: Callable[[], None]) -> None:
        """Do work again and again, in so many threads."""
        threads = [threading.Thread(target=self.again, args=(work,), daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self._until_s + 1.0 - time.monotonic()))

    def pour(self, client: RawClient, data: bytes) -> None:
        """Send data again and again; what comes back is read and forgotten."""
        keep(client)
        while self.goes_on():
            client.pour(data)


def deaf(of: Attacker, sessions: int, payload: str) -> None:
    """Subscribers that read nothing, and one who publishes to them."""
    topic = uris.topic_of(EVE, "news")

    def work() -> None:
        with contextlib.ExitStack() as stack:
            publisher = stack.enter_context(of.session())
            keep(publisher)
            for _ in range(sessions):
                stack.enter_context(of.session(receive_bytes=4096)).subscribe(topic)
            event = frame(PUBLISH, 1, {}, topic, [payload])
            block = event * max(1, 65536 // len(event))
            for _ in range(40 if len(payload) > 1000 else 2000):
                if of.goes_on():
                    publisher.pour(block)

    of.again(work)


def deaf_subscriber(of: Attacker) -> None:
    deaf(of, 1, "x" * 65536)


def deaf_sessions(of: Attacker) -> None:
    deaf(of, 90, "x" * 65536)


def deaf_to_small_events(of: Attacker) -> None:
    deaf(of, 90, "x")


def deaf_caller(of: Attacker) -> None:
    """Calls whose answers nobody reads."""
    calls = b"".join(frame(CALL, number, {}, uris.DIRECTORY_LIST) for number in range(1, 1001))

    def work() -> None:
        with of.session(receive_bytes=4096) as client:
            while of.goes_on():
                client.pour(calls)

    of.many(10, work)


def deaf_inbox(of: Attacker) -> None:
    """Mailboxes whose deliveries nobody reads."""

    def work() -> None:
        with of.session(receive_bytes=4096) as client:
            name = os.urandom(4).hex()
            client.subscribe(uris.inbox_of(Address(EVE, name)))
            client.call(uris.MAILBOX_ATTACH, {"instance": name, "window": 1024})
            while of.goes_on():
                wires = [
                    {"type": "STATUS", "id": os.urandom(8).hex(), "to": f"{EVE}/{name}", "payload": "x" * 60_000}
                    for _ in range(16)
                ]
                client.begin(CALL, uris.MAILBOX_SEND, [wires])

    of.many(10, work)


def requests(of: Attacker, one: Callable[[int], bytes]) -> None:
    numbers = itertools.count(1)

    def work() -> None:
        with of.session() as client:
            keep(client)
            of_this = [one(next(numbers)) for _ in range(20_000)]
            client.pour(b"".join(of_this))
            while of.goes_on():
                client.ping()
                time.sleep(0.5)

    of.many(3, work)


def subscriptions(of: Attacker) -> None:
    requests(of, lambda number: frame(SUBSCRIBE, number, {}, uris.topic_of(SENDER, f"t{number}")))


def registrations(of: Attacker) -> None:
    requests(of, lambda number: frame(REGISTER, number, {}, uris.procedure_of(EVE, f"p{number}")))


def sessions_with_much(of: Attacker) -> None:
    """Sessions that come, have much, and go at once."""

    def work() -> None:
        with of.session() as client:
            topics = (uris.topic_of(SENDER, f"t{number}") for number in range(1000))
            burst(client, [frame(SUBSCRIBE, number, {}, topic) for number, topic in enumerate(topics, 1)])
            for _ in range(1000):
                client.receive()

    of.many(3, work)


def calls_without_answer(of: Attacker) -> None:
    uri = uris.procedure_of(EVE, "mute")
    with of.session() as callee:
        callee.ask(REGISTER, uri)
        keep(callee)
        requests(of, lambda number: frame(CALL, number, {}, uri, ["x" * 2000]))


def calls(of: Attacker) -> None:
    """Calls as fast as the node takes them, from twenty sessions."""
    block = b"".join(frame(CALL, number, {}, uris.DIRECTORY_LIST) for number in range(1, 10_001))

    def work() -> None:
        with of.session() as client:
            of.pour(client, block)

    of.many(20, work)


def publications(of: Attacker) -> None:
    block = frame(PUBLISH, 1, {"acknowledge": True}, uris.topic_of(EVE, "news"), ["x"]) * 10_000

    def work() -> None:
        with of.session() as client:
            of.pour(client, block)

    of.many(10, work)


def pings(of: Attacker) -> None:
    block = (b"\x89\x84" + bytes(4) + b"ping") * 10_000

    def work() -> None:
        with of.session() as client:
            of.pour(client, block)

    of.many(5, work)


def bad_frames(of: Attacker) -> None:
    """Sessions that each end with a frame that is none."""

    def work() -> None:
        with of.session() as client:
            client.send_frame(1, b"\x00 no JSON" * 100)
            client.is_closed_within(2.0)

    of.many(8, work)


def wrong_tokens(of: Attacker) -> None:
    def work() -> None:
        with RawClient(of.url) as client:
            client.open()
            client.hello(SENDER)
            client.receive()
            client.send([5, f"{SENDER}.{os.urandom(20).hex()}", {}])
            client.receive()

    of.many(8, work)


def idle_strangers(of: Attacker) -> None:
    """Two thousand connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(2000):
            with contextlib.suppress(OSError):
                stack.enter_context(RawClient(of.url))
        while of.goes_on():
            time.sleep(0.1)


def half_open(of: Attacker) -> None:
    """Ten thousand connections from two hundred addresses, each with half a request; those that end are made again."""
    numbers = itertools.count()
    kept: collections.deque[RawClient] = collections.deque()

    def one() -> None:
        number = next(numbers)
        client = RawClient(of.url, source=f"127.9.{number % 200}.1", timeout_s=1.0)
        client.pour(client.request()[:60])
        kept.append(client)
        if len(kept) > 10_000:
            kept.popleft().socket.close()

    of.again(one)
    for client in kept:
        client.socket.close()


def stranger_frames(of: Attacker) -> None:
    """Frames of strangers that are as large as they get."""
    value = {str(number): number for number in range(30_000)}
    large = cbor2.dumps([1, uris.REALM, {"roles": {"caller": value}}])

    def work() -> None:
        with RawClient(of.url) as client:
            client.open("wamp.2.cbor")
            client.send_frame(2, large)
            client.is_closed_within(2.0)

    of.many(4, work)


def sends(of: Attacker, to: str, **more: Any) -> None:
    def work() -> None:
        with of.session() as client:
            keep(client)
            while of.goes_on():
                wires = [
                    {"type": "STATUS", "id": os.urandom(8).hex(), "to": to, "payload": "x" * 4000, **more}
                    for _ in range(128)
                ]
                client.begin(CALL, uris.MAILBOX_SEND, [wires])

    of.many(3, work)


def full_mailbox(of: Attacker) -> None:
    sends(of, VICTIM)


def capability_nobody_has(of: Attacker) -> None:
    sends(of, "capability:nobody", type="COMMAND", procedure="x")


def large_sends(of: Attacker) -> None:
    """Messages of a megabyte, as fast as the node takes them."""

    def work() -> None:
        with of.session() as client:
            keep(client)
            while of.goes_on():
                wire = {"type": "STATUS", "id": os.urandom(8).hex(), "to": VICTIM, "payload": "x" * (MIB - 10)}
                client.begin(CALL, uris.MAILBOX_SEND, [[wire]])

    of.many(8, work)


def attached_files(of: Attacker) -> None:
    """Files that are begun, filled at once, and not what their digests say, so that each is hashed and thrown away."""
    data = "\0" + base64.b64encode(bytes(64 * 1024)).decode()

    def work() -> None:
        with of.session() as client:
            keep(client)
            while of.goes_on():
                digest = f"sha256:{os.urandom(32).hex()}"
                client.begin(CALL, uris.ATTACHMENT_BEGIN, [digest, 128 * 1024])
                for offset in (0, 64 * 1024):
                    client.begin(CALL, uris.ATTACHMENT_PUT, [digest, offset, data])

    of.many(8, work)


def cbor_frames(of: Attacker) -> None:
    """Frames of a joined session that hold a great many values."""
    large = [0] * 1_000_000
    frames = [
        cbor2.dumps([CALL, 1, {}, uris.DIRECTORY_LIST, [large]]),
        cbor2.dumps([CALL, 1, {}, uris.DIRECTORY_LIST, [dict.fromkeys(range(200_000), 0)]]),
        cbor2.dumps([CALL, 1, {}, uris.DIRECTORY_LIST, [{str(number): [] for number in range(200_000)}]]),
    ]

    def work() -> None:
        for one in frames:
            with RawClient(of.url) as client:
                client.open("wamp.2.cbor")
                roles = {"roles": {"caller": {}}, "authmethods": ["ticket"], "authid": EVE}
                client.send_frame(2, cbor2.dumps([1, uris.REALM, roles]))
                client._frame()
                client.send_frame(2, cbor2.dumps([5, of._tokens[EVE], {}]))
                client._frame()
                client.send_frame(2, one)
                client._frame()

    of.many(3, work)


def unfinished_messages(of: Attacker) -> None:
    """Large messages that never end, on many connections."""

    def work() -> None:
        with of.session() as client:
            threading.Thread(target=client.is_closed_within, args=(60.0,), daemon=True).start()
            client.pour(b"\x01\xff" + (15 * MIB).to_bytes(8, "big") + bytes(4))
            for _ in range(14 * 16):
                client.pour(b" " * 65536)
            while of.goes_on():
                client.ping()
                time.sleep(0.5)

    of.many(40, work)


def instances(of: Attacker) -> None:
    """Ever new instances, each with a fetch that waits."""
    requests(of, lambda number: frame(CALL, number, {}, uris.MAILBOX_FETCH, [{"instance": f"i{number}", "wait_s": 60}]))


def retained(of: Attacker) -> None:
    numbers = itertools.count(1)

    def work() -> None:
        with of.session() as client:
            keep(client)
            while of.goes_on():
                topic = uris.topic_of(EVE, f"t{next(numbers)}")
                client.send([PUBLISH, 1, {"retain": True, "acknowledge": True}, topic, ["x" * 50_000]])

    of.many(3, work)


def over_link(of: Attacker, *kinds: Callable[[int], list[Any]]) -> None:
    """Pour messages into the link, each kind in turn; whenever it is ended, come in again.

    Args:
        kinds: each makes a message of a request's number.
    """
    numbers = itertools.count(1)

    def work() -> None:
        with of.link() as client:
            threading.Thread(target=client.is_closed_within, args=(60.0,), daemon=True).start()
            while of.goes_on():
                for kind in kinds:
                    for _ in range(64):
                        client.send_frame(2, msgpack.packb(kind(next(numbers))))

    # Only one link is let in; the others try meanwhile.
    of.many(4, work)


def said_of(authid: str) -> dict[str, Any]:
    return {"forward_for": [{"session": 4711, "authid": authid, "authrole": "agent"}]}


def stolen_key_calls(of: Attacker) -> None:
    """Calls in the name of agents that are nowhere else, and of some that are."""
    uri = uris.procedure_of(SENDER, "nothing")
    over_link(
        of,
        lambda number: [CALL, number, said_of(MALLORY), uri, ["x" * 100]],
        lambda number: [CALL, number, said_of(SENDER), uri, ["x" * 100]],
        lambda number: [CALL, number, said_of(f"ghost{number}"), uris.DIRECTORY_LIST],
    )


def stolen_key_registrations(of: Attacker) -> None:
    """Ever more procedures and subscriptions of agents for whom the link vouches."""
    over_link(
        of,
        lambda number: [REGISTER, number, {"invoke": "last"}, uris.procedure_of(MALLORY, f"p{number}")],
        lambda number: [SUBSCRIBE, number, {}, uris.topic_of(SENDER, f"t{number}")],
    )


def stolen_key_events(of: Attacker) -> None:
    """Events of an agent for whom the link vouches, and of its node."""
    told = {"node": STOLEN, "peer": ATTACKED, "state": "up", "at": 1}
    over_link(
        of,
        lambda number: [PUBLISH, number, said_of(MALLORY), uris.topic_of(MALLORY, "news"), ["x" * 1000]],
        lambda number: [PUBLISH, number, said_of(STOLEN), uris.EVENT_NODE, [told]],
    )


def stolen_key_words(of: Attacker) -> None:
    """What peers say to each other: hellos of ever new epochs, journals and presences, false ones and large ones."""
    run = {"first": 1, "previous": bytes(32), "messages": {}, "bodies": {}, "revived": {}, "origins": {}}

    def said(kind: str, words: dict[str, Any]) -> list[Any]:
        text = msgpack.packb({"node": STOLEN, **words})
        return [PUBLISH, 1, said_of(STOLEN), uris.peer_topic(ATTACKED, kind), [text]]

    def journal(number: int) -> list[Any]:
        records = [[at, "noted", b"{}", bytes(32)] for at in range(1, 500)]
        return said("journal", {"writer": STOLEN, "extract": {"epoch": f"{number:016x}", "records": records, **run}})

    def presence(number: int) -> list[Any]:
        claims = {f"{MALLORY}/{one}": one for one in range(2000)}
        return said("presence", {"agents": [], "claims": claims, "instances": []})

    over_link(of, lambda number: said("hello", {"epoch": f"{number:016x}", "held": {}}), journal, presence)


def stolen_key_large_words(of: Attacker) -> None:
    """A few words of peers that are as large as frames get."""

    def said(kind: str, words: dict[str, Any]) -> list[Any]:
        text = msgpack.packb({"node": STOLEN, **words})
        return [PUBLISH, 1, said_of(STOLEN), uris.peer_topic(ATTACKED, kind), [text]]

    presence = said("presence", {"agents": [{}] * 900_000, "claims": {}, "instances": []})
    hello = said("hello", {"epoch": "ee" * 8, "held": {f"{number:016x}": 1 for number in range(200_000)}})
    over_link(of, lambda number: presence, lambda number: hello)


def stolen_key_links(of: Attacker) -> None:
    """Links that come and go, as fast as they are let in."""

    def work() -> None:
        with of.link():
            pass

    of.many(6, work)


#: Of linked nodes.
LINK_ATTACKS: tuple[Callable[[Attacker], None], ...] = (
    stolen_key_calls,
    stolen_key_registrations,
    stolen_key_events,
    stolen_key_words,
    stolen_key_large_words,
    stolen_key_links,
)
ATTACKS: tuple[Callable[[Attacker], None], ...] = (
    deaf_subscriber,
    deaf_sessions,
    deaf_to_small_events,
    deaf_caller,
    deaf_inbox,
    subscriptions,
    registrations,
    sessions_with_much,
    calls_without_answer,
    instances,
    calls,
    publications,
    pings,
    bad_frames,
    wrong_tokens,
    idle_strangers,
    half_open,
    stranger_frames,
    cbor_frames,
    unfinished_messages,
    retained,
    full_mailbox,
    capability_nobody_has,
    large_sends,
    attached_files,
)


# -- the other processes -----------------------------------------------------------------------------------------------


def attack(name: str, url: str, seconds: float) -> None:
    """Attack a node; the tokens, and what was stolen of a linked one, come on standard input."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_DATA, (ATTACKER_BYTES, ATTACKER_BYTES))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    given = json.load(sys.stdin)
    stolen = Stolen(**given["stolen"]) if given["stolen"] else None
    by_name = {one.__name__: one for one in (*ATTACKS, *LINK_ATTACKS)}
    with contextlib.suppress(OSError, AssertionError):
        by_name[name](Attacker(url, given["tokens"], time.monotonic() + seconds, stolen))
    # Threads may still be at it.
    os._exit(0)


def load(url: str) -> None:
    """The light load: prints each message's delay, in ms, with the instant at which it was sent."""
    tokens = json.load(sys.stdin)
    until = Attacker(url, tokens, float("inf"))
    with until.session(SENDER) as sender, until.session(TAKER) as taker:
        taker.subscribe(uris.inbox_of(Address(TAKER)))
        taker.call(uris.MAILBOX_ATTACH, {"window": 1024})
        keep(sender)

        def take() -> None:
            while True:
                answer = taker.receive()
                if answer[0] != 36:
                    continue
                now_s = time.monotonic()
                for one in answer[4][0]:
                    sent_s = float(one["message"]["payload"])
                    print(f"{sent_s} {(now_s - sent_s) * 1000}", flush=True)
                tokens = [one["token"] for one in answer[4][0]]
                taker.begin(CALL, uris.MAILBOX_ACK, [tokens])

        threading.Thread(target=take, daemon=True).start()
        due_s = time.monotonic()
        for number in itertools.count():
            due_s += 1 / LOAD_PER_S
            time.sleep(max(0.0, due_s - time.monotonic()))
            wire = {"type": "STATUS", "id": f"load-{os.getpid()}-{number}", "to": TAKER, "payload": str(due_s)}
            sender.send([CALL, number + 1, {}, uris.MAILBOX_SEND, [[wire]]])


# -- the measurement ---------------------------------------------------------------------------------------------------


class Light:
    """The light load beside the attacks, and what it measured."""

    def __init__(self, node: NodeProcess) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.attacks", "--load", node.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(node.tokens))
        self.process.stdin.close()
        self._delays: list[tuple[float, float]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            sent, took = line.split()
            self._delays.append((float(sent), float(took)))

    def between(self, from_s: float, to_s: float) -> list[float]:
        """The delays of what was sent then, in ms, the shortest first."""
        return sorted(took for sent, took in self._delays if from_s <= sent < to_s)


def during(node: NodeProcess, light: Light, name: str, seconds: float, stolen: Stolen | None) -> str:
    """Run an attack; the line of the table about it."""
    worker = psutil.Process(node.worker_pid())
    attacker = None
    if name != "nothing":
        attacker = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.attacks", "--attack", name, node.url, "--seconds", str(seconds)],
            stdin=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert attacker.stdin is not None
        given = {"tokens": node.tokens, "stolen": asdict(stolen) if stolen else None}
        attacker.stdin.write(json.dumps(given))
        attacker.stdin.close()
    began_s, before, most = time.monotonic(), worker.memory_info().rss, 0
    while (now_s := time.monotonic()) < began_s + seconds + 0.5:
        most = max(most, worker.memory_info().rss)
        time.sleep(0.02)
    if attacker is not None:
        try:
            attacker.wait(5.0)
        except subprocess.TimeoutExpired:
            attacker.kill()
            attacker.wait()
    # What was sent last may be on its way.
    time.sleep(1.0)
    delays = light.between(began_s, now_s)
    expected = (now_s - began_s) * LOAD_PER_S
    if len(delays) < expected * 0.9:
        lost = f"  ({expected - len(delays):.0f} of {expected:.0f} messages came later than a second after it)"
    else:
        lost = ""
    if not delays:
        return f"{name:24} {'-':>8} {'-':>8} {'-':>8} {before / MIB:9.0f} {most / MIB:9.0f}{lost}"
    p50, p99 = delays[len(delays) // 2], delays[min(len(delays) - 1, int(len(delays) * 0.99))]
    return f"{name:24} {p50:8.1f} {p99:8.1f} {delays[-1]:8.1f} {before / MIB:9.0f} {most / MIB:9.0f}{lost}"


def measure(node: NodeProcess, names: list[str], seconds: float, stolen: Stolen | None = None) -> None:
    """Attack a node, and print what its agents noticed."""
    light = Light(node)
    try:
        while not light.between(0.0, float("inf")):
            assert light.process.poll() is None
            time.sleep(0.05)
        print(f"{'attack':24} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8} {'MiB bef.':>9} {'MiB most':>9}", flush=True)
        for name in ["nothing", *names]:
            print(during(node, light, name, seconds, stolen), flush=True)
    finally:
        light.process.kill()
        light.process.wait()


def main(names: list[str], seconds: float) -> None:
    """Measure, and print."""
    linked = {one.__name__ for one in LINK_ATTACKS}
    alone, of_linked = [name for name in names if name not in linked], [name for name in names if name in linked]
    with tempfile.TemporaryDirectory() as directory:
        if alone:
            with NodeProcess(Path(directory) / "state") as node:
                for agent in AGENTS:
                    node.token(agent)
                measure(node, alone, seconds)
        if of_linked:
            cluster = Cluster(Path(directory), [ATTACKED, STOLEN, BESIDE])
            for agent in AGENTS:
                cluster.token(agent)
            try:
                # The one whose key is stolen doesn't run: the attacker is in its place.
                for name in (ATTACKED, BESIDE):
                    cluster[name].start()
                cluster[ATTACKED].wait_log(f"the node {BESIDE} is there")
                key = read_public_key(cluster[ATTACKED].state_dir / "crossbar") or ""
                stolen = Stolen(str(cluster[STOLEN].state_dir), key)
                measure(cluster[ATTACKED], of_linked, seconds, stolen)
            finally:
                cluster.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="attacks; all of them by default")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each attack")
    parser.add_argument("--attack", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.attack:
        attack(said.attack[0], said.attack[1], said.seconds)
    elif said.load:
        load(said.load)
    else:
        main(said.names or [one.__name__ for one in (*ATTACKS, *LINK_ATTACKS)], said.seconds)
