"""What the drill of cells does: two nodes that are not linked, a Redis between them, agents on both.

Messages go within each cell and to the other one. At the end each store is examined by itself; and a message that both
have must have ended in both as it ended in one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from trishula_drill.autopsy import autopsy
from trishula_drill.cells_faults import CELLS, cells_schedule
from trishula_drill.faults import Fault, Kind
from trishula_drill.final import Final, Stored, name_of
from trishula_drill.history import NodeKilled
from trishula_drill.linked import ask_status, url_of
from trishula_drill.processes import NodeProcess
from trishula_drill.proxy import Network, free_port
from trishula_drill.redis_process import RedisProcess
from trishula_drill.report import Report
from trishula_drill.stage import DELIVERY, OPERATOR, RETENTION, Stage
from trishula_drill.worker import Role, Task
from trishula_router.settings.crossbar_config import options_of

__all__ = ["CellsStage", "joined_finals"]

#: Who is at which cell. Nobody fetches: an empty inbox proves nothing of what is on its way to the cell.
_AT = {
    "drill_sender_one": "north",
    "drill_sender_two": "south",
    "drill_agent": "north",
    "drill_agent_two": "south",
}
_ROLES: dict[str, Role] = {name: "send" if "sender" in name else "agent" for name in _AT}
_KEY_FILE = "cells.key"


class CellsStage(Stage):
    """Two cells of one node each."""

    # What a flush took is sent again behind what was sent later.
    promises_order = False

    def __init__(self, directory: Path, network: Network, report: Report) -> None:
        super().__init__(directory, _ROLES, network, report)
        self._redis = RedisProcess(directory)
        self._states = {cell: directory / cell for cell in CELLS}
        self._ports = {cell: free_port() for cell in CELLS}
        key = secrets.token_hex(32)
        self._configs = {cell: self._write_config(cell, key) for cell in CELLS}
        self._nodes = {
            cell: NodeProcess(self._states[cell], self._ports[cell], directory / f"{cell}.errors") for cell in CELLS
        }
        self._redis.start()

    def _write_config(self, cell: str, key: str) -> Path:
        state = self._states[cell]
        state.mkdir(mode=0o700)
        (state / _KEY_FILE).touch(mode=0o600)
        (state / _KEY_FILE).write_text(f"{key}\n")
        config: dict[str, Any] = json.loads((files("trishula_router.config") / "single.json").read_bytes())
        options = options_of(config)
        options["node"] = cell
        options["delivery"].update(DELIVERY)
        options["retention"].update(RETENTION)
        options["cells"] = {"name": cell, "redis": f"redis://127.0.0.1:{self._redis.port}", "key_file": _KEY_FILE}
        file = self.directory / f"{cell}.json"
        file.write_text(json.dumps(config))
        return file

    @property
    def states(self) -> list[Path]:
        return list(self._states.values())

    def start_nodes(self) -> None:
        for cell, node in self._nodes.items():
            node.spawn(self._configs[cell])
        for node in self._nodes.values():
            node.wait_ready()

    def stop_nodes(self) -> None:
        for node in self._nodes.values():
            node.stop()

    def kill_nodes(self) -> None:
        self._redis.thaw()
        self._redis.kill()
        for node in self._nodes.values():
            node.kill()

    def finals(self, ids: Sequence[str]) -> list[Final]:
        return [joined_finals({cell: autopsy(state, ids) for cell, state in self._states.items()})]

    def open(self) -> int:
        told = [ask_status(port, self.tokens[OPERATOR]) for port in self._ports.values()]
        return sum(int(status["pending"]) + int(status["in_flight"]) for status in told)

    def task(self, task: Task) -> Task:
        return msgspec.structs.replace(task, url=url_of(self._ports[_AT[task.name]]))

    def faults(self, number: int) -> tuple[Fault, ...]:
        return cells_schedule(number, self.report.seed)

    def deeds(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        redis = self._redis
        match fault.kind:
            case Kind.KILL_NODE:
                cell = fault.target
                return lambda: self._kill(cell), lambda: self._nodes[cell].start(self._configs[cell])
            case Kind.FLUSH_REDIS:
                return redis.flush, lambda: None
            case Kind.SLOW_REDIS:
                return lambda: redis.slow(fault.amount), lambda: None
            case Kind.CUT_REDIS:
                return redis.cut, lambda: None
            case Kind.FREEZE_REDIS:
                return redis.freeze, redis.thaw
            case _:
                return redis.kill, redis.start

    def _kill(self, cell: str) -> None:
        if self.ends is not None:
            self.ends.tell(NodeKilled(time.monotonic_ns(), cell))
        self._nodes[cell].kill()


def joined_finals(finals: dict[str, Final]) -> Final:
    """What the stores of all cells hold together: of a message that several have it is one.

    Args:
        finals: by cell.
    """
    held: dict[tuple[str, str, str], dict[str, Stored]] = {}
    for cell, final in finals.items():
        for one in final.messages:
            held.setdefault((one.sender, one.id, one.recipient), {})[cell] = one
    damages = [f"{what} at {cell}" for cell, final in finals.items() for what in final.damages]
    for (sender, message_id, to), those in held.items():
        states = {one.state for one in those.values()}
        if len(states) > 1:
            told = ", ".join(f"{one.state} at {cell}" for cell, one in those.items())
            damages.append(f"{name_of((sender, message_id))} for {to} has not the same end everywhere: {told}")
    return Final([next(iter(those.values())) for those in held.values()], damages)
