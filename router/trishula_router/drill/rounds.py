"""A drill: rounds of faults under running traffic, then the checker's verdict.

Rounds are run in *legs*. A leg starts the clients (two that send, an agent and a fetching script that receive), has its
rounds strike, then heals everything: the senders stop when each of their messages has its receipt, the receivers when
the node has nothing more for them. Then the node is stopped and its store examined. The next leg goes on with the
same store. A round begins when messages flow again after the one before; a bus that doesn't recover is a failure.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from trishula import connect, uris
from trishula.errors import TrishulaError
from trishula.throwaway import ToolFailed
from trishula_router.agents_file import AgentRecord, update_agents
from trishula_router.commands.state import agents_file_of
from trishula_router.drill.autopsy import autopsy, size_of_store
from trishula_router.drill.checker import Verdict, check
from trishula_router.drill.faults import Cast, Fault, Kind, schedule
from trishula_router.drill.history import History, Sent, read_all
from trishula_router.drill.processes import ClientProcess, NodeProcess
from trishula_router.drill.proxy import Network, Proxy, Toxic, free_port
from trishula_router.drill.worker import Task
from trishula_router.effective import options_of
from trishula_router.tokens import TokenRecord, digest_of, new_token, with_new_token

__all__ = ["CAST", "LEG_ROUNDS", "Report", "run_drill"]

#: Underscores make them names that no team's agents have.
CAST = Cast(("drill_sender_one", "drill_sender_two"), ("drill_agent", "drill_script"))
_OPERATOR = "drill_operator"
#: Long enough that starting and checking don't count, short enough that a violation is told early.
LEG_ROUNDS = 25
#: Messages that must be handled between two rounds: traffic flows again.
_FLOW = 20
_RECOVERY_S = 60.0
_DRAIN_S = 90.0
_LOOK_S = 0.01
_SMALL_BYTES = 600
#: Where the disk is to get full soon.
_LARGE_BYTES = 30_000
#: The least that a node takes as limits.store.
_STORE_KIB = 1024
#: A node of a drill is quicker to take back what is not acknowledged, so that a drill ends in time.
_DELIVERY = {"lease": "15s", "backoff_first": "200ms", "backoff_cap": "2s"}


@dataclass(slots=True)
class Report:
    """What a drill found; times in seconds.

    Attributes:
        messages: that have a receipt.
        sent: that were given to a client.
        faults: how many struck.
        faults_by_kind: likewise.
        excused: handlers that ran a second time because their process was killed before the first run was on record.
        unpromised: messages whose sender was killed before it had a receipt or a refusal.
        refused: messages that were refused for good, by the class of the error.
        violations: the sentences of the checker.
    """

    drill: str
    seed: int
    rounds: int = 0
    messages: int = 0
    sent: int = 0
    faults: int = 0
    lost: int = 0
    twice: int = 0
    excused: int = 0
    effects: int = 0
    empties: int = 0
    duration_s: float = 0.0
    faults_by_kind: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    unpromised: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.twice or self.violations)

    def merge(self, other: Report) -> None:
        """The report on another drill."""
        for name in (
            "rounds",
            "messages",
            "sent",
            "faults",
            "lost",
            "twice",
            "excused",
            "effects",
            "empties",
            "unpromised",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.duration_s += other.duration_s
        self.faults_by_kind = dict(Counter(self.faults_by_kind) + Counter(other.faults_by_kind))
        self.ends = dict(Counter(self.ends) + Counter(other.ends))
        self.refused = dict(Counter(self.refused) + Counter(other.refused))
        self.violations += other.violations

    def add(self, verdict: Verdict) -> None:
        """The verdict on a leg."""
        self.messages += verdict.receipts
        self.sent += verdict.sent
        self.lost += verdict.lost
        self.twice += verdict.twice
        self.excused += verdict.excused
        self.effects += verdict.effects
        self.empties += verdict.empties
        self.unpromised += verdict.unpromised
        self.ends = dict(Counter(self.ends) + Counter(verdict.ends))
        self.refused = dict(Counter(self.refused) + Counter(verdict.refused))
        self.violations += [f"{violation.kind}: {violation.sentence}" for violation in verdict.violations]


def run_drill(
    drill: str,
    *,
    rounds: int,
    seed: int,
    state: Path | None = None,
    on_progress: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Run a drill.

    Args:
        drill: a key of :data:`trishula_router.drill.faults.DRILLS`.
        state: the node's state directory, which is left as it is then; a throw-away one if absent.
        on_progress: told after each round.

    Raises:
        ToolFailed: the drill itself failed: a process didn't start, or the bus didn't recover.
    """
    report = Report(drill, seed)
    began_s = time.monotonic()
    with _directory() as directory, Network() as network:
        stage = _Stage(directory, state or directory / "state", network, report, random.Random(f"{seed}/network"))
        with stage:
            for begin in range(0, rounds, LEG_ROUNDS):
                stage.leg(range(begin, min(begin + LEG_ROUNDS, rounds)), on_progress)
                report.duration_s = time.monotonic() - began_s
    return report


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="trishula-drill-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Stage:
    """The node, the network and, during a leg, the clients."""

    def __init__(self, directory: Path, state: Path, network: Network, report: Report, chance: random.Random) -> None:
        self._directory = directory
        self._state = state
        self._network = network
        self._report = report
        self._config = self._write_config("config", {})
        self._port = free_port()
        self._node = NodeProcess(state, self._port, directory / "node.errors")
        self._word = secrets.token_hex(3)
        self._legs = 0
        # The network is between clients and node in one drill only: elsewhere it could hide what a real one does.
        self._proxies: dict[str, Proxy] = {}
        if report.drill == "network":
            self._proxies = {name: network.proxy(self._port, chance) for name in CAST.clients}
        self._clients: dict[str, ClientProcess] = {}
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> _Stage:
        self._tokens = self._make_tokens()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.kill()
        self._node.kill()

    def _write_config(self, name: str, limits: Mapping[str, object]) -> Path:
        config: dict[str, Any] = json.loads((files("trishula_router.config") / "single.json").read_bytes())
        options = options_of(config)
        options["delivery"].update(_DELIVERY)
        options["limits"].update(limits)
        file = self._directory / f"{name}.json"
        file.write_text(json.dumps(config))
        return file

    def _make_tokens(self) -> dict[str, str]:
        """Register everybody; a further drill on the same state gives each another token."""
        now_s = time.time()
        made = {name: new_token(name, secrets.token_urlsafe) for name in (*CAST.clients, _OPERATOR)}
        self._state.mkdir(mode=0o700, exist_ok=True)
        with update_agents(agents_file_of(self._state)) as agents:
            for name, token in made.items():
                record = agents.get(name, AgentRecord())
                kept, _ = with_new_token(record.tokens, TokenRecord(digest_of(token), now_s, None, None), now_s)
                agents[name] = replace(record, tokens=kept, operator=name == _OPERATOR)
        return made

    # -- a leg ---------------------------------------------------------------------------------------------------------

    def leg(self, numbers: range, on_progress: Callable[[Report], object]) -> None:
        """Some rounds, and their verdict."""
        self._legs += 1
        directory = self._directory / f"leg{self._legs}"
        directory.mkdir()
        self._node.start(self._config)
        open_before = self._open()
        ends = History(directory / "ends.jsonl")
        self._clients = {name: ClientProcess(self._task(name, directory), ends) for name in CAST.clients}
        for client in self._clients.values():
            client.start()
        self._wait("the clients join", lambda: all(client.is_ready for client in self._clients.values()))
        for number in numbers:
            self._round(number)
            self._report.rounds += 1
            on_progress(self._report)
        self._flow()
        self._drain(open_before)
        for client in self._clients.values():
            client.quit()
        self._clients = {}
        self._node.stop()
        ends.close()
        events = read_all(sorted(directory.glob("*.jsonl")))
        ids = [event.id for event in events if isinstance(event, Sent)]
        self._report.add(check(events, autopsy(self._state, ids)))
        shutil.rmtree(directory)

    def _task(self, name: str, directory: Path) -> Task:
        proxy = self._proxies.get(name)
        port = self._port if proxy is None else proxy.port
        return Task(
            role="send" if name in CAST.senders else "agent" if name == CAST.receivers[0] else "fetch",
            url=f"ws://127.0.0.1:{port}/{uris.WEBSOCKET_PATH}",
            token=self._tokens[name],
            name=name,
            run=f"{self._word}.{self._legs}.{name.removeprefix('drill_')}",
            directory=str(directory),
            seed=f"{self._report.seed}/{self._legs}/{name}",
            recipients=CAST.receivers,
            padding_bytes=_LARGE_BYTES if self._report.drill == "disk-full" else _SMALL_BYTES,
        )

    def _round(self, number: int) -> None:
        self._flow()
        faults = schedule(self._report.drill, number, self._report.seed, CAST)
        began_s = time.monotonic()
        # Each fault has a begin and an end; all of them in order of time.
        steps: list[tuple[float, Callable[[], None]]] = []
        for fault in faults:
            begin, end = self._deeds(fault)
            steps.append((fault.at_s, begin))
            steps.append((fault.at_s + fault.for_s, end))
        steps.sort(key=lambda step: step[0])
        for at_s, step in steps:
            time.sleep(max(began_s + at_s - time.monotonic(), 0.0))
            step()
        counted = Counter(self._report.faults_by_kind) + Counter(fault.kind.value for fault in faults)
        self._report.faults_by_kind = dict(counted)
        self._report.faults += len(faults)

    def _deeds(self, fault: Fault) -> tuple[Callable[[], None], Callable[[], None]]:
        """What a fault does at its beginning and at its end."""
        match fault.kind:
            case Kind.KILL_NODE:
                return self._node.kill, lambda: self._node.start(self._config)
            case Kind.RESTART_NODE:
                return self._node.stop, lambda: self._node.start(self._config)
            case Kind.FREEZE_NODE:
                return self._node.freeze, self._node.thaw
            case Kind.KILL_CLIENT:
                client = self._clients[fault.target]
                return client.kill, client.start
            case Kind.FREEZE_CLIENT:
                client = self._clients[fault.target]
                return client.freeze, client.thaw
            case Kind.FULL:
                return lambda: self._fill(fault), self._make_room
            case _:
                hit = [self._proxies[fault.target]] if fault.target else list(self._proxies.values())
                toxic = Toxic(fault.kind, fault.amount)
                return lambda: self._spoil(hit, toxic), lambda: self._spoil(hit, None)

    def _spoil(self, proxies: list[Proxy], toxic: Toxic | None) -> None:
        for proxy in proxies:
            self._network.spoil(proxy, toxic)

    def _fill(self, fault: Fault) -> None:
        """Start the node again with little more room than its store takes."""
        self._node.stop()
        taken_bytes = size_of_store(self._state)
        room_kib = max(taken_bytes // 1024 + int(fault.amount), _STORE_KIB)
        config = self._write_config("full", {"store": f"{room_kib} KiB", "mailbox": "1 MiB"})
        self._node.start(config)

    def _make_room(self) -> None:
        self._node.stop()
        self._node.start(self._config)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _wait(self, what: str, done: Callable[[], bool], timeout_s: float = _RECOVERY_S) -> None:
        until_s = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > until_s:
                progress = ", ".join(
                    f"{name} {client.receipts} receipts {client.handled} handled"
                    for name, client in self._clients.items()
                )
                where = f"round {self._report.rounds} of {self._report.drill}, seed {self._report.seed}"
                raise ToolFailed(
                    f"the bus didn't recover: {what} did not come within {timeout_s:g} s ({where}: {progress})"
                )
            time.sleep(_LOOK_S)

    def _flow(self) -> None:
        """Wait until each sender gets receipts and each receiver messages."""
        clients = self._clients.values()
        for client in clients:
            client.look()
        marks = {client.name: client.receipts + client.handled + _FLOW for client in clients}

        def flows() -> bool:
            for client in clients:
                client.look()
            return all(client.receipts + client.handled >= marks[client.name] for client in clients)

        self._wait("traffic through every client", flows)

    def _drain(self, open_before: int) -> None:
        for name in CAST.senders:
            self._clients[name].say("hush")

        def quiet() -> bool:
            for client in self._clients.values():
                client.look()
            return all(self._clients[name].is_quiet for name in CAST.senders)

        self._wait("a receipt for every message", quiet, _DRAIN_S)
        self._wait("the end of every message", lambda: self._open() <= open_before, _DRAIN_S)

    def _open(self) -> int:
        """How many messages the node has that are not settled."""
        url = f"ws://127.0.0.1:{self._port}/{uris.WEBSOCKET_PATH}"
        try:
            with connect(url, token=self._tokens[_OPERATOR]) as bus:
                status = bus.request(uris.NODE_STATUS)
        except TrishulaError as error:
            raise ToolFailed(f"the node can't be asked: {error}") from None
        return int(status["pending"]) + int(status["in_flight"])
