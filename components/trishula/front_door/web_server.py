"""The front door over streamable HTTP: one process for several models, each with the token of its agent.

Each request brings the token as ``Authorization: Bearer NAME.SECRET``, and is served by the door of that token
(:mod:`trishula.front_door.doors`); a session of MCP means nothing here, so both eras of the protocol are served alike,
and a client doesn't notice that the server was restarted. The token is an agent's password, so it is taken on this
machine only, unless a proxy that speaks TLS stands before; browsers are let in for no page (``Origin``), and the host
name must be one that was said (``Host``), so that no page of a browser on this machine gets at the models' mail.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from mcp.server.transport_security import TransportSecuritySettings

from trishula.errors import TokenInvalid, TrishulaError
from trishula.front_door.body_limit import App, BodyLimit, Receive, Scope, Send, answer
from trishula.front_door.doors import Doors
from trishula.front_door.http_server import Bounds, serve
from trishula.front_door.server import Calling, make_server
from trishula.front_door.tools import Tools
from trishula.front_door.wording import error_told

__all__ = ["over_http"]

PATH = "/mcp"
#: A body has 17 MiB at most, and this is some time for it over a slow line.
_BOUNDS = Bounds(body_s=120.0)


def over_http(
    listening: socket.socket, names: Sequence[str], opened: Callable[[str], Tools], bounds: Bounds = _BOUNDS
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        listening: a socket that listens.
        names: host names, beside this machine's own, by which clients may call us.
        opened: the tools of a token's agent, made in the server's loop.
        bounds: what a client may take.
    """
    asyncio.run(_serve(listening, names, opened, bounds))


async def _serve(
    listening: socket.socket, names: Sequence[str], opened: Callable[[str], Tools], bounds: Bounds
) -> None:
    doors = Doors(opened, time.monotonic)

    async def of(calling: Calling) -> Tools:
        token = _bearer((calling.headers or {}).get("authorization", ""))
        return await doors.of(token or "")

    port = listening.getsockname()[1]
    hosts = [f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")]
    hosts += [one for name in names for one in (name, f"{name}:*")]
    security = TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"https://{name}" for name in names], enable_dns_rebinding_protection=True
    )
    app = make_server(of).streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, transport_security=security
    )
    await serve(_Gate(BodyLimit(app), doors), listening, bounds, lifespan="on")


class _Gate:
    """Nobody passes without the token of an agent."""

    def __init__(self, app: App, doors: Doors) -> None:
        self._app = app
        self._doors = doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, self._closing(receive), send)
            return
        if scope["type"] == "http":
            headers = {name.lower(): value for name, value in scope["headers"]}
            token = _bearer(headers.get(b"authorization", b"").decode("latin-1"))
            if token is None:
                sentence = "send the agent's token as a header: Authorization: Bearer NAME.SECRET"
                await _refuse(send, 401, sentence)
                return
            try:
                await self._doors.of(token)
            except TokenInvalid as error:
                await _refuse(send, 401, error_told(error))
                return
            except TrishulaError as error:
                await _refuse(send, 503, error_told(error))
                return
        await self._app(scope, receive, send)

    def _closing(self, receive: Receive) -> Receive:
        """Close the doors before the server says that it is down: then its process ends by the signal that it got."""

        async def heard() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._doors.close()
            return message

        return heard


def _bearer(header: str) -> str | None:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


async def _refuse(send: Send, status: int, sentence: str) -> None:
    await answer(send, status, sentence, (b"www-authenticate", b"Bearer") if status == 401 else (b"retry-after", b"2"))
