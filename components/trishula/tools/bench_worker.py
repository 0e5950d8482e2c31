"""One side of a bench, in a process of its own: ``python -m trishula.tools.bench_worker``.

:mod:`trishula.tools.bench` starts it. A worker reads one line of JSON (a :class:`Task`) from standard input, and writes
lines of JSON to standard output: ``ready``, then ``progress`` several times a second, then ``result``, behind which raw
arrays follow, so that percentiles are made once and over every sample. It ends when standard input does: an orphan must
not go on sending.

The clock is CLOCK_MONOTONIC, which all processes of a host share. The instant of sending travels in the payload.

Sender: all connections of the bench. Receiver: one connection, an instance of the same agent, that acknowledges each
message in the reactor turn in which its handler got it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from trishula.runtime.surroundings import use_monotonic_timers

__all__ = ["KINDS", "Result", "Task"]

#: The arrays that follow a result, 64-bit integers each: nanoseconds, or numbers of messages.
KINDS = "q"
_PROGRESS_EVERY_S = 0.2
#: A receiver gives up on messages that don't come: after so long without any.
_SILENCE_S = 10.0
#: The receipts of the last messages.
_RECEIPTS_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


class Task(msgspec.Struct, frozen=True):
    """What a worker has to do.

    Attributes:
        instance: the receiver's, or the senders' common beginning.
        to: the receiver's address.
        connections: of the sender.
        rate: messages a second on each connection; 0: as fast as ``window`` allows.
        window: messages without a receipt, over all connections; at the receiver, without an ack.
        size_bytes: of the payload, about.
        copies: what the sender asks for; ``None``: what is usual.
        token, key_file, agent: what it joins with, and as whom; see :func:`trishula.settings.load`.
    """

    role: Literal["send", "receive"]
    url: str
    token: str
    instance: str
    to: str
    connections: int
    rate: float
    window: int
    duration_s: float
    warm_up_s: float
    size_bytes: int
    copies: int | None = None
    key_file: str = ""
    agent: str = ""


class Result(msgspec.Struct):
    """What a worker found; ``arrays`` follow as raw bytes, so many 64-bit integers each.

    ``copies``: the fewest that any receipt told of.
    """

    connect_ms: list[float] = []
    refused: list[str] = []
    copies: int = 0
    duplicates: int = 0
    pacing_lag_ms: float = 0.0
    finished_ns: int = 0
    warm_up_messages: int = 0
    arrays: list[int] = []


class Worker:
    """What both sides share: the client, the lines to and from the parent, the end."""

    def __init__(self, task: Task) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.task = task
        self.result = Result()
        self.failure: str | None = None

    def tell(self, kind: str, **fields: Any) -> None:
        sys.stdout.buffer.write(msgspec.json.encode({"kind": kind, **fields}) + b"\n")
        sys.stdout.buffer.flush()

    def finish(self, *arrays: array[int]) -> None:
        self.result.arrays = [len(one) for one in arrays]
        self.tell("result", result=self.result)
        for one in arrays:
            sys.stdout.buffer.write(one.tobytes())
        sys.stdout.buffer.flush()

    def fail(self, sentence: str) -> None:
        if self.failure is None:
            self.failure = sentence
            self.tell("failed", sentence=sentence)
            self.end()

    def end(self) -> None:
        from twisted.internet.error import ReactorNotRunning

        # The end of standard input and the end of the work may both come here.
        with contextlib.suppress(ReactorNotRunning):
            self.reactor.stop()

    def heard(self, line: str) -> None:
        """A line from the parent."""

    async def work(self) -> None:
        raise NotImplementedError

    async def connect(self, instance: str) -> Any:
        """A client that has joined; the time it took is noted."""
        from trishula.client import Client
        from trishula.settings import load

        task = self.task
        settings = load(url=task.url, agent=task.agent, token=task.token, key_file=task.key_file, environ={})
        client = Client(settings, instance=instance)
        await self.attach(client)
        before = time.monotonic()
        await client.start(timeout=15.0)
        self.result.connect_ms.append((time.monotonic() - before) * 1000)
        return client

    async def attach(self, client: Any) -> None:
        """What is to be set up before it joins."""

    def sleep(self, seconds: float) -> Any:
        from twisted.internet.task import deferLater

        return deferLater(self.reactor, seconds)


class Sender(Worker):
    """Sends, and notes when each message went and when its receipt came."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.clients: list[Any] = []
        self.sent_ns: array[int] = array(KINDS)
        self.receipt_ns: array[int] = array(KINDS)
        self.number = 0
        self.receipts = 0
        self.open = 0
        self.measuring = False
        self.began = 0
        self.deadline_s = 0.0
        self.lag_s = 0.0
        self.padding = "x" * max(task.size_bytes - 40, 0)
        self.go = False

    async def work(self) -> None:
        for index in range(self.task.connections):
            self.clients.append(await self.connect(f"{self.task.instance}s{index}"))
        self.tell("ready")
        while not self.go:
            await self.sleep(0.005)
        await self._phase(self.task.warm_up_s)
        self.result.warm_up_messages = self.number
        self.began = self.number
        self.receipts = 0
        self.lag_s = 0.0
        self.sent_ns, self.receipt_ns = array(KINDS), array(KINDS)
        self.measuring = True
        self.tell("measuring", first=self.began)
        await self._phase(self.task.duration_s)
        self.result.pacing_lag_ms = self.lag_s * 1000
        self.finish(self.sent_ns, self.receipt_ns)
        for client in self.clients:
            await client.stop()

    async def _phase(self, duration_s: float) -> None:
        """Send for so long, then wait for the last receipt."""
        self.deadline_s = time.monotonic() + duration_s
        if self.task.rate:
            await self._paced(duration_s)
        else:
            await self._windowed()
        until_s = time.monotonic() + _RECEIPTS_TIMEOUT_S
        while self.open and time.monotonic() < until_s:
            await self.sleep(0.005)

    async def _paced(self, duration_s: float) -> None:
        """Each connection at its rate, the connections evenly between each other."""
        count = len(self.clients)
        gap_s = 1.0 / (self.task.rate * count)
        total = round(duration_s / gap_s)
        begin_s = time.monotonic()
        told_s = begin_s
        sent = 0
        while sent < total:
            now_s = time.monotonic()
            while sent < total and (due_s := begin_s + sent * gap_s) <= now_s:
                self.lag_s = max(self.lag_s, now_s - due_s)
                self._send(self.clients[sent % count], None)
                sent += 1
            if now_s - told_s > _PROGRESS_EVERY_S:
                told_s = now_s
                self._progress()
            await self.sleep(max(begin_s + sent * gap_s - time.monotonic(), 0.0))

    async def _windowed(self) -> None:
        """Each connection has its share of the window; every receipt makes room for the next message."""
        share = self.task.window // len(self.clients)
        for client in self.clients:
            for _ in range(share):
                self._send(client, client)
        while time.monotonic() < self.deadline_s:
            await self.sleep(_PROGRESS_EVERY_S)
            self._progress()

    def _progress(self) -> None:
        if self.measuring:
            self.tell("progress", sent=len(self.sent_ns), receipts=self.receipts)

    def _send(self, client: Any, again: Any) -> None:
        number = self.number
        self.number += 1
        self.open += 1
        index = number - self.began
        sent_ns = time.monotonic_ns()
        if self.measuring:
            self.sent_ns.append(sent_ns)
            self.receipt_ns.append(0)
        # As a string: after 104 days without a restart the host's clock is beyond what a payload takes as a number.
        payload = {"n": number, "t": str(sent_ns), "x": self.padding}

        def receipt(pending: Any) -> None:
            self.open -= 1
            error = pending.error
            if error is not None:
                if len(self.result.refused) < 1000:
                    self.result.refused.append(str(error))
            else:
                if self.measuring:
                    self.receipt_ns[index] = time.monotonic_ns()
                    self.receipts += 1
                    copies = pending.result().copies or 0
                    self.result.copies = copies if self.receipts == 1 else min(copies, self.result.copies)
                if again is not None and time.monotonic() < self.deadline_s:
                    self._send(again, again)

        client.send(self.task.to, payload=payload, copies=self.task.copies).when_done(receipt)

    def heard(self, line: str) -> None:
        self.go = self.go or line == "go"


