"""What passes the gate of the door for A2A without a token, and how much of the rest."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from tests.support.loops import in_own_loop
from trishula.a2a_door.gate import CALLER, MOST_BYTES, Gate
from trishula.errors import BusUnreachable, TokenInvalid
from trishula.front_door.body_limit import Receive, Scope, Send

HOST = (b"host", b"here:1")
PARTNER = (b"authorization", b"Bearer partner.s")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    who = str(scope.get(CALLER, "nobody")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": who + b" " + message["body"]})


async def caller(token: str) -> Any:
    if token == "away.s":
        raise BusUnreachable("no node is there")
    if token != "partner.s":
        raise TokenInvalid("it is none")
    return "partner"


def asked(
    path: str, *headers: tuple[bytes, bytes], body: bytes = b"body", method: str = "POST"
) -> tuple[int, bytes, int]:
    """Status and body of the answer, and how often the request's body was asked for."""
    sent: list[MutableMapping[str, Any]] = []
    reads = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
    in_own_loop(lambda: Gate(app, caller, frozenset({"here:1"}))(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], reads


@pytest.mark.parametrize("path", ["/agents", "/agents/worker/.well-known/agent-card.json", "/.well-known/jwks.json"])
def test_what_is_open_to_all_passes_and_has_no_body(path: str) -> None:
    assert asked(path, HOST) == (200, b"nobody ", 0)


@pytest.mark.parametrize(
    "path",
    [
        "/agents/worker/rpc",
        "/agents/",
        "/agents/worker/rest/.well-known/agent-card.json",
        "/agents/worker/rest/tasks/.well-known/x",
        "/agents/worker/.well-known/agent-card.json/rpc",
        "/agents/worker/.well-known/agent-card.json\n",
        "/agents/worker/.well-known/jwks.json",
        "/.well-known/agent-card.json",
        "/x/.well-known/jwks.json",
    ],
)
def test_nothing_else_passes_without_a_token(path: str) -> None:
    status, _, reads = asked(path, HOST)
    assert (status, reads) == (401, 0)
    assert asked(path, HOST, PARTNER)[:2] == (200, b"partner body")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 421),
        ([(b"host", b"elsewhere"), PARTNER], 421),
        ([HOST, PARTNER, (b"origin", b"https://x.example")], 403),
        ([HOST, (b"authorization", b"Basic partner.s")], 401),
        ([HOST, (b"authorization", b"Bearer ")], 401),
        ([HOST, (b"authorization", b"Bearer partner.x")], 401),
        ([HOST, (b"authorization", b"Bearer away.s")], 503),
    ],
)
def test_who_may_not_pass_is_told_so_before_anything_is_read(headers: list[tuple[bytes, bytes]], status: int) -> None:
    assert asked("/agents/worker/rpc", *headers)[::2] == (status, 0)


def test_a_body_that_is_too_large_is_refused() -> None:
    assert asked("/agents/worker/rpc", HOST, PARTNER, body=b" " * (MOST_BYTES + 1))[0] == 413
