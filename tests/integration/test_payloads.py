"""What can't travel, or is too large, on a real node: it is refused where it comes from, and ends nobody's session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from twisted.internet.defer import Deferred

from tests.support.node import NodeProcess
from tests.support.plain import join
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.binary import marked
from trishula.contract.deliveries import Delivery
from trishula.contract.limits import NodeLimits
from trishula.errors import MessageSetAside, PayloadNotJson, PayloadTooLarge, TrishulaError
from trishula.messaging import sender
from trishula.messaging.agent_file import AgentFile
from trishula.runtime.surroundings import real
from trishula.settings import Settings

pytestmark = pytest.mark.node

MIB = 1024 * 1024
SERIALIZERS = ("json", "msgpack", "cbor")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("payloads") / "state") as node:
        for name in ("agni", "dc", "ganga", "yamuna", "sindhu", "kaveri"):
            node.token(name)
        yield node


async def until(condition: Any, timeout_s: float = 60.0) -> None:
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        pause: Deferred[None] = Deferred()
        clock.callLater(0.01, pause.callback, None)
        await pause


def settings(node: NodeProcess, name: str) -> Settings:
    return Settings((node.url,), name, node.tokens[name])


@asynccontextmanager
async def running(node: NodeProcess, agent: Agent) -> AsyncIterator[None]:
    await agent.start(settings(node, agent.name), timeout=20.0)
    try:
        yield
    finally:
        await agent.stop(grace_s=1.0)


@asynccontextmanager
async def client_of(node: NodeProcess, name: str = "dc") -> AsyncIterator[tuple[Client, list[Delivery]]]:
    got: list[Delivery] = []
    client = Client(settings(node, name), instance="test")

    def take(deliveries: list[Delivery]) -> None:
        got.extend(deliveries)
        for delivery in deliveries:
            client.ack_soon(delivery.token)

    client.attach(take)
    try:
        await client.start(timeout=20.0)
        yield client, got
    finally:
        await client.stop()


async def failure_of(awaitable: Any) -> TrishulaError:
    try:
        outcome = await awaitable
    except TrishulaError as error:
        return error
    raise AssertionError(f"it succeeded with {outcome!r}")


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "has lost its node" in record.getMessage()]


def reporter(name: str = "agni", **options: Any) -> Agent:
    agent = Agent(name, **options)
    results: dict[str, Any] = {
        "huge": "x" * (17 * MIB),
        "large": "x" * (2 * MIB),
        "keys": {1: "one"},
        "deep": {"a": [{None: 1}]},
        "set": {"tags": {1}},
        "wide": 2**70,
        "good": {"a": (1, 2)},
    }

    @agent.procedure()
    def report(what: str) -> Any:
        return results[what]

    agent.on("STATUS")(lambda message: None)
    return agent


@on_reactor
async def test_a_result_that_can_not_travel_is_an_error_to_its_caller_and_ends_no_session(
    node: NodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(node, reporter()), client_of(node) as (dc, _):
        for what, kind, sentence in (
            ("huge", PayloadTooLarge, "message.payload has 17825794 bytes as JSON and the limit is 1048576 (1 MiB); "),
            ("large", PayloadTooLarge, "message.payload has 2097154 bytes as JSON and the limit is 1048576 (1 MiB); "),
            ("keys", PayloadNotJson, "message.payload has the key 1, of the type int; "),
            ("deep", PayloadNotJson, "message.payload.a[0] has the key null, of the type NoneType; "),
            ("set", PayloadNotJson, "message.payload.tags is of the type set: send a list; "),
            ("wide", PayloadNotJson, "message.payload is 1180591620717411303424, which "),
        ):
            error = await failure_of(dc.call("agni", "report", what, timeout=60.0))
            assert type(error) is kind
            assert str(error).startswith(sentence)
        assert await dc.call("agni", "report", "good", timeout=60.0) == {"a": [1, 2]}
    assert losses(caplog) == []


@on_reactor
async def test_a_live_result_that_can_not_travel_is_an_error_to_its_caller_and_ends_no_session(
    node: NodeProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(node, reporter()), client_of(node) as (dc, _):
        assert len(await dc.rpc("agni", "report", "large", timeout=60.0)) == 2 * MIB
        for what, kind in (("huge", PayloadTooLarge), ("keys", PayloadNotJson), ("set", PayloadNotJson)):
            error = await failure_of(dc.rpc("agni", "report", what, timeout=60.0))
            assert type(error) is kind
            assert str(error).startswith("the result of report")
        assert await dc.rpc("agni", "report", "good", timeout=60.0) == {"a": [1, 2]}
    assert losses(caplog) == []


@on_reactor
async def test_what_can_not_travel_is_refused_to_its_sender_and_nothing_is_on_the_screen(
    node: NodeProcess, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(node, reporter()), client_of(node) as (dc, _):
        url = dc.url
        refused = [
            dc.send("agni", payload={1: 2}),
            dc.send("agni", payload={"a": ({1.5: 2},)}),
            dc.send("agni", payload={1, 2}),
            dc.send("agni", payload="x" * (17 * MIB)),
            dc.call("agni", "report", {True: 1}),
            dc.rpc("agni", "report", {1: 2}),
            dc.rpc("agni", "report", "x" * (17 * MIB)),
            dc.publish("load", {1: 2}),
            dc.publish("load", "x" * (17 * MIB)),
        ]
        kinds = [type(await failure_of(one)).__name__ for one in refused]
        assert kinds == [
            "PayloadNotJson", "PayloadNotJson", "PayloadNotJson", "PayloadTooLarge", "PayloadNotJson",
            "PayloadNotJson", "PayloadTooLarge", "PayloadNotJson", "PayloadTooLarge",
        ]  # fmt: skip
        assert (await dc.send("agni", payload="x" * (MIB - 2))).status == "accepted"
        assert dc.url == url
    assert losses(caplog) == []
    assert capfd.readouterr() == ("", "")


@on_reactor
async def test_a_file_that_an_earlier_release_poisoned_is_cured_by_a_start(
    node: NodeProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three messages are left in its outbox that no node can read, among them the answer to a call, and a good one."""
    async with client_of(node) as (dc, got):
        command = await dc.send("ganga", type="COMMAND", procedure="report", id="c1", payload={"args": ["keys"]})
        assert command.status == "accepted"
        file = AgentFile.open(tmp_path / "ganga", real())
        caller = str(dc.address)
        left: list[dict[str, Any]] = [
            {
                "type": "RESULT",
                "id": f"c1.{caller.replace('/', ':')}.result",
                "to": caller,
                "reply_to": "c1",
                "payload": {1: "one"},
            },
            {"type": "STATUS", "id": "p2", "to": caller, "payload": {"a": {2**60: None}}},
            {"type": "STATUS", "id": "p3", "to": caller, "payload": "x" * (17 * MIB)},
            {"type": "STATUS", "id": "p4", "to": caller, "payload": "good"},
        ]
        for number, wire in enumerate(left, 1):
            file.put(number, msgspec.msgpack.encode(wire), None)
        await file.close()
        async with running(node, reporter("ganga", state=tmp_path)):
            await until(lambda: len(got) == 2)
        answers = {delivery.message.type: delivery.message for delivery in got}
        assert answers["STATUS"].payload == "good"
        assert answers["ERROR"].reply_to == "c1"
        assert answers["ERROR"].payload["error"] == PayloadNotJson.uri
    assert losses(caplog) == []
    for message_id in ("p2", "p3"):
        assert (
            f"Set aside: the STATUS {message_id} to {caller}, which an earlier run left, can't be sent: " in caplog.text
        )
    # The next start finds nothing of them.
    file = AgentFile.open(tmp_path / "ganga", real())
    assert [msgspec.msgpack.decode(one.message)["id"] for one in file.load().messages] == []
    aside = file._connection.execute("SELECT message, reason FROM aside").fetchall()
    assert [msgspec.msgpack.decode(message, strict=False)["id"] for message, _ in aside] == [
        left[0]["id"], "p2", "p3",
    ]  # fmt: skip
    await file.close()


