"""The wire contract as any WAMP client meets it: plain Autobahn, none of our client code, JSON and MessagePack.

Each procedure and topic of section 4 of the design: what it answers, and what it says to bad input. The same tests run
on a bus in memory (:mod:`trishula.testing`), which is to be no other bus than the real one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from tests.support.memory_plain import MemoryNode
from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, Refused
from tests.support.reactor import on_reactor
from tests.support.sessions import joined, session
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.signed import Signature, key_id, statement
from trishula.key_file import AgentKey
from trishula.testing import Grants

pytestmark = pytest.mark.node

E = "trishula.error."


Node = NodeProcess | MemoryNode


# By itself: begun for the first test that asks for it, it would be a process which that test leaves behind.
@pytest.fixture(scope="module", autouse=True)
def real_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("wire") / "state") as node:
        for name in ("agni", "dc", "rushabdev"):
            node.token(name, serve=["deploy", "host"] if name == "agni" else [])
        node.token("boss", operator=True)
        yield node


@pytest.fixture(scope="module")
def memory_node() -> Iterator[MemoryNode]:
    names = ("agni", "dc", "rushabdev", "boss")
    served = {"agni": ("deploy", "host")}
    agents = {name: Grants(serve=served.get(name, ()), operator=name == "boss") for name in names}
    with MemoryNode(agents) as node:
        yield node


@pytest.fixture(params=["json", "msgpack", "memory"])
def serializer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def node(request: pytest.FixtureRequest, serializer: str) -> Node:
    found: Node = request.getfixturevalue("memory_node" if serializer == "memory" else "real_node")
    return found


class Ids:
    """Ids that no other test uses."""

    def __init__(self) -> None:
        self._last = 0
        self._start = time.time_ns()

    def __call__(self) -> str:
        self._last += 1
        return f"w{self._start}-{self._last}"


new_id = Ids()


class Inbox:
    """What a session heard on a topic, and a way to wait for more."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def heard(self, event: Any, details: Any) -> None:
        self.events.append(event)
        for one in [one for one in self._waiting if one[0]()]:
            self._waiting.remove(one)
            one[1].callback(None)

    @property
    def items(self) -> list[Any]:
        """All that the events listed, in order."""
        return [item for event in self.events for item in event]

    async def until(self, true: Callable[[], bool], timeout_s: float = 10.0) -> None:
        from twisted.internet import reactor

        if not true():
            done: Deferred[None] = Deferred()
            self._waiting.append((true, done))
            await done.addTimeout(timeout_s, reactor)

    async def message(self, message_id: str) -> dict[str, Any]:
        """The delivery of a message, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [one for one in self.items if one["message"]["id"] == message_id]

        await self.until(lambda: bool(found()))
        return found()[0]

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The first deliveries, once so many are there."""
        await self.until(lambda: len(self.items) >= count)
        return self.items[:count]


@asynccontextmanager
async def consumer(node: Node, name: str, serializer: str, **options: Any) -> AsyncIterator[tuple[PlainClient, Inbox]]:
    """A session that consumes a mailbox; what it held and didn't ack is settled at the end."""
    async with session(node, name, serializer) as client:
        inbox = Inbox()
        await client.subscribe(uris.inbox_of(Address(name, options.get("instance"))), inbox.heard)
        await client.call(uris.MAILBOX_ATTACH, options)
        try:
            yield client, inbox
        finally:
            if not client.gone.called:
                tokens = [delivery["token"] for delivery in inbox.items]
                for start in range(0, len(tokens), 1000):
                    await client.call(uris.MAILBOX_ACK, tokens[start : start + 1000])


def status(to: str, **more: Any) -> dict[str, Any]:
    return {"type": "STATUS", "id": new_id(), "to": to, **more}


async def send(client: PlainClient, *messages: Any, **options: Any) -> list[dict[str, Any]]:
    receipts = await client.call(uris.MAILBOX_SEND, list(messages), *([options] if options else []))
    assert isinstance(receipts, list)
    return receipts


async def refusal(attempt: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        await attempt
    return str(caught.value.error).removeprefix(E), str(caught.value.args[0])


# -- mailbox.send and the inbox ----------------------------------------------------------------------------------------


@on_reactor
async def test_a_message_arrives_as_it_was_sent(node: Node, serializer: str) -> None:
    payload = {"text": "grüße \U0001f600", "list": [1, -2.5, True, None, {"deep": []}], "big": 2**53 - 1}
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        message = status(
            "agni",
            payload=payload,
            # Now: a deadline by a clock that is off is put right, see tests/unit/test_sender_clock.py.
            timestamp=int(time.time() * 1000),
            priority=2,
            seq=7,
            subject="hello",
            ttl_ms=60_000,
            deadline_at=9_000_000_000_000,
            traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            reply_to="earlier",
        )
        (receipt,) = await send(dc, message)
        assert receipt == {
            "id": message["id"],
            "status": "accepted",
            "node": "single",
            "seq": receipt["seq"],
            "copies": 1,
        }
        assert receipt["seq"] > 0
        (delivery,) = await inbox.messages(1)
        accepted_at = delivery["message"].pop("accepted_at")
        assert abs(accepted_at - time.time() * 1000) < 60_000
        assert delivery == {"message": {**message, "from": "dc"}, "attempt": 1, "token": delivery["token"]}
        assert isinstance(delivery["token"], str)
        assert await agni.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]


