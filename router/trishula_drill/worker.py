"""One client of a drill, in a process of its own: ``python -m trishula_drill.worker``.

It reads one line of JSON (a :class:`Task`) from standard input, then commands a line: ``hush`` (send nothing more),
``quit``. It writes lines of JSON to standard output: ``ready``, ``progress`` several times a second, ``quiet`` when it
was told to hush and every message has its receipt. What it did and saw it tells its history. It ends when standard
input does, so that none is left behind.

Three roles. ``send``: an agent that sends bursts from its outbox on disk. ``agent``: one with a handler and an inbox
memory on disk. ``fetch``: the pull form, which remembers what it handled by its own history, as a script in
another language would.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trishula.contract.message import DEFAULT_TTL_MS
from trishula.runtime.backoff import Backoff
from trishula.runtime.surroundings import use_monotonic_timers
from trishula_drill.dials import Dials, use_stepping_clock
from trishula_drill.history import (
    Delivered,
    FetchedEmpty,
    Handled,
    History,
    Receipted,
    Refused,
    Sent,
    digest_of,
    read,
)

if TYPE_CHECKING:
    from trishula.client import Client
    from trishula.contract.deliveries import Delivery
    from trishula.contract.message import Message
    from trishula.contract.receipts import Receipt
    from trishula.runtime.pending import Pending
    from trishula.session.transport import Connection
    from trishula.settings import Settings

__all__ = ["Progress", "Role", "Task", "agent_directory", "run"]

_PROGRESS_EVERY_S = 0.1
#: What a sender has without receipt at most: while the node is away it holds on, as a sensible program does.
_UNCONFIRMED = 200
_HANDLED_AT_ONCE = 32
#: Below a worker's directory.
_STATE = "state"
_REJOIN = Backoff(first_s=0.05, factor=1.5, cap_s=0.3)

Role = Literal["send", "agent", "fetch"]


class Task(msgspec.Struct, frozen=True):
    """What a worker has to do.

    Attributes:
        token, key_file: what it joins with, one of them.
        name: the agent that it is.
        run: this life of it; unique within the drill.
        directory: where its files are: histories ``<name>.<run>.jsonl``, the agent's own below ``state``.
        recipients: whom it sends to.
        rate: messages a second, about.
        padding_bytes: of a message, at most.
        ttls_ms: times to live, of which each message gets one; none: the node's default.
        dials: the file by which the drill sets this process's clock; none: it is the machine's.
        url: of the nodes, in order of preference.
        failback: after what time to go back to the preferred one; none: the client's default.
        files: the agent's folder; none: it has no second road.
        fallback_after: after what time it uses that; none: the client's default.
        is_eager: whether to rejoin more eagerly than a client does by itself: so many more faults fit into an hour.
    """

    role: Role
    url: str
    token: str
    name: str
    run: str
    directory: str
    seed: str
    recipients: tuple[str, ...] = ()
    rate: float = 60.0
    padding_bytes: int = 600
    ttls_ms: tuple[int, ...] = ()
    key_file: str = ""
    dials: str = ""
    failback: str = ""
    files: str = ""
    fallback_after: str = ""
    is_eager: bool = True


def agent_directory(task: Task) -> Path:
    """Where an agent's file is."""
    return Path(task.directory) / _STATE / task.name


class Progress(msgspec.Struct, frozen=True):
    """A line from a worker.

    Attributes:
        kind: ``ready``, ``progress``, ``quiet`` or ``failed``.
        receipts, handled: so many since its start.
        sentence: why it failed.
        url: of the node that it is joined to; empty if it is to none.
    """

    kind: str
    receipts: int = 0
    handled: int = 0
    sentence: str = ""
    url: str = ""