class Receiver(Worker):
    """Takes deliveries, notes when each reached the handler, acknowledges."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.client: Any = None
        self.numbers: array[int] = array(KINDS)
        self.one_way_ns: array[int] = array(KINDS)
        self.seen: set[int] = set()
        # Both are known when all is sent. Until then everything is noted, warm-up as well: word of where the warm-up
        # ended may come later than the first message behind it.
        self.first = 0
        self.expected: int | None = None
        self.measured = 0
        self.unacknowledged = 0
        self.heard_s = time.monotonic()

    async def attach(self, client: Any) -> None:
        client.attach(self._deliveries, window=self.task.window, heartbeat_s=10.0)

    async def work(self) -> None:
        self.client = await self.connect(self.task.instance)
        self.tell("ready")
        told_s = time.monotonic()
        while True:
            await self.sleep(0.01)
            now_s = time.monotonic()
            if now_s - told_s > _PROGRESS_EVERY_S:
                told_s = now_s
                self.tell("progress", received=len(self.seen))
            if self.expected is not None:
                complete = self.measured >= self.expected and not self.unacknowledged
                if complete or now_s - self.heard_s > _SILENCE_S:
                    break
        self.finish(self.numbers, self.one_way_ns)
        await self.client.stop()

    def _deliveries(self, deliveries: list[Any]) -> None:
        self.heard_s = time.monotonic()
        tokens = []
        for delivery in deliveries:
            now_ns = time.monotonic_ns()
            payload = delivery.message.payload
            tokens.append(delivery.token)
            number = payload["n"]
            if number in self.seen:
                self.result.duplicates += 1
                continue
            self.seen.add(number)
            self.measured += number >= self.first
            self.numbers.append(number)
            self.one_way_ns.append(now_ns - int(payload["t"]))
        self.unacknowledged += len(tokens)
        self.client.ack(tokens).when_done(lambda pending: self._acknowledged(len(tokens), pending))

    def _acknowledged(self, count: int, pending: Any) -> None:
        self.unacknowledged -= count
        if pending.error is None:
            self.result.finished_ns = time.monotonic_ns()
        elif self.expected is None:
            self.fail(f"messages could not be acknowledged: {pending.error}")

    def heard(self, line: str) -> None:
        match line.split():
            case ["expect", first, count]:
                self.first, self.expected = int(first), int(count)
                self.measured = sum(number >= self.first for number in self.seen)
                self.heard_s = time.monotonic()


def run(task: Task, lines: Callable[[], str]) -> int:
    """Do it; the exit code."""
    # An agent runs on this reactor, so the bench does.
    from twisted.internet import asyncioreactor

    install: Any = asyncioreactor.install
    install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    use_monotonic_timers(reactor, time.monotonic)
    worker = (Sender if task.role == "send" else Receiver)(task)

    def listen() -> None:
        while line := lines():
            worker.reactor.callFromThread(worker.heard, line.strip())
        worker.reactor.callFromThread(worker.end)

    def begin() -> None:
        def failed(failure: Any) -> None:
            worker.fail(f"{failure.value}" or failure.type.__name__)

        done: Deferred[None] = Deferred.fromCoroutine(worker.work())
        done.addErrback(failed)
        done.addBoth(lambda _: worker.end())

    worker.reactor.callWhenRunning(begin)
    threading.Thread(target=listen, daemon=True).start()
    # A signal ends it on the spot: there is nothing here to put in order.
    worker.reactor.run(installSignalHandlers=False)
    return 0 if worker.failure is None else 1


if __name__ == "__main__":
    raise SystemExit(run(msgspec.json.decode(sys.stdin.readline(), type=Task), sys.stdin.readline))
