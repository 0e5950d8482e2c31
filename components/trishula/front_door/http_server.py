"""The web server of both doors over HTTP, which no client can hold by not speaking, or by not reading.

The server itself (uvicorn) waits for ever for a request that doesn't come, and counts a silent socket like a request
that is served. Here what a client owes has a deadline: the head of a request, its body, and the reading of an answer.
The making of an answer has none, so a stream lasts as long as it likes.

When the server has as many connections as it may, the next one takes the place of that which has waited for its client
longest. Addresses are not counted: the doors listen on the machine itself, so all clients of a proxy have the proxy's
address. A connection whose request is being served keeps its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from trishula.front_door.body_limit import App

__all__ = ["Bounds", "serve"]

#: How many connections a server has at most. They take a quarter of what the process may open: the rest is for the
#: sessions of agents with the nodes, the server's own files, and connections that are on their way in or out.
MOST_CONNECTIONS = 1000
#: How many descriptors the process asks the system for.
_DESCRIPTORS = 4 * MOST_CONNECTIONS
#: How many connections are taken in one round of the loop, and how many wait in the system's queue. A connection has a
#: descriptor some rounds before it is counted; and a request that came with it is read before others fill the server.
_TAKEN_AT_ONCE = 64
_QUEUED = 2048
_LEAVING_S = 3


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a client may take of the server.

    Attributes:
        body_s: how long a request takes at most, from the end of its head on.
        head_s: how long a connection may wait for the whole head of its next request.
        answer_s: how long a client may read nothing of an answer that is larger than what the system's buffers take.
        most_connections: at a time; as the descriptors allow if ``None``.
    """

    body_s: float
    head_s: float = 10.0
    answer_s: float = 60.0
    most_connections: int | None = None


async def serve(
    app: App,
    listening: socket.socket,
    bounds: Bounds,
    lifespan: Literal["on", "off"],
    *,
    ends: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: what answers.
        listening: a socket that listens.
        bounds: what a client may take.
        lifespan: whether the app wants to know of start and end.
        ends: once it is set, no more is served, as after a signal.
    """
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(_Connection, bounds)),
        # A WebSocket would leave the bounds, and no door has one.
        ws="none",
        lifespan=lifespan,
        log_level="warning",
        access_log=False,
        limit_concurrency=bounds.most_connections or _most_connections(),
        backlog=_TAKEN_AT_ONCE,
        timeout_graceful_shutdown=_LEAVING_S,
        server_header=False,
    )
    server = _Server(config)
    leaving = asyncio.create_task(_leave(server, ends))
    try:
        await server.serve(sockets=[listening])
    finally:
        leaving.cancel()


async def _leave(server: uvicorn.Server, ends: asyncio.Event | None) -> None:
    if ends is not None:
        await ends.wait()
        server.should_exit = True


class _Server(uvicorn.Server):
    """Takes few connections at once, but has the system keep many."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # The loop takes one number for both.
        for listening in sockets or []:
            listening.listen(_QUEUED)


def _most_connections() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 4)


class _Connection(H11Protocol):
    """See the module's docstring. Made by the server for each connection."""

    def __init__(self, bounds: Bounds, **more: Any) -> None:
        super().__init__(**more)
        self._bounds = bounds
        #: What is waited for, of which request; and since when.
        self._awaited: tuple[Literal["head", "body", "reading"], object] | None = None
        self._since_s = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        #: How much of our answers was not taken yet when the deadline was set.
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self._look()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._wait_for(None)

    def _look(self) -> None:
        """See whether something else is waited for than before."""
        awaited = self._awaits()
        if awaited != self._awaited:
            self._wait_for(awaited)

    def _awaits(self) -> tuple[Literal["head", "body", "reading"], object] | None:
        if self.flow.write_paused:
            return "reading", None
        # Also a body that comes in behind an answer, which may be a refusal: nobody reads it.
        if self.cycle is None or self.cycle.response_complete:
            return "head", self.cycle
        return ("body", self.cycle) if self.cycle.more_body else None

    def _wait_for(self, awaited: tuple[Literal["head", "body", "reading"], object] | None) -> None:
        self._awaited = awaited
        self._since_s = self.loop.time()
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._awaited is None:
            return
        bounds = self._bounds
        within_s = {"head": bounds.head_s, "body": bounds.body_s, "reading": bounds.answer_s}[self._awaited[0]]
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(within_s, self._overdue)

    def _overdue(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread_bytes:
            # A slow client that takes a large answer is not a silent one.
            self._set_deadline()
        elif self._awaited is not None and self._awaited[0] == "body" and not self.cycle.response_started:
            self._refuse()
        else:
            self.transport.abort()

    def _refuse(self) -> None:
        sentence = f"the request did not come whole within {self._bounds.body_s:g} s; send it again"
        body = json.dumps({"error": sentence}).encode()
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\n" + head.encode() + body)
        # Before the app can answer too.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self.transport.close()
        self._wait_for(("reading", None))

    def _make_room(self) -> None:
        # From so many on, the server answers 503.
        if self.limit_concurrency is None or len(self.connections) < self.limit_concurrency:
            return
        others = [one for one in self.connections if isinstance(one, _Connection) and one is not self and one.is_idle]
        if others:
            oldest = min(others, key=lambda one: one._since_s)
            oldest.transport.abort()
            # The transport itself says so in the loop's next round only.
            self.connections.discard(oldest)

    @property
    def is_idle(self) -> bool:
        """Whether its client gave us nothing to do: it sent no request, or doesn't read the answer."""
        return self._awaited is not None and self._awaited[0] != "body"
