"""The file of agents and what the node makes of it: grants, tokens, changes while it runs, broken edits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trishula.errors import TokenInvalid, TokenMissing, TrishulaError
from trishula_router.agents.file import AgentEntry, AgentsFileError, read_agents, update_agents
from trishula_router.agents.principals import Principal, Principals
from trishula_router.agents.text import parse_agents, render_agents
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.settings.faults import ConfigError

NOW_S = 1_770_000_000.0
TOKEN = "agni.secret"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def write_agents(path: Path, agents: dict[str, AgentEntry]) -> None:
    write(path, render_agents(agents))


def with_token(expires_at: float | None = None, not_before: float | None = None) -> AgentEntry:
    return AgentEntry(tokens=(TokenEntry(digest_of(TOKEN), NOW_S, not_before, expires_at),))


# -- serving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serve", "capability", "may"),
    [
        (("deploy",), "deploy", True),
        (("deploy",), "host", False),
        (("deploy",), "deploy.prod", False),
        (("*",), "deploy", True),
        ((), "deploy", False),
        (None, "deploy", True),
        (None, "host", False),
    ],
)
def test_what_an_agent_may_serve(serve: tuple[str, ...] | None, capability: str, may: bool) -> None:
    """``None``: by a record of an earlier release; host is granted to somebody else."""
    foreign = frozenset({"host"})
    assert Principal("agni", False, (), (), serve, foreign).may_serve(capability) is may


def test_a_file_of_before_lets_serve_what_nobody_is_granted_and_is_written_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write(path, json.dumps({"agents": {"agni": {"serve": ["deploy"]}, "dc": {}, "eve": {"serve": ["*"]}, "old": {}}}))
    principals = Principals(path)
    assert principals.unwritten == ("dc", "old")
    told = {
        (name, capability)
        for name in ("agni", "dc", "eve", "old", "nobody")
        for capability in ("deploy", "host")
        if principals.may_serve(name, capability)
    }
    assert told == {("agni", "deploy"), ("dc", "host"), ("eve", "deploy"), ("eve", "host"), ("old", "host")}
    with update_agents(path) as agents:
        assert [name for name, record in agents.items() if record.serve is None] == ["dc", "old"]
    assert [name for name, record in read_agents(path).items() if record.serve is None] == ["dc", "old"]


@pytest.mark.parametrize(
    ("serve", "sentence"),
    [
        ("deploy", 'agents.agni.serve is "deploy"; it must be a list of grants, such as ["*"]'),
        (None, 'agents.agni.serve is null; it must be a list of grants, such as ["*"]'),
        (
            ["capability:deploy"],
            'agents.agni.serve[0] is "capability:deploy"; it must be "*" or the name of a capability',
        ),
        (["a", "A"], 'agents.agni.serve[1] is "A"; it must be "*" or the name of a capability: a lower-case letter, '),
        ([7], 'agents.agni.serve[0] is 7; it must be "*" or the name of a capability'),
    ],
)
def test_a_serve_grant_that_can_not_be(serve: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_agents({"agents": {"agni": {"serve": serve}}})
    assert caught.value.faults[0].sentence.startswith(sentence)


# -- grants ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "to_agent", "may"),
    [
        (("*",), "dc", True),
        (("*",), "broadcast", True),
        (("dc",), "dc", True),
        (("dc",), "rushabdev", False),
        (("dc",), "broadcast", False),
        (("broadcast",), "broadcast", True),
        (("broadcast",), "dc", False),
        ((), "agni", True),
        ((), "dc", False),
    ],
)
def test_to_whom_an_agent_may_send(send: tuple[str, ...], to_agent: str, may: bool) -> None:
    assert Principal("agni", False, send, ()).may_send(to_agent) is may


@pytest.mark.parametrize(
    ("call", "agent", "procedure", "may"),
    [
        (("*",), "dc", "report", True),
        (("dc",), "dc", "report", True),
        (("dc.report",), "dc", "report", True),
        (("dc.report",), "dc", "report.full", False),
        (("dc.report",), "dc", "stop", False),
        (("dc",), "dcx", "report", False),
        ((), "agni", "anything", True),
        ((), "dc", "report", False),
    ],
)
def test_what_an_agent_may_call(call: tuple[str, ...], agent: str, procedure: str, may: bool) -> None:
    assert Principal("agni", False, (), call).may_call(agent, procedure) is may


# -- the file ----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_holds_no_token(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    record = AgentEntry(True, ("dc", "broadcast"), ("dc.report",), with_token(NOW_S + 1.5, NOW_S).tokens)
    with update_agents(path) as agents:
        assert agents == {}
        agents["agni"] = record
    assert read_agents(path) == {"agni": record}
    assert path.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in path.read_text() and "secret" not in path.read_text()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["agents.json", "agents.json.lock"]


def test_an_entry_written_by_hand_needs_nothing_but_a_name() -> None:
    assert parse_agents({"agents": {"agni": {}}}) == {"agni": AgentEntry(False, ("*",), ("*",), ())}


def test_instants_may_be_iso_8601_or_seconds() -> None:
    sha256 = "0" * 64
    for instant in (1770681720, 1770681720.0, "2026-02-10T00:02:00Z", "2026-02-10T01:02:00+01:00"):
        agents = parse_agents({"agents": {"agni": {"tokens": [{"sha256": sha256, "created_at": instant}]}}})
        assert agents["agni"].tokens == (TokenEntry(sha256, 1770681720.0),)


def test_all_faults_of_the_file_are_told_at_once_and_no_token_that_was_pasted_into_it() -> None:
    raw = {
        "agents": {
            "Agni": {},
            "broadcast": {},
            "dc": {
                "operator": 1,
                "send": "*",
                "call": ["dc.", "*.report", 7],
                "tokens": [{"sha256": "dc.verysecret", "created_at": "2026-02-10T00:02:00"}, 5],
                "grants": [],
            },
        },
        "version": 1,
    }
    with pytest.raises(ConfigError) as caught:
        parse_agents(raw)
    rule = "it is no agent's name: that is a lower-case letter, then up to 62 of a-z, 0-9 and _"
    assert [fault.sentence for fault in caught.value.faults] == [
        "version is 1; it is an unknown key; the known keys are agents",
        f'agents is "Agni"; {rule}',
        f'agents is "broadcast"; {rule}',
        "agents.dc.operator is 1; it must be true or false",
        'agents.dc.send is "*"; it must be a list of grants, such as ["*"]',
        'agents.dc.call[0] is "dc."; it must be "*", an agent or agent.procedure',
        'agents.dc.call[1] is "*.report"; it must be "*", an agent or agent.procedure',
        'agents.dc.call[2] is 7; it must be "*", an agent or agent.procedure',
        'agents.dc.tokens[0].sha256 is "…"; it must be 64 hexadecimal digits',
        'agents.dc.tokens[0].created_at is "2026-02-10T00:02:00"; it must be an instant such as '
        '"2026-02-10T00:02:00Z", seconds since the epoch before the year 10000, or null',
        "agents.dc.tokens[1] is 5; it must be a map",
        "agents.dc.tokens[1].sha256 is missing; it must be 64 hexadecimal digits",
        "agents.dc.grants is []; it is an unknown key; the known keys are operator, observer, send, call, serve, "
        "subscribe, tokens",
    ]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("{}", 0o600, "{path}: agents is missing; it must be a map"),
        ("[]", 0o600, "{path}: the file is []; it must be a map\n{path}: agents is missing; it must be a map"),
        (
            '{"agents":\n {"agni": }}',
            0o600,
            "the file of agents {path} is not JSON: Expecting value in line 2, column 11",
        ),
        (
            '{"agents": {}}',
            0o640,
            "the file of agents {path} has mode 0640, so that others on this machine can read or change it; "
            "run: chmod 600 {path}",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "agents.json"
    write(path, text, mode)
    with pytest.raises(AgentsFileError) as caught:
        Principals(path)
    assert str(caught.value) == said.format(path=path)


def test_a_file_that_is_not_text_says_so(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write(path, "")
    path.write_bytes(b'{"agents": {"\xff": {}}}')
    with pytest.raises(AgentsFileError, match="is not text in UTF-8"):
        read_agents(path)


SHA256 = "0" * 64
INSTANT_RULE = (
    'it must be an instant such as "2026-02-10T00:02:00Z", seconds since the epoch before the year 10000, or null'
)


def with_instant(text: str) -> str:
    return f'{{"agents": {{"agni": {{"tokens": [{{"sha256": "{SHA256}", "expires_at": {text}}}]}}, "dc": {{}}}}}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"agents": {"agni": {}, "dc": {}, "agni": {"operator": true}}}',
            "agents.agni: it must not stand twice in one map, because only the last of the two would count",
        ),
        (
            '{"agents": {"agni": {"send": [], "send": ["*"]}}}',
            "agents.agni.send: it must not stand twice in one map, because only the last of the two would count",
        ),
        (
            with_instant("1,").replace(",}", ', "expires_at": null}'),
            "agents.agni.tokens[0].expires_at: it must not stand twice in one map, because only the last of the two "
            "would count",
        ),
        (
            with_instant("1770000000000"),
            "agents.agni.tokens[0].expires_at is 1770000000000; it must be in seconds since the epoch, and this looks "
            "like milliseconds: 1770000000",
        ),
        (with_instant("NaN"), f"agents.agni.tokens[0].expires_at is NaN; {INSTANT_RULE}"),
        (with_instant("-1e999"), f"agents.agni.tokens[0].expires_at is -Infinity; {INSTANT_RULE}"),
        (with_instant("-1"), f"agents.agni.tokens[0].expires_at is -1; {INSTANT_RULE}"),
        (with_instant("1e20"), f"agents.agni.tokens[0].expires_at is 1e+20; {INSTANT_RULE}"),
        (
            with_instant('"0001-01-01T00:00:00+14:00"'),
            f'agents.agni.tokens[0].expires_at is "0001-01-01T00:00:00+14:00"; {INSTANT_RULE}',
        ),
        (
            with_instant("9" * 400),
            f"agents.agni.tokens[0].expires_at is {'9' * 77}...; {INSTANT_RULE}",
        ),
        (
            '{"agents": {"agni": {"\\ud800\\u001b": 1}}}',
            "agents.agni.\\ud800\\x1b is 1; it is an unknown key; the known keys are operator, observer, send, call, "
            "serve, subscribe, tokens",
        ),
        ('{"agents": {"agni": {"operator": NaN}}}', "agents.agni.operator is NaN; it must be true or false"),
        (
            '{"agents": {"agni": ' + "[" * 900 + "]" * 900 + "}}",
            "agents.agni is " + "[" * 77 + "...; it must be a map",
        ),
    ],
)
def test_what_json_lets_pass_and_cannot_be_meant_is_a_fault_with_its_path(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token()})
    principals = Principals(path)
    write(path, text)
    assert principals.reload_if_changed() is False
    fault = str(principals.fault)
    assert fault == f"{path}: {said}; the node goes on with what it said last"
    assert fault.isprintable(), "what an operator's terminal shows"
    assert principals.check_token("agni", TOKEN, NOW_S).name == "agni"
    with pytest.raises(AgentsFileError), update_agents(path):
        pass
    assert path.read_text() == text, "a token command doesn't write over what somebody is about to mend"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"agents": ' + "[" * 100_000, "is nested too deeply"),
        ('{"agents": ' + "9" * 5000 + "}", "is not JSON: it has a number of more than 4300 digits"),
    ],
)
def test_what_python_cannot_read_is_told_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "agents.json"
    write(path, text)
    with pytest.raises(AgentsFileError) as caught:
        read_agents(path)
    assert str(caught.value) == f"the file of agents {path} {said}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_mark_of_an_editor_at_the_beginning_is_no_fault(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "agents.json"
    write(path, "")
    path.write_bytes(render_agents({"agni": with_token()}).encode(encoding))
    assert read_agents(path) == {"agni": with_token()}


def test_a_failed_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": AgentEntry()})
    before = path.read_text()
    with pytest.raises(RuntimeError, match="on the way"), update_agents(path) as agents:
        agents["dc"] = AgentEntry()
        raise RuntimeError("on the way")
    assert path.read_text() == before


def test_changes_of_many_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    program = (
        "import sys; from pathlib import Path\n"
        "from trishula_router.agents.file import AgentEntry, update_agents\n"
        "for index in range(10):\n"
        "    with update_agents(Path(sys.argv[1])) as agents:\n"
        "        agents[f'{sys.argv[2]}{index}'] = AgentEntry()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(path), letter], env=environment) for letter in "abc"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(read_agents(path)) == sorted(f"{letter}{index}" for letter in "abc" for index in range(10))


# -- while the node runs -----------------------------------------------------------------------------------------------


def test_who_edits_the_file_by_hand_while_it_is_written_loses_nothing(tmp_path: Path) -> None:
    # An editor takes no lock: it saves between another writer's reading and its rename.
    file = tmp_path / "agents.json"
    with update_agents(file) as agents:
        agents["agni"] = AgentEntry()
    edited = file.read_text().replace("agni", "dc")

    def save() -> None:
        other = file.with_name("saved")
        other.write_text(edited)
        other.chmod(0o600)
        other.replace(file)

    with (
        pytest.raises(AgentsFileError, match="was edited meanwhile; that edit holds, run this again"),
        update_agents(file) as agents,
    ):
        agents["scout"] = AgentEntry()
        save()
    assert file.read_text() == edited
    with update_agents(file) as agents:
        agents["scout"] = AgentEntry()
    assert set(read_agents(file)) == {"dc", "scout"}


def test_a_node_starts_without_a_file_and_notices_when_one_comes(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    principals = Principals(path)
    assert principals.names() == () and principals.get("agni") is None
    assert principals.reload_if_changed() is False
    with update_agents(path) as agents:
        agents["agni"] = AgentEntry(operator=True)
    assert principals.reload_if_changed() is True
    assert principals.names() == ("agni",)
    assert principals.get("agni") == Principal("agni", True, ("*",), ("*",))
    assert principals.reload_if_changed() is False


def test_an_agent_that_was_made_a_moment_ago_is_known(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    principals = Principals(path)
    assert principals.get("agni") is None
    write_agents(path, {"agni": AgentEntry()})
    assert principals.get("agni") == Principal("agni", False, ("*",), ("*",))


def test_a_rewritten_file_that_says_the_same_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": AgentEntry()})
    principals = Principals(path)
    with update_agents(path):
        pass
    assert principals.reload_if_changed() is False


def test_a_broken_edit_keeps_the_last_good_state_and_says_what_is_wrong_until_it_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token()})
    principals = Principals(path)
    path.write_text("{ oh no")
    assert principals.reload_if_changed() is False
    assert str(principals.fault).startswith(f"the file of agents {path} is not JSON: ")
    assert principals.check_token("agni", TOKEN, NOW_S).name == "agni"
    path.unlink()
    assert principals.reload_if_changed() is False
    assert str(principals.fault) == f"the file of agents {path} is gone; the node goes on with what it said last"
    assert principals.names() == ("agni",)
    write_agents(path, {"agni": with_token(), "dc": AgentEntry()})
    assert principals.reload_if_changed() is True
    assert principals.fault is None
    assert principals.names() == ("agni", "dc")


# -- over a restart ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "agents.json.good"


@pytest.mark.parametrize(
    ("broken", "mode", "why"),
    [
        ("{ oh no", 0o600, "is not JSON"),
        ('{"agents": {"agni": {"sned": []}}}', 0o600, "agents.agni.sned"),
        ('{"agents": {}}', 0o644, "has mode 0644"),
        (None, 0o600, "is gone"),
    ],
)
def test_a_node_that_is_started_with_a_broken_file_goes_on_with_the_last_good_one(
    tmp_path: Path, kept: Path, broken: str | None, mode: int, why: str
) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": AgentEntry()})
    assert Principals(path, kept).fault is None
    write_agents(path, {"agni": with_token(), "dc": AgentEntry(operator=True)})
    running = Principals(path, kept)
    write_agents(path, {"agni": with_token()})
    assert running.reload_if_changed() is True
    path.unlink() if broken is None else write(path, broken, mode)
    started = Principals(path, kept)
    assert started.names() == ("agni",)
    assert started.check_token("agni", TOKEN, NOW_S).name == "agni"
    fault = str(started.fault)
    assert why in fault and str(kept) in fault
    assert started.reload_if_changed() is False and started.fault == fault
    # And it is a mended file's turn at once.
    write_agents(path, {"dc": AgentEntry()})
    assert started.reload_if_changed() is True
    assert started.names() == ("dc",)
    assert Principals(path, kept).fault is None


def test_the_copy_is_private_whole_and_written_only_when_it_changes(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token()})
    Principals(path, kept)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read_agents(kept) == {"agni": with_token()}
    inode = kept.stat().st_ino
    Principals(path, kept)
    assert kept.stat().st_ino == inode
    assert sorted(found.name for found in tmp_path.iterdir()) == ["agents.json", "agents.json.good"]


def test_a_token_that_a_command_takes_away_while_no_node_runs_is_not_in_the_copy(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token()})
    Principals(path, kept)
    with update_agents(path, kept) as agents:
        agents["agni"] = AgentEntry()
    write(path, "{ oh no")
    started = Principals(path, kept)
    assert said(started, "agni", TOKEN)[0] is TokenInvalid


def test_without_a_good_copy_a_broken_file_stops_the_start(tmp_path: Path, kept: Path) -> None:
    path = tmp_path / "agents.json"
    write(path, "{ oh no")
    for damage in (None, "", "[]"):
        if damage is not None:
            write(kept, damage)
        with pytest.raises(AgentsFileError, match="is not JSON"):
            Principals(path, kept)


def test_a_copy_that_cannot_be_written_is_told_and_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": AgentEntry()})
    principals = Principals(path, tmp_path / "nowhere" / "agents.json.good")
    assert principals.names() == ("agni",)
    assert str(principals.fault) == (
        f"the copy {tmp_path}/nowhere/agents.json.good of the file of agents can't be written: No such file or "
        "directory; so a broken file would stop a restart (it is tried again when the file changes)"
    )


# -- tokens ------------------------------------------------------------------------------------------------------------


def said(principals: Principals, name: str, ticket: object, now_s: float = NOW_S) -> tuple[type[TrishulaError], str]:
    with pytest.raises((TokenInvalid, TokenMissing)) as caught:
        principals.check_token(name, ticket, now_s)
    return type(caught.value), caught.value.sentence


def test_a_right_token_opens_and_every_wrong_one_has_its_sentence(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token(), "dc": AgentEntry()})
    principals = Principals(path)
    assert principals.check_token("agni", TOKEN, NOW_S) == Principal("agni", False, ("*",), ("*",))
    wrong = "the token of {0} is wrong or revoked; make a new one with `trishula token new {0}` on the node"
    assert said(principals, "agni", "agni.other") == (TokenInvalid, wrong.format("agni"))
    assert said(principals, "agni", "nonsense") == (TokenInvalid, wrong.format("agni"))
    # Whoever has no token learns not even who is registered.
    assert said(principals, "dc", "dc.secret") == (TokenInvalid, wrong.format("dc"))
    assert said(principals, "nobody", "nobody.secret") == (TokenInvalid, wrong.format("nobody"))
    assert said(principals, "dc", TOKEN) == (
        TokenInvalid,
        "the token is another agent's than dc's; use the one made for dc",
    )
    missing = "agni tried to join without a token; make one with `trishula token new agni`, set TRISHULA_TOKEN"
    for ticket in (None, "", 7, b"agni.secret"):
        assert said(principals, "agni", ticket) == (TokenMissing, missing)


def test_a_token_before_its_time_and_after_it_says_so_to_whoever_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token(not_before=NOW_S, expires_at=NOW_S + 60)})
    principals = Principals(path)
    assert principals.check_token("agni", TOKEN, NOW_S + 59).name == "agni"
    assert said(principals, "agni", TOKEN, NOW_S - 1) == (
        TokenInvalid,
        "the token of agni is not valid before 2026-02-02 02:40:00 UTC",
    )
    assert said(principals, "agni", TOKEN, NOW_S + 60) == (
        TokenInvalid,
        "the token of agni expired at 2026-02-02 02:41:00 UTC; "
        "make a new one with `trishula token new agni` on the node",
    )


def test_an_entry_that_is_removed_takes_its_tokens_along(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": with_token()})
    principals = Principals(path)
    write_agents(path, {})
    assert principals.reload_if_changed() is True
    assert said(principals, "agni", TOKEN)[0] is TokenInvalid


def test_the_shown_json_is_plain(tmp_path: Path) -> None:
    assert json.loads(render_agents({"agni": with_token()})) == {
        "agents": {
            "agni": {
                "operator": False,
                "send": ["*"],
                "call": ["*"],
                "tokens": [
                    {
                        "sha256": digest_of(TOKEN),
                        "created_at": "2026-02-02T02:40:00.000Z",
                        "not_before": None,
                        "expires_at": None,
                    }
                ],
            }
        }
    }


def test_a_broadcast_is_for_all_but_observers(tmp_path: Path) -> None:
    path = tmp_path / "agents.json"
    write_agents(path, {"agni": AgentEntry(), "boss": AgentEntry(operator=True, observer=True)})
    principals = Principals(path)
    assert principals.audience() == ("agni", "boss")
    write_agents(path, {"agni": AgentEntry(), "dc": AgentEntry(), "wall": AgentEntry(observer=True)})
    principals.reload_if_changed()
    assert principals.names() == ("agni", "dc", "wall")
    assert principals.audience() == ("agni", "dc")


def test_a_file_without_observers_reads_as_before_and_one_with_them_comes_back() -> None:
    assert "observer" not in render_agents({"dc": AgentEntry()})
    both = {"dc": AgentEntry(), "wall": AgentEntry(observer=True)}
    read = parse_agents(json.loads(render_agents(both)))
    assert {name: record.observer for name, record in read.items()} == {"dc": False, "wall": True}
    with pytest.raises(ConfigError, match=r"agents\.dc\.observer is 1; it must be true or false"):
        parse_agents({"agents": {"dc": {"observer": 1}}})
