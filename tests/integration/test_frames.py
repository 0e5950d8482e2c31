"""What one frame may cost a node, by whom and in whichever format; on sockets that know no rules."""

from __future__ import annotations

import contextlib
import itertools
import json
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import msgpack
import psutil
import pytest

from tests.support.node import NodeProcess
from tests.support.raw import RawClient
from trishula.contract import uris

pytestmark = pytest.mark.node

MIB = 1024 * 1024
#: A machine with much to do may take so long for what takes a millisecond; the attacks took seconds, and gigabytes.
GENEROUS_S = 1.0
GENEROUS_BYTES = 160 * MIB
PATIENCE_S = 20.0
_TEXT, _BINARY, _CONTINUATION, _PING = 1, 2, 0, 9


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("frames") / "state") as node:
        for name in ("agni", "dc", "eve"):
            node.token(name)
        yield node


@dataclass(frozen=True)
class Format:
    """How WAMP is written."""

    protocol: str
    opcode: int
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]

    def call(self, argument: bytes) -> bytes:
        """A CALL that has an argument, which is written already."""
        head = {
            "wamp.2.json": b'[48,1,{},"%b",[%b]]',
            "wamp.2.msgpack": b"\x95\x30\x01\x80%b\x91%b",
            "wamp.2.cbor": b"\x85\x18\x30\x01\xa0%b\x81%b",
        }[self.protocol]
        uri = uris.DIRECTORY_FIND.encode() if self.opcode == _TEXT else self.pack(uris.DIRECTORY_FIND)
        return head % (uri, argument)


FORMATS = {
    "json": Format("wamp.2.json", _TEXT, lambda value: json.dumps(value).encode(), json.loads),
    "msgpack": Format("wamp.2.msgpack", _BINARY, lambda value: bytes(msgpack.packb(value)), msgpack.unpackb),
    "cbor": Format("wamp.2.cbor", _BINARY, cbor2.dumps, cbor2.loads),
}