class Worker:
    """What all roles share."""

    def __init__(self, task: Task) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.task = task
        self.directory = Path(task.directory)
        self.history = History(self.directory / f"{task.name}.{task.run}.jsonl")
        self.chance = random.Random(task.seed)
        self.receipts = 0
        self.handled = 0
        self.hushed = False
        self.leaving = False
        self.failed = False
        self.client: Client | None = None

    def settings(self) -> Settings:
        from trishula.settings import load

        task = self.task
        environ = {
            "TRISHULA_FAILBACK": task.failback,
            "TRISHULA_FILES": task.files,
            "TRISHULA_FALLBACK_AFTER": task.fallback_after,
        }
        if task.key_file:
            return load(url=task.url, agent=task.name, key_file=task.key_file, environ=environ)
        return load(url=task.url, token=task.token, environ=environ)

    def connection(self) -> Connection:
        from trishula.runtime.surroundings import real
        from trishula.session.connection import WampConnection
        from trishula.session.reconnect_policy import DEFAULT_BACKOFF

        return WampConnection(self.settings(), real(), backoff=_REJOIN if self.task.is_eager else DEFAULT_BACKOFF)

    def tell(self, kind: str, sentence: str = "") -> None:
        url = "" if self.client is None else self.client.url or ""
        line = msgspec.json.encode(Progress(kind, self.receipts, self.handled, sentence, url))
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()

    def sleep(self, seconds: float) -> Pending[None]:
        from trishula.runtime.pending import Pending

        pending: Pending[None] = Pending()
        self.reactor.callLater(seconds, pending.resolve, None)
        return pending

    def heard(self, line: str) -> None:
        """A command came."""
        if line == "hush":
            self.hushed = True
        elif line == "quit":
            self.leaving = True

    async def work(self) -> None:
        """Do it, until ``leaving``."""
        raise NotImplementedError

    def keep_telling(self) -> None:
        """Say how far it is, again and again."""
        self.tell("progress")
        self.reactor.callLater(_PROGRESS_EVERY_S, self.keep_telling)

    def handle(self, message: Message, attempt: int) -> None:
        """The effect: on disk, before anything else happens."""
        sender, digest = message.sender or "", digest_of(message.payload)
        self.history.commit(
            Handled(time.monotonic_ns(), self.task.name, self.task.run, sender, message.id, digest, attempt)
        )
        self.handled += 1


class Sender(Worker):
    """Sends bursts; several messages in one turn travel in one call."""

    async def work(self) -> None:
        from trishula.agent import Agent

        agent = Agent(self.task.name, state=self.directory / _STATE)
        await agent.start(self.settings(), connection=self.connection())
        self.client = client = agent.client
        self.tell("ready")
        number = 0
        quiet = False
        while not self.leaving:
            if not self.hushed and client.unconfirmed < _UNCONFIRMED:
                burst = self.chance.randint(1, 12)
                for _ in range(burst):
                    number += 1
                    self._send(client, number)
                await self.sleep(self.chance.uniform(0.0, 2.0) * burst / self.task.rate)
                continue
            if self.hushed and not client.unconfirmed and not quiet:
                quiet = True
                self.tell("quiet")
            await self.sleep(0.02)
        await agent.stop()

    def _send(self, client: Client, number: int) -> None:
        task = self.task
        message_id = f"{task.run}.{number}"
        to = self.chance.choice(task.recipients)
        priority = self.chance.choice((3, 3, 3, 1, 5))
        payload = {"n": number, "run": task.run, "x": "x" * self.chance.randint(0, task.padding_bytes)}
        ttl_ms = self.chance.choice(task.ttls_ms) if task.ttls_ms else None
        digest, lives_ms = digest_of(payload), ttl_ms or DEFAULT_TTL_MS
        # On record before it is sent: what nobody sent is a stranger's.
        self.history.tell(
            Sent(time.monotonic_ns(), task.name, task.run, message_id, (to,), number, priority, digest, lives_ms)
        )

        def receipt(pending: Pending[Receipt]) -> None:
            error = pending.error
            if error is None:
                got = pending.result()
                self.history.tell(
                    Receipted(time.monotonic_ns(), task.name, message_id, got.node or "", got.copies or 1)
                )
                self.receipts += 1
            elif not self.leaving:
                self.history.tell(
                    Refused(time.monotonic_ns(), task.name, message_id, f"{type(error).__name__}: {error}")
                )

        client.send(to, id=message_id, payload=payload, priority=priority, ttl_ms=ttl_ms).when_done(receipt)


