"""``trishula top``: frames of all sizes, others' text in them, and the command without a terminal."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from rich.text import Text

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.cli.top import _Looks, _Seen
from trishula.cli.top_frame import Notice, frame
from trishula.contract import uris
from trishula.errors import BusUnreachable, NodeStopping, NotAllowed, OutcomeUnknown, TrishulaError
from trishula.exit_codes import Exit
from trishula.watching.facts import Facts, facts_of
from trishula.watching.flow import Flow

NOW = 1_800_000_000_000
STATUS: dict[str, Any] = {
    "node": "agni", "version": "2.0.0a1", "epoch": "e1", "high_water": 0, "started_at": NOW - 3_600_000,
    "pending": 9, "in_flight": 2, "store": {"fault": None, "shortage": None}, "agents_file_fault": None, "peers": [],
}  # fmt: skip
PEER = {
    "node": "rushabdev", "state": "down", "lag_records": 12, "to_copy_records": 0, "clock_ahead_ms": -3000,
    "fault": None, "link": {"trouble": "rushabdev can't be reached: connection refused"}, "copied": 0,
}  # fmt: skip
KEYS = "q: quit   p: pause"
SIZES = [(80, 24), (40, 10), (200, 60), (130, 12), (20, 4), (1, 1), (80, 1)]
HOSTILE = "\x1b[2J\x1b]0;hacked\x07\r\n\u202eevil\u2028日本語" + "x" * 300


def entry(name: str, presence: str = "online", **more: Any) -> dict[str, Any]:
    return {"agent": name, "presence": presence, "node": "agni", "clock_skew_ms": 3, **more}


def box(address: str, pending: int, in_flight: int = 0, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"oldest_at": NOW - 5000, "consumer": None, "senders": []}
    return {"address": address, "pending": pending, "in_flight": in_flight, **told, **more}


def traffic() -> Flow:
    flow = Flow()
    records = [
        {"seq": seq, "at": NOW - 1000, "kind": "accepted", "from": "dc/7f3a", "to": "agni"} for seq in range(1, 21)
    ]
    flow.add(
        [*records, {"seq": 21, "at": NOW - 958, "kind": "done", "messages": list(range(1, 21))}], NOW, is_whole=True
    )
    return flow


def some(agents: int = 3) -> Facts:
    entries = [entry(f"agent{number}") for number in range(agents)]
    entries += [entry("zoe", "busy", busy_until=NOW + 90_000, progress="37 of 90"), entry("gone", "offline", node=None)]
    entries.append(entry("mute", "stale", reason="no sign of life for 40 s", clock_skew_ms=-5000))
    boxes = [
        box("zoe", 7, 1, consumer={"agent": "zoe", "node": "agni", "host": "desk"}),
        box("gone", 2),
        box("mute", 0),
    ]
    return facts_of({**STATUS, "peers": [PEER]}, entries, boxes, traffic(), NOW)


def words(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


def test_a_frame_has_all_there_is() -> None:
    text = words(frame(some(), 80, 24, Notice(keys=KEYS)))
    lines = text.split("\n")
    assert lines[0] == "agni 2.0.0a1  up 60.0 min  4 of 6 agents there  9 waiting  2 handled  2.0 msg/s"
    assert lines[1] == "done within 42 ms (p50), 42 ms (p99)  20 measured in the last minute"
    rows = [line.split() for line in lines]
    assert rows[2] == ["AGENT", "PRESENCE", "NODE", "CLOCK", "WAITING", "BUSY", "DOING"]
    assert rows[3] == ["zoe", "busy", "agni", "+3", "ms", "8", "90.0", "s", "37", "of", "90"]
    assert ["dc", "agni", "2.0", "0.33"] in rows
    assert ["zoe", "7", "1", "5.0", "s", "desk"] in rows
    assert ["gone", "2", "0", "5.0", "s", "nobody"] in rows
    assert "no sign of life for 40 s" in text
    assert "rushabdev  down         12        0" in text and "connection ref…" in text
    assert "mute " in text and len(lines) == 24 and lines[-1] == KEYS


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("agents", [0, 3, 500])
def test_a_frame_is_never_larger_than_the_terminal(width: int, height: int, agents: int) -> None:
    for facts in (some(agents), facts_of(STATUS, [], [], Flow(), NOW), facts_of(STATUS, [], None, Flow(), 0)):
        for notice in (Notice(), Notice(keys=KEYS), Notice("The node is gone", "x" * 500, 12.0, True, KEYS)):
            lines = frame(facts, width, height, notice)
            assert len(lines) <= height
            assert max((line.cell_len for line in lines), default=0) <= width
            assert not any("\n" in line.plain for line in lines)


def test_a_small_frame_says_what_it_left_out() -> None:
    text = words(frame(some(50), 40, 10, Notice(keys=KEYS)))
    assert "AGENT" in text and "more)" in text and "zoe" in text
    text = words(frame(some(50), 80, 24, Notice(keys=KEYS)))
    assert "and " in text and " more" in text
    # The short sections are there in whole.
    assert "dc  " in text and "rushabdev" in text and "gone" in text


def test_a_wide_frame_has_sections_side_by_side() -> None:
    lines = words(frame(some(), 200, 60, Notice(keys=KEYS))).split("\n")
    (head,) = (line for line in lines if line.startswith("AGENT"))
    assert head.index("FROM") == 101


def test_an_empty_bus_says_so() -> None:
    text = words(frame(facts_of(STATUS, [], [], Flow(), NOW), 80, 24))
    for said in (
        "no agents are registered", "no message in the last minute", "every mailbox is empty",
        "this node has no peer", "nothing was done in the last minute",
    ):  # fmt: skip
        assert said in text
    assert "doesn't tell its mailboxes" in words(frame(facts_of(STATUS, [], None, Flow(), NOW), 80, 24))


@pytest.mark.parametrize(("width", "height"), [*SIZES, (None, None)])
def test_others_text_reaches_no_terminal_as_it_is(width: int | None, height: int | None) -> None:
    flow = Flow()
    flow.add([{"seq": 1, "at": NOW, "kind": "accepted", "from": HOSTILE, "to": HOSTILE}], NOW)
    evil = entry(HOSTILE, "stale", reason=HOSTILE, node=HOSTILE)
    taken = box(HOSTILE, 3, consumer={"agent": HOSTILE, "node": HOSTILE, "host": HOSTILE})
    able = box("capability:x", 2, able=[HOSTILE], able_at=[HOSTILE])
    peer = {**PEER, "node": HOSTILE, "state": HOSTILE, "fault": HOSTILE}
    status = {**STATUS, "node": HOSTILE, "version": HOSTILE, "agents_file_fault": HOSTILE, "peers": [peer]}
    facts = facts_of(status, [evil, entry("a", HOSTILE)], [taken, able], flow, NOW)
    lines = frame(facts, width, height, Notice("The node is gone", HOSTILE, 3.0, keys=KEYS))
    for line in lines:
        assert line.plain.isprintable(), line.plain
        assert width is None or line.cell_len <= width


def test_what_is_wrong_stands_at_the_top() -> None:
    lines = frame(some(), 80, 24, Notice("The node is gone", "no node could be joined", 12.0, keys=KEYS))
    assert lines[0].plain == "The node is gone: what you see is 12.0 s old, and it is tried again (no node co…"
    assert words(frame(some(), 80, 24, Notice(is_paused=True, keys=KEYS))).endswith(f"paused  {KEYS}")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bus() -> FakeBus:
    bus = FakeBus()
    now = int(time.time() * 1000)
    records = [
        {"seq": 1, "at": now - 30, "kind": "accepted", "from": "dc", "to": "agni"},
        {"seq": 2, "at": now, "kind": "done", "messages": [1]},
    ]
    bus.answers[uris.NODE_STATUS] = [{**STATUS, "high_water": 2}]
    bus.answers[uris.DIRECTORY_LIST] = [[entry("agni")]]
    bus.answers[uris.NODE_MAILBOXES] = [[box("agni", 3)]]
    bus.answers[uris.AUDIT_QUERY] = [{"records": records, "more": False, "after": 2}]
    return bus


def go(bus: FakeBus, *args: str) -> int:
    connect: Any = bus.connect
    return run(args, State(connect=connect))


def test_without_a_terminal_there_is_one_frame(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    assert go(bus, "top") == Exit.OK
    out, err = capsys.readouterr()
    assert err == "" and "\x1b" not in out and KEYS not in out
    assert "agni   online" in out and "done within 30 ms (p50)" in out
    asked = [args[0] for _, args, _ in bus.asked]
    assert asked == [uris.NODE_STATUS, uris.DIRECTORY_LIST, uris.NODE_MAILBOXES, uris.AUDIT_QUERY]


def test_json_has_the_facts(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    assert go(bus, "top", "--once", "--json") == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["agents"][0]["waiting"] == 3
    assert told["latency"] == {"messages": 1, "p50_ms": 30, "p99_ms": 30}
    assert told["flow"][0] == {
        "from": "dc",
        "to": "agni",
        "lately_per_s": pytest.approx(0.1, abs=0.02),
        "per_s": pytest.approx(1 / 60, abs=0.01),
    }


def test_of_a_node_that_tells_no_mailboxes(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_MAILBOXES] = [NodeStopping("no such procedure")]
    assert go(bus, "top") == Exit.OK
    assert "this node doesn't tell its mailboxes" in capsys.readouterr().out


class Looked(threading.Event):
    """An event that ends the looking after so many looks, without waiting; and what was seen before each."""

    def __init__(self, seen: _Seen, looks: int) -> None:
        super().__init__()
        self._seen, self._left = seen, looks
        self.faults: list[TrishulaError | None] = []
        self.pauses_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.faults.append(self._seen.fault)
        self.pauses_s.append(timeout or 0)
        self._left -= 1
        return self._left < 0


def test_a_node_that_comes_back_is_looked_at_again(bus: FakeBus) -> None:
    gone, silent = BusUnreachable("no node could be joined"), OutcomeUnknown("no answer")
    bus.answers[uris.NODE_STATUS] = [gone, gone, silent, {**STATUS, "high_water": 2, "version": "2.0.0"}]
    real: Any = bus
    seen = _Seen({"version": "of before"}, 0.0)
    looked = Looked(seen, 4)
    _Looks(real).keep_looking(seen, looked)
    assert looked.faults == [None, gone, gone, silent, None]
    assert seen.end is None and seen.facts["version"] == "2.0.0" and seen.at_s > 0
    # Neither too often, nor at a node that is away.
    assert all(0.2 <= pause_s <= 1.0 for pause_s in looked.pauses_s)


@pytest.mark.parametrize("error", [NotAllowed("it is no operator any more"), ValueError("a bug")])
def test_what_cannot_be_mended_ends_it(bus: FakeBus, error: Exception) -> None:
    bus.error = error
    real: Any = bus
    seen = _Seen({}, 0.0)
    _Looks(real).keep_looking(seen, Looked(seen, 4))
    assert seen.end is error and len(bus.asked) == 1


def test_who_may_not_is_told(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_STATUS] = [NotAllowed("dc is no operator")]
    assert go(bus, "top", "--once") == Exit.FORBIDDEN
    assert capsys.readouterr().err == "trishula: dc is no operator\n"


@pytest.mark.parametrize("command", ["top", "agents", "audit query", "why m1", "mailboxes", "dead list"])
def test_what_observers_may_ask_is_asked_without_a_mailbox(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    joined = []

    def look(**how: Any) -> FakeBus:
        joined.append(how)
        raise NotAllowed("as far as it has to go")

    monkeypatch.setattr("trishula.sync.look", look)
    assert run(["--url", "ws://127.0.0.1:1/ws", *command.split()]) == Exit.FORBIDDEN
    assert joined == [{"url": "ws://127.0.0.1:1/ws", "profile": None, "timeout": 10.0}]
