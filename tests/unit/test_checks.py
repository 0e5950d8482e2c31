"""The checks' policy: each threshold at its edge, and the forms of what was found."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.checks import forms
from trishula.checks import judging as judge
from trishula.checks.outcome import Bounds, Figure, Level, Outcome, worst
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import AgentUnknown, BusUnreachable, NodeStopping, NotAllowed

OK, WARNING, CRITICAL, UNKNOWN = Level
NOW = 1_800_000_000_000
HOSTILE = "\x1b[2J|x=1"


@pytest.mark.parametrize(("value", "level"), [(9.99, OK), (10, WARNING), (19.99, WARNING), (20, CRITICAL)])
def test_a_value_that_is_equal_to_a_threshold_has_reached_it(value: float, level: Level) -> None:
    assert Bounds(10, 20).level(value) is level
    assert Bounds(-10, -20, is_floor=True).level(-value) is level


def test_critical_outweighs_warning_and_warning_what_is_unknown() -> None:
    assert worst([OK, UNKNOWN]) is UNKNOWN
    assert worst([UNKNOWN, WARNING]) is WARNING
    assert worst([WARNING, CRITICAL, UNKNOWN]) is CRITICAL
    assert worst([]) is OK


def ready(is_ready: bool = True, **part: Any) -> Outcome:
    told = {"check": "disk", "ok": True, "reason": "", **part}
    return judge.judge_ready({"ready": is_ready, "node": "agni", "version": "2", "checks": [told]})


def test_ready() -> None:
    assert ready().level is OK
    degraded = ready(degraded=True, reason="full soon")
    assert (degraded.level, degraded.sentence) == (WARNING, "disk: full soon")
    down = ready(False, ok=False, reason=f"full {HOSTILE}")
    assert (down.level, down.sentence) == (CRITICAL, "disk: full \\x1b[2J|x=1")


def agent(name: str, presence: str = "online", away_s: float | None = 0.0, **more: Any) -> dict[str, Any]:
    seen_at = None if away_s is None else NOW - int(away_s * 1000)
    return {"agent": name, "presence": presence, "last_seen_at": seen_at, **more}


@pytest.mark.parametrize(("away_s", "level"), [(599, OK), (600, WARNING), (3599, WARNING), (3600, CRITICAL)])
@pytest.mark.parametrize("presence", ["offline", "stale"])
def test_an_agent_that_is_away(away_s: float, level: Level, presence: str) -> None:
    entries = [agent("agni"), agent("dc", presence, away_s)]
    found = judge.judge_agents(entries, Bounds(600, 3600), NOW)
    assert found.level is level
    assert ("dc has been away" in found.sentence) is (level is not OK)
    assert [figure.value for figure in found.figures] == [1, away_s]


def test_an_agent_that_never_came_is_missed_only_if_it_is_named() -> None:
    entries = [agent("dc", "offline", None)]
    assert judge.judge_agents(entries, Bounds(1, 2), NOW).level is OK
    assert judge.judge_agents(entries, Bounds(1, 2), NOW, ["dc"]).level is CRITICAL
    assert judge.judge_agents(entries, Bounds(1, 2), NOW, ["nobody"]).sentence == "nobody is not registered"


def box(pending: int, in_flight: int, age_s: float) -> dict[str, Any]:
    return {"address": "agni", "pending": pending, "in_flight": in_flight, "oldest_at": NOW - int(age_s * 1000)}


@pytest.mark.parametrize(
    ("pending", "age_s", "level"),
    [(8, 0, OK), (9, 0, WARNING), (99, 0, CRITICAL), (1, 59, OK), (1, 60, WARNING), (1, 600, CRITICAL)],
)
def test_a_mailbox_is_deep_or_old(pending: int, age_s: float, level: Level) -> None:
    found = judge.judge_mailbox([box(pending, 1, age_s)], Bounds(10, 100), Bounds(60, 600), NOW)
    assert found.level is level
    assert ("nobody takes them" in found.sentence) is (level is not OK)


def test_an_empty_mailbox_is_not_old() -> None:
    assert judge.judge_mailbox([box(0, 0, 9999)], Bounds(10, 100), Bounds(60, 600), NOW).level is OK
    assert judge.judge_mailbox([], Bounds(10, 100), Bounds(60, 600), NOW).level is OK


@pytest.mark.parametrize(("count", "level"), [(0, OK), (1, WARNING), (99, WARNING), (100, CRITICAL)])
def test_dead_letters(count: int, level: Level) -> None:
    assert judge.judge_dead(count, Bounds(1, 100)).level is level


def peer(state: str = "up", behind: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"peers": [{"node": "rushabdev", "state": state, "to_copy_records": behind, **more}]}


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (peer(), OK),
        (peer(behind=999), OK),
        (peer(behind=1000), WARNING),
        (peer(behind=5000), CRITICAL),
        (peer(behind=None), OK),
        (peer("down"), CRITICAL),
        (peer(fault="it lost records"), CRITICAL),
        ({"peers": []}, OK),
        ({}, OK),
    ],
)
def test_links(status: dict[str, Any], level: Level) -> None:
    assert judge.judge_link(status, Bounds(1000, 5000)).level is level


def test_why_a_link_is_down_is_said() -> None:
    found = judge.judge_link(peer("down", link={"trouble": f"refused {HOSTILE}"}), Bounds(1, 2))
    assert found.sentence == "no link to rushabdev: refused \\x1b[2J|x=1"


@pytest.mark.parametrize(
    ("store", "level"),
    [
        ({"used_bytes": 799, "limit_bytes": 1000}, OK),
        ({"used_bytes": 800, "limit_bytes": 1000}, WARNING),
        ({"used_bytes": 950, "limit_bytes": 1000}, CRITICAL),
        ({"used_bytes": 1, "limit_bytes": 1000, "shortage": "the disk is full"}, CRITICAL),
        ({"used_bytes": 1, "limit_bytes": 1000, "fault": "the file is gone"}, CRITICAL),
        (None, UNKNOWN),
    ],
)
def test_the_store(store: dict[str, Any] | None, level: Level) -> None:
    assert judge.judge_disk({"store": store}, Bounds(80, 95)).level is level


@pytest.mark.parametrize(("left_s", "level"), [(101, OK), (100, WARNING), (51, WARNING), (50, CRITICAL)])
def test_certificates(left_s: float, level: Level) -> None:
    assert judge.judge_certificate({"h:1": left_s}, {}, Bounds(100, 50, is_floor=True)).level is level


def test_a_certificate_that_is_not_trusted_and_none_at_all() -> None:
    bounds = Bounds(100, 50, is_floor=True)
    assert judge.judge_certificate({"h:1": 1000}, {"i:1": "certificate has expired"}, bounds).level is CRITICAL
    assert judge.judge_certificate({}, {}, bounds).level is UNKNOWN


@pytest.mark.parametrize(("ahead_ms", "level"), [(1999, OK), (-2000, WARNING), (9999, WARNING), (-10_000, CRITICAL)])
def test_clocks(ahead_ms: int, level: Level) -> None:
    bounds = Bounds(2, 10)
    assert judge.judge_clock({"clock_gap_ms": ahead_ms}, [], bounds).level is level
    assert judge.judge_clock(peer(clock_ahead_ms=ahead_ms), [], bounds).level is level
    assert judge.judge_clock({}, [agent("dc", clock_skew_ms=ahead_ms)], bounds).level is level
    # What is gone has no clock.
    assert judge.judge_clock({}, [agent("dc", "offline", clock_skew_ms=ahead_ms)], bounds).level is OK


def test_the_journal() -> None:
    assert judge.judge_journal({"ok": True, "records": 7, "damaged": []}).level is OK
    damaged = judge.judge_journal({"ok": False, "records": 7, "damaged": [{"seq": 3, "what": HOSTILE}]})
    assert (damaged.level, damaged.sentence) == (CRITICAL, "record 3: \\x1b[2J|x=1")


BOTH = [
    Outcome("dead", WARNING, "3 dead|letters", (Figure("dead_letters", 3, "Dead letters.", Bounds(1, 100)),)),
    Outcome(
        "certificate",
        OK,
        "fine",
        (Figure("certificate_left_seconds", 9.5, "Left.", Bounds(5, 2, is_floor=True), {"endpoint": "h \"=':1"}),),
    ),
]


def test_nagios_reads_one_line_with_figures_behind_its_only_pipe() -> None:
    first, *more = forms.as_nagios(BOTH)
    assert first == (
        "TRISHULA WARNING - dead: 3 dead/letters | 'dead_letters'=3;1;100 "
        "'certificate_left_seconds_h_\"__:1'=9.5s;5:;2:"
    )
    assert more == ["warning   dead: 3 dead/letters", "ok        certificate: fine"]
    assert forms.as_nagios(BOTH[1:])[0].startswith("TRISHULA OK - certificate: fine | ")
    assert forms.as_nagios([BOTH[1], BOTH[1]])[0].startswith("TRISHULA OK - 2 checks are ok | ")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_takes_the_form_for_prometheus() -> None:
    text = "\n".join(forms.as_prometheus(BOTH)) + "\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert 'trishula_check_state{check="dead"} 1' in text


def check(bus: FakeBus, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    connect: Any = bus.connect
    code = run(["check", *args], State(connect=connect))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_all_tells_each_check_by_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "dc.secret")
    monkeypatch.setenv("TRISHULA_URL", "ws://127.0.0.1:1")
    bus = FakeBus()
    bus.answers[uris.NODE_STATUS] = [{"node": "agni", "version": "1.9", "store": {"used_bytes": 1, "limit_bytes": 9}}]
    bus.answers[uris.NODE_READY] = [NodeStopping("no such procedure")]
    bus.answers[uris.DIRECTORY_LIST] = [[]]
    bus.answers[uris.NODE_MAILBOXES] = [NotAllowed("operators only")]
    bus.answers[uris.ADMIN_DEAD_LIST] = [
        {"letters": [{"seq": 5}], "more": True},
        {"letters": [{"seq": 9}], "more": False},
    ]
    code, out, err = check(bus, capsys, "all", "--json")
    found = {one["check"]: (one["state"], one["sentence"]) for one in json.loads(out)}
    assert (code, err) == (1, "")
    assert list(found) == ["ready", "agents", "mailbox", "dead", "link", "disk", "clock"]
    assert found["ready"][0] == "unknown" and "version 1.9" in found["ready"][1] and "update it" in found["ready"][1]
    assert found["mailbox"] == ("unknown", "this needs an observer's or an operator's token: operators only")
    assert found["dead"][0] == "warning" and found["dead"][1].startswith("2 dead letters")
    assert ("request", (uris.ADMIN_DEAD_LIST, {"after": 5, "limit": 1000}), {}) in bus.asked


@pytest.mark.parametrize("name", ["mailbox", "dead"])
def test_of_an_agent_that_nobody_knows_nothing_is_well(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    bus.answers[uris.NODE_MAILBOXES] = [[{"address": "agnj", "pending": 0, "in_flight": 0, "oldest_at": None}]]
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": [], "more": False}]
    bus.answers[uris.DIRECTORY_GET] = [AgentUnknown("no agent agnj is registered")]
    code, out, _ = check(bus, capsys, name, "--agent", "agnj")
    assert (code, out) == (3, f"unknown   {name}: no agent agnj is registered\n")
    bus.answers[uris.DIRECTORY_GET] = [{"agent": "agnj"}]
    assert check(bus, capsys, name, "--agent", "agnj")[0] == 0
    # Without a name nobody is asked for.
    bus.answers[uris.NODE_MAILBOXES], bus.asked = [[]], []
    assert check(bus, capsys, name)[0] == 0 and len(bus.asked) == 1


def test_a_node_that_is_not_reached_is_critical(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    bus.error = BusUnreachable("no node of ws://h:1/ws answers")
    code, out, err = check(bus, capsys, "link", "--format", "nagios")
    assert (code, out, err) == (2, "TRISHULA CRITICAL - link: no node of ws://h:1/ws answers\n", "")


@pytest.mark.parametrize(
    ("args", "names"),
    [(("dead", "--warn", "5", "--crit", "4"), "--crit"), (("certificate", "--warn", "1d", "--crit", "2d"), "--crit"),
     (("mailbox", "--warn-age", "2m", "--crit-age", "1m"), "--crit-age"), (("agents", "--agent", "A"), "--agent")],
)  # fmt: skip
def test_thresholds_the_wrong_way_around_are_refused(
    args: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FakeBus()
    code, out, err = check(bus, capsys, *args)
    assert (code, out, bus.asked) == (2, "", [])
    assert names in err
