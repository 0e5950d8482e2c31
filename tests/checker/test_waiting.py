"""How long a drill waits for a bus that has to recover, and what it says if that doesn't."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from trishula.tools.temporary_node import ToolFailed
from trishula_drill import stage
from trishula_drill.report import Report
from trishula_drill.stage import Stage


class Looks:
    """A clock by which each look takes its time."""

    def __init__(self, *took_s: float) -> None:
        self.now_s = 0.0
        self.left = list(took_s)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def look(self) -> bool:
        if not self.left:
            return True
        self.now_s += self.left.pop(0)
        return False


def wait(looks: Looks, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr(stage, "time", looks)
    drill = SimpleNamespace(clients={}, report=Report("netsplit", 3))
    Stage.wait(cast(Any, drill), "the links are up", looks.look, 60.0, **options)


def test_a_machine_that_stood_still_is_no_bus_that_did_not_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    wait(Looks(1.0, 600.0, 1.0, 30.0), monkeypatch)


def test_a_bus_that_does_not_recover_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolFailed) as told:
        wait(Looks(*[0.5] * 130), monkeypatch, why=lambda: "agni: node rushabdev, state down")
    assert str(told.value) == (
        "the bus didn't recover: the links are up did not come within 60 s (round 0 of netsplit, seed 3: no client has "
        "started yet); agni: node rushabdev, state down"
    )