@on_reactor
async def test_receipts_are_in_order_and_neighbours_are_accepted(node: Node, serializer: str) -> None:
    good, last = status("agni"), status("rushabdev")
    bad: list[Any] = [
        {**status("agni"), "colour": "red"},
        status("nobody"),
        status("agni", **{"from": "rushabdev"}),
        status("agni", priority=9),
        status("agni/nothere"),
        {"type": "GOSSIP", "id": new_id(), "to": "agni"},
        "no message at all",
        status("agni", payload="x" * (1024 * 1024)),
    ]
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (_, inbox):
        receipts = await send(dc, good, *bad, last, good)
        assert [receipt["id"] for receipt in receipts] == [
            good["id"],
            *(one["id"] if isinstance(one, dict) else None for one in bad),
            last["id"],
            good["id"],
        ]
        assert [receipt["status"] for receipt in receipts] == [
            "accepted",
            *["refused"] * len(bad),
            "accepted",
            "duplicate",
        ]
        assert receipts[-1] == {**receipts[0], "status": "duplicate"}
        told = [(receipt["error"].removeprefix(E), receipt["detail"]) for receipt in receipts[1 : len(bad) + 1]]
        assert [error for error, _ in told] == [
            "key_unknown",
            "recipient_unknown",
            "sender_false",
            "message_invalid",
            "instance_unknown",
            "message_invalid",
            "message_invalid",
            "payload_too_large",
        ]
        assert told[2][1] == (
            'messages[3].from is "rushabdev", and this session is dc\'s; leave the key out, or send as dc'
        )
        assert told[3][1] == "messages[4].priority is 9; it must be an integer from 1 (most urgent) to 5"
        (delivery,) = await inbox.messages(1)
        assert delivery["message"]["id"] == good["id"]


SEND_FAULTS: list[tuple[list[Any], str, str]] = [
    ([], "argument_invalid", "send was called with 0 positional arguments; it takes 1 to 2"),
    ([[], {}, 3], "argument_invalid", "send was called with 3 positional arguments; it takes 1 to 2"),
    ([{"id": "x"}], "argument_invalid", 'messages is {"id":"x"}; it must be a list'),
    ([[], {"copies": 3}], "argument_invalid", "options.copies is 3; it must be 1 or 2"),
    (
        [[], {"copy": 1}],
        "key_unknown",
        'options has the unknown key "copy"; the known keys are copies, sent_at, signatures',
    ),
    ([[], [1]], "argument_invalid", "options is [1]; it must be a map"),
    ([[None] * 1025], "argument_invalid", "messages has 1025 items; it must have at most 1024: split the call"),
]


@on_reactor
async def test_an_id_is_the_agents_and_stands_for_one_message(node: Node, serializer: str) -> None:
    async with (
        session(node, "dc", serializer) as one,
        session(node, "dc", serializer) as other,
        consumer(node, "agni", serializer) as (agni, inbox),
    ):
        message_id = new_id()
        command = {"type": "COMMAND", "id": message_id, "to": "agni", "procedure": "f", "payload": {"a": 1, "b": [2.5]}}
        (first,) = await send(one, {**command, "from": "dc/one"})
        again, changed, elsewhere = await send(
            other,
            {**command, "from": "dc/other", "payload": {"b": [2.5], "a": 1}, "priority": 1},
            {**command, "from": "dc/other", "payload": {"a": 1, "b": [2]}},
            {**command, "from": "dc/other", "to": "rushabdev"},
        )
        assert again == {**first, "status": "duplicate"}
        assert [one["error"] for one in (changed, elsewhere)] == ["trishula.error.id_reused"] * 2
        assert changed["detail"].startswith(
            f'messages[1].id is "{message_id}", and dc has used it already, for the COMMAND to agni that was '
        )
        delivery = await inbox.message(message_id)
        assert await other.call(uris.MAILBOX_ANSWER, message_id) == {"state": "delivered"}
        # Nobody is at that address, and its agent may ask all the same.
        result = {"type": "RESULT", "id": new_id(), "to": "dc/one", "reply_to": message_id, "payload": [7]}
        (receipt,) = await send(agni, result)
        assert receipt["status"] == "accepted"
        await agni.call(uris.MAILBOX_ACK, [delivery["token"]])
        told = await other.call(uris.MAILBOX_ANSWER, message_id)
        assert (told["state"], told["message"]["id"], told["message"]["payload"]) == ("done", result["id"], [7])
        assert len(inbox.items) == 1


