"""Requests over HTTP that are too large for a process which serves many models."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from tests.support.loops import in_own_loop
from trishula.front_door.body_limit import BodyLimit, Receive, Scope, Send

Messages = list[MutableMapping[str, Any]]


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers how many bytes came, also to who has gone."""
    came_bytes, more = 0, True
    while more:
        message = await receive()
        came_bytes += len(message.get("body", b""))
        more = message["type"] == "http.request" and message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % came_bytes})


def asked(*parts: bytes, length: bytes | None = None) -> tuple[int, bytes, int]:
    """The status and the body of the answer to a request in parts of 10 bytes at most, and how many were never read."""
    coming: Messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]
    sent: Messages = []

    async def receive() -> MutableMapping[str, Any]:
        return coming.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [] if length is None else [(b"content-length", length)]
    in_own_loop(lambda: BodyLimit(reads_all, 20)({"type": "http", "headers": headers}, receive, send))
    start, body = sent
    return start["status"], body["body"], len(coming)


def test_what_is_small_enough_passes() -> None:
    assert asked(b"x" * 10, b"x" * 10, length=b"20") == (200, b"20", 0)
    assert asked(b"x" * 10, b"x" * 10) == (200, b"20", 0)


@pytest.mark.parametrize("length", [b"21", b"1" * 5000, b"-1", b"x"])
def test_what_says_that_it_is_too_large_is_not_read(length: bytes) -> None:
    status, body, unread = asked(b"x" * 10, length=length)
    assert (status, unread) == (413, 1)
    assert b"a request may have 20 bytes; send the place where more lies" in body


def test_what_does_not_say_it_is_refused_once_and_read_no_further() -> None:
    status, body, unread = asked(*[b"x" * 10] * 9)
    assert (status, unread) == (413, 6)
    assert b"a request may have 20 bytes" in body


def test_the_rest_of_the_protocol_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> Any: ...

    in_own_loop(lambda: BodyLimit(app)({"type": "lifespan"}, nothing, nothing))
    assert seen == ["lifespan"]
