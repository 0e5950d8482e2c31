"""``trishula mailboxes``: what it asks, what it prints, and that nothing of others' text reaches the terminal."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from tests.support.fakebus import FakeBus
from trishula.cli.mailboxes import _table
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import AgentUnknown, NodeStopping
from trishula.exit_codes import Exit

STATUS = {"node": "agni", "version": "2.0.0a1", "pending": 9, "in_flight": 2, "peers": []}


def box(address: str, pending: int = 0, in_flight: int = 0, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"bytes": 2048 * (pending + in_flight), "oldest_at": None, "consumer": None, "senders": []}
    return {"address": address, "pending": pending, "in_flight": in_flight, **told, **more}


HERE = {"agent": "agni", "node": "agni", "session": 7, "since": 0, "by": "attach"}
THERE = {"agent": "dc", "node": "rushabdev", "session": None, "since": None, "by": "attach", "host": "desk"}


@pytest.fixture
def bus() -> FakeBus:
    bus = FakeBus()
    bus.answers[uris.NODE_STATUS] = [STATUS]
    return bus


Trishula = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trishula(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> Trishula:
    def go(*args: str) -> tuple[int, str, str]:
        connect: Any = bus.connect
        code = run(args, State(connect=connect))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


def test_the_deepest_first_with_who_takes_and_who_fills(trishula: Trishula, bus: FakeBus) -> None:
    since = int(time.time() * 1000) - 600_000
    bus.answers[uris.NODE_MAILBOXES] = [
        [
            box("agni", 5, 2, oldest_at=since, consumer={**HERE, "since": since, "busy_until": since}),
            box("dc", 2, consumer=THERE, senders=[{"agent": "agni", "messages": 2}]),
            box("dc/x1", 1),
            box("capability:fly", 1, able=["agni"], able_at=["rushabdev"]),
        ]
    ]
    code, out, err = trishula("mailboxes")
    lines = [re.split(r"  +", line) for line in out.splitlines()]
    assert code == 0
    assert lines[0] == ["Mailbox", "Waiting", "Handled", "Size", "Oldest", "Taken by", "Filled by"]
    assert lines[1] == ["agni", "5", "2", "14 KiB", "10.0 min", "its agent for 10.0 min (busy)", "–"]
    assert lines[2] == ["dc", "2", "0", "4 KiB", "–", "its agent on desk at rushabdev", "agni 2"]
    assert lines[3][-2:] == ["nobody", "–"]
    assert lines[4][-2:] == ["agni, some at rushabdev", "–"]
    assert err == (
        "by the node agni: 9 wait, 2 are being handled in all; what is handled at another node counts as waiting here, "
        "and as handled at rushabdev\n"
    )
    assert bus.asked[0] == ("request", (uris.NODE_MAILBOXES, {"limit": 51}), {})


def test_json_is_what_the_node_says(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_MAILBOXES] = [[box("agni", 1)]]
    code, out, err = trishula("mailboxes", "--agent", "agni", "--json")
    assert (code, err) == (0, "")
    assert '"address": "agni"' in out
    assert bus.asked == [("request", (uris.NODE_MAILBOXES, {"limit": 51, "agent": "agni"}), {})]


def test_that_there_are_more_is_said(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_MAILBOXES] = [[box("agni", 3), box("dc", 2)]]
    _, out, err = trishula("mailboxes", "--limit", "1")
    assert len(out.splitlines()) == 2
    assert err.endswith("; there are more mailboxes: --limit\n")


def test_an_agent_that_nobody_knows_is_told(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_MAILBOXES] = [[box("agnj")]]
    bus.answers[uris.DIRECTORY_GET] = [AgentUnknown("no agent agnj is registered")]
    code, _, err = trishula("mailboxes", "--agent", "agnj")
    assert (code, "agnj" in err) == (Exit.NOT_FOUND, True)


def test_a_node_of_before_is_told_in_a_sentence(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_MAILBOXES] = [NodeStopping("the node takes no call of it now")]
    code, _, err = trishula("mailboxes")
    assert code != 0
    assert err == (
        "trishula: the node agni runs version 2.0.0a1, which doesn't answer trishula.node.mailboxes yet; update it\n"
    )


@pytest.mark.parametrize("args", [("--agent", "No One"), ("peek", "a b"), ("peek", "capability:")])
def test_what_is_no_address_is_refused_before_anybody_is_asked(
    trishula: Trishula, bus: FakeBus, args: tuple[str, ...]
) -> None:
    code, _, err = trishula("mailboxes", *args)
    assert (code, bus.asked) == (Exit.USAGE, [])
    assert "name is" in err


def test_it_fits_a_terminal_of_80_columns() -> None:
    found = [
        box("a_name_of_an_agent/instance1", 123_456, 64, oldest_at=0, consumer=THERE, senders=[
            {"agent": "another_agent", "messages": 100_000}, {"agent": "rushabdev", "messages": 23_456},
        ])
    ]  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=True, color_system=None).print(_table(found, "agni"))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:3] == ["a_name_of_an_agent/instance1", "123456", "64"]
    assert lines[2].strip() == "taken by: its agent on desk at rushabdev, filled by: another_agent 100000,"


# -- looking into one --------------------------------------------------------------------------------------------------


def peeked(number: int, payload: object, state: str = "accepted") -> dict[str, Any]:
    message = {"id": f"m{number}", "from": "dc", "to": "agni", "type": "STATUS", "timestamp": 1, "payload": payload}
    return {"message": message, "state": state, "attempts": 1}


def page(*messages: dict[str, Any], more: bool = False) -> dict[str, Any]:
    return {"messages": list(messages), "more": more, "after": [3, 7], "node": "agni", "pending": 2, "in_flight": 1}


def test_peek_shortens_payloads_and_keeps_the_terminal_safe(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_PEEK] = [page(peeked(1, "\x1b[2Jx\n" + "y" * 500), more=True), page(peeked(2, {"a": 1}))]
    code, out, err = trishula("mailboxes", "peek", "agni")
    assert (code, "\x1b" in out) == (0, False)
    assert "\\x1b[2Jx\\n" + "y" * 100 in out
    assert " … (310 letters more)" in out
    assert '{"a": 1}' in out
    assert err == "2 looked at; by the node agni 2 wait, 1 are being handled\n"
    assert [args for _, args, _ in bus.asked] == [
        (uris.NODE_PEEK, "agni", {"max": 20}),
        (uris.NODE_PEEK, "agni", {"after": [3, 7], "max": 19}),
    ]


def test_peek_shows_all_of_it_on_request(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_PEEK] = [page(peeked(1, "y" * 500))]
    assert "y" * 500 in trishula("mailboxes", "peek", "agni", "--whole")[1]
    bus.answers[uris.NODE_PEEK] = [page(peeked(1, "y" * 500))]
    assert "y" * 500 in trishula("mailboxes", "peek", "agni", "--json")[1]


def test_peek_at_an_agent_that_nobody_knows(trishula: Trishula, bus: FakeBus) -> None:
    bus.answers[uris.NODE_PEEK] = [page()]
    bus.answers[uris.DIRECTORY_GET] = [AgentUnknown("no agent agnj is registered")]
    assert trishula("mailboxes", "peek", "agnj/x1")[0] == Exit.NOT_FOUND