@on_reactor
async def test_bad_arguments_of_send(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc:
        for args, error, sentence in SEND_FAULTS:
            assert await refusal(dc.call(uris.MAILBOX_SEND, *args)) == (error, sentence)
        assert await send(dc) == []


@on_reactor
async def test_what_is_signed_is_the_same_whoever_writes_it(node: Node, serializer: str) -> None:
    key = AgentKey(bytes(range(32)))
    payload = {
        "z": [1.0, -0.0, 1e21, 2.5e-7, 2**53 - 1, -(2**53) + 1, 12345678901234567000.0],
        "\u00e9": "e\u0301", "\ue000": 1, "\U0001f600": True, "a": {"b": None, "\u007f": "\u2028\"\\/\n"},
    }  # fmt: skip
    deadline_at = int(time.time() * 1000) + 86_400_000
    sent_at = deadline_at - 90_000_000
    message = status("agni", payload=payload, timestamp=sent_at, subject="na\u00efve", deadline_at=deadline_at)
    signed = statement(message, sender="dc", deadline_at=deadline_at)
    signature = str(Signature(key_id(key.public), deadline_at, key.sign(signed)))
    async with session(node, "dc", serializer) as dc:
        await send(dc, message, signatures=[signature])
    found: list[dict[str, Any]] = []
    for reads in [serializer] if serializer == "memory" else ["json", "cbor", "msgpack"]:
        async with session(node, "agni", reads) as agni:
            found += (await agni.call(uris.MAILBOX_PEEK))["messages"]
    async with session(node, "agni", serializer) as agni:
        fetched = (await agni.call(uris.MAILBOX_FETCH))["deliveries"]
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in fetched])
    found = [one for one in (*found, *fetched) if one["message"]["id"] == message["id"]]
    assert len(found) == (2 if serializer == "memory" else 4)
    for one in found:
        assert one["signature"] == signature
        # The node puts it into its own time.
        assert one["message"]["deadline_at"] != deadline_at
        assert statement(one["message"], sender=one["message"]["from"], deadline_at=deadline_at) == signed


@on_reactor
async def test_two_copies_need_a_second_node(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc:
        (receipt,) = await send(dc, status("agni"), copies=2)
        assert (receipt["status"], receipt["error"], receipt["retry_after_s"]) == (
            "refused",
            E + "copies_unavailable",
            5.0,
        )


@on_reactor
async def test_a_broadcast_reaches_everybody_else(node: Node, serializer: str) -> None:
    message = {**status("broadcast"), "payload": "all"}
    async with (
        consumer(node, "dc", serializer) as (dc, own),
        consumer(node, "agni", serializer) as (_, one),
        consumer(node, "rushabdev", serializer) as (_, two),
    ):
        await send(dc, message, status("dc"))
        for inbox in (one, two):
            # There may be others from the tests before.
            assert (await inbox.message(message["id"]))["message"]["to"] == "broadcast"
        (itself,) = await own.messages(1)
        assert itself["message"]["id"] != message["id"]
    async with session(node, "boss", serializer) as boss:
        fetched = await boss.call(uris.MAILBOX_FETCH)
        await boss.call(uris.MAILBOX_ACK, [one["token"] for one in fetched["deliveries"]])


@on_reactor
async def test_signals_of_simple_clients(node: Node, serializer: str) -> None:
    message = status("agni")
    async with session(node, "dc", serializer) as dc, session(node, "agni", serializer) as agni:
        await send(dc, message)
        await agni.call(uris.MAILBOX_FETCH)
        beat, ack = await send(
            agni,
            {"type": "HEARTBEAT", "id": new_id(), "to": "dc", "timestamp": int(time.time() * 1000)},
            {"type": "ACK", "id": new_id(), "to": "dc", "reply_to": message["id"]},
        )
        assert [beat["status"], ack["status"]] == ["accepted", "accepted"]
        assert (await dc.call(uris.MAILBOX_STATUS, [message["id"]]))[message["id"]]["state"] == "done"
        assert (await dc.call(uris.DIRECTORY_GET, "agni"))["clock_skew_ms"] is not None


# -- mailbox.attach: eligibility, window, takeover ---------------------------------------------------------------------


@on_reactor
async def test_attach_answers_where_the_client_stands(node: Node, serializer: str) -> None:
    async with session(node, "agni", serializer) as agni:
        answer = await agni.call(uris.MAILBOX_ATTACH)
        assert set(answer) == {"node", "epoch", "high_water", "lease_s", "limits"}
        # What the shipped configuration takes; frames as the transport does on which we joined.
        assert answer["limits"] == {
            "payload_bytes": 2**20,
            "frame_bytes": 2**24,
            "batch_messages": 1024,
            "ttl_ms": 30 * 86_400_000,
            # Of a node in memory there is no disk to keep them on.
            **({} if serializer == "memory" else {"attachment_bytes": 2**30}),
        }
        assert (answer["node"], len(answer["epoch"])) == ("single", 16)
        assert answer["high_water"] > 0


ATTACH_FAULTS: list[tuple[list[Any], str, str]] = [
    ([{"windows": 1}], "key_unknown", 'options has the unknown key "windows"; the known keys are instance, '),
    ([{"window": 0}], "argument_invalid", "options.window is 0; it must be an integer from 1 to 1024"),
    ([{"window": True}], "argument_invalid", "options.window is true; it must be an integer from 1 to 1024"),
    ([{"instance": "A/B"}], "argument_invalid", 'options.instance is "A/B"; it must be 1 to 32 of a-z'),
    ([{"heartbeat_s": -1}], "argument_invalid", "options.heartbeat_s is -1; it must be a number of seconds above 0"),
    ([{"capabilities": "host"}], "argument_invalid", 'options.capabilities is "host"; it must be a list'),
    ([7], "argument_invalid", "options is 7; it must be a map"),
]


@on_reactor
async def test_bad_arguments_of_attach(node: Node, serializer: str) -> None:
    async with session(node, "agni", serializer) as agni:
        for args, error, sentence in ATTACH_FAULTS:
            found = await refusal(agni.call(uris.MAILBOX_ATTACH, *args))
            assert found[0] == error
            assert found[1].startswith(sentence)


@on_reactor
async def test_a_stranger_never_sees_an_inbox(node: Node, serializer: str) -> None:
    async with session(node, "rushabdev", serializer) as stranger, session(node, "dc", serializer) as dc:
        mine = Inbox()
        for topic in (uris.inbox_of(Address("agni")), uris.receipts_of("dc")):
            with pytest.raises(Refused):
                await stranger.subscribe(topic, mine.heard)
        with pytest.raises(Refused):
            await stranger.subscribe(uris.AGENT_PREFIX, mine.heard, match="prefix")
        async with session(node, "agni", serializer) as idle, consumer(node, "agni", serializer) as (_, inbox):
            # A further session of the agent itself may subscribe; what is pushed goes to the consumer alone.
            other = Inbox()
            await idle.subscribe(uris.inbox_of(Address("agni")), other.heard)
            await send(dc, status("agni"))
            await inbox.messages(1)
            await idle.call(uris.DIRECTORY_LIST)
            assert other.events == []
        assert mine.events == []


@on_reactor
async def test_the_window_is_kept(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer, window=3) as (agni, inbox):
        sent = [status("agni") for _ in range(8)]
        await send(dc, *sent)
        deliveries = await inbox.messages(3)
        await agni.call(uris.DIRECTORY_LIST)
        assert len(inbox.items) == 3
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in deliveries])
        await inbox.messages(6)
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in inbox.items])
        everything = await inbox.messages(8)
        assert [one["message"]["id"] for one in everything] == [message["id"] for message in sent]


