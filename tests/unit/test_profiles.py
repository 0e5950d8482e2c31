"""``trishula profile``: what is chosen, what comes before it, and that no name leads out of the folder."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.agent import Agent
from trishula.cli.chosen_profile import read_chosen
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import TokenMissing, TrishulaError
from trishula.settings import load

Trishula = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TRISHULA_URL", "TRISHULA_TOKEN", "TRISHULA_AGENT", "TRISHULA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / ".config" / "trishula"
    folder.mkdir(parents=True)
    (folder / "home.toml").write_text('url = "ws://home:1/ws"\ntoken = "dc.very-secret"\n')
    (folder / "office.toml").write_text('url = ["ws://a:1/ws", "ws://b:1/ws"]\nagent = "boss"\ntoken_file = "t"\n')
    (folder / "agni.toml").write_text('[targets]\nweb = "http://h"\n')
    return folder


@pytest.fixture
def bus() -> FakeBus:
    bus = FakeBus()
    bus.answers[uris.DIRECTORY_LIST] = [[]]
    return bus


@pytest.fixture
def trishula(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> Trishula:
    def go(*args: str) -> tuple[int, str, str]:
        connect: Any = bus.connect
        code = run(args, State(connect=connect))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


def used(trishula: Trishula, bus: FakeBus, *options: str) -> Any:
    trishula(*options, "agents")
    return bus.opened_with["profile"]


def test_the_chosen_one_is_used_and_the_previous_one_again(folder: Path, trishula: Trishula, bus: FakeBus) -> None:
    assert used(trishula, bus) is None
    assert trishula("profile", "use", "home")[:2] == (0, "commands use the profile home from now on\n")
    assert used(trishula, bus) == "home"
    trishula("profile", "use", "office")
    # To choose what is chosen doesn't forget what was before.
    trishula("profile", "use", "office")
    assert used(trishula, bus) == "office"
    assert trishula("profile", "previous")[0] == 0
    assert read_chosen(folder) == ("home", "office")
    assert stat.S_IMODE((folder / "chosen-profile.json").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_an_option_and_a_variable_come_before_it(
    folder: Path, trishula: Trishula, bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    trishula("profile", "use", "home")
    assert used(trishula, bus, "--profile", "office") == "office"
    monkeypatch.setenv("TRISHULA_PROFILE", "office")
    assert used(trishula, bus) is None
    assert "TRISHULA_PROFILE names another one here" in trishula("profile", "list")[2]


def test_an_agent_and_a_load_do_not_follow_the_choice(
    folder: Path, trishula: Trishula, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bot.py").write_text("import trishula\nagent = trishula.Agent('bot', state=False)\n")
    began: list[dict[str, Any]] = []
    monkeypatch.setattr(Agent, "run", lambda self, **given: began.append(given))
    asked: list[str] = []

    def asks(what: str) -> Callable[..., None]:
        def ask(**given: object) -> None:
            asked.append(what)
            raise TrishulaError("the test has seen enough")

        return ask

    monkeypatch.setattr("trishula.settings.load", asks("a bus that is there"))
    monkeypatch.setattr("trishula.tools.temporary_node.ThrowawayNode", asks("a node of its own"))
    # The command writes both.
    monkeypatch.setenv("TRISHULA_LOG_FORMAT", "auto")
    monkeypatch.setenv("TRISHULA_LOG_LEVEL", "info")
    trishula("profile", "use", "home")
    trishula("agent", "run", str(folder / "bot.py"))
    trishula("--profile", "office", "agent", "run", str(folder / "bot.py"))
    assert began == [{}, {"url": None, "profile": "office"}]
    trishula("bench")
    trishula("--profile", "office", "bench")
    assert asked == ["a node of its own", "a bus that is there"]


def test_the_list_marks_the_chosen_one_and_shows_no_token(folder: Path, trishula: Trishula) -> None:
    trishula("profile", "use", "home")
    code, out, err = trishula("profile", "list")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["*", "home", "dc", "ws://home:1/ws"],
        ["office", "boss", "ws://a:1/ws,", "ws://b:1/ws"],
    ]
    shown = json.loads(trishula("profile", "show", "home", "--json")[1])
    assert shown["token"] == "(given, and not shown)"


@pytest.mark.parametrize("name", ["../home", "/etc/x", "..", "", ".home", "a\nb", "agni", "absent"])
def test_what_is_no_profile_is_refused(folder: Path, trishula: Trishula, name: str) -> None:
    code, out, _ = trishula("profile", "use", name)
    assert (code, out) == (2, "")
    assert read_chosen(folder) == (None, None)


def test_nothing_was_chosen_before(folder: Path, trishula: Trishula) -> None:
    code, _, err = trishula("profile", "previous")
    assert code == 2 and "no profile was chosen before" in err


@pytest.mark.parametrize("content", ["", "[]", '{"profile": "../x", "previous": 5}', "\xff"])
def test_a_spoilt_choice_chooses_nothing(folder: Path, content: str) -> None:
    (folder / "chosen-profile.json").write_bytes(content.encode("latin-1"))
    assert read_chosen(folder) == (None, None)


def test_who_has_no_token_is_told_of_profiles(folder: Path, trishula: Trishula, bus: FakeBus) -> None:
    bus.error = TokenMissing("there is no token")
    code, _, err = trishula("agents")
    assert code == 4 and "trishula profile list" in err


def test_of_a_chosen_profile_that_is_gone_the_choice_is_named_and_the_way_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", "use", "home"]) == 0
    (folder / "home.toml").unlink()
    capsys.readouterr()

    def connect(*, url: str | None, profile: str | None, timeout: float) -> Any:
        # As the real one begins.
        load(url=url, profile=profile)

    assert run(["agents"], State(connect=connect)) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert err.startswith(f"trishula: what was chosen by 'trishula profile use' names the profile {folder}/home.toml,")
    assert err.endswith("choose another one, or remove chosen-profile.json beside it to choose none")
    assert run(["--profile", "home", "agents"], State(connect=connect)) == 2
    assert capsys.readouterr().err.startswith("trishula: --profile names the profile ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_this_program(shell: str, trishula: Trishula) -> None:
    code, out, err = trishula("completion", shell)
    assert (code, err) == (0, "") and "_TRISHULA_COMPLETE" in out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_real_bash_completes_commands_and_options(trishula: Trishula, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(trishula("completion", "bash")[1])
    (tmp_path / "trishula").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trishula.cli.main "$@"\n')
    (tmp_path / "trishula").chmod(0o755)
    ask = 'source script; COMP_WORDS=({}); COMP_CWORD={}; _trishula_completion trishula; echo "${{COMPREPLY[@]}}"'
    profiles = tmp_path / ".config" / "trishula"
    profiles.mkdir(parents=True)
    (profiles / "office.toml").write_text("")
    for words, index, expected in (("trishula profile use o", 3, "office"), ("trishula --profile off", 2, "office"),
                                   ("trishula mailb", 1, "mailboxes"), ("trishula check dis", 2, "disk"),
                                   ("trishula check dead --wa", 3, "--warn")):  # fmt: skip
        done = subprocess.run(
            ["bash", "--norc", "-c", ask.format(words, index)],
            cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.stdout.split(), done.stderr) == ([expected], "")
