"""``trishula top`` in a real terminal, against a real node that is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.terminal import Terminal

pytestmark = pytest.mark.node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    node = NodeProcess(tmp_path / "state")
    node.token("zebra")
    node.token("boss", operator=True)
    node.token("wall", observer=True)
    with node:
        yield node


def test_a_live_terminal(node: NodeProcess) -> None:
    sent = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "send", "zebra", "--text", "hello"],
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["boss"]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sent.returncode == 0, sent.stderr
    # An observer, because none of the questions needs more.
    terminal = Terminal("-m", "trishula.cli.main", "top", TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["wall"])
    with contextlib.closing(terminal):
        # Registered, sent to by whom, and what waits for it that nobody takes.
        shown = terminal.frame_with("zebra", "boss", "nobody", "q: quit")
        assert terminal.settings() != terminal.before
        assert shown.count("zebra") == 3
        terminal.resize(60, 12)
        narrow = terminal.frame_with("zebra", "q: quit")
        assert narrow.count("\n") == 11
        node.kill()
        terminal.frame_with("The node is gone", "zebra", "q: quit")
        terminal.press("q")
        assert terminal.ended() == 0, terminal.seen
        assert terminal.settings() == terminal.before
        # The other screen is left, and the cursor is there again.
        assert "\x1b[?1049l" in terminal.seen and "\x1b[?25h" in terminal.seen
        assert "Traceback" not in terminal.seen


def test_an_observer_checks_watches_and_asks_the_nodes_pages(node: NodeProcess) -> None:
    def run(*arguments: str, token: str = "wall") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trishula.cli.main", *arguments],
            env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens[token]),
            capture_output=True,
            text=True,
            timeout=120,
        )

    checked = run("check", "all")
    assert "token" not in checked.stdout, checked.stdout
    asked = {line.split()[1].rstrip(":") for line in checked.stdout.splitlines()}
    assert asked >= {"ready", "mailbox", "dead", "link", "disk"}
    assert "operator" in run("check", "journal").stdout
    refused = run("send", "wall", "--text", "hello", token="boss")
    assert refused.returncode and "wall is an observer, which takes no mail" in refused.stderr
    with subprocess.Popen(
        [sys.executable, "-m", "trishula.cli.main", "watch", "--max", "1"],
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["wall"]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stderr is not None
        assert "watching as wall" in watching.stderr.readline()
        run("inbox", token="zebra")
        seen, _ = watching.communicate(timeout=120)
    # It may be its own coming that it sees.
    assert watching.returncode == 0 and " is online" in seen