@on_reactor
async def test_a_newer_session_takes_over_and_the_older_is_closed(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (older, first):
        await send(dc, status("agni"))
        (before,) = await first.messages(1)
        async with consumer(node, "agni", serializer) as (_, second):
            assert await older.gone == E + "taken_over"
            (after,) = await second.messages(1)
            assert (after["message"], after["attempt"]) == (before["message"], 2)
            await send(dc, status("agni"))
            await second.messages(2)
            assert len(first.items) == 1


@on_reactor
async def test_an_instance_has_a_mailbox_of_its_own(node: Node, serializer: str) -> None:
    name = f"s{serializer}"
    async with (
        session(node, "dc", serializer) as dc,
        consumer(node, "agni", serializer) as (_, whole),
        consumer(node, "agni", serializer, instance=name) as (script, part),
    ):
        await send(dc, status(f"agni/{name}"), status("agni"))
        (to_script,), (to_agent,) = await part.messages(1), await whole.messages(1)
        assert (to_script["message"]["to"], to_agent["message"]["to"]) == (f"agni/{name}", "agni")
        (receipt,) = await send(script, status("dc", **{"from": f"agni/{name}"}))
        assert receipt["status"] == "accepted"
        fetched = await dc.call(uris.MAILBOX_FETCH)
        assert fetched["deliveries"][-1]["message"]["from"] == f"agni/{name}"
        await dc.call(uris.MAILBOX_ACK, [one["token"] for one in fetched["deliveries"]])


# -- ack, nack, working ------------------------------------------------------------------------------------------------


@on_reactor
async def test_ack_twice_and_ack_of_anothers(node: Node, serializer: str) -> None:
    async with (
        session(node, "dc", serializer) as dc,
        session(node, "rushabdev", serializer) as stranger,
        consumer(node, "agni", serializer) as (agni, inbox),
    ):
        message = status("agni")
        await send(dc, message)
        (delivery,) = await inbox.messages(1)
        token = delivery["token"]
        assert await stranger.call(uris.MAILBOX_ACK, [token]) == [False]
        assert await dc.call(uris.MAILBOX_ACK, [token]) == [False]
        assert await agni.call(uris.MAILBOX_ACK, [token, "999999999.1", token]) == [True, False, True]
        assert await agni.call(uris.MAILBOX_ACK, [token]) == [True]
        state = (await dc.call(uris.MAILBOX_STATUS, [message["id"]]))[message["id"]]
        assert (state["state"], state["attempts"], state["from"], state["to"]) == ("done", 1, "dc", "agni")


@on_reactor
async def test_nack_brings_it_again_or_to_the_dead_letters(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        news = Inbox()
        await dc.subscribe(uris.receipts_of("dc"), news.heard)
        message = status("agni")
        await send(dc, message)
        (first,) = await inbox.messages(1)
        assert await agni.call(uris.MAILBOX_NACK, [{"token": first["token"], "reason": "not now"}]) == [True]
        assert await agni.call(uris.MAILBOX_NACK, [{"token": first["token"], "reason": "not now"}]) == [False]
        _, second = await inbox.messages(2)
        assert (second["message"], second["attempt"]) == (first["message"], 2)
        items = [{"token": second["token"], "reason": "never", "requeue": False}]
        assert await agni.call(uris.MAILBOX_NACK, items) == [True]
        await news.until(lambda: any(one["state"] == "dead" for one in news.items))
        dead = next(one for one in news.items if one["state"] == "dead")
        assert (dead["id"], dead["to"], dead["reason"]) == (message["id"], "agni", "never")


FAULTS_OF_SETTLING: list[tuple[str, list[Any], str, str]] = [
    (uris.MAILBOX_ACK, [], "argument_invalid", "ack was called with 0 positional arguments; it takes 1"),
    (uris.MAILBOX_ACK, ["1.1"], "argument_invalid", 'tokens is "1.1"; it must be a list'),
    (uris.MAILBOX_ACK, [["x"]], "argument_invalid", 'tokens[0] is "x"; it must be the token of a delivery'),
    (uris.MAILBOX_ACK, [["1.1", 5]], "argument_invalid", "tokens[1] is 5; it must be the token of a delivery"),
    (uris.MAILBOX_NACK, [["1.1"]], "argument_invalid", 'items[0] is "1.1"; it must be a map'),
    (uris.MAILBOX_NACK, [[{}]], "argument_invalid", "items[0].token is missing; it must be the token of a delivery"),
    (
        uris.MAILBOX_NACK,
        [[{"token": "1.1", "why": "x"}]],
        "key_unknown",
        'items[0] has the unknown key "why"; the known keys are token, reason, requeue',
    ),
    (uris.MAILBOX_WORKING, ["1.1"], "argument_invalid", "working was called with 1 positional arguments; it takes 2"),
    (
        uris.MAILBOX_WORKING,
        ["1.1", 0],
        "argument_invalid",
        "for_s is 0; it must be a number of seconds above 0, at most 86400",
    ),
    (uris.MAILBOX_SURFACED, [["x"]], "argument_invalid", 'tokens[0] is "x"; it must be the token of a delivery'),
    (uris.MAILBOX_STATUS, ["x"], "argument_invalid", 'ids is "x"; it must be a list'),
    (uris.MAILBOX_ANSWER, [5], "argument_invalid", "id[0] is 5; it must be 1 to 128 of A-Z, a-z, 0-9, "),
    (uris.MAILBOX_ANSWER, ["none"], "message_unknown", "there is no COMMAND none that agni sent at this node"),
    (uris.MAILBOX_CANCEL, [[5]], "argument_invalid", "ids[0] is 5; it must be 1 to 128 of A-Z, a-z, 0-9, "),
    (uris.MAILBOX_FETCH, [{"max": 0}], "argument_invalid", "options.max is 0; it must be an integer from 1 to 1000"),
    (
        uris.MAILBOX_FETCH,
        [{"wait_s": 61}],
        "argument_invalid",
        "options.wait_s is 61; it must be a number of seconds from 0 to 60",
    ),
    (uris.MAILBOX_FETCH, [{"wait": 1}], "key_unknown", 'options has the unknown key "wait"; the known keys are max, '),
    (uris.DIRECTORY_BEAT, [{}], "argument_invalid", "beat.sent_at is missing; it must be an integer count of"),
    (uris.DIRECTORY_BEAT, [], "argument_invalid", "beat was called with 0 positional arguments; it takes 1"),
    (
        uris.DIRECTORY_FIND,
        [{"presence": "asleep"}],
        "argument_invalid",
        'options.presence is "asleep"; it must be one of online, busy, stale, offline',
    ),
    (uris.DIRECTORY_GET, ["nobody"], "agent_unknown", 'no agent "nobody" is registered at this node; '),
    (uris.DIRECTORY_LIST, [1], "argument_invalid", "list was called with 1 positional arguments; it takes 0"),
    (uris.AUDIT_WHY, ["nothing-of-that-id"], "message_unknown", "there is no message nothing-of-that-id that agni "),
]


@on_reactor
async def test_bad_arguments_of_the_others(node: Node, serializer: str) -> None:
    async with session(node, "agni", serializer) as agni:
        for uri, args, error, sentence in FAULTS_OF_SETTLING:
            found = await refusal(agni.call(uri, *args))
            assert found[0] == error, (uri, args, found)
            assert found[1].startswith(sentence), (uri, args, found)


@on_reactor
async def test_working_extends_what_is_held(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        await send(dc, status("agni"))
        (delivery,) = await inbox.messages(1)
        answer = await agni.call(uris.MAILBOX_WORKING, delivery["token"], 600)
        assert abs(answer["lease_until_at"] - (time.time() + 600) * 1000) < 30_000
        error, sentence = await refusal(dc.call(uris.MAILBOX_WORKING, delivery["token"], 600))
        assert error == "message_unknown"
        assert sentence.startswith("dc holds no message ")


@on_reactor
async def test_what_reached_a_model_is_told_to_the_sender(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        news = Inbox()
        await dc.subscribe(uris.receipts_of("dc"), news.heard)
        message = status("agni")
        await send(dc, message)
        (delivery,) = await inbox.messages(1)
        assert await agni.call(uris.MAILBOX_SURFACED, []) == []
        assert await dc.call(uris.MAILBOX_SURFACED, [delivery["token"]]) == [False]
        for _ in range(2):
            assert await agni.call(uris.MAILBOX_SURFACED, [delivery["token"]]) == [True]
        await agni.call(uris.MAILBOX_ACK, [delivery["token"]])
        await news.until(lambda: len(news.items) >= 3)
        assert [one["state"] for one in news.items] == ["delivered", "surfaced", "done"]
        told = (await dc.call(uris.MAILBOX_STATUS, [message["id"]]))[message["id"]]
        assert (told["state"], told["surfaced_at"]) == ("done", news.items[1]["at"])


# -- fetch, status, cancel ---------------------------------------------------------------------------------------------


@on_reactor
async def test_fetch_proves_that_a_mailbox_is_empty(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, session(node, "agni", serializer) as agni:
        await send(dc, status("agni"), status("agni"))
        first = await agni.call(uris.MAILBOX_FETCH, {"max": 1})
        assert set(first) == {"deliveries", "epoch", "high_water", "pending", "in_flight"}
        assert (len(first["deliveries"]), first["pending"], first["in_flight"]) == (1, 1, 1)
        second = await agni.call(uris.MAILBOX_FETCH)
        tokens = [one["token"] for one in (*first["deliveries"], *second["deliveries"])]
        assert await agni.call(uris.MAILBOX_ACK, tokens) == [True, True]
        empty = await agni.call(uris.MAILBOX_FETCH)
        assert (empty["deliveries"], empty["pending"], empty["in_flight"]) == ([], 0, 0)
        assert empty["epoch"] == first["epoch"]
        assert empty["high_water"] >= first["high_water"]


@on_reactor
async def test_fetch_waits_for_what_comes(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, session(node, "agni", serializer) as agni:
        begun = time.monotonic()
        waiting = ensureDeferred(agni.call(uris.MAILBOX_FETCH, {"wait_s": 9}))
        await agni.call(uris.DIRECTORY_LIST)
        assert not waiting.called
        message = status("agni")
        await send(dc, message)
        answer = await waiting
        assert [one["message"]["id"] for one in answer["deliveries"]] == [message["id"]]
        assert time.monotonic() - begun < 8
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]])
        nothing = await agni.call(uris.MAILBOX_FETCH, {"wait_s": 0.3})
        assert nothing["deliveries"] == []


@on_reactor
async def test_a_cancelled_fetch_takes_nothing(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, session(node, "agni", serializer) as agni:
        waiting = agni.begin_call(uris.MAILBOX_FETCH, {"wait_s": 60}).addErrback(lambda failure: None)
        await agni.call(uris.DIRECTORY_LIST)
        waiting.cancel()
        # Its session goes on, and a lease would hide for a minute what was taken for nobody.
        await agni.call(uris.DIRECTORY_LIST)
        message = status("agni")
        await send(dc, message)
        answer = await agni.call(uris.MAILBOX_FETCH, {"wait_s": 5})
        assert [(one["message"]["id"], one["attempt"]) for one in answer["deliveries"]] == [(message["id"], 1)]
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]])


@on_reactor
async def test_fetch_is_refused_while_another_session_consumes(node: Node, serializer: str) -> None:
    async with consumer(node, "agni", serializer), session(node, "agni", serializer) as script:
        error, sentence = await refusal(script.call(uris.MAILBOX_FETCH))
        assert error == "mailbox_busy"
        assert sentence.startswith("the mailbox of agni is being pushed to session ")


@on_reactor
async def test_what_a_crashed_client_fetched_is_there_for_the_next(node: Node, serializer: str) -> None:
    message = status("agni")
    async with session(node, "dc", serializer) as dc:
        await send(dc, message)
        async with session(node, "agni", serializer) as agni:
            await agni.call(uris.MAILBOX_FETCH)
        async with session(node, "agni", serializer) as agni:
            answer = await agni.call(uris.MAILBOX_FETCH, {"wait_s": 5})
            assert [(one["message"]["id"], one["attempt"]) for one in answer["deliveries"]] == [(message["id"], 2)]
            await agni.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]])


