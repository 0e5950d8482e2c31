"""How large a request over HTTP may be: one process serves many models, and none may fill its memory for the others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["LARGEST_BYTES", "MOST_CONNECTIONS", "App", "BodyLimit", "Receive", "Scope", "Send", "answer"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: An application as ASGI has it.
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: A message has 8 MiB at most, and may be twice as long where JSON writes its characters as escapes.
LARGEST_BYTES = 17 * 1024 * 1024
#: How many connections a server has at a time; those beyond are answered with 503, so that it keeps file descriptors
#: for the nodes and its own files.
MOST_CONNECTIONS = 1000


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
        came_bytes, is_refused = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal came_bytes, is_refused
            message = await receive()
            came_bytes += len(message.get("body", b""))
            if came_bytes <= self._largest_bytes:
                return message
            if not is_refused:
                is_refused = True
                await answer(send, 413, self._sentence())
            return {"type": "http.disconnect"}

        async def unless_refused(message: MutableMapping[str, Any]) -> None:
            # The application may want to answer what it has not read whole.
            if not is_refused:
                await send(message)

        await self._app(scope, counted, unless_refused)

    def _sentence(self) -> str:
        return f"a request may have {self._largest_bytes:,} bytes; send the place where more lies"


async def answer(send: Send, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    """Refuse a request with a sentence."""
    all_headers = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": sentence}).encode()})
