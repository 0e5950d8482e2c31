"""Malformed input from many sides changes nothing for those who work; tests/benchmarks/fuzzing.py is the long form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fuzzing import AGENTS, MIB, Fuzz, faults
from tests.support.malformed import PACKERS, Malformed
from tests.support.node import NodeProcess

pytestmark = pytest.mark.node

INPUTS = 4000
#: What a worker may take for the sessions and frames of so much; a hundred thousand inputs took no more.
GENEROUS_BYTES = 100 * MIB


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("fuzzing") / "state") as node:
        for agent in AGENTS:
            node.token(agent)
        yield node


def test_malformed_input_stops_nothing_and_costs_the_others_nothing(
    node: NodeProcess, request: pytest.FixtureRequest
) -> None:
    seed, worker = abs(hash(request.node.nodeid)) % 100_000, node.worker_pid()
    print(f"seed {seed}")  # noqa: T201  # pytest shows it when the test fails
    fuzz = Fuzz(node, INPUTS, seed)
    fuzz.run()
    assert node.worker_pid() == worker
    assert faults(node.log()) == []
    assert fuzz.lost == []
    assert fuzz.waits_s
    assert fuzz.grown_bytes < GENEROUS_BYTES
    # It does reach what ends sessions, and what doesn't.
    assert sum(fuzz.sent.values()) == INPUTS
    assert all(0 < fuzz.endings[kind] < fuzz.sent[kind] for kind in PACKERS)


def test_a_seed_gives_its_inputs_again() -> None:
    def some(seed: int) -> list[bytes]:
        source = Malformed(seed)
        return [source.frames(kind) for kind in PACKERS] + [source.request("node", 1) for _ in range(5)]

    assert some(1) == some(1)
    assert some(1) != some(2)
