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
(``Origin``), the host name must be one that was said (``Host``), and a request has a limited size and time.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from a2a.server.context import ServerCallContext
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.common import DefaultServerCallContextBuilder
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from trishula.a2a_door.gate import CALLER, Gate
from trishula.a2a_door.handler import AgentHandler
from trishula.a2a_door.service import Service
from trishula.errors import TrishulaError
from trishula.front_door.body_limit import App, Receive, Scope, Send, answer
from trishula.front_door.http_server import Bounds, serve

__all__ = ["over_http"]

_BOUNDS = Bounds(body_s=30.0)


def over_http(
    listening: socket.socket, hosts: Sequence[str], opened: Callable[[], Service], bounds: Bounds = _BOUNDS
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        listening: a socket that listens.
        hosts: what may stand in ``Host``.
        opened: makes the service, in the server's loop.
        bounds: what a client may take.

    Raises:
        TrishulaError: the node refuses the door itself for good, as after its token was revoked.
    """
    asyncio.run(_serve(listening, hosts, opened, bounds))


async def _serve(listening: socket.socket, hosts: Sequence[str], opened: Callable[[], Service], bounds: Bounds) -> None:
    service = opened()
    agents = _Agents(service)
    routes = [
        Route("/agents", agents.listed),
        Route("/.well-known/jwks.json", lambda _: JSONResponse(service.key.jwks)),
        Mount("/agents/{agent}", app=agents),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Gate, caller=service.callers.of, hosts=frozenset(hosts))])
    async with service:
        await serve(app, listening, bounds, lifespan="off", ends=service.ends)
    if service.end is not None:
        raise service.end


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
            await answer(send, 503, error.sentence, (b"retry-after", b"2"))
            return
        if capabilities is None:
            await answer(send, 404, f"there is no agent {name} at this door")
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
                # A client that appends "/" to the card's URL, as A2A's conformance kit does, follows no redirect.
                *create_jsonrpc_routes(handler, "/rpc", builder, enable_v0_3_compat=True),
                *create_jsonrpc_routes(handler, "/rpc/", builder, enable_v0_3_compat=True),
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
