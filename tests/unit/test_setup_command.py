"""``trishula setup`` and ``trishula nudge``: whatever a user wrote into a client's file is there afterwards."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract.uris import MAILBOX_PEEK
from trishula.front_door.coding_clients import CLIENTS
from trishula.front_door.nudges import as_hook, is_repeated, pointer

SERVERS = {"claude-code": ".mcp.json", "gemini": ".gemini/settings.json", "cursor": ".cursor/mcp.json"}
SERVERS |= {"opencode": "opencode.json"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's directory, and a home with the profile scout."""
    home = tmp_path / "home"
    profiles = home / ".config" / "trishula"
    profiles.mkdir(parents=True)
    (profiles / "scout.toml").write_text(f'token = "scout.{"0" * 40}"\n')
    monkeypatch.setenv("HOME", str(home))
    for name in ("TRISHULA_PROFILE", "TRISHULA_TOKEN", "TRISHULA_AGENT", "TRISHULA_URL"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def setup(*arguments: str) -> int:
    return run(["--profile", "scout", "setup", *arguments])


@pytest.mark.parametrize("client", SERVERS)
def test_a_client_of_json_gets_a_server_and_loses_it_again(client: str, project: Path) -> None:
    path = project / SERVERS[client]
    key = CLIENTS[client].key
    theirs: dict[str, Any] = {"theme": "dark ☾", key: {"other": {"command": "x"}}, "hooks": {}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(theirs, ensure_ascii=False))
    assert setup(client, "--check") == 1
    assert json.loads(path.read_text()) == theirs
    assert setup(client) == 0
    now = json.loads(path.read_text())
    assert now["theme"] == "dark ☾"
    assert now[key]["other"] == {"command": "x"}
    own = now[key]["trishula"]
    assert "mcp" in (own["command"] if client == "opencode" else own["args"])
    assert {"TRISHULA_PROFILE": "scout"} in own.values()
    before = path.stat().st_mtime_ns
    assert setup(client) == 0
    assert path.stat().st_mtime_ns == before
    assert setup(client, "--check") == 0
    assert run(["setup", client, "--remove"]) == 0
    # A table that our hooks were in goes with them, if nothing else is in it.
    assert json.loads(path.read_text()) == {name: one for name, one in theirs.items() if one or client != "gemini"}


def test_hooks_stand_beside_those_of_the_user(project: Path) -> None:
    path = project / ".claude" / "settings.json"
    path.parent.mkdir()
    theirs = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "make lint"}]}]}, "model": "x"}
    path.write_text(json.dumps(theirs))
    assert setup("claude-code") == 0
    hooks = json.loads(path.read_text())["hooks"]
    assert list(hooks) == ["Stop", "SessionStart", "UserPromptSubmit"]
    assert hooks["Stop"][0] == theirs["hooks"]["Stop"][0]  # type: ignore[index]
    assert hooks["Stop"][1]["hooks"][0]["command"].endswith("--profile scout nudge --for claude-code --event stop")
    # Its owner changed ours.
    hooks["Stop"][1]["hooks"][0]["command"] += " --oops"
    path.write_text(json.dumps({**theirs, "hooks": hooks}))
    assert setup("claude-code", "--check") == 1
    assert setup("claude-code") == 0
    assert setup("claude-code", "--check") == 0
    assert setup("claude-code", "--no-hooks") == 0
    assert json.loads(path.read_text()) == theirs
    assert run(["setup", "claude-code", "--remove"]) == 0
    assert json.loads(path.read_text()) == theirs
    # It held nothing but ours.
    assert not (project / ".mcp.json").exists()


