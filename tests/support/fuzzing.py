"""Malformed input at a real node from many sides at once, beside agents whose work must not notice.

``python -m tests.benchmarks.fuzzing --inputs 100000`` is the long form; ``tests/integration/test_fuzzing.py`` runs a
short one.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from typing import Any

import psutil

from tests.support.malformed import PACKERS, Malformed
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

__all__ = ["AGENTS", "MIB", "Fuzz", "faults"]

#: Those that work beside it, and those whose tokens send what is malformed: of each subprotocol, two.
SENDER, TAKER = "agni", "dc"
FUZZERS = tuple(f"eve{number}" for number in range(6))
AGENTS = (SENDER, TAKER, *FUZZERS)

#: Of all inputs, what strangers send; each is a connection.
_STRANGERS_SHARE = 0.3
#: How long an answer is waited for: the node need not give one.
_GLANCE_S = 0.002
MIB = 1024 * 1024


class Fuzz:
    """Threads that send malformed input to a node.

    Args:
        node: it has tokens of :data:`AGENTS`.
        inputs: how many.
        seed: the same one gives the same inputs, in each thread.

    Attributes:
        sent: how many inputs there were, by kind.
        endings: how often the node ended the connection, by kind.
        waits_s: how long each exchange of the working agents took, in s.
        grown_bytes: by how much the worker was larger at its largest.
        lost: messages of the working agents that did not arrive, or arrived twice.
    """

    def __init__(self, node: NodeProcess, inputs: int, seed: int) -> None:
        self._node = node
        self._seed = seed
        self._left = inputs
        self._lock = threading.Lock()
        self.sent: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.waits_s: list[float] = []
        self.grown_bytes = 0
        self.lost: list[str] = []
        self._failure: BaseException | None = None
        self._is_over = False

    def run(self) -> None:
        """Send all of it.

        Raises:
            AssertionError, OSError: the working agents could not work any more.
        """
        worker = psutil.Process(self._node.worker_pid())
        before_bytes = worker.memory_info().rss
        beside = threading.Thread(target=self._guarded, args=(self._work,))
        threads = [
            *(threading.Thread(target=self._guarded, args=(self._member, number)) for number in range(len(FUZZERS))),
            *(threading.Thread(target=self._guarded, args=(self._stranger, number)) for number in range(4)),
        ]
        for thread in (beside, *threads):
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.grown_bytes = max(self.grown_bytes, worker.memory_info().rss - before_bytes)
            time.sleep(0.05)
        self._is_over = True
        beside.join()
        if self._failure is not None:
            raise self._failure

    def _guarded(self, work: Any, *args: Any) -> None:
        try:
            work(*args)
        except BaseException as error:
            self._failure = error
            with self._lock:
                self._left = 0

    def _take(self, kind: str) -> bool:
        with self._lock:
            if self._left <= 0:
                return False
            self._left -= 1
            self.sent[kind] += 1
            return True

    # -- what is malformed -----------------------------------------------------------------------------------------

    def _member(self, number: int) -> None:
        """A session that sends, and joins again whenever it was ended."""
        source = Malformed(self._seed + number)
        agent, protocol = FUZZERS[number], tuple(PACKERS)[number % len(PACKERS)]
        opcode, pack = PACKERS[protocol]
        roles: dict[str, Any] = {role: {} for role in ("caller", "callee", "subscriber", "publisher")}
        hello = [1, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": agent}]
        while True:
            with contextlib.suppress(OSError), RawClient(self._node.url) as client:
                client.open(protocol)
                client.send_frame(opcode, pack(hello))
                client.receive_bytes()
                client.send_frame(opcode, pack([5, self._node.tokens[agent], {}]))
                client.receive_bytes()
                client.socket.settimeout(_GLANCE_S)
                while self._take(protocol):
                    client.pour(source.frames(protocol))
                    if self._has_ended(client.socket):
                        self.endings[protocol] += 1
                        break
                else:
                    return

    def _stranger(self, number: int) -> None:
        """Connections from many addresses, each with one input."""
        source = Malformed(self._seed + 1000 + number)
        addresses = (f"127.{1 + number}.{one // 250}.{1 + one % 250}" for one in itertools.cycle(range(60_000)))
        host, port = "127.0.0.1", self._node.port
        while self._is_strangers_turn():
            with contextlib.suppress(OSError), socket.socket() as connection:
                connection.settimeout(5.0)
                connection.bind((next(addresses), 0))
                connection.connect((host, port))
                if not self._take("stranger"):
                    return
                connection.sendall(source.request(host, port))
                connection.settimeout(_GLANCE_S)
                if self._has_ended(connection):
                    self.endings["stranger"] += 1

    def _is_strangers_turn(self) -> bool:
        """Wait until strangers have sent less than their share; whether there is anything left to send."""
        while True:
            with self._lock:
                if self._left <= 0:
                    return False
                if self.sent["stranger"] <= _STRANGERS_SHARE * (sum(self.sent.values()) + 1):
                    return True
            time.sleep(0.005)

    def _has_ended(self, connection: socket.socket) -> bool:
        """Read what there is; whether the node closed the connection."""
        try:
            while data := connection.recv(65536):
                del data
        except TimeoutError:
            return False
        return True

    # -- beside it -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """A message, sent, fetched and settled, again and again."""
        with RawClient(self._node.url) as sender, RawClient(self._node.url) as taker:
            for client, name in ((sender, SENDER), (taker, TAKER)):
                client.open()
                client.join(name, self._node.tokens[name])
            for number in itertools.count():
                if self._is_over:
                    return
                began_s = time.monotonic()
                wire = {"type": "STATUS", "id": f"beside-{self._seed}-{number}", "to": TAKER, "payload": number}
                (receipt,) = sender.call(uris.MAILBOX_SEND, [wire])
                assert receipt["status"] == "accepted", receipt
                fetched = taker.call(uris.MAILBOX_FETCH, {"max": 10, "wait_s": 10})["deliveries"]
                if [one["message"]["id"] for one in fetched] != [wire["id"]]:
                    self.lost.append(f"{wire['id']}: {fetched}")
                assert taker.call(uris.MAILBOX_ACK, [one["token"] for one in fetched]) == [True] * len(fetched)
                self.waits_s.append(time.monotonic() - began_s)
                time.sleep(0.01)


def faults(log: str) -> list[str]:
    """Lines of a node's log that tell of a fault of the node."""
    signs = ("Traceback", "Unhandled", "CRITICAL", "a bug in")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]