@on_reactor
async def test_what_slips_through_all_the_same_is_found_and_the_others_go_on(
    node: NodeProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = sender._encoded

    def unchecked(wire: dict[str, Any], limits: NodeLimits, path: str) -> bytes:
        # A fault of ours: the encoder lets it pass.
        return msgspec.msgpack.encode(wire) if wire["id"] == "poison" else checked(wire, limits, path)

    monkeypatch.setattr(sender, "_encoded", unchecked)
    agni = reporter("agni", state=tmp_path)
    async with client_of(node) as (dc, got):
        async with running(node, agni):
            to = str(dc.address)
            sent = [agni.send(to, payload=number) for number in range(20)]
            poison = agni.send(to, id="poison", payload={1: "one"})
            sent += [agni.send(to, payload=number) for number in range(20, 40)]
            error = await failure_of(poison)
            assert isinstance(error, MessageSetAside)
            # The node's own words.
            assert "WAMP Protocol Error" in str(error)
            assert "is not allowed for map key" in str(error)
            assert {(await one).status for one in sent} <= {"accepted", "duplicate"}
            await until(lambda: len(got) == 40)
            assert [delivery.message.payload for delivery in got] == list(range(40))
        assert f"Set aside: the message poison to {to}" in caplog.text
        caplog.clear()
        async with running(node, agni):
            await agni.send(to, payload="after")
            await until(lambda: len(got) == 41)
        assert losses(caplog) == []


@on_reactor
async def test_a_node_says_why_before_it_cuts_a_connection(node: NodeProcess) -> None:
    client = await join(node.url, "dc", node.tokens["dc"], serializer="msgpack")
    transport: Any = client._session._transport
    closed: Deferred[tuple[int, str]] = Deferred()
    transport.onClose = lambda clean, code, reason: closed.callback((code, reason))
    client.send_frame(msgpack.packb([48, 1, {}, uris.MAILBOX_SEND, [[{"id": "x", "payload": {1: 2}}]]]))
    code, reason = await closed
    assert code == 1002
    assert reason.startswith("WAMP Protocol Error (")
    assert "is not allowed for map key" in reason


# -- clients that take no frame of 1 MiB -------------------------------------------------------------------------------

PAYLOADS: list[Any] = ["x" * 100_000] * 12 + [[0.0] * 30_000] * 12 + ["é\n" * 30_000] * 12 + [[24] * 300_000] * 2


@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
@on_reactor
async def test_what_is_pushed_and_fetched_stays_below_a_mebibyte_a_frame(node: NodeProcess, serializer: str) -> None:
    name = {"json": "ganga", "msgpack": "yamuna", "cbor": "sindhu"}[serializer]
    async with client_of(node) as (dc, _):
        await dc.send_many([{"to": name, "payload": payload} for payload in PAYLOADS])
        client = await join(node.url, name, node.tokens[name], serializer=serializer, frame_limit_bytes=MIB - 1)
        fetched: list[Any] = []
        tokens: list[str] = []
        while len(fetched) < len(PAYLOADS) // 2:
            answer = await client.call(uris.MAILBOX_FETCH, {"max": 10, "wait_s": 10})
            fetched += [delivery["message"]["payload"] for delivery in answer["deliveries"]]
            tokens += [delivery["token"] for delivery in answer["deliveries"]]
        await client.call(uris.MAILBOX_ACK, tokens)
        peeked = await client.call(uris.MAILBOX_PEEK, {"max": 1000})
        assert peeked["messages"]
        pushed: list[Any] = []

        def heard(deliveries: list[dict[str, Any]], details: Any) -> None:
            pushed.extend(delivery["message"]["payload"] for delivery in deliveries)

        await client.subscribe(uris.inbox_of(Address.parse(name)), heard)
        await client.call(uris.MAILBOX_ATTACH, {"window": 64})
        await until(lambda: len(fetched) + len(pushed) >= len(PAYLOADS) or client.gone.called)
        assert not client.gone.called
        assert fetched + pushed == PAYLOADS
        await client.leave()


# -- bytes -------------------------------------------------------------------------------------------------------------

BINARY: list[Any] = [
    b"",
    b"\x00\x01\x02",
    {"picture": bytes(range(256)) * 40, "name": "ä", "parts": [b"1", "1", 1, None, {"\x00": b"\xff"}]},
    # What looks like bytes in some other convention is what it is.
    {"$bytes": "AAEC", "text": '"\\u0000AAEC'},
]


@on_reactor
async def test_bytes_come_as_bytes_whoever_sends_them_and_whoever_reads_them(node: NodeProcess) -> None:
    """Over each serializer to each, pushed and fetched, by our client and by others."""
    async with client_of(node) as (dc, got):
        expected: list[Any] = []
        me = str(dc.address)
        senders = {one: await join(node.url, "agni", node.tokens["agni"], serializer=one) for one in SERIALIZERS}
        for serializer, sender_of in senders.items():
            for number, payload in enumerate(BINARY):
                raw = {"type": "STATUS", "id": f"{serializer}.{number}", "payload": payload}
                answer = await sender_of.call(uris.MAILBOX_SEND, [{**raw, "to": to} for to in (me,)])
                assert [one["status"] for one in answer] == ["accepted"]
                expected.append(payload)
                # Whoever sends it again, the same by another serializer, is told that it is there.
                again = [await other.call(uris.MAILBOX_SEND, [{**raw, "to": me}]) for other in senders.values()]
                assert [one["status"] for (one,) in again] == ["duplicate"] * len(senders)

        def read() -> list[Any]:
            # What a test before it left in the mailbox may come again.
            return [delivery.message.payload for delivery in got if delivery.message.type == "STATUS"]

        await until(lambda: len(read()) >= len(expected))
        assert read() == expected
        # Base64 of the same, as text, is something else.
        text = {"type": "STATUS", "id": "msgpack.1", "to": me, "payload": "AAEC"}
        assert (await senders["json"].call(uris.MAILBOX_SEND, [text]))[0]["error"] == "trishula.error.id_reused"
        for one in senders.values():
            await one.leave()
        for serializer in SERIALIZERS:
            for is_native in (True, False):
                await dc.send_many([{"to": "kaveri", "payload": payload} for payload in BINARY])
                reader = await join(node.url, "kaveri", node.tokens["kaveri"], serializer=serializer)
                told = {"binary": True} if is_native else {}
                answer = await reader.call(uris.MAILBOX_FETCH, {"max": 10, "wait_s": 10, **told})
                fetched = [one["message"]["payload"] for one in answer["deliveries"]]
                # Who doesn't say that it takes them gets them as JSON has them; in JSON that is one and the same.
                assert fetched == (BINARY if is_native or serializer == "json" else [marked(one) for one in BINARY])
                await reader.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]])
                await reader.leave()