@on_reactor
async def test_a_sender_that_hangs_up_loses_nothing(node: Node, serializer: str) -> None:
    # Crossbar interrupts the calls of a session that is gone; some of these are on their way into the store then.
    from twisted.internet import reactor

    sent = []
    for delay_ms in range(12):
        dc = await joined(node, "dc", serializer)
        for _ in range(20):
            message = status("agni", payload="x" * 100_000)
            sent.append(message["id"])
            ensureDeferred(dc.call(uris.MAILBOX_SEND, [message])).addErrback(lambda failure: None)
        await deferLater(cast(Any, reactor), delay_ms / 400)
        dc.hang_up()
        await dc.gone
    async with (
        session(node, "boss", serializer) as boss,
        consumer(node, "agni", serializer, window=1024) as (agni, inbox),
    ):
        accepted = set()
        for message_id in sent:
            with contextlib.suppress(Refused):
                accepted |= {life["id"] for life in (await boss.call(uris.AUDIT_WHY, message_id))["messages"]}
        assert accepted
        acked: list[str] = []
        while not {one["message"]["id"] for one in inbox.items} >= accepted:
            # Unacknowledged, they would be more bytes than the node sends at once.
            await inbox.until(lambda: len(inbox.items) > len(acked))
            tokens = [one["token"] for one in inbox.items[len(acked) :]]
            acked.extend(tokens)
            await agni.call(uris.MAILBOX_ACK, tokens)


