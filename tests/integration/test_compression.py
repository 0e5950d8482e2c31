"""permessage-deflate on a node whose operator has turned it on: who gets it, what it saves, and what bombs come to."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.integration.test_frames import Others, hello
from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from tests.support.reactor import on_reactor
from trishula.client import Client
from trishula.contract.deliveries import Delivery
from trishula.runtime.surroundings import real
from trishula.session import connection
from trishula.settings import Settings

pytestmark = pytest.mark.node

MIB = 1024 * 1024
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
DEFLATE = {"max_window_bits": 12, "request_max_window_bits": 12, "memory_level": 5}
ASKED = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
#: Final, text, and the bit that says "packed".
_PACKED_TEXT = 0x40 | 1
PATIENCE_S = 20.0
#: An instance of its own for each try: what one has not acknowledged by its end comes to the next one again.
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    home = tmp_path_factory.mktemp("compression")
    config = json.loads(SHIPPED.read_text())
    config["workers"][0]["transports"][0]["paths"]["ws"]["options"]["compression"] = {"deflate": DEFLATE}
    (home / "node.json").write_text(json.dumps(config))
    with NodeProcess(home / "state", config=home / "node.json") as node:
        for name in ("agni", "dc", "eve"):
            node.token(name)
        yield node


def packed(data: bytes) -> bytes:
    """A whole message, packed with a window that the node asks for."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@contextlib.contextmanager
def member(node: NodeProcess) -> Iterator[RawClient]:
    with RawClient(node.url, headers=[ASKED]) as client:
        client.open()
        client.send_frame(_PACKED_TEXT, packed(json.dumps(hello("eve")).encode()))
        unpack = zlib.decompressobj(-12)

        def answer() -> list[Any]:
            message: list[Any] = json.loads(unpack.decompress(client.receive_bytes() + b"\x00\x00\xff\xff"))
            return message

        assert answer()[0] == 4
        client.send_frame(_PACKED_TEXT, packed(json.dumps([5, node.tokens["eve"], {}]).encode()))
        assert answer()[0] == 2
        yield client


def end_of(client: RawClient) -> tuple[int, str]:
    client.socket.settimeout(PATIENCE_S)
    with contextlib.suppress(OSError):
        while True:
            client.receive_bytes()
    return client.close_code, client.close_reason


def test_who_asks_for_it_gets_it_with_the_windows_of_the_configuration(node: NodeProcess) -> None:
    with RawClient(node.url, headers=[ASKED]) as client:
        client.socket.sendall(client.request())
        answer = client.socket.recv(65536).lower()
        assert answer.startswith(b"http/1.1 101 ")
        (agreed,) = [line for line in answer.split(b"\r\n") if line.startswith(b"sec-websocket-extensions:")]
        assert b"permessage-deflate" in agreed
        assert b"client_max_window_bits=12" in agreed
    with RawClient(node.url) as client:
        client.socket.sendall(client.request())
        assert b"extensions" not in client.socket.recv(65536).lower()


def test_a_bomb_of_a_stranger_ends_at_what_a_stranger_may_say(node: NodeProcess) -> None:
    with Others(node) as others:
        for _ in range(5):
            with RawClient(node.url, headers=[ASKED]) as client:
                client.open()
                client.send_frame(_PACKED_TEXT, packed(b" " * (12 * MIB)))
                code, reason = end_of(client)
                assert (code, "16384" in reason) in ((1009, True), (0, False))
        others.check(8 * MIB)


def test_a_bomb_of_a_member_ends_at_the_limit_of_messages_and_takes_no_more_memory(node: NodeProcess) -> None:
    with Others(node) as others:
        for size in (256 * MIB, 17 * MIB):
            bomb = packed(bytes(size))
            assert len(bomb) < 300_000
            with member(node) as client:
                client.send_frame(_PACKED_TEXT, bomb)
                code, reason = end_of(client)
                assert code == 1009
                assert "after decompression" in reason
        # The largest message that there may be, and what is around it.
        others.check(48 * MIB)


def test_a_bomb_in_many_fragments_is_counted_whole(node: NodeProcess) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    with Others(node) as others, member(node) as client:
        opcode = _PACKED_TEXT
        with contextlib.suppress(OSError):
            for _ in range(40):
                part = packer.compress(b" " * MIB) + packer.flush(zlib.Z_SYNC_FLUSH)
                client.send_frame(opcode, part, is_last=False)
                opcode = 0
        code, _ = end_of(client)
        assert code in (0, 1009)
        others.check(64 * MIB)


def test_what_is_no_deflate_ends_its_session(node: NodeProcess) -> None:
    with Others(node) as others:
        with member(node) as client:
            client.send_frame(_PACKED_TEXT, b"\xff" * 1000)
            code, reason = end_of(client)
            assert code == 1007
            assert "cannot be decompressed" in reason
        others.check(8 * MIB)


def test_a_frame_of_control_is_never_packed(node: NodeProcess) -> None:
    with member(node) as client:
        client.pour(b"\xc9\x80" + struct.pack("!I", 0))
        assert end_of(client)[0] == 1002


async def until(condition: Any, timeout_s: float = 60.0) -> None:
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        pause: Deferred[None] = Deferred()
        clock.callLater(0.01, pause.callback, None)
        await pause


async def octets_of(node: NodeProcess, *, compression: bool) -> tuple[int, int]:
    """Send ourselves text, bytes and many small messages: what was said, and how many bytes the socket carried."""
    got: list[Delivery] = []
    client = Client(
        Settings((node.url,), "dc", node.tokens["dc"], compression=compression), instance=f"try{next(NUMBERS)}"
    )

    def take(deliveries: list[Delivery]) -> None:
        got.extend(deliveries)
        for delivery in deliveries:
            client.ack_soon(delivery.token)

    client.attach(take)
    await client.start(timeout=20.0)
    try:
        noise = os.urandom(20_000).hex()
        payloads: list[Any] = [{"text": "the state of the build is good; " * 3000}, {"noise": noise}]
        payloads += [{"n": n, "state": "idle", "load": 0.25} for n in range(200)]
        await client.send_many([{"to": str(client.address), "payload": one} for one in payloads])
        await until(lambda: len(got) >= len(payloads))
        assert [one.message.payload for one in got] == payloads
        link: Any = client._engine.member.link
        stats = link._session._transport.trafficStats
        return (
            stats.outgoingOctetsAppLevel + stats.incomingOctetsAppLevel,
            stats.outgoingOctetsWebSocketLevel + stats.incomingOctetsWebSocketLevel,
        )
    finally:
        await client.stop()


@on_reactor
async def test_our_client_asks_for_it_where_the_settings_say_so_and_not_on_this_machine(
    node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, carried = await octets_of(node, compression=True)
    assert carried >= said
    monkeypatch.setattr(connection, "is_this_machine", lambda host: False)
    said, carried = await octets_of(node, compression=False)
    assert carried >= said
    said, carried = await octets_of(node, compression=True)
    assert carried < said / 2
