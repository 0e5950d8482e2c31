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
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from trishula import connect, uris
from trishula.errors import TrishulaError
from trishula.throwaway import ToolFailed
from trishula_router.agents_file import AgentRecord, update_agents
from trishula_router.commands.state import agents_file_of
from trishula_router.drill.ailing import ailing_worker_program
from trishula_router.drill.autopsy import autopsy, size_of_store
from trishula_router.drill.checker import check
from trishula_router.drill.dials import Dials
from trishula_router.drill.faults import Cast, Fault, Kind, schedule
from trishula_router.drill.history import History, NodeStarted, Sent, read_all
from trishula_router.drill.processes import ClientProcess, NodeProcess
from trishula_router.drill.proxy import Network, Proxy, Toxic, free_port
from trishula_router.drill.report import Report
from trishula_router.drill.worker import Task
from trishula_router.effective import options_of
from trishula_router.tokens import TokenRecord, digest_of, new_token, with_new_token

__all__ = ["CAST", "LEG_ROUNDS", "run_drill"]

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
#: Whatever the clock says: the checker reads every body.
_RETENTION = {"bodies": "365d", "dead": "365d"}
#: In the drill that sets clocks; longer than a leg takes, so that each end by time is a clock's doing.
_TTLS_MS = (3_600_000, 12 * 3_600_000, 3 * 86_400_000)
#: Drills whose node has a disk and a clock that can be made ill; that of the others is the one of every day.
_AILING = ("fsync", "clock")


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
        self._dials = Dials(directory / "node.dials") if report.drill in _AILING else None
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
        self._client_dials: dict[str, Dials] = {}
        if report.drill == "clock":
            self._client_dials = {name: Dials(directory / f"{name}.dials") for name in CAST.clients}
        self._ends: History | None = None
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
        options["retention"].update(_RETENTION)
        if self._dials is not None:
            program = self._directory / "ailing-worker"
            program.write_text(ailing_worker_program(self._dials.file))
            program.chmod(0o700)
            config["workers"][0]["options"]["python"] = str(program)
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
        self._ends = ends = History(directory / "ends.jsonl")
        self._start_node()
        open_before = self._open()
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
            padding_bytes=_LARGE_BYTES if self._report.drill in ("disk-full", "fsync") else _SMALL_BYTES,
            ttls_ms=_TTLS_MS if self._report.drill == "clock" else (),
            dials=str(self._client_dials[name].file) if name in self._client_dials else "",
        )

    def _start_node(self, config: Path | None = None) -> None:
        if self._ends is not None and self._dials is not None:
            self._ends.tell(NodeStarted(time.monotonic_ns(), self._dials.ahead_ms))
        self._node.start(config or self._config)

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
                return self._node.kill, self._start_node
            case Kind.RESTART_NODE:
                return self._node.stop, self._start_node
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
            case Kind.FSYNC:
                return self._fail_fsync, self._mend_fsync
            case Kind.CLOCK:
                return lambda: self._set_clock(fault), lambda: None
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
        self._start_node(config)

    def _make_room(self) -> None:
        self._node.stop()
        self._start_node()

    def _fail_fsync(self) -> None:
        dials = self._ailing()
        before = dials.failures
        dials.is_failing = True
        self._wait("a failing fsync", lambda: dials.failures > before)

    def _mend_fsync(self) -> None:
        self._ailing().is_failing = False

    def _set_clock(self, fault: Fault) -> None:
        ahead_ms = round(fault.amount * 1000)
        if fault.target:
            self._client_dials[fault.target].ahead_ms = ahead_ms
            return
        dials = self._ailing()
        dials.ahead_ms = ahead_ms
        self._wait("the node's look at its clock", lambda: dials.seen_ms == ahead_ms)

    def _ailing(self) -> Dials:
        if self._dials is None:
            raise ToolFailed(f"the node of the drill {self._report.drill} is not one that can be made ill")
        return self._dials

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
