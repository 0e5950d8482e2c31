"""``trishula dead list --since``: what was dead before is passed over, page by page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris


@pytest.mark.parametrize(("limit", "seqs", "more"), [(5, [3, 5, 6], False), (2, [3, 5], True)])
def test_only_those_that_are_dead_since(
    limit: int, seqs: list[int], more: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FakeBus()
    first = [{"seq": 1, "dead_at": 10}, {"seq": 2, "dead_at": 999}, {"seq": 3, "dead_at": 1000}]
    second = [{"seq": 4, "dead_at": 5}, {"seq": 5, "dead_at": 1001}, {"seq": 6, "dead_at": 1002}]
    bus.answers[uris.ADMIN_DEAD_LIST] = [{"letters": first, "more": True}, {"letters": second, "more": False}]
    connect: Any = bus.connect
    args = ["dead", "list", "--since", "1970-01-01T00:00:01Z", "--limit", str(limit), "--json"]
    assert run(args, State(connect=connect)) == 0
    told = json.loads(capsys.readouterr().out)
    assert ([letter["seq"] for letter in told["letters"]], told["more"]) == (seqs, more)
    assert bus.asked[1] == ("request", (uris.ADMIN_DEAD_LIST, {"after": 3, "limit": 1000}), {})


def test_one_of_which_nobody_knows_since_when_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    bus.answers[uris.ADMIN_DEAD_LIST] = [
        {"letters": [{"seq": 1, "dead_at": 10}, {"seq": 2, "dead_at": None}], "more": False}
    ]
    connect: Any = bus.connect
    assert run(["dead", "list", "--since", "1970-01-01T00:00:01Z", "--json"], State(connect=connect)) == 0
    assert [letter["seq"] for letter in json.loads(capsys.readouterr().out)["letters"]] == [2]
