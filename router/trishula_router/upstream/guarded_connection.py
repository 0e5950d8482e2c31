"""One connection of the router worker: Crossbar's class, with what :mod:`.connections` needs in order to look after it.

Each connection knows from which address it comes, how far its join has come and what waits for it; it takes its frames
by turns (:mod:`.fair_share`), answers pings by the shortest way, lets in the node's own page (:mod:`.own_pages`), and
can be ended with a sentence. :func:`guard_connections` has Crossbar make connections of that class.

It reaches into names of Crossbar (``router.protocol.WampWebSocketServerFactory.protocol``), of Twisted's web server
(:mod:`.arrivals`), and of Autobahn (``_session._session_id``, ``sendCloseFrame``, ``current_frame``,
``allowedOriginsPatterns``); if Crossbar's class is not as expected, nothing is changed.
"""

from __future__ import annotations

from typing import Any

from trishula.session.carrying import DATA_OPCODES, Carrying
from trishula.session.written_soon import write_soon
from trishula_router.client_ips import peer_text
from trishula_router.upstream.connections import Connections
from trishula_router.upstream.crossbar_parts import has
from trishula_router.upstream.fair_share import TurnTaking, Weighed
from trishula_router.upstream.incoming import GREETING_BYTES, Incoming
from trishula_router.upstream.introduced import bind_channel
from trishula_router.upstream.own_pages import own_origins
from trishula_router.upstream.short_frames import ShortFrames
from trishula_router.upstream.strangers import Step
from trishula_router.upstream.turns import Turns
from trishula_router.upstream.written_together import Writes

__all__ = ["answer_to_ping", "guard_connections"]

#: What a stranger may send until it has joined: a HELLO and an AUTHENTICATE, its request before them, and the pings of
#: who watches a node.
_STRANGER_BYTES = 4 * GREETING_BYTES
#: The reason of a close frame is at most so long.
_REASON_BYTES = 123
#: So long who reads slowly has to come to that reason, behind what the kernel holds for it. Autobahn's second is for
#: those who keep up: it ended the connection with what was not read, and the reason with it.
_READ_ON_S = 5.0
_POLICY_VIOLATION = 1008
#: The first byte of a ping and of a pong, the bit of the second one that says "masked", what a masked frame has before
#: its payload, and how much payload a control frame may have.
_PING, _PONG, _MASKED, _PING_BYTES, _CONTROL_BYTES = 0x89, 0x8A, 0x80, 6, 125
#: What a connection reads that is no WebSocket yet.
_NOTHING_YET = object()


def answer_to_ping(data: bytes) -> bytes | None:
    """The pong, as a frame, if ``data`` is one ping of a client and nothing else."""
    if len(data) < _PING_BYTES or data[0] != _PING or data[1] != _MASKED | (len(data) - _PING_BYTES):
        return None
    size, mask, payload = len(data) - _PING_BYTES, data[2:_PING_BYTES], data[_PING_BYTES:]
    if size > _CONTROL_BYTES:
        return None
    plain = bytes(one ^ mask[index % 4] for index, one in enumerate(payload))
    return bytes((_PONG, size)) + plain


def guard_connections(
    connections: Connections, turns: Turns, writes: Writes, crossbar_protocol: Any, site: Any
) -> bool:
    """Have the connections of this process made and looked after as this module says.

    Args:
        connections: who looks after them.
        turns: whose frames are handled when.
        writes: keeps frames back that leave together.
        crossbar_protocol: Crossbar's module of protocols.
        site: Crossbar's class of a web server.

    Returns:
        Whether Crossbar is as expected; if not, nothing was changed.
    """
    factory = getattr(crossbar_protocol, "WampWebSocketServerFactory", None)
    base = getattr(factory, "protocol", None)
    needed = ["onConnect", "onOpen", "send", "sendFrame", "sendData", "sendCloseFrame", "onPong", "onFrameBegin"]
    needed += ["dataReceived", "connectionLost", "onMessage", "consumeData", "processData", "sendMessage"]
    needed += ["_dataReceived"]
    if not has(base, verbs=needed):
        return False
    build = site.buildProtocol

    def build_protocol(self: Any, address: Any) -> Any:
        protocol = build(self, address)
        if hasattr(protocol, "_channel"):
            connections.arrivals.come(protocol._channel, getattr(address, "host", None))
        return protocol

    crossbar_protocol.WampWebSocketServerFactory.protocol = _class_of(base, connections, turns, writes)
    site.buildProtocol = build_protocol
    connections.start()
    return True


