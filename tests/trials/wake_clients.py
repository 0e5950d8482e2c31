# ruff: noqa: T201  # a script that prints
"""The whole way of a message to the model of a real coding client: sent, woken, read by the model's own call, proven.

::

    .venv/bin/python -m tests.trials.wake_clients                    # all ways of all four clients
    .venv/bin/python -m tests.trials.wake_clients codex gemini --programs ../clients

The clients come from the public npm registry. For each way of waking there is a node, ``trishula setup CLIENT``, and
the client in a terminal of tmux, with a scripted model on this machine in place of its vendor's. After one turn it is
idle. Then a message comes that wakes nobody (priority 5), which must not surface within 8 s, and then one that does:
the model calls ``inbox`` because the wake told it to, and ``trishula why`` must tell that the message reached the
model. Printed is a line for each way. It ends with 1 if one did not come through, and shows that client's screen.

No account is needed and no real model is asked. The clients run under a home directory of their own; they may try to
reach their vendors. It needs ``npm``, ``tmux`` and ``.venv-mcp`` (``make venv``), 1.2 GB of disk for the clients, and
some forty seconds for each way. No test of a commit runs it: ``tests/integration/test_waking.py`` goes the same way
with the official SDK's client of MCP.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.node import ROOT, NodeProcess
from tests.trials.coding_clients import CLIENTS, Client, Place
from tests.trials.screen import Screen
from tests.trials.scripted_model import ScriptedModel

PATIENCE_S = 90.0
#: How long mail that wakes nobody must not surface.
_QUIET_S = 8.0
#: Client → the ways by which it is woken.
WAYS = {
    "opencode": ("--opencode", "tmux"),
    "codex": ("--codex", "tmux"),
    "claude-code": ("--hook", "tmux"),
    "gemini": ("tmux",),
}
_PROMPT = "Say a word."


class NotThrough(Exception):
    """A client did not come through; the text says where it stuck."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition says, once it says something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotThrough(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.2)
    return found