@on_reactor
async def test_bytes_are_arguments_results_events_and_what_a_handler_keeps(node: NodeProcess, tmp_path: Path) -> None:
    agni = Agent("agni", state=tmp_path)

    @agni.procedure()
    def turn(data: bytes, more: dict[str, Any]) -> dict[str, Any]:
        return {"turned": data[::-1], "more": more, "kind": type(data).__name__}

    heard: list[Any] = []
    async with running(node, agni), client_of(node) as (dc, _):
        for call in (dc.call, dc.rpc):
            answer = await call("agni", "turn", b"\x00\x01", {"a": [bytearray(b"x"), b""]}, timeout=60.0)
            assert answer == {"turned": b"\x01\x00", "more": {"a": [b"x", b""]}, "kind": "bytes"}
        await dc.subscribe("news", heard.append, of="agni")
        await agni.publish("news", {"data": memoryview(b"\xff")})
        await until(lambda: heard)
        assert heard == [{"data": b"\xff"}]
        # As JSON it has a third more, and that is what the limit counts.
        error = await failure_of(dc.send("agni", payload=bytes(800_000)))
        assert str(error).startswith("message.payload has 1066676 bytes as JSON and the limit is 1048576 (1 MiB); ")
        assert (await dc.send("agni", payload=bytes(786_000))).status == "accepted"
