"""Grants with an end and a reason: in the file, in force, on record, by the command, and what an open session loses."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from trishula.contract import uris
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import Author
from trishula_router.agents.file import AgentEntry, read_agents, update_agents
from trishula_router.agents.grants import TimedGrant, covers_all
from trishula_router.agents.text import parse_agents, render_agents
from trishula_router.commands import token
from trishula_router.settings.faults import ConfigError
from trishula_router.store.memory import MemoryStore

START_S = START_MS / 1000
MOVE = TimedGrant("call", "dc.restart", START_S + 60, "the move")
AGENT = "agent; send *; call {}; serve what no other is granted"


def guarded(*timed: TimedGrant, **more: Any) -> AgentEntry:
    return AgentEntry(**{"call": ("dc.report",), "timed": timed, **more})


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_says_them_in_the_lists_and_is_read_back() -> None:
    record = guarded(
        MOVE,
        TimedGrant("send", "dc", None, "they asked"),
        TimedGrant("serve", "host", START_S),
        TimedGrant("subscribe", "dc.news", START_S + 0.5),
        send=(),
        serve=(),
        subscribe=("rushabdev",),
    )
    text = render_agents({"agni": record})
    agni = json.loads(text)["agents"]["agni"]
    assert agni["call"] == [
        "dc.report",
        {"grant": "dc.restart", "until": "2023-11-14T22:14:20.000Z", "reason": "the move"},
    ]
    assert agni["send"] == [{"grant": "dc", "until": None, "reason": "they asked"}]
    assert agni["subscribe"][0] == "rushabdev"
    read = parse_agents(json.loads(text))["agni"]
    assert (set(read.timed), replace(read, timed=())) == (set(record.timed), replace(record, timed=()))


def test_a_file_without_them_is_written_as_ever() -> None:
    """A node of an earlier release refuses what it doesn't know."""
    written = json.loads(render_agents({"agni": AgentEntry(serve=())}))["agents"]["agni"]
    assert list(written) == ["operator", "send", "call", "serve", "tokens"]


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        (
            {"call": [{"grant": "dc.a b"}]},
            'agents.agni.call[0].grant: "dc.a b": it must be "*", an agent or agent.proc',
        ),
        ({"call": [{"until": None}]}, "agents.agni.call[0].grant"),
        ({"send": [{"grant": "dc", "until": "soon"}]}, "agents.agni.send[0].until"),
        ({"send": [{"grant": "dc", "reason": "a\nb"}]}, "agents.agni.send[0].reason"),
        ({"send": [{"grant": "dc", "why": "x"}]}, "agents.agni.send[0].why"),
        ({"subscribe": ["dc.*"]}, 'agents.agni.subscribe[0]: "dc.*": it must be "*", an agent or agent.topic'),
        ({"subscribe": "dc"}, "agents.agni.subscribe"),
    ],
)
def test_what_can_not_be_a_grant_is_refused_by_its_place(lists: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_agents({"agents": {"agni": lists}})
    (fault,) = caught.value.faults
    assert fault.path.startswith(sentence.split(":")[0]), fault.sentence


@pytest.mark.parametrize(
    ("grants", "others", "covered"),
    [
        (("*",), ("dc", "dc.news"), True),
        (("dc",), ("dc.news",), True),
        (("dc.news",), ("dc",), False),
        (("dc",), ("*",), False),
        ((), (), True),
    ],
)
def test_what_covers_what(grants: tuple[str, ...], others: tuple[str, ...], covered: bool) -> None:
    assert covers_all(grants, others) is covered


# -- a node ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("e1")


def start(directory: Path, store: MemoryStore, clock: Clock, agni: AgentEntry) -> Rig:
    return Rig(directory, store, clock, agents={"agni": agni, "dc": AgentEntry(), "boss": AgentEntry(operator=True)})


def on_record(rig: Rig) -> list[tuple[Any, ...]]:
    boss = rig.join("boss", operator=True)
    records = rig.call(boss, uris.AUDIT_QUERY, {"kind": "grants", "limit": 100})["records"]
    rig.leave(boss)
    return [(one["before"], one["after"], one["by"], one.get("reason")) for one in records]


def may_restart(rig: Rig) -> bool:
    asked = {"authid": "agni", "authrole": "agent"}
    return rig.node.authorizer.decide(asked, uris.procedure_of("dc", "restart"), "call", {}) is None


def test_a_grant_holds_until_its_end_and_all_of_it_is_on_record(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock, guarded()).start()
    assert not may_restart(rig)
    with update_agents(rig.agents_file, who=Author("root", START_MS, "the move")) as agents:
        agents["agni"] = guarded(MOVE)
    rig.advance(0.25)
    assert may_restart(rig)
    boss = rig.join("boss", operator=True)
    (told,) = rig.call(boss, uris.NODE_STATUS)["timed_grants"]
    assert told == {
        "agent": "agni", "act": "call", "grant": "dc.restart", "until": START_S + 60, "reason": "the move",
    }  # fmt: skip
    rig.advance(59.5)
    assert may_restart(rig)
    rig.advance(0.5)
    assert not may_restart(rig)
    assert rig.call(boss, uris.NODE_STATUS)["timed_grants"] == []
    without = AGENT.format("dc.report")
    with_it = AGENT.format("dc.report dc.restart (until 2023-11-14T22:14:20Z: the move)")
    assert on_record(rig) == [(without, with_it, "root", "the move"), (with_it, without, "", None)]


def test_an_end_while_no_node_ran_is_nobodys_edit(tmp_path: Path, store: MemoryStore, clock: Clock) -> None:
    rig = start(tmp_path, store, clock, guarded(MOVE)).start()
    assert may_restart(rig)
    rig.crash()
    clock.advance(100)
    again = start(tmp_path, store, clock, guarded(MOVE)).start()
    assert not may_restart(again)
    assert [(by, reason) for _, _, by, reason in on_record(again)] == [("", None)]


def test_a_grant_that_is_taken_away_before_its_end_is_whose_command_it_was(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock, guarded(MOVE)).start()
    with update_agents(rig.agents_file, who=Author("ann", START_MS, "done")) as agents:
        agents["agni"] = guarded()
    rig.advance(0.25)
    assert [(by, reason) for _, _, by, reason in on_record(rig)] == [("ann", "done")]


def test_who_may_hear_fewer_topics_loses_its_session_and_no_other(
    tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    rig = start(tmp_path, store, clock, guarded(TimedGrant("subscribe", "dc.news", START_S + 60), subscribe=())).start()
    agni, dc = rig.join("agni"), rig.join("dc")
    asked = {"authid": "agni", "authrole": "agent"}

    def against(topic: str) -> str | None:
        denial = rig.node.authorizer.decide(asked, uris.topic_of("dc", topic), "subscribe", {})
        return None if denial is None else denial.reason

    assert against("news") is None
    assert against("other") == "the grants of agni don't cover the topic other of dc"
    rig.advance(59.5)
    assert rig.outlet.closed == []
    rig.advance(1)
    (closed,) = rig.outlet.closed
    assert closed[0] == agni != dc
    assert closed[2].startswith("agni may hear fewer topics than before (its subscribe grants), so the session")
    assert against("news") == "the grants of agni don't cover the topic news of dc"
    # What is granted anew and taken away again ends the session that could hear it.
    again = rig.join("agni")
    for heard in (("dc",), ()):
        with update_agents(rig.agents_file) as agents:
            agents["agni"] = guarded(subscribe=heard)
        rig.advance(0.5)
    assert [one[0] for one in rig.outlet.closed] == [agni, again]


# -- the command -------------------------------------------------------------------------------------------------------


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(token, [*arguments, "--state", str(state)])


def test_token_grant_gives_and_takes_of_every_act(tmp_path: Path) -> None:
    (tmp_path / "node.sqlite").write_bytes(b"")
    run(tmp_path, "new", "agni")
    file = tmp_path / "agents.json"
    done = run(
        tmp_path, "grant", "agni", "--no-send", "*", "--send", "dc", "--no-subscribe", "*", "--subscribe", "dc.a"
    )
    assert done.stderr.splitlines() == [
        f"agni may send dc, in {file}", f"agni may subscribe dc.a, in {file}",
    ]  # fmt: skip
    done = run(tmp_path, "grant", "agni", "--send", "dc", "--send", "ops", "--until", "2h", "--reason", "the move")
    record = read_agents(file)["agni"]
    assert (record.send, [(one.grant, one.reason) for one in record.timed]) == (
        (), [("dc", "the move"), ("ops", "the move")],
    )  # fmt: skip
    assert all(abs((one.until or 0) - time.time() - 7200) < 60 for one in record.timed)
    assert "agni may send dc until 20" in done.stderr and done.stderr.endswith(": the move\n")
    listed = run(tmp_path, "list").stdout.splitlines()
    assert listed[1].startswith("  may send dc until 20") and listed[1].endswith(": the move")
    told = json.loads(run(tmp_path, "list", "--json").stdout)[0]
    assert (told["send"], [one["grant"] for one in told["timed"]], told["subscribe"]) == ([], ["dc", "ops"], ["dc.a"])
    # For ever, and no more at all.
    run(tmp_path, "grant", "agni", "--send", "dc", "--no-send", "ops")
    record = read_agents(file)["agni"]
    assert (record.send, record.timed) == (("dc",), ())


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            (),
            Exit.USAGE,
            "say what agni may do, or no more: --send AGENT, --call PROCEDURE, --serve CAPABILITY, --subs",
        ),
        (("--call", "a.b.*"), Exit.USAGE, '--call is "a.b.*"; it must be "*", an agent or agent.procedure'),
        (("--no-subscribe", "A"), Exit.USAGE, '--no-subscribe is "A"; it must be "*", an agent or agent.topic'),
        (("--no-send", "*", "--until", "2h"), Exit.USAGE, "--until is the end of what is granted, and nothing is: add"),
        (("--send", "dc", "--until", "2001-01-01"), Exit.USAGE, "--until is '2001-01-01', which is over; it must be"),
        (("--send", "dc", "--until", "never"), Exit.USAGE, "--until is 'never'; it must be a span such as"),
    ],
)
def test_what_can_not_be_granted(tmp_path: Path, arguments: tuple[str, ...], code: Exit, sentence: str) -> None:
    (tmp_path / "node.sqlite").write_bytes(b"")
    run(tmp_path, "new", "agni")
    before = (tmp_path / "agents.json").read_bytes()
    done = run(tmp_path, "grant", "agni", *arguments)
    assert (done.exit_code, sentence in done.stderr) == (code, True), done.stderr
    assert (tmp_path / "agents.json").read_bytes() == before
