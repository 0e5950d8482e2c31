"""The bench: how fast a bus takes, keeps and delivers messages, measured from outside with the clients that agents use.

Sender and receiver are processes of their own (:mod:`trishula.tools.bench_worker`); this one starts them, listens, and
computes. Three figures, from one clock that all processes of a host share, over every sample after the warm-up:

* *latency*: from ``send()`` until the receipt is there, which says that the message is on disk;
* *one-way*: from ``send()`` until the receiver's handler has the message;
* *throughput*: messages divided by the time from the first ``send()`` to the last answered ack.

The functions that compute are :func:`percentile` and :func:`evaluate`; they do no I/O.
"""

from __future__ import annotations

import contextlib
import math
import queue
import secrets
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import msgspec

from trishula.tools.bench_worker import KINDS, Result, Task
from trishula.tools.temporary_node import ToolFailed, surroundings_of, terminate, undisturbed

__all__ = ["DEFAULT_WINDOW", "Figures", "Plan", "evaluate", "measure", "percentile"]

DEFAULT_WINDOW = 256
#: Connections, caches and the interpreter's own specialisation settle within that.
WARM_UP_S = 1.0
_READY_TIMEOUT_S = 30.0
#: Beyond the planned end: the last receipts, the last acks, and the receiver's patience.
_GRACE_S = 60.0
_LEAVE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        connections: of the sender.
        rate: messages a second on each connection; 0: as fast as the window allows.
        window: messages without a receipt, over all connections together.
        size_bytes: of the payload.
        copies: on how many nodes the sender insists; ``None``: as many as are usual.
        apart: whether the sender is at the first node of the bus and the receiver at the second.
    """

    duration_s: float
    connections: int
    rate: float
    window: int = DEFAULT_WINDOW
    size_bytes: int = 200
    warm_up_s: float = WARM_UP_S
    copies: int | None = None
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; times in ms unless the name says otherwise."""

    messages: int
    lost: int
    refused: int
    duplicates: int
    success_rate: float
    throughput_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_max_ms: float
    one_way_p50_ms: float
    one_way_p99_ms: float
    one_way_max_ms: float
    connect_ms: float
    connect_max_ms: float
    pacing_lag_max_ms: float
    warm_up_messages: int
    copies: int
    durability: str

    @property
    def is_clean(self) -> bool:
        """Whether every message arrived."""
        return self.lost == 0 and self.refused == 0


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of samples in order: a value that was measured, never one between two."""
    if not ordered:
        return math.nan
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def evaluate(
    sender: Result, sent_ns: array[int], receipt_ns: array[int], receiver: Result, one_way_ns: Iterable[int]
) -> Figures:
    """The figures of one run.

    Args:
        sender, receiver: what they told.
        sent_ns: when each message was sent.
        receipt_ns: when its receipt came; 0 if none came.
        one_way_ns: how long each message that arrived took.
    """
    latency_ms = sorted((came - went) / 1e6 for went, came in zip(sent_ns, receipt_ns, strict=True) if came)
    one_way_ms = sorted(ns / 1e6 for ns in one_way_ns)
    messages = len(sent_ns)
    arrived = len(one_way_ms)
    span_s = (receiver.finished_ns - sent_ns[0]) / 1e9 if messages and receiver.finished_ns else 0.0
    connects = sorted(sender.connect_ms + receiver.connect_ms)
    return Figures(
        messages=messages,
        lost=len(latency_ms) - min(arrived, len(latency_ms)),
        refused=messages - len(latency_ms),
        duplicates=receiver.duplicates,
        success_rate=min(arrived, len(latency_ms)) / messages if messages else 0.0,
        throughput_per_s=arrived / span_s if span_s > 0 else 0.0,
        latency_p50_ms=percentile(latency_ms, 0.50),
        latency_p99_ms=percentile(latency_ms, 0.99),
        latency_max_ms=percentile(latency_ms, 1.0),
        one_way_p50_ms=percentile(one_way_ms, 0.50),
        one_way_p99_ms=percentile(one_way_ms, 0.99),
        one_way_max_ms=percentile(one_way_ms, 1.0),
        connect_ms=percentile(connects, 0.50),
        connect_max_ms=percentile(connects, 1.0),
        pacing_lag_max_ms=sender.pacing_lag_ms,
        warm_up_messages=sender.warm_up_messages,
        copies=sender.copies,
        durability=describe_durability(sender.copies),
    )


def describe_durability(copies: int) -> str:
    """What a receipt meant during the run."""
    return {0: "volatile", 1: "durable on one node", 2: "durable on two nodes"}.get(
        copies, f"durable on {copies} nodes"
    )


def measure(
    plan: Plan,
    *,
    url: str,
    token: str,
    key_file: str = "",
    agent: str = "",
    on_progress: Callable[[int, int], object] | None = None,
) -> Figures:
    """Run the bench against a bus.

    Args:
        url: the node's address, or several with commas between.
        token: of the agent that both sides are instances of; empty if it has a key alone.
        key_file: the file of its key, if it has no token.
        agent: its name, then.
        on_progress: told (messages sent, messages received) several times a second.

    Raises:
        ToolFailed: a worker failed; the sentence says why.
    """
    agent = agent or token.partition(".")[0]
    word = f"bench{secrets.token_hex(3)}"
    nodes = url.split(",")
    if plan.apart and len(nodes) < 2:
        raise ToolFailed(f"the sender and the receiver can't be at two nodes, because one is named: {url}")
    at_sender, at_receiver = nodes[:2] if plan.apart else (url, url)
    common: dict[str, Any] = {
        "token": token,
        "key_file": key_file,
        "agent": agent,
        "to": f"{agent}/{word}",
        "instance": word,
        "connections": plan.connections,
        "rate": plan.rate,
        "window": plan.window,
        "duration_s": plan.duration_s,
        "warm_up_s": plan.warm_up_s,
        "size_bytes": plan.size_bytes,
        "copies": plan.copies,
    }
    until_s = time.monotonic() + _READY_TIMEOUT_S
    with _Workers() as workers:
        workers.start("receiver", Task(role="receive", url=at_receiver, **common))
        workers.wait_for("receiver", "ready", until_s)
        workers.start("sender", Task(role="send", url=at_sender, **common))
        workers.wait_for("sender", "ready", until_s)
        workers.write("sender", "go")
        until_s = time.monotonic() + plan.warm_up_s + plan.duration_s + _GRACE_S
        sent = received = 0
        first: int | None = None
        while len(workers.results) < 2:
            name, line = workers.next_line(until_s)
            match line["kind"]:
                case "measuring":
                    first = line["first"]
                case "progress":
                    sent, received = line.get("sent", sent), line.get("received", received)
                    if on_progress is not None and first is not None:
                        on_progress(sent, max(received - first, 0))
                case "result" if name == "sender":
                    # Only what the node took can arrive.
                    told, (_, receipts) = workers.results["sender"]
                    accepted = sum(1 for came in receipts if came)
                    workers.write("receiver", f"expect {told.warm_up_messages} {accepted}")
        sender, (sent_ns, receipt_ns) = workers.results["sender"]
        receiver, (numbers, one_way_ns) = workers.results["receiver"]
    begin, end = sender.warm_up_messages, sender.warm_up_messages + len(sent_ns)
    measured = [ns for number, ns in zip(numbers, one_way_ns, strict=True) if begin <= number < end]
    return evaluate(sender, sent_ns, receipt_ns, receiver, measured)


class _Workers:
    """The two processes, and what they say."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lines: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.results: dict[str, tuple[Result, list[array[int]]]] = {}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            # What they wait for at their end; those that have told their result are about to leave anyway.
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        if kind is None:
            for process in self._processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LEAVE_TIMEOUT_S)
        terminate(self._processes)
        for process in self._processes.values():
            if process.stdout is not None:
                process.stdout.close()

    def start(self, name: str, task: Task) -> None:
        # The task goes in by a pipe: what stands in argv or the environment, every process of the host can read.
        with undisturbed():
            process = self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "trishula.tools.bench_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=surroundings_of(),
                start_new_session=True,
            )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        process.stdin.flush()
        threading.Thread(target=self._listen, args=(name, process), daemon=True).start()

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            while line := process.stdout.readline():
                told: dict[str, Any] = msgspec.json.decode(line)
                if told["kind"] == "result":
                    result = msgspec.convert(told["result"], Result)
                    arrays = []
                    for length in result.arrays:
                        one = array(KINDS)
                        one.frombytes(process.stdout.read(length * one.itemsize))
                        arrays.append(one)
                    self.results[name] = (result, arrays)
                self._lines.put((name, told))
        except (ValueError, msgspec.MsgspecError) as error:
            self._lines.put((name, {"kind": "failed", "sentence": f"it can't be understood: {error}"}))
        if name not in self.results:
            self._lines.put((name, {"kind": "failed", "sentence": "it ended before its time"}))

    def write(self, name: str, line: str) -> None:
        stdin = self._processes[name].stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            # Why it ended comes with its last line.
            return

    def next_line(self, until_s: float) -> tuple[str, Mapping[str, Any]]:
        try:
            name, told = self._lines.get(timeout=max(until_s - time.monotonic(), 0.001))
        except queue.Empty:
            silent = [name for name in self._processes if name not in self.results]
            raise ToolFailed(f"the bench's {' and '.join(silent)} did not answer in time") from None
        if told["kind"] == "failed":
            raise ToolFailed(f"the bench's {name} failed: {told['sentence']}")
        return name, told

    def wait_for(self, name: str, kind: str, until_s: float) -> None:
        while True:
            who, told = self.next_line(until_s)
            if who == name and told["kind"] == kind:
                return
