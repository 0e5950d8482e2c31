"""The drill ``redis`` in its short form, what it strikes, and what it says of cells that don't agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checker.test_drill import drill, report_of
from tests.support.redis_server import needs_redis
from trishula_drill.cells_faults import cells_schedule
from trishula_drill.cells_rounds import joined_finals
from trishula_drill.checker import Final, Stored
from trishula_drill.faults import Kind

#: By it Redis dies at first, and is away for no long time.
SEED = 3


@needs_redis
@pytest.mark.node
def test_nothing_is_lost_and_nothing_runs_twice_whatever_redis_does(tmp_path: Path) -> None:
    report = report_of(drill("redis", "--rounds", "1", "--seed", str(SEED), "--json", TMPDIR=str(tmp_path)))
    assert (report["rounds"], report["faults_by_kind"]) == (1, {"kill redis": 1})
    assert report["messages"] > 20
    assert report["effects"] >= report["messages"] == report["sent"]
    assert (report["lost"], report["twice"], report["violations"], report["refused"]) == (0, 0, [], {})
    assert list(tmp_path.iterdir()) == [], "the throw-away directory is gone"


def test_each_kind_has_its_turn_and_a_seed_strikes_the_same() -> None:
    rounds = [cells_schedule(number, 7) for number in range(7)]
    assert rounds == [cells_schedule(number, 7) for number in range(7)]
    kinds = {fault.kind for faults in rounds for fault in faults}
    redis = {Kind.KILL_REDIS, Kind.FLUSH_REDIS, Kind.SLOW_REDIS, Kind.FREEZE_REDIS, Kind.CUT_REDIS}
    assert kinds == {*redis, Kind.KILL_NODE}


def stored(state: str, message_id: str = "m1") -> Stored:
    return Stored("dc", message_id, "agni", 1, state, "d", ((2, state),))


def test_cells_that_do_not_agree_are_told() -> None:
    agree = joined_finals({"north": Final([stored("done")]), "south": Final([stored("done"), stored("done", "m2")])})
    assert (len(agree.messages), agree.damages) == (2, [])
    apart = joined_finals({"north": Final([stored("dead")], ["it is broken"]), "south": Final([stored("done")])})
    assert apart.damages == [
        "it is broken at north",
        "m1 from dc for agni has not the same end everywhere: dead at north, done at south",
    ]
