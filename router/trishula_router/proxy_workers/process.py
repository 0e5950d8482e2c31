"""A proxy worker: ``python -m trishula_router.proxy_workers.process``, started by :mod:`.workers` and by nobody else.

The first line of its standard input says what to do (:class:`~trishula_router.proxy_workers.task.Task`), each further
one is the address of a client that has joined. Where the input ends, the router worker has ended, however that came
about, and so does this process: when its clients have got what was sent, or a second later. What it has to say goes to
its standard error, a line each.
"""

from __future__ import annotations

import gc
import hashlib
import signal
import socket
import sys
import time
from typing import Any

import msgspec
from twisted.internet import reactor as twisted_reactor
from twisted.internet import tcp
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from trishula.runtime.surroundings import use_monotonic_timers
from trishula_router.launcher import allow_files, descriptors_left
from trishula_router.privacy import keep_private
from trishula_router.proxy_workers.relay import Relay
from trishula_router.proxy_workers.task import Task
from trishula_router.proxy_workers.tls import certificate_of
from trishula_router.settings.certificates import said
from trishula_router.upstream.accepting import accept_few
from trishula_router.upstream.renewal_log import RenewalLog

__all__ = ["main"]

log = Logger()
reactor: Any = twisted_reactor

_GOODBYE_S = 1.0
_LOOK_S = 0.05


def main() -> None:
    """Be one."""
    keep_private()
    allow_files()
    # A Ctrl-C that reaches the whole group is the router worker's to heed, and this process ends after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    quiet: Any = LogLevelFilterPredicate(LogLevel.warn)
    lines: Any = textFileLogObserver(sys.stderr, timeFormat="")
    observer: Any = FilteringLogObserver(lines, [quiet])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    use_monotonic_timers(reactor, time.monotonic)
    StandardIO(_Input())  # type: ignore[no-untyped-call]
    gc.freeze()
    reactor.run(installSignalHandlers=False)


class _Input(Protocol):
    """What the router worker says, and that it is there."""

    def __init__(self) -> None:
        self._text = b""
        self._relay: Relay | None = None
        self._port: Any = None

    def dataReceived(self, data: bytes) -> None:
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            if self._relay is None:
                self._begin(msgspec.json.decode(line, type=Task))
            else:
                self._relay.arrivals.is_earnest(line.decode())

    def _begin(self, task: Task) -> None:
        accept_few(tcp.Port)
        router = UNIXClientEndpoint(reactor, task.router)  # type: ignore[no-untyped-call]
        self._relay = Relay(router.connect, reactor, _channel_of, task, descriptors=descriptors_left())
        factory: Any = self._relay
        try:
            if task.tls is not None:
                certificate: Any = certificate_of(task.tls, RenewalLog())
                factory = TLSMemoryBIOFactory(certificate, False, factory)
                factory.noisy = False
            with socket.socket(fileno=task.listening) as listening:
                # It takes a copy.
                self._port = reactor.adoptStreamPort(task.listening, listening.family, factory)
        except Exception as error:
            # A certificate that can't be used, say: the next one that is started may find another.
            log.error("it can't begin: {why}", why=said(error))
            reactor.callLater(0, reactor.stop)

    def connectionLost(self, *_: Any) -> None:
        if self._port is not None:
            self._port.stopListening()
        self._end(_GOODBYE_S)

    def _end(self, left_s: float) -> None:
        if self._relay is None or not self._relay.clients or left_s <= 0:
            if reactor.running:
                reactor.stop()
            return
        reactor.callLater(_LOOK_S, self._end, left_s - _LOOK_S)


def _channel_of(transport: Any) -> bytes | None:
    """As :func:`autobahn.twisted.util.transport_channel_id` has it for a server."""
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return None
    handle: Any = transport.getHandle()  # type: ignore[no-untyped-call]
    finished = handle.get_peer_finished()
    return None if finished is None else hashlib.sha256(finished).digest()


if __name__ == "__main__":
    main()
