"""The commands of a node that start no process: ``token new``, ``token list``, ``node check``, ``node status``."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tests.support.stores import ReactorQueue, open_sqlite
from trishula.exit_codes import Exit
from trishula_drill.command import drill
from trishula_router.agents.file import read_agents
from trishula_router.agents.tokens import digest_of
from trishula_router.commands import node, token
from trishula_router.commands.node import _clock_lines, _connections_line, _readiness_lines
from trishula_router.commands.state_dir import agents_file_of, default_state_dir, hold_state_dir, state_holder
from trishula_router.commands.status_words import link_lines, peer_line, store_lines
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import render_config
from trishula_router.store.messages import Draft, State
from trishula_router.store.sqlite.holding import Hold

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
MIB = 1024 * 1024
COMMANDS = click.Group("commands", commands=[node, token, drill])


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(COMMANDS, [str(argument) for argument in arguments])


@pytest.fixture
def used_state(tmp_path: Path) -> Path:
    """A state directory on which a node has run."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "node.sqlite").write_bytes(b"")
    return state


# -- token new ---------------------------------------------------------------------------------------------------------


def test_token_new_registers_a_new_agent_and_prints_the_token_once(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    done = run("token", "new", "agni", "--state", state, "--json")
    said = json.loads(done.stdout)
    assert (done.exit_code, set(said), said["agent"]) == (0, {"agent", "token", "agents_file"}, "agni")
    assert said["agents_file"] == f"{state}/agents.json"
    assert said["token"].startswith("agni.") and len(said["token"]) >= len("agni.") + 27
    agent = read_agents(state / "agents.json")["agni"]
    assert (agent.operator, agent.send, agent.call) == (False, ("*",), ("*",))
    assert [item.sha256 for item in agent.tokens] == [digest_of(said["token"])]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "agents.json").stat().st_mode) == 0o600


def served(state: Path) -> dict[str, tuple[str, ...] | None]:
    return {name: record.serve for name, record in read_agents(state / "agents.json").items()}


def test_what_an_agent_may_serve_is_said_and_changed(used_state: Path) -> None:
    assert run("token", "new", "dc", "--state", used_state).exit_code == 0
    assert run("token", "new", "agni", "--serve", "host", "--serve", "deploy", "--state", used_state).exit_code == 0
    assert served(used_state) == {"dc": (), "agni": ("host", "deploy")}
    # A second token changes nothing but what it is asked to.
    run("token", "new", "agni", "--state", used_state)
    assert served(used_state)["agni"] == ("host", "deploy")
    run("token", "new", "agni", "--serve", "host", "--serve", "new", "--state", used_state, "--replace")
    assert served(used_state)["agni"] == ("host", "deploy", "new")
    done = run("token", "grant", "dc", "--serve", "a.b-c", "--state", used_state)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"dc may serve a.b-c, in {used_state}/agents.json\n"
    done = run("token", "grant", "agni", "--no-serve", "host", "--serve", "x", "--state", used_state, "--json")
    assert json.loads(done.stdout) == {
        "agent": "agni", "agents_file": f"{used_state}/agents.json", "serve": ["deploy", "new", "x"],
        "send": ["*"], "call": ["*"], "subscribe": ["*"], "timed": [],
    }  # fmt: skip
    run("token", "grant", "agni", "--no-serve", "*", "--serve", "*", "--state", used_state)
    assert served(used_state)["agni"] == ("*",)
    assert run("token", "grant", "agni", "--no-serve", "*", "--state", used_state).stderr.startswith(
        "agni may serve nothing, in "
    )
    assert served(used_state) == {"dc": ("a.b-c",), "agni": ()}
    listed = json.loads(run("token", "list", "--state", used_state, "--json").stdout)
    assert [one["serve"] for one in listed] == [[], ["a.b-c"]]


