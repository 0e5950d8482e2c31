"""``trishula fallback``: what is asked of which node, what is shown of each, what is refused on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import NodeStopping, NotAllowed

HOSTILE = "\x1b[2Jwhy"


def mode(node: str, mode: str = "fallback", *, since: int = 1000, **more: Any) -> dict[str, Any]:
    return {
        "node": node,
        "mode": mode,
        "sends": mode == "live",
        "reason": "the link is cut",
        "by": "ops",
        "since": since,
        **more,
    }


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    monkeypatch.setenv("TRISHULA_URL", "ws://agni:1,ws://rushabdev:1")
    monkeypatch.setenv("TRISHULA_TOKEN", "ops.secret-secret-secret")
    return FakeBus()


def fallback(bus: FakeBus, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    connect: Any = bus.connect
    code = run(["fallback", *args], State(connect=connect))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_each_node_is_asked(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_FALLBACK] = [mode("agni", reason=HOSTILE), mode("rushabdev", "live", since=0, by="")]
    code, out, err = fallback(bus, capsys, "status")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and err == ""
    assert rows[1][:3] == ["agni", "fallback", "no"]
    assert rows[2][:4] == ["rushabdev", "live", "yes", "–"]
    assert "\x1b" not in out


def test_as_json(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    told = [mode("agni"), mode("rushabdev", "live")]
    bus.answers[uris.NODE_FALLBACK] = list(told)
    code, out, _ = fallback(bus, capsys, "status", "--json")
    assert (code, json.loads(out)) == (0, {"nodes": told, "not_reached": {}})


@pytest.mark.parametrize(
    ("args", "word", "options"),
    [
        (["on"], "on", {"reason": "why", "sends": False}),
        (["on", "--keep-sending"], "on", {"reason": "why", "sends": True}),
        (["off"], "off", {"reason": "why"}),
    ],
)
def test_one_node_is_told_and_the_others_are_waited_for(
    bus: FakeBus, capsys: pytest.CaptureFixture[str], args: list[str], word: str, options: dict[str, Any]
) -> None:
    bus.answers[uris.ADMIN_FALLBACK] = [mode("agni", since=2000)]
    # The second one follows when it is asked again.
    bus.answers[uris.NODE_FALLBACK] = [
        mode("agni", since=2000),
        mode("rushabdev", since=1000),
        mode("rushabdev", since=2000),
    ]
    code, out, err = fallback(bus, capsys, *args, "--reason", "why")
    assert (code, err) == (0, "")
    assert bus.asked[0] == ("request", (uris.ADMIN_FALLBACK, word, options), bus.asked[0][2])
    assert [args[0] for verb, args, _ in bus.asked].count(uris.ADMIN_FALLBACK) == 1
    assert "rushabdev" in out


def test_who_is_no_operator_is_told_so(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.ADMIN_FALLBACK] = [NotAllowed("it is for operators, and dc is none")]
    code, out, err = fallback(bus, capsys, "on", "--reason", "why")
    assert (code, out) == (4, "")
    assert "it is for operators" in err


def test_a_node_of_an_earlier_release_is_told_as_one(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.answers[uris.NODE_FALLBACK] = [mode("agni"), NodeStopping("no such procedure")]
    bus.answers[uris.NODE_STATUS] = [{"node": "rushabdev", "version": "2.0"}]
    code, out, err = fallback(bus, capsys, "status")
    assert code == 0 and "agni" in out
    assert "rushabdev runs version 2.0, which doesn't answer" in " ".join(err.split())


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 501])
def test_a_reason_is_one_line(bus: FakeBus, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    code, _, err = fallback(bus, capsys, "on", "--reason", reason)
    assert code == 2 and "--reason is" in err and "1 to 500 characters" in err
    assert bus.asked == []


def test_watch_tells_a_change_in_words(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.events[uris.EVENT_FALLBACK] = [mode("agni", reason=HOSTILE)]
    connect: Any = bus.connect
    assert run(["watch", "--max", "1"], State(connect=connect)) == 0
    out = capsys.readouterr().out
    assert "agni: the bus is fallback, it takes no messages  (ops: \\x1b[2Jwhy)" in out