@on_reactor
async def test_a_fetch_whose_client_hung_up_takes_nothing(node: Node, serializer: str) -> None:
    gone = await joined(node, "agni", serializer)
    ensureDeferred(gone.call(uris.MAILBOX_FETCH, {"wait_s": 30})).addErrback(lambda failure: None)
    await gone.call(uris.DIRECTORY_LIST)
    gone.hang_up()
    await gone.gone
    async with session(node, "dc", serializer) as dc, session(node, "agni", serializer) as agni:
        message = status("agni")
        await send(dc, message)
        answer = await agni.call(uris.MAILBOX_FETCH, {"wait_s": 5})
        assert [(one["message"]["id"], one["attempt"]) for one in answer["deliveries"]] == [(message["id"], 1)]
        await agni.call(uris.MAILBOX_ACK, [one["token"] for one in answer["deliveries"]])


@on_reactor
@pytest.mark.parametrize("ending", ["leave", "hang_up", "taken_over"])
async def test_a_session_that_ends_with_a_call_under_way_leaves_nothing_behind(
    node: Node, serializer: str, ending: str
) -> None:
    # Crossbar can't interrupt an embedded callee: it failed halfway through letting the session go, and its procedures
    # stayed registered to nobody until the node's next start.
    name = f"p{new_id().replace('-', '_')}"
    older = await joined(node, "agni", serializer)
    await older.register(uris.procedure_of("agni", name), lambda details: "older")
    await older.call(uris.MAILBOX_ATTACH)
    ensureDeferred(older.call(uris.MAILBOX_FETCH, {"wait_s": 30})).addErrback(lambda failure: None)
    await older.call(uris.DIRECTORY_LIST)
    async with session(node, "agni", serializer) as newer, session(node, "dc", serializer) as dc:
        if ending == "leave":
            await older.leave()
        elif ending == "hang_up":
            older.hang_up()
            await older.gone
        await newer.call(uris.MAILBOX_ATTACH)
        await older.gone
        for _ in range(100):
            if (await dc.call(uris.DIRECTORY_GET, "agni"))["sessions"] == 1:
                break
        await newer.register(uris.procedure_of("agni", name), lambda details: "newer")
        assert await dc.call(uris.procedure_of("agni", name)) == "newer"
    assert "unhandled message INTERRUPT" not in node.log()