class Trial:
    """One client that is woken in one way.

    Args:
        name: of the client.
        way: an option of ``trishula wake``, or ``tmux``.
        node: where its mail is.
        model: what answers in place of its vendor's model.
        programs: where the clients' commands are.
        path: an empty directory.
    """

    def __init__(
        self, name: str, way: str, node: NodeProcess, model: ScriptedModel, programs: Path, path: Path
    ) -> None:
        self._name, self._way, self._node, self._model = name, way, node, model
        self._client: Client = CLIENTS[name]
        self._path = path
        self._place = Place(path / "home", path / "project", model.url, f"{path / 'bin'}:{programs}")
        self._screen = Screen("scout", path / "tmux")
        for directory in (self._place.home, self._place.project, path / "bin"):
            directory.mkdir()
        self._trishula = path / "bin" / "trishula"
        self._trishula.write_text(
            f"#!/bin/sh\nexport PYTHONPATH='{ROOT / 'components'}' TRISHULA_AGENT_STATE='{path / 'agents'}'\n"
            f"exec '{ROOT / '.venv-mcp' / 'bin' / 'python'}' -m trishula.cli.main \"$@\"\n"
        )
        self._trishula.chmod(0o755)
        profiles = self._place.home / ".config" / "trishula"
        profiles.mkdir(parents=True)
        for agent in ("dc", "scout"):
            (profiles / f"{agent}.toml").write_text(f'url = "{node.url}"\ntoken_file = "{agent}.token"\n')
            token = profiles / f"{agent}.token"
            token.touch(0o600)
            token.write_text(node.token(agent))

    def run(self) -> str:
        """Go the way; how it went.

        Raises:
            NotThrough: it stuck.
        """
        self._run("scout", "setup", self._name, *(["--wake"] if self._way == "--hook" else []))
        variables = self._client.prepare(self._place)
        port = _free_port()
        more = ["--port", str(port)] if self._way == "--opencode" else []
        command = [self._client.program, *self._client.options, *more]
        self._screen.begin(command, self._place.project, self._place.environment(**variables))
        try:
            self._have_a_turn()
            with self._woken(port):
                return self._wake()
        except NotThrough as error:
            raise NotThrough(f"{error}\n{self._screen.text()}\n{self._said()}") from None
        finally:
            self._screen.end()

    def _have_a_turn(self) -> None:
        until(lambda: self._client.ready in self._screen.text(), "it waits for a prompt")

        def is_typed() -> bool:
            # What comes before it reads its terminal is lost.
            self._screen.type(_PROMPT)
            time.sleep(1.5)
            return _PROMPT in self._screen.text()

        until(is_typed, "it takes what is typed")
        self._screen.press("Enter")
        until(lambda: self._model.has_heard(_PROMPT), "the model is asked")
        until(lambda: "I have read it." in self._screen.text(), "it shows the model's word")

    @contextlib.contextmanager
    def _woken(self, port: int) -> Iterator[None]:
        """What wakes it, for as long as the block lasts."""
        match self._way:
            case "--hook":
                yield
                return
            case "--opencode":
                options = ["--opencode", f"http://127.0.0.1:{port}"]
            case "--codex":
                sessions = self._place.home / ".codex" / "sessions"
                session = until(lambda: next(sessions.rglob("*.jsonl"), None), "it writes its session")
                options = ["--codex", session.stem[-36:]]
            case _:
                keys = f"{self._screen.command} send-keys -t {self._screen.name}"
                options = ["--command", f'{keys} -l "$TRISHULA_WAKE_TEXT"; sleep 1; {keys} Enter']
        with (self._path / "waker").open("w") as said:
            waker = subprocess.Popen(
                [str(self._trishula), "--profile", "scout", "wake", *options],
                env=self._place.environment(),
                stdout=said,
                stderr=said,
            )
            try:
                yield
            finally:
                waker.terminate()
                waker.wait(30)

    def _wake(self) -> str:
        self._run("dc", "send", "scout", "--text", "For later.", "--id", "quiet", "--priority", "5")
        time.sleep(_QUIET_S)
        if self._life("quiet")["surfaced_at"] is not None:
            raise NotThrough("mail that wakes nobody reached the model")
        self._run("dc", "send", "scout", "--text", "The build is red.", "--id", "loud")
        life = until(lambda: (told := self._life("loud"))["surfaced_at"] is not None and told, "the message surfaces")
        (reached,) = [line for line in self._run("dc", "why", "loud").splitlines() if "reached" in line]
        return f"{reached}; {life['surfaced_at'] / 1000 - life['accepted_at'] / 1000:.1f} s after it was accepted"

    def _life(self, message_id: str) -> dict[str, Any]:
        (life,) = json.loads(self._run("dc", "why", message_id, "--json"))["messages"]
        return dict(life)

    def _run(self, agent: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self._trishula), "--profile", agent, *arguments],
            capture_output=True,
            text=True,
            cwd=self._place.project,
            env=self._place.environment(),
            timeout=60,
        )
        if done.returncode:
            raise NotThrough(f"trishula {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def _said(self) -> str:
        waker = self._path / "waker"
        return waker.read_text() if waker.exists() else ""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def install(names: Sequence[str], directory: Path) -> Path:
    """The clients' commands, from the registry unless they are there; where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    modules = directory / "node_modules"
    missing = [CLIENTS[name].package for name in names if not (modules / CLIENTS[name].package).exists()]
    if missing:
        (directory / "package.json").write_text('{"private": true}\n')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *missing], cwd=directory, check=True)
    for package in missing:
        # Some versions of npm leave out what fetches the program for this system.
        scripts = json.loads((modules / package / "package.json").read_text()).get("scripts", {})
        if "postinstall" in scripts:
            subprocess.run(scripts["postinstall"], shell=True, cwd=modules / package, check=True)
    return modules / ".bin"


def version_of(name: str, directory: Path) -> str:
    """Which version of a client is there."""
    package = directory / "node_modules" / CLIENTS[name].package / "package.json"
    return str(json.loads(package.read_text())["version"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description="Wake real coding clients, and see a message reach their model.")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(CLIENTS)} (default: all)")
    parser.add_argument("--programs", type=Path, metavar="DIR", help="where the clients are, or are installed to stay")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.clients if name not in CLIENTS]:
        parser.error(f"there is no client {unknown[0]}; there are {', '.join(CLIENTS)}")
    for needed in ("npm", "tmux"):
        if shutil.which(needed) is None:
            parser.error(f"it needs {needed}")
    names = given.clients or list(CLIENTS)
    stuck = 0
    with tempfile.TemporaryDirectory(prefix="trishula-clients-", ignore_cleanup_errors=True) as temporary:
        directory = (given.programs or Path(temporary) / "programs").absolute()
        programs = install(names, directory)
        for name, way in ((one, way) for one in names for way in WAYS[one]):
            path = Path(temporary) / f"{name}-{way.strip('-')}"
            path.mkdir()
            what = f"{name} {version_of(name, directory)}, {way}, {datetime.now():%d %B %Y}"
            try:
                with ScriptedModel() as model, NodeProcess(path / "state") as node:
                    print(f"{what}: {Trial(name, way, node, model, programs, path).run()}", flush=True)
            except (NotThrough, OSError) as error:
                stuck += 1
                print(f"{what}: DID NOT COME THROUGH: {error}", flush=True)
    return 1 if stuck else 0


if __name__ == "__main__":
    sys.exit(main())