def hello(agent: str = "dc", **more: Any) -> list[Any]:
    roles: dict[str, Any] = {role: {} for role in ("caller", "callee", "subscriber", "publisher")}
    return [1, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": agent, **more}]


@contextlib.contextmanager
def stranger(node: NodeProcess, kind: str) -> Iterator[RawClient]:
    with RawClient(node.url) as client:
        client.open(FORMATS[kind].protocol)
        yield client


@contextlib.contextmanager
def member(node: NodeProcess, kind: str, agent: str = "eve") -> Iterator[RawClient]:
    how = FORMATS[kind]
    with stranger(node, kind) as client:
        client.send_frame(how.opcode, how.pack(hello(agent)))
        assert how.unpack(client.receive_bytes())[0] == 4
        client.send_frame(how.opcode, how.pack([5, node.tokens[agent], {}]))
        assert how.unpack(client.receive_bytes())[0] == 2
        yield client


class Others:
    """Another agent's light load, and what the worker takes meanwhile."""

    def __init__(self, node: NodeProcess) -> None:
        self.waits_s: list[float] = []
        self.most_bytes = 0
        self._worker = psutil.Process(node.worker_pid())
        self._client = RawClient(node.url)
        self._client.open()
        self._client.join("agni", node.tokens["agni"])
        self._is_over = False
        self._threads = [threading.Thread(target=work) for work in (self._call, self._look)]

    def __enter__(self) -> Others:
        self.before_bytes = self.now_bytes
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()
        self._client.socket.close()

    @property
    def now_bytes(self) -> int:
        return int(self._worker.memory_info().rss)

    def check(self, most_bytes: int = GENEROUS_BYTES) -> None:
        """Nobody waited for long, and the worker did not grow by much."""
        seen = len(self.waits_s)
        deadline = time.monotonic() + PATIENCE_S
        while len(self.waits_s) < seen + 2:
            # One that has just begun may be the one that waits.
            assert time.monotonic() < deadline, "nobody is answered any more"
            time.sleep(0.01)
        assert max(self.waits_s) < GENEROUS_S
        assert self.most_bytes - self.before_bytes < most_bytes

    def _call(self) -> None:
        while not self._is_over:
            began_s = time.monotonic()
            self._client.call(uris.DIRECTORY_BEAT, {"sent_at": 1})
            self.waits_s.append(time.monotonic() - began_s)
            time.sleep(0.005)

    def _look(self) -> None:
        while not self._is_over:
            self.most_bytes = max(self.most_bytes, self.now_bytes)
            time.sleep(0.002)


def ended(client: RawClient) -> str:
    """Wait for the end; the reason that was told, "" if there was no time for one."""
    client.socket.settimeout(PATIENCE_S)
    try:
        while True:
            client.receive_bytes()
    except (ConnectionError, BrokenPipeError):
        return client.close_reason


def send_what_fits(client: RawClient, opcode: int, payload: bytes, **more: bool) -> None:
    """Send a frame that the node may refuse by its head."""
    with contextlib.suppress(OSError):
        client.send_frame(opcode, payload, **more)


# -- CBOR and MessagePack, as none of their libraries would write them -------------------------------------------------


def cbor_list(count: int) -> bytes:
    return b"\x9a" + struct.pack("!I", count)


def cbor_collisions(count: int) -> bytes:
    """A map whose keys have one and the same hash: tuples of -1 and -2, whose hashes are equal in Python."""
    keys = itertools.islice(itertools.product(b"\x20\x21", repeat=16), count)
    return b"\xba" + struct.pack("!I", count) + b"".join(b"\x90" + bytes(key) + b"\xf6" for key in keys)


def cbor_set(count: int) -> bytes:
    """A set of the same."""
    keys = itertools.islice(itertools.product(b"\x20\x21", repeat=16), count)
    return b"\xd9\x01\x02" + cbor_list(count) + b"".join(b"\x90" + bytes(key) for key in keys)


SLOW_PATTERN = b"\xd8\x23" + cbor2.dumps("[^a]" * 2500)


def msgpack_list(count: int) -> bytes:
    return b"\xdd" + struct.pack("!I", count)


# -- strangers ---------------------------------------------------------------------------------------------------------

GREETING = cbor2.dumps(uris.REALM)
#: Of each: the format, the frame, and what the reason says.
FRAMES_OF_STRANGERS: dict[str, tuple[str, bytes, str]] = {
    "collisions": ("cbor", b"\x83\x01" + GREETING + cbor_collisions(26_000), "exceeds payload limit of 16384"),
    "few collisions": ("cbor", b"\x83\x01" + GREETING + cbor_collisions(800), "map key must be a text"),
    "regular expression": ("cbor", b"\x82\x01" + SLOW_PATTERN, "tag 35"),
    "references": ("cbor", cbor2.dumps([1, ["x"] * 2], value_sharing=True), "tag 28"),
    "a set": ("cbor", b"\x82\x01" + cbor_set(500), "tag 258"),
    "a large number": ("cbor", b"\x82\x01\xc2" + cbor2.dumps(b"\xff" * 10_000), "tag 2"),
    "an unknown tag": ("cbor", b"\x82\x01\xda\x00\x12\x34\x56\x01", "tag"),
    "keys of bytes in CBOR": ("cbor", cbor2.dumps([1, uris.REALM, {b"roles": {}}]), "keys must be texts"),
    "keys of bytes": ("msgpack", bytes(msgpack.packb([1, uris.REALM, {b"roles": {}}])), "keys must be texts"),
    "keys of numbers": ("msgpack", bytes(msgpack.packb([1, uris.REALM, {1: 1}])), "not allowed for map key"),
    "an extension": ("msgpack", bytes(msgpack.packb([1, msgpack.ExtType(5, b"xx")])), "exceeds max_ext_len"),
    "a time": ("msgpack", bytes(msgpack.packb([1, msgpack.Timestamp(1, 1)])), "exceeds max_ext_len"),
    "15 MiB of JSON": ("json", b" " * (15 * MIB), "exceeds payload limit of 16384"),
    "15 MiB of maps": ("msgpack", msgpack_list(15 * MIB) + b"\x80" * (15 * MIB), "exceeds payload limit of 16384"),
    "many levels": ("json", b"[" * 30 + b"]" * 30, "deeper than"),
    "many levels in CBOR": ("cbor", b"\x81" * 30 + b"\x01", "deeper than"),
    "many levels in MessagePack": ("msgpack", b"\x91" * 30 + b"\x01", "deeper than"),
    "two messages": ("json", b"\x18".join([json.dumps(hello()).encode()] * 2), "Extra data"),
    "a call": ("json", b'[48,1,{},"trishula.directory.list"]', "nothing to say but HELLO"),
    "a publication": ("msgpack", bytes(msgpack.packb([16, 1, {}, "trishula.event.agent"])), "nothing to say but HELLO"),
    "no message": ("json", b"{}", "nothing to say but HELLO"),
}


@pytest.mark.parametrize("case", FRAMES_OF_STRANGERS)
def test_a_frame_of_a_stranger_costs_next_to_nothing(node: NodeProcess, case: str) -> None:
    kind, frame, reason = FRAMES_OF_STRANGERS[case]
    with Others(node) as others, stranger(node, kind) as client:
        send_what_fits(client, FORMATS[kind].opcode, frame)
        told = ended(client)
        # What the node leaves unread makes the kernel send a reset, which may overtake the reason.
        assert reason in told or (told == "" and len(frame) > 65536)
        others.check(40 * MIB)


def test_a_stranger_sends_its_greeting_in_fragments_but_not_a_large_one(node: NodeProcess) -> None:
    whole = json.dumps(hello()).encode()
    with stranger(node, "json") as client:
        for at, byte in enumerate(whole[:20]):
            client.send_frame(_CONTINUATION if at else _TEXT, bytes((byte,)), is_last=False)
        client.send_frame(_CONTINUATION, whole[20:])
        assert client.receive()[0] == 4
    with stranger(node, "json") as client:
        for at in range(3):
            send_what_fits(client, _CONTINUATION if at else _TEXT, b" " * 8000, is_last=False)
        assert "exceeds payload limit of 16384" in ended(client)


def test_a_second_hello_ends_what_is_no_session_yet_and_what_is_one(node: NodeProcess) -> None:
    with stranger(node, "json") as client:
        client.send(hello())
        assert client.receive()[0] == 4
        client.send(hello())
        assert "second HELLO" in ended(client)
    with member(node, "json") as client:
        client.send(hello("eve"))
        assert "HELLO came though" in ended(client)


def test_who_has_left_its_session_is_a_stranger_again(node: NodeProcess) -> None:
    with member(node, "json") as client:
        client.send([6, {}, "wamp.close.normal"])
        assert client.receive()[0] == 6
        client.send(hello("eve"))
        assert client.receive()[0] == 4
        send_what_fits(client, _TEXT, b" " * 20_000)
        assert "exceeds payload limit of 16384" in ended(client)


@pytest.mark.parametrize(
    ("first", "more"),
    [(b"\x89\x80" + bytes(4), b"\x89\x80" + bytes(4)), (b"\x01\x80" + bytes(4), b"\x00\x80" + bytes(4))],
    ids=["pings", "empty fragments"],
)
def test_ten_thousand_frames_of_a_stranger_are_not_looked_at(node: NodeProcess, first: bytes, more: bytes) -> None:
    with Others(node) as others, contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(stranger(node, "json"))
            with contextlib.suppress(OSError):
                client.socket.sendall(first + more * 10_000)
            assert client.is_closed_within(PATIENCE_S)
        others.check(40 * MIB)


@pytest.mark.parametrize("name", ["json.batched", "msgpack.batched", "cbor.batched", "ubjson", "flatbuffers"])
@pytest.mark.parametrize("version", ["2", "02"])
def test_a_node_speaks_what_is_configured_and_nothing_else(node: NodeProcess, name: str, version: str) -> None:
    with RawClient(node.url) as client:
        client.socket.sendall(client.request(f"wamp.{version}.{name}"))
        answer = client.socket.recv(65536).partition(b"\r\n")[0].decode()
    assert answer.startswith("HTTP/1.1 400 ")
    assert ".batched" not in answer
    assert "wamp.2.json" in answer


def test_a_bomb_of_deflate_is_no_frame(node: NodeProcess) -> None:
    """Nothing is unpacked: the extension is not agreed to, and a frame that is packed all the same ends its session."""
    with Others(node) as others, RawClient(node.url) as client:
        asked = client.request().replace(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        client.socket.sendall(asked)
        answer = client.socket.recv(65536)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in answer.lower()
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = packer.compress(bytes(12 * MIB)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
        assert len(bomb) < 16_000
        # Final, text, and the bit that says "packed"; masked with zeros.
        client.socket.sendall(b"\xc1\xfe" + struct.pack("!H", len(bomb)) + bytes(4) + bomb)
        assert client.is_closed_within(PATIENCE_S)
        others.check(8 * MIB)


def test_unfinished_messages_of_strangers_are_not_kept(node: NodeProcess) -> None:
    with Others(node) as others, contextlib.ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(stranger(node, "json"))
            send_what_fits(client, _TEXT, b" " * (2 * MIB), is_last=False)
            assert "16384" in ended(client) or client.close_reason == ""
        others.check(40 * MIB)


# -- members -----------------------------------------------------------------------------------------------------------

SIZE = 15 * MIB
#: Of each: the format, the argument of a call, and what the reason of the end says; "": the call is answered.
ARGUMENTS_OF_MEMBERS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "maps": ("json", lambda: b"[" + b"{}," * (SIZE // 3) + b"1]", "more values than"),
    "lists": ("json", lambda: b"[" + b"[]," * (SIZE // 3) + b"1]", "more values than"),
    "digits": ("json", lambda: b"[" + b"1," * (SIZE // 2) + b"1]", "more values than"),
    "texts": ("json", lambda: b"[" + b'"a,",' * (SIZE // 5) + b"1]", "more values than"),
    "keys": (
        "json",
        lambda: json.dumps({str(number): 0 for number in range(200_000)}).encode(),
        "keys, lists and maps",
    ),
    "escapes": ("json", lambda: b"[" + b'"\\",[",' * (SIZE // 7) + b"1]", "more values than"),
    "texts that stand for bytes": ("json", lambda: b"[" + b'"\\u0000YQ==",' * 400_000 + b"1]", "stand for bytes"),
    "long numbers": ("json", lambda: b"[" + (b"9" * 4000 + b",") * (SIZE // 4001) + b"1]", "640 digits"),
    "levels": ("json", lambda: b"[" * 500 + b"]" * 500, "deeper than"),
    "one text": ("json", lambda: b'"\xf0\x9f\x98\x80' + b"a" * SIZE + b'"', ""),
    "maps in MessagePack": ("msgpack", lambda: msgpack_list(SIZE) + b"\x80" * SIZE, "max_array_len"),
    "nested lists in MessagePack": (
        "msgpack",
        lambda: msgpack_list(SIZE // 100) + (b"\xdc\x00\x61" + b"\x90" * 97) * (SIZE // 100),
        "keys, lists and maps",
    ),
    "keys in MessagePack": (
        "msgpack",
        lambda: msgpack_list(SIZE // 4) + b"\x81\xa1a\x01" * (SIZE // 4),
        "max_array_len",
    ),
    "times in MessagePack": ("msgpack", lambda: b"\xdc\x13\x88" + b"\xd6\xff\0\0\0\0" * 5000, "max_ext_len"),
    "extensions in MessagePack": ("msgpack", lambda: b"\xdc\x13\x88" + b"\xc7\x00\x05" * 5000, "extension types"),
    "maps in CBOR": ("cbor", lambda: cbor_list(SIZE) + b"\xa0" * SIZE, "keys, lists and maps"),
    "keys in CBOR": (
        "cbor",
        lambda: cbor2.dumps({str(number): 0 for number in range(200_000)}),
        "keys, lists and maps",
    ),
    "lists in CBOR": ("cbor", lambda: cbor_list(600_000) + b"\x80" * 600_000, "keys, lists and maps"),
    "an endless list in CBOR": ("cbor", lambda: b"\x9f" + b"\x80" * SIZE + b"\xff", "keys, lists and maps"),
    "digits in CBOR": ("cbor", lambda: cbor_list(SIZE) + bytes(SIZE), "more values than"),
    "texts in CBOR": ("cbor", lambda: b"\x9f" + (b"\x78\x18" + b"a" * 24) * (SIZE // 25) + b"\xff", "more values than"),
    "collisions in CBOR": ("cbor", lambda: cbor_collisions(26_000), "decoding map"),
    "a set in CBOR": ("cbor", lambda: cbor_set(50_000), "tag 258"),
    "a pattern in CBOR": ("cbor", lambda: SLOW_PATTERN, "tag 35"),
    "a fraction in CBOR": ("cbor", lambda: b"\xc4\x82\x1b" + b"\x7f" * 8 + b"\x01", "tag 4"),
}


@pytest.mark.parametrize("case", ARGUMENTS_OF_MEMBERS)
def test_a_frame_of_an_agent_costs_little_more_than_its_bytes(node: NodeProcess, case: str) -> None:
    kind, make, reason = ARGUMENTS_OF_MEMBERS[case]
    how = FORMATS[kind]
    frame = how.call(make())
    with Others(node) as others, member(node, kind) as client:
        client.send_frame(how.opcode, frame)
        if reason:
            assert reason in ended(client)
            assert client.close_code == 1002
        else:
            assert how.unpack(client.receive_bytes())[0] == 8
        others.check(240 * MIB if case == "one text" else GENEROUS_BYTES)


@pytest.mark.parametrize("kind", FORMATS)
def test_honest_messages_of_the_largest_sizes_are_taken(node: NodeProcess, kind: str) -> None:
    how = FORMATS[kind]
    digits = [0] * (MIB // 2 - 1)
    numbers = iter(range(10_000))

    def message(payload: object) -> dict[str, Any]:
        return {"type": "STATUS", "id": f"{kind}-{next(numbers)}", "to": "dc", "payload": payload}

    batches: list[list[dict[str, Any]]] = [
        [message(digits)],
        [message("a," * (MIB // 2 - 10)) for _ in range(12)],
        [message({"row": [{"name": f"n{row}", "value": row}] * 10}) for row in range(1024)],
    ]
    with member(node, kind) as client:
        for number, batch in enumerate(batches, 1):
            client.send_frame(how.opcode, how.pack([48, number, {}, uris.MAILBOX_SEND, [batch]]))
            answer = how.unpack(client.receive_bytes())
            assert [receipt["status"] for receipt in answer[3][0]] == ["accepted"] * len(batch)


def test_unfinished_messages_of_agents_are_bounded_and_their_memory_is_given_back(node: NodeProcess) -> None:
    with Others(node) as others:
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(member(node, "json")) for _ in range(40)]
            for client in crowd:
                send_what_fits(client, _TEXT, b" " * SIZE, is_last=False)
            others.check()
            reasons = [client.close_reason for client in crowd if client.is_closed_within(0.2)]
            assert len(reasons) >= 30
        deadline = time.monotonic() + PATIENCE_S
        while others.now_bytes - others.before_bytes > 50 * MIB:
            assert time.monotonic() < deadline, "the memory was not given back"
            time.sleep(0.1)


@pytest.mark.parametrize(
    "frame", [b"\x00\x81" + bytes(4) + b" ", b"\x00\x80" + bytes(4), b"\x89\x80" + bytes(4), b"\x8a\x80" + bytes(4)]
)
def test_thousands_of_frames_that_say_nothing_are_not_looked_at(node: NodeProcess, frame: bytes) -> None:
    with Others(node) as others, member(node, "json") as client:
        client.send_frame(_TEXT, b" ", is_last=False)
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.socket.sendall(frame * 9000)
        assert "came at once" in ended(client) or client.close_reason == ""
        others.check(40 * MIB)


def test_another_agents_large_message_gets_through_meanwhile(node: NodeProcess) -> None:
    how = FORMATS["json"]
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            send_what_fits(stack.enter_context(member(node, "json")), _TEXT, b" " * SIZE, is_last=False)
        with member(node, "json", "dc") as client:
            frame = how.call(b'"' + b"x" * (10 * MIB) + b'"')
            client.send_frame(_TEXT, frame[: 9 * MIB], is_last=False)
            client.send_frame(_CONTINUATION, frame[9 * MIB :])
            assert client.receive()[0] == 8
