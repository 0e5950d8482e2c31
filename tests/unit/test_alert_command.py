"""``trishula alert``: what is shown of a node's alerts, and what is said where there is none, or the node is older."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import NodeStopping

HOSTILE = "\x1b[2Jdc"


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


def alert(bus: FakeBus, capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    connect: Any = bus.connect
    code = run(["alert", *args], State(connect=connect))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("command", "uri"), [("list", uris.NODE_ALERTS), ("test", uris.NODE_ALERT_TEST)])
def test_a_node_of_an_earlier_release_is_told_as_one(
    bus: FakeBus, capsys: pytest.CaptureFixture[str], command: str, uri: str
) -> None:
    # What a router says of a procedure that it hasn't.
    bus.answers[uri] = [NodeStopping("the node takes no call of it now")]
    bus.answers[uris.NODE_STATUS] = [{"node": "agni", "version": "1.9"}]
    code, out, err = alert(bus, capsys, command)
    assert code != 0 and out == ""
    assert f"the node agni runs version 1.9, which doesn't answer {uri} yet; update it" in " ".join(err.split())


def test_what_is_wrong_is_shown_and_gives_no_orders_to_a_terminal(
    bus: FakeBus, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.answers[uris.NODE_ALERTS] = [
        {
            "node": "agni",
            "roads": [{"road": "webhook", "waiting": 3, "fault": f"it is down {HOSTILE}"}],
            "conditions": [
                {"kind": "agent_away", "about": HOSTILE, "sentence": f"{HOSTILE} is away", "since": 0, "notified": True}
            ],
        }
    ]
    code, out, err = alert(bus, capsys, "list")
    assert code == 0 and "agent_away" in out and "is away" in out
    assert "webhook fails, 3 wait: it is down" in err
    assert "\x1b" not in out + err


def test_a_road_that_fails_ends_with_1(bus: FakeBus, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        {"road": "webhook", "ok": True, "detail": "hooks answered 200"},
        {"road": "mail", "ok": False, "detail": "refused"},
    ]
    bus.answers[uris.NODE_ALERT_TEST] = [found]
    assert alert(bus, capsys, "test")[:2] == (1, "webhook: sent: hooks answered 200\nmail: failed: refused\n")
    bus.answers[uris.NODE_ALERT_TEST] = [[]]
    code, _, err = alert(bus, capsys, "test")
    assert code == 1 and "no road is configured" in " ".join(err.split())
