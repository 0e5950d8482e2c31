"""A TCP proxy that spoils what passes through it: the network of a drill.

Each client of a drill goes through a :class:`Proxy` of its own, so that a fault can hit one of them or all. A proxy
runs on the loop of a :class:`Network`, which is a thread; its owner's thread says what is wrong with it. TCP's own
promise is kept: bytes are late, cut off or held up, but none is left out of the middle, changed or put in twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from trishula_drill.faults import Kind

__all__ = ["Network", "Proxy", "Toxic", "free_port"]

T = TypeVar("T")

_CHUNK_BYTES = 65536
_LOOK_S = 0.01
_TIMEOUT_S = 10.0
#: Below the ports that the kernel gives to outgoing connections: a client that retries a closed port of that range may
#: meet itself there (TCP connects a socket with itself), and would hold the port.
_PORTS = (20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Toxic:
    """What is wrong with a proxy at the moment; see :class:`trishula_drill.faults.Kind`."""

    kind: Kind
    amount: float = 0.0


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    ports = list(range(*_PORTS))
    random.shuffle(ports)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((host, port))
                return port
    raise OSError(f"no port from {_PORTS[0]} to {_PORTS[1]} is free on {host}")


class Network:
    """The thread that all proxies of a drill run on; use it in a ``with`` block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="drill-network", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for proxy in self._proxies:
            self.run(proxy.close())
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def proxy(self, upstream_port: int, chance: random.Random, host: str = "127.0.0.1") -> Proxy:
        """A new proxy in front of a port."""
        proxy = Proxy(host, upstream_port, chance)
        self.run(proxy.listen())
        self._proxies.append(proxy)
        return proxy

    def spoil(self, proxy: Proxy, toxic: Toxic | None) -> None:
        """Something is wrong from now on, or (``None``) nothing any more."""
        self.run(proxy.spoil(toxic))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_S)


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Pipe:
    """One client's connection, with that to the node behind it."""

    def __init__(self, client: asyncio.StreamWriter, node: asyncio.StreamWriter) -> None:
        self.client = client
        self.node = node
        self.passed_bytes = 0

    def reset(self) -> None:
        """Both sides get a RST."""
        _reset(self.client)
        _reset(self.node)


class Proxy:
    """One way through the network; made by :meth:`Network.proxy`.

    Attributes:
        port: where clients connect.
        accepted: how many have, since it was made.
    """

    def __init__(self, host: str, upstream_port: int, chance: random.Random) -> None:
        self.port = 0
        self.accepted = 0
        self._host = host
        self._upstream_port = upstream_port
        self._chance = chance
        self._toxic: Toxic | None = None
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()

    async def listen(self) -> None:
        """Take connections."""
        if self._server is None:
            self.port = self.port or free_port(self._host)
            self._server = await asyncio.start_server(self._connected, self._host, self.port)

    async def close(self) -> None:
        """Take none any more, and reset those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for pipe in list(self._pipes):
            pipe.reset()

    async def spoil(self, toxic: Toxic | None) -> None:
        """See :meth:`Network.spoil`."""
        self._toxic = toxic
        for pipe in self._pipes:
            pipe.passed_bytes = 0
        match toxic:
            case Toxic(kind=Kind.DOWN):
                await self.close()
                return
            case Toxic(kind=Kind.RESET | Kind.QUICK_LOSS):
                for pipe in list(self._pipes):
                    pipe.reset()
            case Toxic(kind=Kind.SLOW_CLOSE):
                for pipe in list(self._pipes):
                    _reset(pipe.node)
        await self.listen()

    def _has(self, kind: Kind) -> bool:
        return self._toxic is not None and self._toxic.kind is kind

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            node_reader, node = await asyncio.open_connection(self._host, self._upstream_port)
        except OSError:
            # The node is away: its clients are to see a closed door, as they would without us.
            _reset(writer)
            return
        pipe = _Pipe(writer, node)
        self._pipes.add(pipe)
        if self._toxic is not None and self._toxic.kind is Kind.QUICK_LOSS:
            asyncio.get_running_loop().call_later(self._toxic.amount * self._chance.random(), pipe.reset)
        try:
            await asyncio.gather(self._pump(reader, node, pipe), self._pump(node_reader, writer, pipe))
        finally:
            self._pipes.discard(pipe)
            pipe.reset()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: _Pipe) -> None:
        """Carry one direction until it ends; the end is carried as well."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._hold_up(Kind.BLACK_HOLE)
                if not await self._carry(data, writer, pipe):
                    return
        await self._hold_up(Kind.BLACK_HOLE, Kind.SLOW_CLOSE)
        with contextlib.suppress(OSError):
            writer.close()

    async def _hold_up(self, *kinds: Kind) -> None:
        while any(self._has(kind) for kind in kinds):
            await asyncio.sleep(_LOOK_S)

    async def _carry(self, data: bytes, writer: asyncio.StreamWriter, pipe: _Pipe) -> bool:
        """Pass data on, as well as the toxic lets it; whether the connection is still there."""
        toxic = self._toxic
        if toxic is not None and toxic.kind is Kind.LATENCY:
            await asyncio.sleep(toxic.amount * (0.5 + self._chance.random() / 2))
        elif toxic is not None and toxic.kind is Kind.LIMIT:
            left = max(int(toxic.amount) - pipe.passed_bytes, 0)
            pipe.passed_bytes += len(data)
            if len(data) > left:
                writer.write(data[:left])
                await writer.drain()
                pipe.reset()
                return False
        elif toxic is not None and toxic.kind is Kind.SLICE:
            while data and self._toxic is toxic:
                size = self._chance.randint(1, max(int(toxic.amount), 1))
                writer.write(data[:size])
                await writer.drain()
                data = data[size:]
                await asyncio.sleep(0.001)
        elif toxic is not None and toxic.kind is Kind.BANDWIDTH:
            # In stretches of 20 ms, each direction by itself; what is behind them waits in the kernel, as on a road
            # with a large buffer before its narrow place.
            size = max(int(toxic.amount / 50), 1)
            while data and self._toxic is toxic:
                writer.write(data[:size])
                await writer.drain()
                await asyncio.sleep(len(data[:size]) / toxic.amount)
                data = data[size:]
        writer.write(data)
        await writer.drain()
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, so that the other end gets a RST and what was under way is gone."""
    transport = writer.transport
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    abort: Callable[[], None] = transport.abort
    abort()
