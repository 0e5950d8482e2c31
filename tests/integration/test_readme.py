"""The README's first agent and its script do what they are said to, typed as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.node import environment
from trishula_drill.proxy import free_port

pytestmark = pytest.mark.node

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def block_after(line_end: str) -> str:
    """The indented block behind the first line that ends so."""
    below = README.partition(f"{line_end}\n")[2]
    block = re.match(r"\n*((?: {4}.*\n|\n)+)", below)
    assert block is not None, line_end
    return textwrap.dedent(block[1]).strip("\n")


class Reader:
    """Somebody who types what the README says, in a directory of their own and on a free port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = str(free_port())
        self._environment = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def _command(self, text: str) -> list[str]:
        return ["bash", "-ec", text.replace("8765", self._port)]

    def types(self, text: str) -> str:
        """What a terminal shows for it, when it has ended well."""
        done = subprocess.run(
            self._command(text), cwd=self._directory, env=self._environment, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def leaves_running(self, text: str, log: str) -> Iterator[Path]:
        """Type it in a terminal of its own, in which it goes on; its output is in the file."""
        path = self._directory / log
        with path.open("w") as output:
            process = subprocess.Popen(
                self._command(text),
                cwd=self._directory,
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield path
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def wait_for(path: Path, text: str) -> None:
    until_s = time.monotonic() + 90.0
    while text not in path.read_text():
        assert time.monotonic() < until_s, path.read_text()
        time.sleep(0.1)


def test_the_first_agent_and_the_script(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    (tmp_path / "agni.py").write_text(block_after("with this ``agni.py``:\n\n.. code-block:: python"))
    (tmp_path / "script.py").write_text(block_after("A script\n--------\n\n.. code-block:: python"))
    second, third = block_after("(second terminal)::"), block_after("(third terminal)::")
    *variables, agents, call, send = third.splitlines()[1:]
    again = "\n".join(variables)
    with reader.leaves_running(block_after("(first terminal)::"), "node.txt") as node:
        wait_for(node, "ws://")
        with reader.leaves_running(second, "agni.txt") as agni:
            wait_for(agni, "joined")
            shown = reader.types(third)
            assert re.search(r"agni +online", shown)
            assert "\n5\n" in shown
            assert "hello" in agni.read_text()
            assert reader.types(f"{again}\npython script.py") == "5\n"
        # "Stop agni, send again, start it again": who waits for the end of it waits for that, so without --wait.
        assert "accepted" in reader.types(f"{again}\n{send.replace('hello', 'again').removesuffix(' --wait')}")
        # The token is there already, and was made once.
        with reader.leaves_running("\n".join(second.splitlines()[1:]), "agni2.txt") as agni:
            wait_for(agni, "again")
    assert (agents, call) == ("trishula agents", "trishula call agni add a=2 b=3")
