"""Tokens that are shown over HTTP: looked at, limited and noted as those are that clients join with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula_router.agents.file import AgentEntry
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.endpoints import running
from trishula_router.endpoints.metrics import MetricsPage
from trishula_router.endpoints.visitors import why_stranger
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore

RIGHT = "boss.secret"
OBSERVERS = "wall.secret"
AGENTS = "dc.secret"
WRONG = "the token of boss is wrong or revoked"
TOO_MANY = "too many wrong tokens came from where this client is"
HERE, THERE = "203.0.113.7", "203.0.113.8"


class Request:
    """What a page is told of one, and what the page says.

    Args:
        token: shown as a bearer's.
        address: where it comes from.
    """

    method = b"GET"

    def __init__(self, token: str, address: str = HERE) -> None:
        self.requestHeaders = Headers({b"authorization": [f"Bearer {token}".encode()], b"host": [b"bus.example.org"]})
        self.channel = SimpleNamespace()
        self.code = 0
        self._address = address

    def getHeader(self, name: bytes) -> bytes | None:
        found = self.requestHeaders.getRawHeaders(name)
        return found[-1] if found else None

    def getClientAddress(self) -> Any:
        return SimpleNamespace(host=self._address)

    def setResponseCode(self, code: int) -> None:
        self.code = code

    def setHeader(self, name: bytes, value: bytes) -> None: ...


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    boss = AgentEntry(operator=True, tokens=(TokenEntry(digest_of(RIGHT), 0.0),))
    wall = AgentEntry(observer=True, tokens=(TokenEntry(digest_of(OBSERVERS), 0.0),))
    agent = AgentEntry(tokens=(TokenEntry(digest_of(AGENTS), 0.0),))
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents={"boss": boss, "wall": wall, "dc": agent}).start()


def told(rig: Rig, token: str, address: str = HERE) -> str | None:
    return why_stranger(Request(token, address), rig.node)


def test_wrong_tokens_are_limited_and_the_right_one_from_elsewhere_is_not(rig: Rig) -> None:
    said = [told(rig, f"boss.wrong-{number}") or "" for number in range(5)]
    assert [WRONG in one for one in said] == [True] * 3 + [False] * 2
    assert all(TOO_MANY in one for one in said[3:])
    assert TOO_MANY in (told(rig, RIGHT) or "")
    assert told(rig, RIGHT, THERE) is None
    rig.advance(30)
    assert told(rig, RIGHT) is None


def test_who_had_the_right_token_never_waits_for_others(rig: Rig) -> None:
    assert told(rig, RIGHT) is None
    for number in range(30):
        told(rig, f"boss.wrong-{number}")
    assert told(rig, RIGHT) is None


def test_details_are_for_operators_and_observers(rig: Rig) -> None:
    assert (told(rig, RIGHT), told(rig, OBSERVERS)) == (None, None)
    assert told(rig, AGENTS) == "the token is dc's; details are for operators and observers, and it is neither"


def test_a_wrong_token_is_on_record(rig: Rig) -> None:
    told(rig, "boss.wrong")
    records = result_of(rig.store.records(after=0, limit=100))
    [facts] = [json.loads(record.facts) for record in records if record.kind == Kind.REFUSED]
    assert (facts["agent"], facts["address"]) == ("boss", HERE)
    assert WRONG in facts["detail"]
    assert "boss.wrong" not in str(records)


def test_a_scrape_with_a_wrong_token_counts_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_shown", [rig.node])
    request = Request("boss.wrong")
    assert WRONG.encode() in MetricsPage().render(request)  # type: ignore[operator]
    assert (request.code, rig.node.refused_joins.count) == (401, 1)