def test_hooks_that_wake_stand_beside_the_others_by_wish(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / ".claude" / "settings.json"
    assert setup("claude-code", "--wake") == 0
    hooks = json.loads(path.read_text())["hooks"]
    assert {name: len(entries) for name, entries in hooks.items()} == {
        "SessionStart": 2,
        "UserPromptSubmit": 1,
        "Stop": 2,
    }
    (rewake,) = hooks["Stop"][1]["hooks"]
    # Its parent is to be the client, and "async" keeps one that doesn't know the rest from waiting for it.
    assert rewake["command"].startswith("exec ")
    assert rewake["command"].endswith(" --profile scout wake --hook claude-code")
    assert (rewake["async"], rewake["asyncRewake"], rewake["timeout"]) == (True, True, 86_400)
    assert setup("claude-code", "--wake", "--check") == 0
    assert setup("claude-code", "--check") == 1
    assert setup("claude-code") == 0
    assert json.loads(path.read_text())["hooks"] == {name: entries[:1] for name, entries in hooks.items()}
    assert setup("claude-code", "--wake") == 0
    assert run(["setup", "claude-code", "--remove"]) == 0
    assert not path.exists()
    capsys.readouterr()
    assert setup("codex", "--wake") == 2
    assert "no hook wakes codex; trishula wake does" in capsys.readouterr().err
    assert setup("claude-code", "--wake", "--no-hooks") == 2


def test_codex_has_its_hooks_in_a_file_of_their_own(project: Path) -> None:
    path = project.parent / "home" / ".codex" / "hooks.json"
    assert setup("codex") == 0
    hooks = json.loads(path.read_text())["hooks"]
    assert list(hooks) == ["SessionStart", "UserPromptSubmit", "Stop"]
    assert hooks["Stop"][0]["hooks"][0]["command"].endswith("--profile scout nudge --for codex --event stop")
    assert setup("codex", "--check") == 0
    path.unlink()
    assert setup("codex", "--check") == 1
    assert setup("codex") == 0
    assert run(["setup", "codex", "--remove"]) == 0
    assert not path.exists()


def test_cursor_has_its_hooks_without_groups_under_a_version(project: Path) -> None:
    path = project / ".cursor" / "hooks.json"
    path.parent.mkdir()
    theirs = {"version": 1, "hooks": {"stop": [{"command": "./lint.sh", "loop_limit": 2}]}}
    path.write_text(json.dumps(theirs))
    assert setup("cursor") == 0
    values = json.loads(path.read_text())
    assert values["version"] == 1
    assert list(values["hooks"]) == ["stop", "sessionStart", "beforeSubmitPrompt"]
    assert values["hooks"]["stop"][0] == theirs["hooks"]["stop"][0]  # type: ignore[index]
    for name, event in (("stop", "stop"), ("sessionStart", "start"), ("beforeSubmitPrompt", "prompt")):
        own = values["hooks"][name][-1]
        assert list(own) == ["command"]
        assert own["command"].endswith(f"--profile scout nudge --for cursor --event {event}")
    assert setup("cursor", "--check") == 0
    assert run(["setup", "cursor", "--remove"]) == 0
    assert json.loads(path.read_text()) == theirs
    path.unlink()
    # A file of ours alone names the version, and goes whole.
    assert setup("cursor") == 0
    assert json.loads(path.read_text())["version"] == 1
    assert run(["setup", "cursor", "--remove"]) == 0
    assert not path.exists()


def test_a_file_of_toml_keeps_its_comments(project: Path) -> None:
    path = project.parent / "home" / ".codex" / "config.toml"
    path.parent.mkdir()
    theirs = '# mine\nmodel = "x" # best\n\n[mcp_servers.other]\ncommand = "y"\n'
    path.write_text(theirs)
    assert setup("codex") == 0
    text = path.read_text()
    assert text.startswith(theirs)
    own = tomllib.loads(text)["mcp_servers"]["trishula"]
    assert own["args"] == ["mcp"]
    assert own["env"] == {"TRISHULA_PROFILE": "scout"}
    # Its first turn waits for the tools.
    assert own["required"] is True and own["startup_timeout_sec"] == 60
    assert setup("codex") == 0
    assert path.read_text() == text
    assert setup("codex", "--check") == 0
    path.write_text(text + "\n[last]\nkey = 1\n")
    assert setup("codex") == 0
    assert tomllib.loads(path.read_text())["last"] == {"key": 1}
    assert run(["setup", "codex", "--remove"]) == 0
    assert tomllib.loads(path.read_text()) == {**tomllib.loads(theirs), "last": {"key": 1}}
    assert path.read_text().startswith(theirs)


def test_what_a_client_adds_to_our_entry_of_toml_stays(project: Path) -> None:
    path = project.parent / "home" / ".codex" / "config.toml"
    assert setup("codex") == 0
    allowed = '[mcp_servers.trishula.tools.inbox]\napproval_mode = "approve"\n'
    # So Codex writes it when its user allows the tool for good: before the comment that follows our table.
    path.write_text(path.read_text().replace("# TRISHULA ends", f"\n{allowed}# TRISHULA ends"))
    text = path.read_text()
    assert setup("codex", "--check") == 0
    assert setup("codex") == 0
    assert path.read_text() == text
    # Our own part was changed, and is mended; theirs stays.
    path.write_text(text.replace('args = ["mcp"]', 'args = ["oops"]'))
    assert setup("codex", "--check") == 1
    assert setup("codex") == 0
    assert path.read_text() == text
    assert run(["setup", "codex", "--remove"]) == 0
    assert not path.exists()


def test_a_table_of_toml_is_not_left_without_its_server(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project.parent / "home" / ".codex" / "config.toml"
    assert setup("codex") == 0
    text = path.read_text() + '\n[mcp_servers.trishula.tools.inbox]\napproval_mode = "approve"\n'
    path.write_text(text)
    assert setup("codex", "--check") == 0
    assert run(["setup", "codex", "--remove"]) == 1
    assert "would be left without a server; nothing was touched" in capsys.readouterr().err
    assert path.read_text() == text


def test_what_is_added_to_our_entry_of_json_stays(project: Path) -> None:
    path = project / ".gemini" / "settings.json"
    assert setup("gemini") == 0
    values = json.loads(path.read_text())
    values["mcpServers"]["trishula"] |= {"trust": True, "args": ["oops"]}
    path.write_text(json.dumps(values))
    assert setup("gemini", "--check") == 1
    assert setup("gemini") == 0
    own = json.loads(path.read_text())["mcpServers"]["trishula"]
    assert own["trust"] is True
    assert own["args"] == ["mcp"]
    assert setup("gemini", "--check") == 0


@pytest.mark.parametrize(
    ("client", "name", "text", "sentence"),
    [
        ("claude-code", ".mcp.json", '{"mcpServers": {}, // mine\n}', "is not plain JSON"),
        ("claude-code", ".mcp.json", "[]", "holds no JSON object"),
        ("claude-code", ".mcp.json", '{"mcpServers": []}', "mcpServers in "),
        ("claude-code", ".claude/settings.json", '{"hooks": {"Stop": {}}}', "hooks.Stop in "),
        ("codex", "../home/.codex/config.toml", "=", "is no TOML"),
        ("codex", "../home/.codex/config.toml", '[mcp_servers.trishula]\ncommand = "z"\n', "did not write"),
    ],
)
def test_a_file_that_is_not_understood_is_not_touched(
    client: str, name: str, text: str, sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert setup(client) == 1
    assert path.read_text() == text
    said = capsys.readouterr().err
    assert sentence in said
    assert "was not touched" in said
    if name != ".mcp.json":
        assert not (project / ".mcp.json").exists()


def test_a_link_stays_a_link_and_a_mode_stays(project: Path) -> None:
    real = project / "dotfiles.json"
    real.write_text("{}")
    real.chmod(0o600)
    (project / ".mcp.json").symlink_to(real)
    assert setup("claude-code", "--no-hooks") == 0
    assert (project / ".mcp.json").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "trishula" in json.loads(real.read_text())["mcpServers"]


def test_which_agent_it_is_must_be_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["setup", "cursor"]) == 2
    assert "say by a profile which agent it is to be" in capsys.readouterr().err
    assert run(["--profile", "nobody", "setup", "cursor"]) == 2
    assert not (project / ".cursor").exists()


def test_any_other_client_is_shown_its_lines(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup("generic") == 0
    assert json.loads(capsys.readouterr().out)["mcpServers"]["trishula"]["env"] == {"TRISHULA_PROFILE": "scout"}
    assert list(project.iterdir()) == []


# -- nudges ------------------------------------------------------------------------------------------------------------


def waits(sender: str, priority: int = 3, state: str = "accepted") -> dict[str, Any]:
    message = {"id": "1", "from": sender, "priority": priority, "subject": "a secret", "payload": "a secret"}
    return {"message": message, "state": state, "attempts": 0}


def test_a_nudge_is_a_pointer() -> None:
    assert pointer([], 0) == ""
    said = pointer(
        [waits("agni/7f", 1), waits("dc"), waits("dc", state="delivered"), waits("eve", state="delivered")], 2
    )
    assert said == (
        "TRISHULA: 2 messages wait for you from agni, dc, 1 urgent. Call the tool inbox of the server trishula."
    )


def test_low_priority_keeps_no_turn_from_ending() -> None:
    assert pointer([waits("dc", 4)], 1, "stop") == ""
    assert pointer([waits("dc", 4)], 1, "prompt") != ""
    assert pointer([waits("dc", 3), waits("dc", 4)], 2, "stop") != ""


def test_each_client_gets_its_form() -> None:
    assert as_hook("x", "claude-code", "prompt") == "x"
    assert json.loads(as_hook("x", "claude-code", "stop")) == {"decision": "block", "reason": "x"}
    assert json.loads(as_hook("x", "gemini", "stop")) == {"decision": "deny", "reason": "x"}
    shown = json.loads(as_hook("x", "gemini", "prompt"))["hookSpecificOutput"]
    assert shown == {"hookEventName": "BeforeAgent", "additionalContext": "x"}
    assert as_hook("", "gemini", "prompt") == ""
    assert json.loads(as_hook("x", "cursor", "start")) == {"additional_context": "x"}
    assert json.loads(as_hook("x", "cursor", "prompt")) == {"continue": True, "additional_context": "x"}
    assert json.loads(as_hook("x", "cursor", "stop")) == {"followup_message": "x"}


def test_a_turn_that_goes_on_because_of_a_hook_may_end() -> None:
    assert is_repeated('{"stop_hook_active": true}')
    assert not is_repeated('{"stop_hook_active": false}')
    assert is_repeated('{"status": "completed", "loop_count": 1}')
    assert is_repeated('{"status": "aborted", "loop_count": 0}')
    assert not is_repeated('{"status": "completed", "loop_count": 0}')
    assert not is_repeated("")
    assert not is_repeated("[]")


def test_the_command_says_it_or_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    bus.answers[MAILBOX_PEEK] = [{"messages": [waits("agni")], "pending": 1}, {"messages": [], "pending": 0}]
    for expected in ("TRISHULA: 1 message waits for you from agni.", ""):
        assert run(["nudge"], State(connect=bus.connect)) == 0  # type: ignore[arg-type]
        assert capsys.readouterr().out.startswith(expected)
    assert capsys.readouterr().out == ""