class AgentReceiver(Worker):
    """An agent with a handler."""

    async def work(self) -> None:
        from trishula.agent import Agent
        from trishula.contract.deliveries import current_delivery

        def handler(message: Message) -> None:
            delivery = current_delivery()
            self.handle(message, 1 if delivery is None else delivery.attempt)

        agent = Agent(self.task.name, state=self.directory / _STATE)
        agent.on("STATUS")(handler)
        await agent.start(self.settings(), connection=self.connection())
        self.client = agent.client
        self.tell("ready")
        while not self.leaving:
            await self.sleep(0.02)
        await agent.stop()


class Fetcher(Worker):
    """The pull form."""

    async def work(self) -> None:
        from trishula.client import Client
        from trishula.errors import TrishulaError

        known = self._remembered()
        self.client = client = Client(self.settings(), connection=self.connection())
        await client.start()
        self.tell("ready")
        while not self.leaving:
            began_ns = time.monotonic_ns()
            wait_s = self.chance.choice((0.0, 0.0, 0.1, 0.3))
            try:
                fetched = await client.fetch(max=_HANDLED_AT_ONCE, wait_s=wait_s)
            except TrishulaError:
                # Away, late, or stopping: the next fetch is as good as a repeat of this one.
                await self.sleep(0.05)
                continue
            self._take(fetched.deliveries, known)
            if fetched.deliveries:
                try:
                    await client.ack([delivery.token for delivery in fetched.deliveries])
                except TrishulaError:
                    continue
            elif fetched.pending + fetched.in_flight == 0:
                now_ns = time.monotonic_ns()
                # The answer to a fetch that waited is as of its end, and its beginning is not known to us.
                if wait_s == 0.0:
                    task = self.task
                    self.history.tell(
                        FetchedEmpty(began_ns, now_ns, task.name, task.run, fetched.epoch, fetched.high_water)
                    )
                await self.sleep(0.01)
        await client.stop()

    def _take(self, deliveries: list[Delivery], known: set[tuple[str, str]]) -> None:
        for delivery in deliveries:
            message = delivery.message
            sender = message.sender or ""
            self.history.tell(
                Delivered(time.monotonic_ns(), self.task.name, self.task.run, sender, message.id, delivery.attempt)
            )
            if (sender, message.id) not in known:
                self.handle(message, delivery.attempt)
                known.add((sender, message.id))

    def _remembered(self) -> set[tuple[str, str]]:
        """What earlier lives of ours have handled."""
        files = self.directory.glob(f"{self.task.name}.*.jsonl")
        return {
            (event.sender, event.id)
            for file in files
            for event in read(file)
            if isinstance(event, Handled) and event.who == self.task.name
        }


_ROLES: dict[str, type[Worker]] = {"send": Sender, "agent": AgentReceiver, "fetch": Fetcher}


def run(task: Task, lines: Callable[[], str]) -> int:
    """Do it; the exit code."""
    if task.dials:
        use_stepping_clock(Dials(Path(task.dials)))
    # An agent runs on this reactor, so the drill does.
    from twisted.internet import asyncioreactor

    install: Any = asyncioreactor.install
    install()
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    use_monotonic_timers(reactor, time.monotonic)
    worker = _ROLES[task.role](task)

    def listen() -> None:
        while line := lines():
            worker.reactor.callFromThread(worker.heard, line.strip())
        worker.reactor.callFromThread(worker.reactor.stop)

    def ended(outcome: Any) -> None:
        error = getattr(outcome, "value", None)
        if error is not None:
            worker.failed = True
            worker.tell("failed", f"{type(error).__name__}: {error}")
        worker.reactor.stop()

    def begin() -> None:
        worker.keep_telling()
        done: Deferred[None] = Deferred.fromCoroutine(worker.work())
        done.addBoth(ended)

    # Not callWhenRunning: that comes before the asyncio loop runs.
    worker.reactor.callLater(0, begin)
    threading.Thread(target=listen, daemon=True).start()
    # A signal ends it on the spot: there is nothing here to put in order.
    worker.reactor.run(installSignalHandlers=False)
    worker.history.close()
    return 1 if worker.failed else 0


if __name__ == "__main__":
    raise SystemExit(run(msgspec.json.decode(sys.stdin.readline(), type=Task), sys.stdin.readline))
