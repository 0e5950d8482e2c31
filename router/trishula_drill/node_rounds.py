"""What drills of one node do, and perhaps a network, a disk or clocks that a drill makes ill."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from trishula.tools.temporary_node import ToolFailed
from trishula_drill.ailing import ailing_worker_program
from trishula_drill.ailing_disk import NoWayIn, sqlite_library
from trishula_drill.autopsy import autopsy, size_of_store
from trishula_drill.dials import Dials
from trishula_drill.faults import Cast, Fault, Kind, schedule
from trishula_drill.final import Final
from trishula_drill.history import NodeKilled
from trishula_drill.linked import ask_status, url_of
from trishula_drill.processes import NodeProcess
from trishula_drill.proxy import Network, Proxy, free_port
from trishula_drill.report import Report
from trishula_drill.stage import DELIVERY, OPERATOR, RETENTION, Stage
from trishula_drill.worker import Role, Task
from trishula_router.settings.crossbar_config import options_of

__all__ = ["CAST", "NodeStage"]

#: Underscores make them names that no team's agents have.
CAST = Cast(("drill_sender_one", "drill_sender_two"), ("drill_agent", "drill_script"))
ROLES: dict[str, Role] = dict(zip(CAST.clients, ("send", "send", "agent", "fetch"), strict=True))
#: Where the disk is to get full soon.
_LARGE_BYTES = 30_000
#: The least that a node takes as limits.store.
_STORE_KIB = 1024
#: In the drill that sets clocks; longer than a leg takes, so that each end by time is a clock's doing.
_TTLS_MS = (3_600_000, 12 * 3_600_000, 3 * 86_400_000)
#: Drills whose node has a disk and a clock that can be made ill; that of the others is the one of every day.
_AILING = ("fsync", "clock")


class NodeStage(Stage):
    """One node, and perhaps a network, a disk or clocks that the drill makes ill."""

    def __init__(
        self,
        directory: Path,
        state: Path,
        network: Network,
        report: Report,
        chance: random.Random,
        roles: Mapping[str, Role] = ROLES,
    ) -> None:
        super().__init__(directory, roles, network, report)
        self._state = state
        if report.drill == "fsync":
            try:
                sqlite_library()
            except NoWayIn as error:
                raise ToolFailed(str(error)) from None
        self._dials = Dials(directory / "node.dials") if report.drill in _AILING else None
        self._config = self._write_config("config", {})
        self._port = free_port()
        self._node = NodeProcess(state, self._port, directory / "node.errors")
        # The network is between clients and node in one drill only: elsewhere it could hide what a real one does.
        self._proxies: dict[str, Proxy] = {}
        if report.drill == "network":
            self._proxies = {name: network.proxy(self._port, chance) for name in CAST.clients}
        self._client_dials: dict[str, Dials] = {}
        if report.drill == "clock":
            self._client_dials = {name: Dials(directory / f"{name}.dials") for name in CAST.clients}

    @property
    def states(self) -> list[Path]:
        return [self._state]

    def start_nodes(self) -> None:
        self._start_node()

    def stop_nodes(self) -> None:
        self._node.stop()

    def kill_nodes(self) -> None:
        self._node.kill()

    def finals(self, ids: Sequence[str]) -> list[Final]:
        return [autopsy(self._state, ids)]

    def open(self) -> int:
        status = ask_status(self._port, self.tokens[OPERATOR])
        return int(status["pending"]) + int(status["in_flight"])

    def faults(self, number: int) -> tuple[Fault, ...]:
        return schedule(self.report.drill, number, self.report.seed, CAST)

    def task(self, task: Task) -> Task:
        proxy = self._proxies.get(task.name)
        port = self._port if proxy is None else proxy.port
        return msgspec.structs.replace(
            task,
            url=url_of(port),
            padding_bytes=_LARGE_BYTES if self.report.drill in ("disk-full", "fsync") else task.padding_bytes,
            ttls_ms=_TTLS_MS if self.report.drill == "clock" else (),
            dials=str(self._client_dials[task.name].file) if task.name in self._client_dials else "",
        )

    def _write_config(self, name: str, limits: Mapping[str, object]) -> Path:
        config: dict[str, Any] = json.loads((files("trishula_router.config") / "single.json").read_bytes())
        options = options_of(config)
        options["delivery"].update(DELIVERY)
        options["limits"].update(limits)
        options["retention"].update(RETENTION)
        if self._dials is not None:
            program = self.directory / "ailing-worker"
            program.write_text(ailing_worker_program(self._dials.file))
            program.chmod(0o700)
            config["workers"][0]["options"]["python"] = str(program)
        file = self.directory / f"{name}.json"
        file.write_text(json.dumps(config))
        return file

    def _start_node(self, config: Path | None = None) -> None:
        self._node.start(config or self._config)

    def _kill_node(self) -> None:
        if self.ends is not None:
            self.ends.tell(NodeKilled(time.monotonic_ns(), ""))
        self._node.kill()

    def deeds(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        match fault.kind:
            case Kind.KILL_NODE:
                return self._kill_node, self._start_node
            case Kind.RESTART_NODE:
                return self._node.stop, self._start_node
            case Kind.FREEZE_NODE:
                return self._node.freeze, self._node.thaw
            case Kind.KILL_CLIENT:
                client = self.clients[fault.target]
                return client.kill, client.start
            case Kind.FREEZE_CLIENT:
                client = self.clients[fault.target]
                return client.freeze, client.thaw
            case Kind.FULL:
                return lambda: self._fill(fault), self._make_room
            case Kind.FSYNC:
                return self._fail_fsync, self._mend_fsync
            case Kind.CLOCK:
                return lambda: self._set_clock(fault), lambda: None
            case _:
                hit = [self._proxies[fault.target]] if fault.target else list(self._proxies.values())
                return self.spoil(hit, fault)

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
        self.wait("a failing fsync", lambda: dials.failures > before)

    def _mend_fsync(self) -> None:
        self._ailing().is_failing = False

    def _set_clock(self, fault: Fault) -> None:
        ahead_ms = round(fault.amount * 1000)
        if fault.target:
            self._client_dials[fault.target].ahead_ms = ahead_ms
            return
        dials = self._ailing()
        dials.ahead_ms = ahead_ms
        self.wait("the node's look at its clock", lambda: dials.seen_ms == ahead_ms)

    def _ailing(self) -> Dials:
        if self._dials is None:
            raise ToolFailed(f"the node of the drill {self.report.drill} is not one that can be made ill")
        return self._dials