def test_a_record_of_an_earlier_release_is_left_as_it_is_until_somebody_says_more(used_state: Path) -> None:
    file = used_state / "agents.json"
    file.write_text(json.dumps({"agents": {name: {} for name in ("agni", "dc")}}))
    file.chmod(0o600)
    run("token", "new", "agni", "--state", used_state)
    assert served(used_state) == {"agni": None, "dc": None}
    assert "serve" not in file.read_text()
    lines = run("token", "list", "--state", used_state).stdout.splitlines()
    assert lines[0].endswith(
        "; may serve what no other is granted (its record is of an earlier release: trishula token grant)"
    )
    run("token", "new", "agni", "--serve", "host", "--state", used_state)
    run("token", "grant", "dc", "--no-serve", "*", "--state", used_state)
    assert served(used_state) == {"agni": ("host",), "dc": ()}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("new", "agni", "--serve", "Deploy"),
            '--serve is "Deploy"; it must be "*" or the name of a capability: a lower-case letter, then up to 62 of '
            "a-z, 0-9, '_', '.' and '-'",
        ),
        (("grant", "agni", "--no-serve", ""), '--no-serve is ""; it must be "*" or the name of a capability: '),
        (("grant", "agni"), "say what agni may do, or no more: --send AGENT, --call PROCEDURE, --serve CAPABILITY, "),
        (("grant", "eve", "--serve", "x"), "there is no agent eve in "),
    ],
)
def test_grants_that_can_not_be(used_state: Path, arguments: tuple[str, ...], sentence: str) -> None:
    run("token", "new", "agni", "--state", used_state)
    before = (used_state / "agents.json").read_bytes()
    done = run("token", *arguments, "--state", used_state)
    assert done.exit_code != 0
    assert sentence in done.stderr
    assert (used_state / "agents.json").read_bytes() == before


def test_token_new_prints_the_token_alone_on_standard_output(used_state: Path) -> None:
    done = run("token", "new", "agni", "--state", used_state)
    assert done.stdout.startswith("agni.") and done.stdout.count("\n") == 1
    assert done.stderr == (
        f"the agent agni is registered in {used_state}/agents.json. Its token stands above, and is shown this one "
        "time: keep it, and use it with: export TRISHULA_TOKEN=agni.…\n"
    )
    again = run("token", "new", "agni", "--state", used_state)
    assert again.stderr.startswith(f"the agent agni has a new token in {used_state}/agents.json. Its token ")
    assert again.stdout != done.stdout


def test_token_new_of_a_name_that_was_there_before_says_what_waits(tmp_path: Path) -> None:
    calls, state = ReactorQueue(), tmp_path
    store = open_sqlite(state, calls)
    drafts = [Draft("dc", f"m{number}", ("agni",), "STATUS", 3, 10**15, b"{}") for number in range(3)]
    accepted = calls.wait(store.append(drafts, 1))
    calls.wait(store.settle([accepted[0].positions[0]], State.DEAD, "no", 2))
    calls.wait(store.close())
    made = run("token", "new", "agni", "--state", state)
    assert made.exit_code == 0
    assert (
        "there was an agent agni before: 2 messages to it wait, and whoever joins with this token gets" in made.stderr
    )
    assert "1 messages to it are dead letters: trishula dead list --agent agni" in made.stderr
    # A second token of an agent that is there is no news.
    again = run("token", "new", "agni", "--state", state)
    assert "there was an agent" not in again.stderr
    other = run("token", "new", "dc", "--state", state, "--json")
    assert "waiting" not in json.loads(other.stdout)


def test_a_third_token_ends_no_other_unless_asked_to(used_state: Path) -> None:
    tokens = [json.loads(run("token", "new", "agni", "--state", used_state, "--json").stdout)["token"] for _ in "ab"]
    before = (used_state / "agents.json").read_bytes()
    third = run("token", "new", "agni", "--state", used_state)
    assert (third.exit_code, third.stdout) == (Exit.FAILED, "")
    first, second = (digest_of(made)[:8] for made in tokens)
    assert third.stderr.startswith(f"Error: agni has 2 valid tokens in {used_state}/agents.json, {first} made 20")
    assert f", {second} made 20" in third.stderr
    assert third.stderr.endswith(
        "the sessions that joined with it. Use one of those, or run this again with --replace if that is meant\n"
    )
    assert (used_state / "agents.json").read_bytes() == before
    third = run("token", "new", "agni", "--state", used_state, "--replace", "--json")
    assert (
        third.stderr == f"the token {first} of agni is not valid any more, and the sessions that joined with it end\n"
    )
    kept = [item.sha256 for item in read_agents(used_state / "agents.json")["agni"].tokens]
    assert kept == [digest_of(tokens[1]), digest_of(json.loads(third.stdout)["token"])]


