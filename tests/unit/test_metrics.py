"""What a node's metrics say, read from a node without a router; and that the text is Prometheus' own form."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.errors import MessageInvalid
from trishula_router.histogram import Histogram
from trishula_router.metrics.families import FAMILIES, MOST_AGENTS, OF_CAPABILITIES, OF_OTHERS
from trishula_router.metrics.scrape import Scrape
from trishula_router.store.memory import MemoryStore

PROMTOOL = shutil.which("promtool")


class Scraped:
    """A scrape, by name and labels."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        self.series: dict[str, int] = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                self.values[sample.name, tuple(sample.labels.values())] = sample.value
                self.series[sample.name] = self.series.get(sample.name, 0) + 1

    def __getitem__(self, key: str | tuple[str, ...]) -> float:
        name, *labels = (key,) if isinstance(key, str) else key
        return self.values[name, tuple(labels)]

    def has(self, name: str, *labels: str) -> bool:
        return (name, labels) in self.values


def scraped(rig: Rig) -> Scraped:
    return Scraped(result_of(Scrape(rig.node).text()))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def sent(rig: Rig, session: int, to: str, count: int = 1) -> list[dict[str, Any]]:
    return rig.send(session, *[{"id": f"m-{to}-{n}", "type": "STATUS", "to": to, "payload": n} for n in range(count)])


def test_a_value_is_counted_where_it_belongs() -> None:
    histogram = Histogram((1.0, 2.0))
    for value, count in ((0.5, 1), (1.0, 1), (1.5, 3), (9.0, 1)):
        histogram.observe(value, count)
    assert histogram.counts == [2, 3, 1]
    assert histogram.total == pytest.approx(0.5 + 1.0 + 4.5 + 9.0)
