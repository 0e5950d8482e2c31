"""The drill ``fallback`` in its short form: agents with folders, a node that is killed, files that are moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checker.test_drill import drill, report_of
from trishula_drill.fallback_faults import fallback_schedule
from trishula_drill.faults import Cast

#: By it the node is away for long.
SEED = 3


@pytest.mark.node
def test_nothing_is_lost_and_nothing_runs_twice_over_both_roads(tmp_path: Path) -> None:
    [fault] = fallback_schedule(0, SEED, Cast(("one",), ("two",)))
    assert fault.for_s > 4.0
    report = report_of(drill("fallback", "--rounds", "1", "--seed", str(SEED), "--json", TMPDIR=str(tmp_path)))
    assert (report["rounds"], report["faults_by_kind"]) == (1, {"kill node": 1})
    assert report["messages"] > 20
    assert report["effects"] >= report["messages"] == report["sent"]
    assert (report["lost"], report["twice"], report["violations"], report["refused"]) == (0, 0, [], {})
    # The second road was really used: these had their effect before any node had the message.
    assert report["filed"] > 0 and report["before_receipt"] > 0
    assert list(tmp_path.iterdir()) == [], "the throw-away directory is gone"
