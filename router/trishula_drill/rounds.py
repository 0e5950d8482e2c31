"""A drill: rounds of faults under running traffic, then the checker's verdict.

Rounds are run in *legs*, see :mod:`.stage`; the next leg goes on with the same stores. A round begins when messages
flow again after the one before; a bus that doesn't recover is a failure. Drills of one node are in
:mod:`.node_rounds`, those of linked ones in :mod:`.cluster_rounds`, that of agents with folders in
:mod:`.fallback_rounds`, that of cells in :mod:`.cells_rounds`.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trishula_drill.cells_faults import CELL_DRILLS
from trishula_drill.cells_rounds import CellsStage
from trishula_drill.cluster_faults import CLUSTER_DRILLS
from trishula_drill.cluster_rounds import ClusterStage
from trishula_drill.fallback_faults import FALLBACK_DRILLS
from trishula_drill.fallback_rounds import FallbackStage
from trishula_drill.node_rounds import CAST, NodeStage
from trishula_drill.proxy import Network
from trishula_drill.report import Report
from trishula_drill.stage import Stage

__all__ = ["CAST", "LEG_ROUNDS", "run_drill"]

#: Long enough that starting and checking don't count, short enough that a violation is told early.
LEG_ROUNDS = 25


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
        drill: a key of :data:`~.faults.DRILLS`, :data:`~.cluster_faults.CLUSTER_DRILLS`,
            :data:`~.fallback_faults.FALLBACK_DRILLS` or :data:`~.cells_faults.CELL_DRILLS`.
        state: the node's state directory, which is left as it is then; a throw-away one if absent. Linked nodes have
            throw-away ones.
        on_progress: told after each round.

    Raises:
        ToolFailed: the drill itself failed: a process didn't start, or the bus didn't recover.
    """
    report = Report(drill, seed)
    began_s = time.monotonic()
    with _directory() as directory, Network() as network:
        chance = random.Random(f"{seed}/network")
        stage: Stage
        if drill in CLUSTER_DRILLS:
            stage = ClusterStage(directory, network, report, chance)
        elif drill in CELL_DRILLS:
            stage = CellsStage(directory, network, report)
        elif drill in FALLBACK_DRILLS:
            stage = FallbackStage(directory, state or directory / "state", network, report, chance)
        else:
            stage = NodeStage(directory, state or directory / "state", network, report, chance)
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
