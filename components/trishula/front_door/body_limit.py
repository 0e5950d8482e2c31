"""How large a request over HTTP may be: one process serves many models, and none may fill its memory for the others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["LARGEST_BYTES", "App", "BodyLimit", "Receive", "Scope", "Send", "answer", "replayed", "whole_body"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: An application as ASGI has it.
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A message has 8 MiB at most, and may be twice as long where JSON writes its characters as escapes.
LARGEST_BYTES = 17 * 1024 * 1024


class BodyLimit:
    """Refuses larger requests with 413, also those that don't say beforehand how large they will be.

    Args:
        app: gets the others.
        largest_bytes: of a request's body.
    """

    def __init__(self, app: App, largest_bytes: int = LARGEST_BYTES) -> None:
        self._app = app
        self._largest_bytes = largest_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        # Python reads no number of thousands of digits, and says so by an exception.
        if not length.isdigit() or len(length) > 18 or int(length) > self._largest_bytes:
            await answer(send, 413, self._sentence())
            return
        # Whole before the application sees any: the SDK writes a traceback for each client that goes in the middle.
        body = await whole_body(receive, self._largest_bytes)
        if body is None:
            await answer(send, 413, self._sentence())
        else:
            await self._app(scope, replayed(body, receive), send)

    def _sentence(self) -> str:
        return f"a request may have {self._largest_bytes:,} bytes; send the place where more lies"


async def whole_body(receive: Receive, largest_bytes: int) -> bytes | None:
    """The body of a request; ``None`` if it is too large, or the client is gone, who hears no answer."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > largest_bytes:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """What an application receives whose request's body was read before."""
    said = False

    async def heard() -> MutableMapping[str, Any]:
        nonlocal said
        if said:
            return await receive()
        said = True
        return {"type": "http.request", "body": body, "more_body": False}

    return heard


async def answer(send: Send, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    """Refuse a request with a sentence."""
    all_headers = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": sentence}).encode()})
