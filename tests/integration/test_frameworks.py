"""The examples of frameworks on a real node, each with a scripted model and without a network.

The frameworks can't be installed beside Crossbar, so they run in an environment of their own; ``make venv`` makes it.
CrewAI has one that ``make venv`` doesn't make, because of its size: ``make crewai-test`` makes it, and runs its test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trishula
from tests.support.loops import in_own_loop
from tests.support.node import ROOT, NodeProcess, environment

pytestmark = pytest.mark.node

PEER = """
from trishula import Agent
agent = Agent("dc", state=False)

@agent.procedure()
def disk() -> str:
    return "91 % full"

agent.run()
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("frameworks") / "state") as node:
        for name in ("helper", "dc"):
            node.token(name)
        yield node


def python_of(name: str) -> Path:
    """The Python of an environment beside this one."""
    prefix = Path(sys.prefix)
    return prefix.with_name(f"{prefix.name}-{name}") / "bin" / "python"


@pytest.mark.parametrize(
    "example", ["pydantic_ai_helper", "openai_agents_helper", "langgraph_helper", "autogen_helper"]
)
def test_an_agent_of_a_framework_asks_the_bus_and_answers_it(example: str, node: NodeProcess, tmp_path: Path) -> None:
    python = python_of("frameworks")
    assert python.exists(), f"there is no {python}: make venv makes it"
    asks_and_answers(python, example, node, tmp_path)


def test_an_agent_of_crewai_asks_the_bus_and_answers_it(node: NodeProcess, tmp_path: Path) -> None:
    python = python_of("crewai")
    # Make's mark rather than the Python: an installation that was broken off is none.
    if not (python.parents[1] / ".installed").exists():
        pytest.skip("CrewAI's environment has 1 GB, so make venv omits it: make crewai-test makes it and runs this")
    # It keeps files in the user's home, and would send what it counts to its maker.
    own = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "CREWAI_DISABLE_TELEMETRY": "true"}
    asks_and_answers(python, "crewai_helper", node, tmp_path, **own)


def asks_and_answers(python: Path, example: str, node: NodeProcess, tmp_path: Path, **own: str) -> None:
    """Start the example with its scripted model and these variables, and ask it what it must ask another agent."""

    def around(name: str) -> dict[str, str]:
        return environment(
            TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[name], TRISHULA_AGENT_STATE=str(tmp_path / "agents")
        )

    found: list[object] = []

    async def ask() -> None:
        async with trishula.AsyncClient(url=node.url, token=node.tokens["dc"], timeout=30) as bus:
            found.append(await bus.call_with("helper", "answer", ["How is the disk?"], timeout=180, id=example))
            # The example said so, when the model had the question.
            found.append((await bus.status(example))[example].surfaced_at is not None)

    with (tmp_path / "errors").open("w") as errors:
        helper = subprocess.Popen(
            [str(python), "-m", "tests.integration.scripted_models", example],
            cwd=ROOT,
            env={**around("helper"), **own},
            stdout=errors,
            stderr=errors,
        )
        peer = subprocess.Popen([sys.executable, "-c", PEER], env=around("dc"), stdout=errors, stderr=errors)
        try:
            in_own_loop(ask)
        finally:
            for process in (helper, peer):
                process.terminate()
                process.wait(20)
    assert found == ["I heard: 91 % full", True], (tmp_path / "errors").read_text()
