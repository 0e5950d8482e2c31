"""Each trigger of a real node fires and clears: it turns the fallback on by itself, says so, and ends it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.reactor import on_reactor
from tests.support.trigger_run import TriggerRun, node_with_steps
from trishula_router.settings.objectives import TRIGGERS

pytestmark = pytest.mark.node

#: The shortest that there is.
STEP_S = 1.0


@on_reactor
async def test_each_trigger_fires_turns_the_fallback_on_and_clears(tmp_path: Path) -> None:
    node = node_with_steps(tmp_path, STEP_S)
    run = TriggerRun(node, STEP_S)
    try:
        await run.run()
        log = node.log()
    finally:
        node.stop()

    assert set(run.fired) == set(run.cleared) == set(TRIGGERS)
    for trigger, sentence in {
        "uptime": "the node was down for ",
        "p99": "p99 was up to ",
        "loss": " ended dead or expired (",
        "away": "dhara could not be reached for more than 1 s",
    }.items():
        assert sentence in run.fired[trigger]

    # The bus was in fallback, by the node's own word, and is so no more. Nobody was kept from sending meanwhile.
    assert [one["mode"] for one in run.modes] == ["fallback", "live"] * (len(run.modes) // 2) and run.modes
    assert {one["by"] for one in run.modes} == {"node:single"} and all(one["sends"] for one in run.modes)
    assert any(run.fired["uptime"][:20] in one["reason"] for one in run.modes)
    assert "live" in [one["mode"] for one in run.events]
    assert run.gauges == {0.0, 1.0}
    assert "Traceback" not in log