@on_reactor
async def test_status_and_cancel(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, session(node, "rushabdev", serializer) as stranger:
        message = status("agni")
        await send(dc, message)
        mine = await dc.call(uris.MAILBOX_STATUS, [message["id"], "unknown"])
        assert set(mine) == {message["id"]}
        assert mine[message["id"]]["state"] == "accepted"
        assert await stranger.call(uris.MAILBOX_STATUS, [message["id"]]) == {}
        assert await stranger.call(uris.MAILBOX_CANCEL, [message["id"]]) == [False]
        assert await dc.call(uris.MAILBOX_CANCEL, [message["id"], "unknown"]) == [True, False]
        assert (await dc.call(uris.MAILBOX_STATUS, [message["id"]]))[message["id"]]["state"] == "cancelled"


# -- receipts, directory, events, audit --------------------------------------------------------------------------------


@on_reactor
async def test_the_sender_hears_what_became_of_its_message(node: Node, serializer: str) -> None:
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        news = Inbox()
        await dc.subscribe(uris.receipts_of("dc"), news.heard)
        message = status("agni")
        await send(dc, message)
        (delivery,) = await inbox.messages(1)
        await agni.call(uris.MAILBOX_ACK, [delivery["token"]])
        await news.until(lambda: len(news.items) >= 2)
        assert [(one["id"], one["to"], one["state"]) for one in news.items] == [
            (message["id"], "agni", "delivered"),
            (message["id"], "agni", "done"),
        ]
        assert all(isinstance(one["at"], int) for one in news.items)


@on_reactor
async def test_the_directory_tells_who_is_there(node: Node, serializer: str) -> None:
    events = Inbox()
    async with session(node, "dc", serializer) as dc:
        await dc.subscribe(uris.EVENT_AGENT, events.heard)
        async with consumer(node, "agni", serializer, capabilities=["deploy", "host"]) as (agni, _):
            await agni.call(uris.DIRECTORY_BEAT, {"sent_at": int(time.time() * 1000)})
            entry = await dc.call(uris.DIRECTORY_GET, "agni")
            assert (entry["agent"], entry["presence"], entry["node"]) == ("agni", "online", "single")
            assert sorted(entry["capabilities"]) == ["deploy", "host"]
            assert isinstance(entry["since"], int)
            listed = await dc.call(uris.DIRECTORY_LIST)
            assert [one["agent"] for one in listed] == ["agni", "boss", "dc", "rushabdev"]
            assert [one["agent"] for one in await dc.call(uris.DIRECTORY_FIND, {"capability": "deploy"})] == ["agni"]
            away = await dc.call(uris.DIRECTORY_FIND, {"presence": "offline"})
            assert "rushabdev" in [one["agent"] for one in away]
            sent_at = int(time.time() * 1000)
            beat = {"sent_at": sent_at, "busy_until": sent_at + 60_000, "load": 0.5}
            answer = await agni.call(uris.DIRECTORY_BEAT, beat)
            assert set(answer) == {"received_at", "answered_at"}
            assert abs(answer["received_at"] - sent_at) < 30_000
            assert answer["answered_at"] >= answer["received_at"]
            assert (await dc.call(uris.DIRECTORY_GET, "agni"))["presence"] == "busy"
        await events.until(lambda: any(e["agent"] == "agni" and e["presence"] == "offline" for e in events.events))
    seen = [event["presence"] for event in events.events if event["agent"] == "agni"]
    assert seen[-3:] == ["online", "busy", "offline"]


@on_reactor
async def test_questions_are_for_operators_and_parties(node: Node, serializer: str) -> None:
    async with (
        session(node, "dc", serializer) as dc,
        session(node, "rushabdev", serializer) as stranger,
        session(node, "boss", serializer) as boss,
        consumer(node, "agni", serializer) as (agni, inbox),
    ):
        message = status("agni")
        await send(dc, message)
        (delivery,) = await inbox.messages(1)
        await agni.call(uris.MAILBOX_ACK, [delivery["token"]])
        for who in (dc, agni, boss):
            (life,) = (await who.call(uris.AUDIT_WHY, message["id"]))["messages"]
            assert [event["kind"] for event in life["events"]] == ["accepted", "delivered", "done"]
            assert "payload" not in life
        assert (await refusal(stranger.call(uris.AUDIT_WHY, message["id"])))[0] == "message_unknown"
        for uri in (uris.AUDIT_QUERY, uris.AUDIT_VERIFY, uris.NODE_STATUS):
            assert (await refusal(dc.call(uri)))[0] == "wamp.error.not_authorized"
        page = await boss.call(uris.AUDIT_QUERY, {"id": message["id"], "kind": "accepted"})
        assert [record["id"] for record in page["records"]] == [message["id"]]
        assert (await boss.call(uris.AUDIT_VERIFY))["ok"] is True
        assert (await boss.call(uris.NODE_STATUS))["node"] == "single"


@on_reactor
async def test_the_agents_own_topics_and_procedures(node: Node, serializer: str) -> None:
    async with session(node, "agni", serializer) as agni, session(node, "dc", serializer) as dc:
        heard = Inbox()
        await dc.subscribe(uris.topic_of("agni", "news"), heard.heard)
        await agni.publish(uris.topic_of("agni", "news"), {"up": True})
        await heard.until(lambda: bool(heard.events))
        assert heard.events == [{"up": True}]

        def double(number: int, details: Any) -> int:
            # On a bus in memory there are no details.
            assert serializer == "memory" or details.caller_authid == "dc"
            return number * 2

        await agni.register(uris.procedure_of("agni", "double"), double)
        assert await dc.call(uris.procedure_of("agni", "double"), 21) == 42


@on_reactor
async def test_small_events_are_not_held_back(node: Node, serializer: str) -> None:
    # With Nagle's algorithm each of these round trips would wait for a delayed ACK of about 40 ms: 2 s for 50 of them.
    async with session(node, "dc", serializer) as dc, consumer(node, "agni", serializer) as (agni, inbox):
        took = []
        for count in range(1, 51):
            begun = time.monotonic()
            await send(dc, status("agni"))
            (*_, last) = await inbox.messages(count)
            took.append(time.monotonic() - begun)
            await agni.call(uris.MAILBOX_ACK, [last["token"]])
        assert sorted(took)[len(took) // 2] < 0.03
