"""What the drill of agents with folders does: a node that vanishes and comes back, and files that are moved meanwhile.

Each agent has a folder, and a thread of the drill moves files between the folders the whole time (:mod:`.mover`). So a
message may come to its recipient by a file, by the node, or by both. At the end nothing may lie in an outbox, an inbox
or among what was rejected, and each message must have had its effect once. Its order is promised on neither road while
both are used.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trishula.files.folder import ARCHIVE, INBOX, OUTBOX, REJECTED
from trishula.files.signature import FileKey
from trishula_drill.fallback_faults import FALLBACK_AFTER_S, fallback_schedule
from trishula_drill.faults import Fault
from trishula_drill.history import Event, Handled, Receipted
from trishula_drill.mover import Mover
from trishula_drill.node_rounds import CAST, NodeStage
from trishula_drill.proxy import Network
from trishula_drill.report import Report
from trishula_drill.worker import Role, Task

__all__ = ["FallbackStage"]

_ROLES: dict[str, Role] = {
    **dict.fromkeys(CAST.senders, "send"),
    **dict.fromkeys(CAST.receivers, "agent"),
}


class FallbackStage(NodeStage):
    """One node, agents with folders, and what moves their files."""

    promises_order = False

    def __init__(self, directory: Path, state: Path, network: Network, report: Report, chance: random.Random) -> None:
        super().__init__(directory, state, network, report, chance, _ROLES)
        self._folders: dict[str, Path] = {}
        self._mover: Mover | None = None

    def start_nodes(self) -> None:
        super().start_nodes()
        self._folders = {name: self.leg_directory / "mail" / name for name in _ROLES}
        keys = {name: [FileKey.from_token(self.secret(name)).public.hex()] for name in _ROLES}
        for folder in self._folders.values():
            for part in (OUTBOX, INBOX):
                (folder / part).mkdir(parents=True)
            (folder / "keys.json").write_text(json.dumps(keys))
        self._mover = Mover(self._folders)
        self._mover.start()

    def stop_nodes(self) -> None:
        self._stop_mover()
        super().stop_nodes()

    def kill_nodes(self) -> None:
        self._stop_mover()
        super().kill_nodes()

    def _stop_mover(self) -> None:
        mover, self._mover = self._mover, None
        if mover is not None:
            mover.stop()

    def open(self) -> int:
        # A file that is still under way is not settled either.
        return super().open() + sum(
            1 for folder in self._folders.values() for part in (OUTBOX, INBOX) for _ in (folder / part).glob("*.json")
        )

    def task(self, task: Task) -> Task:
        return msgspec.structs.replace(
            super().task(task), files=str(self._folders[task.name]), fallback_after=f"{FALLBACK_AFTER_S:g}s"
        )

    def faults(self, number: int) -> tuple[Fault, ...]:
        return fallback_schedule(number, self.report.seed, CAST)

    def measure(self, events: Sequence[Event]) -> None:
        accepted = {(one.who, one.id): one.at_ns for one in events if isinstance(one, Receipted)}
        self.report.before_receipt += sum(
            1
            for one in events
            if isinstance(one, Handled) and one.at_ns < accepted.get((one.sender, one.id), one.at_ns + 1)
        )
        for name, folder in self._folders.items():
            self.report.filed += sum(1 for _ in (folder / ARCHIVE).rglob("*.json"))
            for why in sorted((folder / REJECTED).glob("*.why.txt")):
                self.report.violations.append(f"rejected: {name} rejected {why.name}: {why.read_text().strip()}")
