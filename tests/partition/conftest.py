"""Three hosts, two of them with a node, that are really apart from each other: network namespaces."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.partition.crew import CAST, Tell, register
from tests.support.cluster import Cluster
from tests.support.namespaces import Hosts, why_not
from trishula_drill.stage import DELIVERY, RETENTION

_REASON = why_not()
#: Where they can be run they must be: a job that was meant to try partitions must not pass without.
_REQUIRED = os.environ.get("TRISHULA_REQUIRE_PARTITIONS", "0") not in ("", "0")
#: Read here, since tests get no settings.
_SEED = os.environ.get("TRISHULA_SEED")
_TOLD: list[str] = []
_NODES = ("agni", "rushabdev")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """dc, agni and rushabdev, which see each other."""
    if _REASON is not None:
        (pytest.fail if _REQUIRED else pytest.skip)(f"no hosts to be parted: {_REASON}")
    with Hosts(["dc", *_NODES]) as made:
        yield made


def make_cluster(directory: Path, hosts: Hosts, nodes: tuple[str, ...] = _NODES) -> Cluster:
    """Nodes on their hosts, not started, which know the cast."""
    options: dict[str, object] = {"delivery": DELIVERY, "retention": RETENTION}
    cluster = Cluster(directory, nodes, options=options, hosts={name: hosts[name] for name in nodes})
    register(cluster, (client.name for client in CAST))
    return cluster


@pytest.fixture(scope="module")
def cluster(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two linked nodes, for cases that leave them running."""
    with make_cluster(tmp_path_factory.mktemp("cluster"), hosts) as made:
        yield made


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Say something that stands in the run's summary, whether or not the test passes: figures, what chance did."""
    return lambda text: _TOLD.append(f"{request.node.name}: {text}")


@pytest.fixture
def seed(tell: Tell) -> int:
    """Of all chance in a test; TRISHULA_SEED repeats it."""
    seed = int(_SEED) if _SEED else random.randrange(1 << 32)
    tell(f"seed {seed}")
    return seed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    if _TOLD:
        terminalreporter.section("partitions")
        for line in _TOLD:
            terminalreporter.write_line(line)
