"""The door as a web server: for each agent a card, JSON-RPC and HTTP+JSON, on the official SDK's routes.

========================================================  ===========================================================
``/agents/NAME/.well-known/agent-card.json``              the card of an agent, signed; open to all, as A2A wants it
``/agents/NAME/rpc``                                      JSON-RPC, of A2A 1.0 and 0.3
``/agents/NAME/rest/…``                                   HTTP+JSON
``/.well-known/jwks.json``                                the door's key
``/agents``                                               the cards that there are
========================================================  ===========================================================

Whoever wants more than cards brings the token of its agent: ``Authorization: Bearer NAME.SECRET``. It is a password, so
it is taken on this machine only, unless a proxy that speaks TLS stands before. Pages of browsers are not let in
(``Origin``), the host name must be one that was said (``Host``), and a request has a limited size.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import uvicorn
from a2a.server.context import ServerCallContext
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from trishula.a2a_door.callers import Caller
from trishula.a2a_door.handler import CALLER, AgentHandler
from trishula.a2a_door.service import Service
from trishula.errors import TokenInvalid, TrishulaError

__all__ = ["over_http"]

#: What is left of a node's own limit of 1 MiB when the message is wrapped, and some room for base64 and JSON-RPC.
MOST_BYTES = 2 * 1024 * 1024
_LEAVING_S = 3

_log = logging.getLogger("trishula")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def over_http(listening: socket.socket, hosts: Sequence[str], opened: Callable[[], Service]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        listening: a socket that listens.
        hosts: what may stand in ``Host``.
        opened: makes the service, in the server's loop.
    """
    asyncio.run(_serve(listening, hosts, opened))


async def _serve(listening: socket.socket, hosts: Sequence[str], opened: Callable[[], Service]) -> None:
    service = opened()
    agents = _Agents(service)
    routes = [
        Route("/agents", agents.listed),
        Route("/.well-known/jwks.json", lambda _: JSONResponse(service.key.jwks)),
        Mount("/agents/{agent}", app=agents),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(_Gate, service=service, hosts=frozenset(hosts))])
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_LEAVING_S,
        server_header=False,
    )
    async with service:
        await uvicorn.Server(config).serve(sockets=[listening])


class _Agents:
    """The app of each agent, made when it is asked for first."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._apps: dict[str, tuple[tuple[str, ...], App]] = {}
        self._streams: dict[str, int] = {}

    async def listed(self, request: Request) -> Response:
        """The agents, with their cards."""
        names = await self._service.agents()
        cards = {name: f"{self._service.url}/agents/{name}/.well-known/agent-card.json" for name in sorted(names)}
        return JSONResponse({"agents": cards})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["agent"]
        try:
            capabilities = (await self._service.agents()).get(name)
        except TrishulaError as error:
            await _refuse(send, 503, error.sentence)
            return
        if capabilities is None:
            await _refuse(send, 404, f"there is no agent {name} at this door")
            return
        known = self._apps.get(name)
        if known is None or known[0] != capabilities:
            known = self._apps[name] = (capabilities, self._made(name, capabilities))
        await known[1](scope, receive, send)

    def _made(self, name: str, capabilities: tuple[str, ...]) -> App:
        service = self._service
        handler = AgentHandler(name, service.tasks, service.webhooks, service.wait_s, self._streams, service.now_ms)
        builder = _WithCaller()
        made: App = Starlette(
            routes=[
                *create_agent_card_routes(service.card(name, capabilities), cache_control="public, max-age=60"),
                *create_jsonrpc_routes(handler, "/rpc", builder, enable_v0_3_compat=True),
                *create_rest_routes(handler, builder, enable_v0_3_compat=True, path_prefix="/rest"),
            ]
        )
        return made


class _WithCaller(DefaultServerCallContextBuilder):
    """Hands over who calls, and not the token."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        context.state["headers"].pop("authorization", None)
        context.state[CALLER] = request.scope[CALLER]
        return context


class _Gate:
    """Nobody passes without a token, but to what is open to all."""

    def __init__(self, app: App, service: Service, hosts: frozenset[str]) -> None:
        self._app = app
        self._service = service
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host", "").lower() not in self._hosts:
            await _refuse(send, 421, "this door is not known by that host name; name it by --public-url")
            return
        if b"origin" in headers:
            await _refuse(send, 403, "this door is for agents, and not for pages of browsers")
            return
        if not _is_open(scope["path"]):
            try:
                scope[CALLER] = await self._caller(headers.get(b"authorization", ""))
            except TokenInvalid as error:
                await _refuse(send, 401, error.sentence)
                return
            except TrishulaError as error:
                await _refuse(send, 503, error.sentence)
                return
        body = await _read(receive)
        if body is None:
            await _refuse(send, 413, f"a request may have {MOST_BYTES} bytes; send large things by their URL")
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _caller(self, header: str) -> Caller:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise TokenInvalid("send the agent's token as a header: Authorization: Bearer NAME.SECRET")
        return await self._service.callers.of(token.strip())


def _is_open(path: str) -> bool:
    return path == "/agents" or "/.well-known/" in path


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; ``None`` if it is too large, or the client is gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MOST_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    said = False

    async def heard() -> MutableMapping[str, Any]:
        nonlocal said
        if said:
            return await receive()
        said = True
        return {"type": "http.request", "body": body, "more_body": False}

    return heard


async def _refuse(send: Send, status: int, sentence: str) -> None:
    more = {401: [(b"www-authenticate", b"Bearer")], 503: [(b"retry-after", b"2")]}.get(status, [])
    headers = [(b"content-type", b"application/json"), *more]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"error": sentence}).encode()})
