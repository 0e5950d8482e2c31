"""``trishula node check --explain``: each grant with its line, each refusal with the sentence that a node says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trishula.cli.main import cli
from trishula.exit_codes import Exit
from trishula_router.store.json_text import lines_of

FILE = """{"agents": {
  "agni": {
    "send": ["dc",
             {"grant": "capability:deploy", "until": "2100-12-01T08:00:00Z", "reason": "the move"}],
    "call": [{"grant": "dc.report", "until": "2001-01-01T00:00:00Z"}, "dc.uptime"],
    "serve": ["host"],
    "tokens": []
  },
  "dc": {"operator": true, "serve": []}, "wallboard": {"observer": true}, "eve": {}
}}
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    file = tmp_path / "agents.json"
    file.write_text(FILE)
    file.chmod(0o600)
    return tmp_path


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["node", "check", *arguments, "--state", str(state)])


def test_each_grant_has_its_line_and_each_refusal_its_sentence(state: Path) -> None:
    done = run(state, "--explain", "agni")
    assert done.exit_code == 0, done.output
    assert max(len(line) for line in done.stdout.splitlines() if str(state) not in line) <= 80
    said = " ".join(done.stdout.split())
    for line in (
        "agni is an agent, by line 2 of ",
        "send dc (line 3)",
        "send capability:deploy until 2100-12-01T",
        ": the move (line 4)",
        "call dc.uptime (line 5)",
        "call dc.report until 2001-01-01T",
        " (over) (line 5)",
        "serve host (line 6)",
        "subscribe every topic of everybody (the file says nothing else)",
        'Refused: send eve, broadcast messages[0].to is "eve", and the grants of agni don\'t cover it; an operator can',
        "send wallboard messages",
        'messages[0].to is "wallboard", and wallboard is an observer, which takes no mail',
        "call dc.some_name, eve.some_name",
        "the grants of agni don't cover dc.some_name",
        "serve some_name options.capabilities names some_name, and agni is not granted to serve that",
        "ask of the node, as an operator node.status call trishula.node.status: it is for operators, and agni is none",
    ):
        assert line in said, line


def test_an_operator_an_observer_and_one_of_an_earlier_release(state: Path) -> None:
    told = json.loads(run(state, "--explain", "dc", "--json").stdout)
    assert (told["role"], [(one["act"], one["of"]) for one in told["refused"]]) == (
        "operator",
        [("send", ["wallboard"]), ("serve", ["some_name"])],
    )
    wallboard = run(state, "--explain", "wallboard").stdout
    said = " ".join(wallboard.split())
    assert "It may ask" in said and "wallboard is an observer, which may look at figures and states" in said
    told = json.loads(run(state, "--explain", "eve", "--json").stdout)
    assert [(one["act"], one["grant"], one["line"]) for one in told["grants"]] == [
        ("send", "*", None),
        ("call", "*", None),
        ("serve", "what no other agent is granted", None),
        ("subscribe", "*", None),
    ]


def test_what_it_refuses(state: Path) -> None:
    done = run(state, "--explain", "nobody")
    assert (done.exit_code, "there is no agent nobody in " in done.stderr) == (Exit.NOT_FOUND, True)
    done = run(state)
    assert (done.exit_code, "name configurations to check, or else --explain AGENT" in done.stderr) == (2, True)
    (state / "agents.json").write_text("{")
    assert run(state, "--explain", "agni").exit_code == Exit.CONFIG


def test_lines_of_values() -> None:
    assert lines_of('{"a": {"b,": [1,\n"]}\\"",\n{"c": null}]},\n"d": []}') == {
        (): 1,
        ("a",): 1,
        ("a", "b,"): 1,
        ("a", "b,", 0): 1,
        ("a", "b,", 1): 2,
        ("a", "b,", 2): 3,
        ("a", "b,", 2, "c"): 3,
        ("d",): 4,
    }