def test_replacing_ends_nothing_where_there_is_room(used_state: Path) -> None:
    first = json.loads(run("token", "new", "agni", "--state", used_state, "--json").stdout)["token"]
    second = run("token", "new", "agni", "--state", used_state, "--replace", "--json")
    assert second.stderr == ""
    kept = [item.sha256 for item in read_agents(used_state / "agents.json")["agni"].tokens]
    assert kept == [digest_of(first), digest_of(json.loads(second.stdout)["token"])]


@pytest.mark.parametrize("is_there", [True, False])
def test_where_no_node_ever_ran_token_new_says_so(tmp_path: Path, is_there: bool) -> None:
    state = tmp_path / "sttae"
    if is_there:
        state.mkdir()
    done = run("token", "new", "agni", "--state", state)
    assert done.exit_code == 0
    made = "which was made now; " if not is_there else ""
    assert done.stderr.splitlines()[0] == (
        f"no node has ever run on the state directory {state}, {made}the token is good for the first that does. If one "
        "runs already, name its directory with --state"
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_a_token_can_be_written_into_a_file_that_is_replaced_whole(used_state: Path, as_json: bool) -> None:
    file = used_state.parent / "agni.token"
    more = ["--json"] if as_json else []
    for number in (1, 2):
        done = run("token", "new", "agni", "--state", used_state, "--write", file, *more)
        assert done.exit_code == 0, done.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        made = file.read_text()
        assert made.startswith("agni.") and made.count("\n") == 1
        assert made.strip() not in done.stdout + done.stderr
        tokens = read_agents(used_state / "agents.json")["agni"].tokens
        assert (len(tokens), tokens[-1].sha256) == (number, digest_of(made.strip()))
    refused = run("token", "new", "agni", "--state", used_state, "--write", file, *more)
    assert refused.exit_code == Exit.FAILED
    assert file.read_text() == made, "the token that it has is as good as before"
    assert [path.name for path in used_state.parent.iterdir() if path.name.startswith("agni")] == ["agni.token"]


def test_a_token_file_that_cannot_be_written_makes_no_token(used_state: Path) -> None:
    done = run("token", "new", "agni", "--state", used_state, "--write", used_state / "no" / "agni.token")
    assert (done.exit_code, done.stdout) == (Exit.CONFIG, "")
    assert (
        done.stderr == f"Error: the token can't be written into {used_state}/no/agni.token: No such file or directory\n"
    )
    assert read_agents(used_state / "agents.json") == {}


def test_a_new_observer_may_send_to_nobody_and_an_agent_that_becomes_one_keeps_its_grants(tmp_path: Path) -> None:
    run("token", "new", "wall", "--observer", "--state", tmp_path)
    run("token", "new", "dc", "--state", tmp_path)
    run("token", "new", "dc", "--observer", "--state", tmp_path)
    agents = read_agents(tmp_path / "agents.json")
    wall, dc = agents["wall"], agents["dc"]
    assert (wall.observer, wall.operator, wall.send, wall.call, wall.serve) == (True, False, (), (), ())
    assert (dc.observer, dc.send, dc.call) == (True, ("*",), ("*",))
    assert "wall  observer  may send to" in run("token", "list", "--state", tmp_path).output
    run("token", "new", "dc", "--no-observer", "--replace", "--state", tmp_path)
    assert not read_agents(tmp_path / "agents.json")["dc"].observer


def test_token_new_keeps_the_role_unless_told_otherwise(tmp_path: Path) -> None:
    roles = []
    for more in (["--operator"], [], ["--no-operator"]):
        assert run("token", "new", "dc", "--state", tmp_path, "--replace", *more).exit_code == 0
        roles.append(read_agents(tmp_path / "agents.json")["dc"].operator)
    assert roles == [True, True, False]


def test_a_token_may_expire(tmp_path: Path) -> None:
    assert run("token", "new", "dc", "--state", tmp_path, "--expires-in", "30d").exit_code == 0
    (made,) = read_agents(tmp_path / "agents.json")["dc"].tokens
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == pytest.approx(30 * 86400, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["token", "new", "Agni"],
            Exit.USAGE,
            '"Agni" is no agent\'s name: that is a lower-case letter, then up to 62 of a-z, 0-9 and _',
        ),
        (
            ["token", "new", "broadcast"],
            Exit.USAGE,
            '"broadcast" is no agent\'s name: that is a lower-case letter, then up to 62 of a-z, 0-9 and _',
        ),
        (
            ["token", "new", "agni", "--expires-in", "soon"],
            Exit.USAGE,
            '--expires-in is \'soon\'; it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"',
        ),
        (
            ["token", "new", "agni", "--expires-in", "0s"],
            Exit.USAGE,
            "--expires-in is '0s'; it must be longer than nothing",
        ),
    ],
)
def test_wrong_arguments_change_nothing(tmp_path: Path, arguments: list[str], code: Exit, sentence: str) -> None:
    done = run(*arguments, "--state", tmp_path / "state")
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.endswith(f"Error: {sentence}\n")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["token", "list"],
        ["token", "grant", "agni", "--serve", "x"],
        ["node", "status"],
        ["node", "verify"],
        ["node", "backup", "copy.sqlite"],
        ["node", "reseed"],
        ["node", "compact"],
    ],
    ids=" ".join,
)
def test_a_state_directory_that_is_not_there_is_one_sentence_and_one_code(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--state", tmp_path / "no")
    assert (done.exit_code, done.stdout) == (Exit.CONFIG, "")
    assert done.stderr == (
        f"Error: the state directory {tmp_path}/no is not there; name the node's with --state or TRISHULA_STATE, or "
        "make one with: trishula node start\n"
    )
    (tmp_path / "no").write_text("a file")
    done = run(*arguments, "--state", tmp_path / "no")
    assert (done.exit_code, "/no is no directory; name" in done.stderr) == (Exit.CONFIG, True)


@pytest.mark.parametrize(
    "arguments", [["node", "verify"], ["node", "compact"], ["node", "backup", "copy.sqlite"]], ids=" ".join
)
def test_a_state_directory_without_a_store(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--state", tmp_path)
    assert (done.exit_code, f"there is no store {tmp_path}/node.sqlite" in done.stderr) == (Exit.CONFIG, True)


@pytest.mark.parametrize(
    "arguments", [["token", "new", "agni"], ["node", "restore", __file__]], ids=lambda each: each[1]
)
def test_a_state_directory_that_can_not_be_made(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").write_text("")
    done = run(*arguments, "--state", tmp_path / "file" / "below")
    assert (done.exit_code, "can't be made: Not a directory" in done.stderr) == (Exit.CONFIG, True)


def test_a_backup_that_is_not_there(tmp_path: Path) -> None:
    done = run("node", "restore", tmp_path / "no.sqlite", "--state", tmp_path / "state")
    assert (done.exit_code, f"there is no backup {tmp_path}/no.sqlite" in done.stderr) == (Exit.USAGE, True)
    assert not (tmp_path / "state").exists()


def test_a_grant_to_nobody(used_state: Path) -> None:
    run("token", "new", "dc", "--state", used_state)
    done = run("token", "grant", "eve", "--serve", "x", "--state", used_state)
    assert (done.exit_code, "there is no agent eve in" in done.stderr) == (Exit.NOT_FOUND, True)


def test_a_broken_agents_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    path.write_text("{")
    path.chmod(0o600)
    for arguments in (["token", "new", "agni"], ["token", "list"]):
        done = run(*arguments, "--state", tmp_path)
        assert done.exit_code == Exit.CONFIG
        assert done.stderr.startswith(f"Error: the file of agents {path} is not JSON: ")
    assert path.read_text() == "{"


# -- token list --------------------------------------------------------------------------------------------------------


def test_token_list_shows_agents_and_their_tokens_and_never_a_secret(tmp_path: Path) -> None:
    made = json.loads(run("token", "new", "agni", "--state", tmp_path, "--json").stdout)["token"]
    run("token", "new", "dc", "--operator", "--expires-in", "1d", "--state", tmp_path)
    text = run("token", "list", "--state", tmp_path).stdout
    short = digest_of(made)[:8]
    lines = text.splitlines()
    assert lines[0] == "agni  agent  may send to *; may call *; may serve nothing"
    assert lines[1].startswith(f"  {short}  valid  made 20")
    assert lines[2] == "dc  operator  may send to *; may call *; may serve nothing"
    assert ", until 20" in lines[3]
    assert made.partition(".")[2] not in text
    listed = json.loads(run("token", "list", "--state", tmp_path, "--json").stdout)
    assert [(row["agent"], row["operator"], row["tokens"][0]["state"]) for row in listed] == [
        ("agni", False, "valid"),
        ("dc", True, "valid"),
    ]


def test_token_list_of_an_empty_state_says_what_to_do(tmp_path: Path) -> None:
    done = run("token", "list", "--state", tmp_path)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"no agents in {tmp_path}/agents.json; make one with: trishula token new NAME\n"
    assert json.loads(run("token", "list", "--state", tmp_path, "--json").stdout) == []


# -- node check --------------------------------------------------------------------------------------------------------


def test_node_check_prints_all_faults_of_all_files_at_once(tmp_path: Path) -> None:
    config = read_config_file(SHIPPED)
    config["workers"][0]["components"][0]["extra"]["limits"] = {"payload": 5, "paylaod": "1 MiB"}
    config["workers"][0]["transports"][0]["options"]["access_log"] = -1
    broken, no_json = tmp_path / "broken.json", tmp_path / "no.json"
    broken.write_text(render_config(config))
    no_json.write_text("{]")
    done = run("node", "check", SHIPPED, broken, no_json)
    assert done.exit_code == Exit.CONFIG
    where = "workers[0].components[0].extra.limits"
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"{SHIPPED}: good",
        f'{broken}: {where}.payload is 5; it must be a size with its unit, such as "64 KiB", "1 MiB" or "2 GiB"',
        f'{broken}: {where}.paylaod is "1 MiB"; it is an unknown key; the known keys are payload, mailbox_messages, '
        "mailbox, store, batch_messages, rate, burst, broadcast_rate, broadcast_burst, broadcast_deliveries, "
        "broadcast_at_once, connections, connection_queue, agent_queue, queues, strangers, "
        "strangers_per_address, handshake, subscriptions, registrations, calls, call_wait, instances, "
        "fetches, retained, retained_bytes, ttl, "
        "mailbox_share, store_share, urgent_room, open_messages, open_capabilities, conversation_hops, "
        "conversation_within, hourly_messages, hourly_bytes",
    ]
    assert lines[3].startswith(f"{broken}: crossbar check: ")
    assert lines[4:] == [
        f"{no_json}: it is not JSON: Expecting property name enclosed in double quotes in line 1, column 2"
    ]
    as_json = json.loads(run("node", "check", SHIPPED, broken, "--json").stdout)
    assert [(row["file"], len(row["faults"])) for row in as_json] == [(str(SHIPPED), 0), (str(broken), 3)]
    assert as_json[1]["faults"][0]["path"] == f"{where}.payload"


def test_node_check_of_a_good_file_ends_with_0() -> None:
    assert run("node", "check", SHIPPED).exit_code == 0


# -- node status, and where the state is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("node", "start", "--state"), ("node", "check"), ("node", "keys", "--state"), ("drill", "kill9", "--state")],
    ids=" ".join,
)
def test_without_crossbar_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    # What is None there can't be imported, as if it weren't installed.
    monkeypatch.setitem(sys.modules, "crossbar", None)
    done = run(*arguments, tmp_path)
    assert done.exit_code == Exit.FAILED
    assert done.stderr.splitlines()[-1] == (
        "Error: a node runs in Crossbar, which is not installed in this environment; install it with: "
        "pip install 'trishula-bus[router]' (in a checkout: pip install '.[router]')"
    )
    assert list(tmp_path.iterdir()) == []


def test_node_status_says_that_no_node_runs(tmp_path: Path) -> None:
    done = run("node", "status", "--state", tmp_path)
    assert (done.exit_code, done.stdout) == (
        Exit.UNREACHABLE,
        f"no node runs on the state directory {tmp_path}; start one with: trishula node start\n",
    )
    # What a killed node left behind does not count.
    (tmp_path / "node.json").write_text('{"pid": 1, "node": "single"}')
    done = run("node", "status", "--state", tmp_path, "--json")
    assert (done.exit_code, json.loads(done.stdout)["running"]) == (Exit.UNREACHABLE, False)


def test_where_the_state_is_without_an_option() -> None:
    assert default_state_dir({"TRISHULA_STATE": "/srv/x", "XDG_STATE_HOME": "/y"}) == Path("/srv/x")
    assert default_state_dir({"XDG_STATE_HOME": "/y"}) == Path("/y/trishula")
    assert default_state_dir({}) == Path("~/.local/state/trishula").expanduser()
    with pytest.raises(click.ClickException, match="there is no state directory: '~nobody_at_all/x' begins with"):
        default_state_dir({"TRISHULA_STATE": "~nobody_at_all/x"})


def test_the_lock_of_a_state_directory_is_held_once(tmp_path: Path) -> None:
    assert state_holder(tmp_path) is None
    with hold_state_dir(tmp_path, "trishula node start"):
        holder = state_holder(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.how) == (os.getpid(), "trishula node start")
        running = rf"a node already runs on the state directory {tmp_path} \(process {os.getpid()}, started by trishula"
        for with_store in (False, True):
            holding = hold_state_dir(tmp_path, "trishula node restore", with_store=with_store)
            with pytest.raises(click.ClickException, match=running), holding:
                pass
    assert state_holder(tmp_path) is None


@pytest.mark.parametrize("with_store", [False, True])
def test_who_has_the_store_has_the_directory(tmp_path: Path, with_store: bool) -> None:
    # As a worker of plain "crossbar start" does: it knows nothing of node.lock.
    hold = Hold(tmp_path, "crossbar start")
    running = (
        rf"a node already runs on the state directory {tmp_path} \(process {os.getpid()}, started by crossbar start"
    )
    with pytest.raises(click.ClickException, match=running), hold_state_dir(tmp_path, "x", with_store=with_store):
        pass
    hold.release()
    with hold_state_dir(tmp_path, "x", with_store=with_store):
        assert state_holder(tmp_path) is not None


def test_a_state_directory_that_is_in_use_and_not_ready(tmp_path: Path) -> None:
    hold = Hold(tmp_path, "crossbar start")
    done = run("node", "status", "--state", tmp_path)
    hold.release()
    assert done.exit_code == Exit.UNREACHABLE
    assert f"is ready, and it is in use: process {os.getpid()}, started by crossbar start, since 2" in done.stdout


def test_how_full_the_store_is_in_words() -> None:
    store = {
        "used_bytes": 7 * MIB,
        "limit_bytes": 8 * MIB,
        "free_bytes": 3 * MIB,
        "reserve_bytes": 512 * 1024,
        "shortage": "it takes 7 MiB of the 8 MiB",
        "fault": "/x/node.sqlite was deleted",
    }
    assert store_lines({"store_bytes": 9 * MIB, "high_water": 5, "store": store}) == [
        "store: 9 MiB on disk, 7 MiB in use, 88 % of the 8 MiB of limits.store, 3 MiB left on the disk and 512 KiB "
        "kept back for acks, journal at 5",
        "store out of use: /x/node.sqlite was deleted",
        "store full, sends are refused and acks go on: it takes 7 MiB of the 8 MiB",
    ]
    # A node of the release before.
    assert store_lines({"store_bytes": 9 * MIB, "high_water": 5}) == ["store: 9 MiB, journal at 5"]


def test_the_agents_file_is_where_the_last_configuration_put_it(tmp_path: Path) -> None:
    assert agents_file_of(tmp_path) == tmp_path / "agents.json"
    config = read_config_file(SHIPPED)
    config["workers"][0]["components"][0]["extra"]["agents_file"] = "who.json"
    (tmp_path / "crossbar").mkdir()
    (tmp_path / "crossbar" / "config.json").write_text(render_config(config))
    assert agents_file_of(tmp_path) == tmp_path / "who.json"
    (tmp_path / "crossbar" / "config.json").write_text("{")
    assert agents_file_of(tmp_path) == tmp_path / "agents.json"


@pytest.mark.parametrize(("gap_ms", "said"), [(10_800_000, "3.0 h ahead of"), (-90_000, "90.0 s behind")])
def test_a_clock_that_was_set_in_words(gap_ms: int, said: str) -> None:
    assert _clock_lines({"clock_gap_ms": gap_ms}) == [
        f"clock: the machine's is {said} the node's; if it stays so for a minute, the node believes it"
    ]
    assert _clock_lines({}) == _clock_lines({"clock_gap_ms": 1999}) == []


def test_a_peer_whose_clock_differs_in_words() -> None:
    peer = {"node": "agni", "state": "up", "acknowledged": 7, "lag_records": 0, "to_copy_records": 0, "fault": None}
    assert peer_line(peer) == "agni: up, has our journal up to 7"
    assert peer_line({**peer, "warning": "its clock is off"}) == "agni: up, has our journal up to 7; its clock is off"
    assert peer_line({**peer, "fault": "forked", "warning": "off"}) == "agni: up, has our journal up to 7; forked; off"


def test_node_status_tells_of_connections_that_were_ended() -> None:
    quiet = {"joined": 3, "strangers": 1, "ended_slow_readers": 0, "ended_strangers": 0}
    assert _connections_line(quiet) == "3 joined, 1 not yet"
    assert _connections_line({**quiet, "ended_slow_readers": 2, "ended_strangers": 7}) == (
        "3 joined, 1 not yet; ended: 2 that read too slowly, 7 that never joined"
    )


def test_a_peer_s_link_in_words() -> None:
    link = {"up": True, "made_by": "the peer", "up_for_s": 90.0, "trouble": None, "trouble_s_ago": None, "troubles": 0}
    peer = {"node": "laptop", "state": "up", "heard_s_ago": 0.25, "clock_ahead_ms": -12, "version": "2.0.0a1"}
    assert link_lines({**peer, "link": link, "agents_differ": False}) == [
        "link, made by the peer: up for 90.0 s",
        "its clock is 12 ms behind this node's, version 2.0.0a1, heard of 250 ms ago",
    ]
    trouble = {"up": False, "made_by": "this node", "up_for_s": None, "troubles": 7}
    trouble |= {"trouble": "refused \x1b[2J", "trouble_s_ago": 2.0}
    assert link_lines({"node": "laptop", "state": "down", "link": trouble, "agents_differ": True}) == [
        "link, made by this node: none; 2.0 s ago: refused \\x1b[2J (7 times)",
        "its file of agents says something else than this node's: trishula token list, at both",
    ]
    # A node of the release before tells none of it.
    assert link_lines({"node": "laptop", "state": "up", "heard_s_ago": None}) == []


def test_why_a_node_is_not_ready() -> None:
    poor = {"check": "peers", "ok": True, "degraded": True, "reason": "agni is away"}
    failed = {"check": "loop", "ok": False, "reason": "the node stood still for 3.0 s"}
    assert _readiness_lines({"readiness": {"ready": False, "checks": [poor, failed]}}) == [
        "not ready, loop: the node stood still for 3.0 s"
    ]
    # A node of an older version tells nothing of it.
    assert _readiness_lines({}) == []