def _class_of(base: Any, connections: Connections, its_turns: Turns, writes: Writes) -> Any:
    class Connection(ShortFrames, TurnTaking, Weighed, Incoming, Carrying, base):  # type: ignore[misc]
        """Crossbar's connection, looked after."""

        turns = its_turns
        queues = connections.queues
        end_heavy = staticmethod(connections.end_slow_reader)
        bounds = connections.bounds
        look_at_s = 0.0
        # Autobahn sets it when the WebSocket is open.
        current_frame: Any = _NOTHING_YET
        #: Where it comes from; ``None`` if that can't be known.
        client_ip: str | None = None
        _stranger_bytes = _STRANGER_BYTES
        is_refused = False
        _configured_origins: Any = ()

        @property
        def allowedOriginsPatterns(self) -> list[Any]:
            """The origins of pages that may open it: Autobahn asks when it has read the request's head."""
            return [*self._configured_origins, *own_origins(getattr(self, "http_headers", {}))]

        @allowedOriginsPatterns.setter
        def allowedOriginsPatterns(self, configured: Any) -> None:
            self._configured_origins = configured

        def onOpen(self) -> None:
            # The operator's options, in s: of silence before a ping, and after it.
            self.carry(connections.seconds, self.factory.autoPingInterval, self.factory.autoPingTimeout)
            self._find_client_ip()
            bind_channel(self.transport, self._transport_details)
            connections.arrivals.became(self.transport)
            connections.came(self, Step.OPENED)
            super().onOpen()

        def _find_client_ip(self) -> None:
            peer = self.transport.getPeer()
            host = getattr(peer, "host", None)
            if not isinstance(host, str):
                return
            forwarded_for = self.http_headers.get("x-forwarded-for")
            self.client_ip = client_ip = connections.proxies.client_ip_of(host, forwarded_for)
            if client_ip != host:
                # What Crossbar and Autobahn tell of it, and what our authenticator is told.
                self.peer = peer_text(client_ip, peer.port)
                self._transport_details.peer = self.peer
            elif connections.proxies.has(host):
                # Many come through it, and this one it names nobody for.
                self.client_ip = None

        def dataReceived(self, data: bytes) -> None:
            if self._stranger_bytes:
                if self.is_refused:
                    return
                if self.progress()[0] is Step.JOINED:
                    self._stranger_bytes = 0
                else:
                    self._stranger_bytes -= len(data)
                    if self._stranger_bytes <= 0:
                        self.dismiss()
                        return
            pong = answer_to_ping(data) if self.current_frame is None and not self.data else None
            if pong is not None and self.pulse is not None:
                # All that most connections have to say most of the time; by way of Autobahn it costs twice as much.
                self.pulse.heard_s = self._seconds()
                if self.state == self.STATE_OPEN:
                    write_soon(self.transport, pong)
                return
            super().dataReceived(data)

        def write_out(self, data: bytes) -> None:
            if not writes.keep(self, data):
                super().write_out(data)

        def sendData(self, data: bytes, *args: Any, **options: Any) -> None:
            if self._opcode not in DATA_OPCODES:
                # A ping of ours marks how far what was sent before it has come.
                writes.let_go(self)
            super().sendData(data, *args, **options)
            if self.outflow is not None:
                connections.sent(self)

        def send(self, msg: Any) -> None:
            # While it closes, which takes up to a second, Crossbar's router believes in it, and would take an error for
            # one of whoever published or called.
            if self.state == self.STATE_OPEN:
                if not self.send_message(msg):
                    super().send(msg)
                if self._stranger_bytes:
                    connections.answered(self, msg)

        def connectionLost(self, *args: Any) -> None:
            connections.left(self)
            super().connectionLost(*args)

        def progress(self) -> tuple[Step | None, float]:
            """How far it has come, and when it was heard last."""
            session = self._session
            heard_s = 0.0 if self.pulse is None else self.pulse.heard_s
            if session is None:
                return Step.OPENED, heard_s
            if session._session_id is not None:
                return Step.JOINED, heard_s
            # A HELLO of which a part is there is one that is to be finished.
            return Step.GREETED if session._pending_session_id or self.inside_message else Step.OPENED, heard_s

        def too_many_frames(self) -> None:
            connections.misbehaves(self, "it sent more frames than a join takes")

        def dismiss(self) -> None:
            """End it without a word."""
            self.transport.abortConnection()

        def end_with(self, sentence: str) -> None:
            """Drop what waits for it, and say why."""
            if self.outflow is not None:
                self.outflow.close()
            self.closeHandshakeTimeout = _READ_ON_S
            self.sendCloseFrame(code=_POLICY_VIOLATION, reasonUtf8=sentence.encode()[:_REASON_BYTES], isReply=False)

    return Connection
