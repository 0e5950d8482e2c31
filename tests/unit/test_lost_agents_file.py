"""A file of agents that is gone, while its copy is there: no command takes that for an empty one."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.support.pair import Nodes
from trishula.exit_codes import Exit
from trishula.tools.temporary_node import ToolFailed
from trishula_drill.linked import make_keys, make_tokens
from trishula_router.agents.file import KEPT_FILE, keep_agents, read_agents
from trishula_router.commands import init, node, token
from trishula_router.store.memory import MemoryStore

COMMANDS = (
    ("token", "new", "helper"),
    ("token", "new", "agni", "--public-key", "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"),
    ("token", "grant", "agni", "--serve", "host"),
    ("token", "rotate", "agni"),
    ("token", "rotate", "agni", "--dry-run"),
    ("token", "revoke", "agni", "--all", "--reason", "lost"),
    ("token", "revoke", "--before", "1d", "--reason", "lost"),
    ("token", "revoke", "--before", "1d", "--reason", "lost", "--dry-run"),
    ("token", "list"),
    ("node", "check", "--explain", "agni"),
)
GROUPS: dict[str, click.Group] = {"token": token, "node": node}


def run(state: Path, group: str, *arguments: str) -> Result:
    return CliRunner().invoke(GROUPS[group], [*arguments, "--state", str(state)])


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose file of agents is gone; a node has kept a copy."""
    directory = tmp_path / "a state"
    assert run(directory, "token", "new", "agni").exit_code == 0
    assert run(directory, "token", "new", "dc").exit_code == 0
    (directory / "agents.json").rename(directory / KEPT_FILE)
    return directory


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_takes_a_lost_file_for_an_empty_one(state: Path, command: tuple[str, ...]) -> None:
    done = run(state, *command)
    path, kept = state / "agents.json", state / KEPT_FILE
    assert (done.exit_code, done.stderr) == (
        Exit.CONFIG,
        f"Error: the file of agents {path} is gone, and a new one would end what 2 agents of the last good one may; "
        f"put it back with: cp -p '{kept}' '{path}'\nor, if they are to go, begin without them with: rm '{kept}'\n",
    )
    assert not path.exists()
    assert set(read_agents(kept)) == {"agni", "dc"}


def test_both_ways_out_lead_out(state: Path) -> None:
    path, kept = state / "agents.json", state / KEPT_FILE
    path.write_bytes(kept.read_bytes())
    path.chmod(0o600)
    assert run(state, "token", "new", "helper").exit_code == 0
    assert set(read_agents(path)) == set(read_agents(kept)) == {"agni", "dc", "helper"}
    path.unlink()
    kept.unlink()
    assert run(state, "token", "new", "helper").exit_code == 0
    assert set(read_agents(path)) == {"helper"}


@pytest.mark.parametrize(("text", "mode"), [("{ oh no", 0o600), ('{"agents": {}}', 0o644)])
def test_a_copy_that_can_not_be_read_is_not_passed_over(state: Path, text: str, mode: int) -> None:
    path, kept = state / "agents.json", state / KEPT_FILE
    kept.write_text(text)
    kept.chmod(mode)
    done = run(state, "token", "new", "helper")
    assert done.exit_code == Exit.CONFIG
    assert f"the file of agents {path} is gone, and the copy of the last good one can't be used either: " in done.stderr
    assert done.stderr.endswith(f"begin without the agents of before with: rm '{kept}'\n")
    assert not path.exists()


def test_where_the_copy_has_nobody_the_first_token_is_made(state: Path) -> None:
    (state / KEPT_FILE).write_text('{"agents": {}}')
    assert run(state, "token", "new", "helper").exit_code == 0


def test_neither_init_nor_a_drill_makes_a_new_one(tmp_path: Path) -> None:
    bus = tmp_path / "bus"
    made = ["init", str(bus), "--agents", "agni,dc"]
    assert CliRunner().invoke(init, made[1:]).exit_code == 0
    (path,) = bus.glob("nodes/*/state/agents.json")
    path.rename(path.parent / KEPT_FILE)
    done = CliRunner().invoke(init, [str(bus), "--agents", "scout"])
    assert (done.exit_code, f"the file of agents {path} is gone" in done.stderr) == (Exit.CONFIG, True)
    for make in (lambda: make_tokens([path.parent], ["a"], "b"), lambda: make_keys([path.parent], ["a"], tmp_path)):
        with pytest.raises(ToolFailed, match="is gone, and a new one would end what"):
            make()
    assert not path.exists()


def test_a_token_that_is_made_in_the_place_of_a_lost_file_deletes_nobody_at_linked_nodes(tmp_path: Path) -> None:
    names = ("agni", "rushabdev")
    stores = {name: MemoryStore(f"epoch-{name}", name) for name in names}
    nodes = Nodes(tmp_path, dict(stores), sharing=names)
    nodes.advance(2.0)
    file = nodes.rigs["agni"].agents_file
    before = set(read_agents(file))
    nodes.down("agni")
    keep_agents(file.parent / KEPT_FILE, read_agents(file))
    file.unlink()
    run(file.parent, "token", "new", "helper")
    nodes.boot("agni")
    nodes.advance(4.0)
    assert set(read_agents(nodes.rigs["rushabdev"].agents_file)) == before
