"""A real node under generated abuse: every procedure of the wire contract, in three serializers, by both roles.

Each call must end as the contract says: with an answer of the documented shape, or with one of our errors and a
sentence that names what is wrong. The caller keeps its session; a witness, who reads JSON, keeps its own and gets a
message after each batch. At the end the node is the same process, its log tells of nothing but of frames that could not
be read, and what had a receipt is there.

By hand, for longer: ``ABUSE_EXAMPLES=2000 pytest tests/integration/test_abuse.py --hypothesis-seed=1``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.abuse import SERIALIZED_DEPTH, Call, calls, calls_with, garbage, nested
from tests.support.contract import PROCEDURES
from tests.support.node import NodeProcess, is_alive
from tests.support.nodes import Rig
from tests.support.plain import JoinRefused, Refused, TransportLost, handshake, join, send_text_frame
from tests.support.reactor import on_reactor
from tests.support.siege import ATTACKERS, Siege, abuse, check_error, error_of, example, in_thread, message, register
from trishula.contract import uris
from trishula.contract.payload import PAYLOAD_DEPTH_LIMIT
from trishula_router.store.memory import MemoryStore

pytestmark = [
    pytest.mark.node,
    # Autobahn draws its masks while hypothesis draws its examples, in another thread.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

E = "trishula.error."
#: What the log may say: that a session ended by a frame that can't be read, which is what some tests here send.
EXPECTED = re.compile(
    r"(failing WebSocket connection|dropping connection to peer) "
    r"|HELLO message received while session \d+ is already joined"
    r"|received encrypted INVOCATION payload, but no keyring active"
    # An operator may say so, with whatever reason.
    r"|op_\w+ says that the bus is live: "
)

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
EXAMPLES = int(os.environ.get("ABUSE_EXAMPLES", "0"))
abusive = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
)


def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """Run on the reactor what a fixture needs."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(work))


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    directory = tmp_path_factory.mktemp("abuse")
    state = directory / "state"
    state.mkdir(mode=0o700)
    tokens = register(state / "agents.json")
    config = json.loads(SHIPPED.read_text())
    # While hypothesis thinks, on a machine with much to do, the clients in its process are late with their pongs.
    config["workers"][0]["transports"][0]["paths"]["ws"]["options"]["auto_ping_timeout"] = 30_000
    (directory / "node.json").write_text(json.dumps(config))
    with NodeProcess(state, config=directory / "node.json") as node:
        node.tokens.update(tokens)
        siege = Siege(node)
        wait_for(siege.watch())
        yield siege
        wait_for(siege.leave())


# -- generated calls ---------------------------------------------------------------------------------------------------


def test_every_procedure_is_abused(tmp_path: Path) -> None:
    registered = Rig(tmp_path, MemoryStore("epoch-1"), Clock()).verbs
    assert {procedure.uri for procedure in PROCEDURES} == set(registered), "describe it in tests/support/contract.py"


@on_reactor
@pytest.mark.parametrize("operator", [False, True], ids=["agent", "operator"])
@pytest.mark.parametrize("serializer", ATTACKERS)
async def test_generated_calls(siege: Siege, serializer: str, operator: bool) -> None:
    async def batch(some: list[Call]) -> None:
        for call in some:
            await abuse(siege, call, serializer, operator)
        await siege.prove_alive()

    @abusive
    @given(st.lists(calls(serializer), min_size=1, max_size=8))
    def attack(some: list[Call]) -> None:
        example(batch(some))

    await in_thread(attack)


EVERYWHERE: dict[str, tuple[Any, tuple[str, ...]]] = {
    "nan": (math.nan, ("json", "msgpack", "cbor")),
    "infinity": (math.inf, ("json", "msgpack", "cbor")),
    "1e308": (1e308, ("json", "msgpack", "cbor")),
    "2**63": (2**63, ("json", "msgpack", "cbor")),
    "2**64": (2**64, ("json",)),
    "600 digits": (10**600, ("json",)),
    "true": (True, ("json", "msgpack", "cbor")),
    "null": (None, ("json", "msgpack", "cbor")),
    "bytes": (b"../..", ("msgpack", "cbor")),
    "lone surrogate": ("\ud800", ("json",)),
    "first U+0000": ("\x00A", ("msgpack", "cbor")),
    "path": ("../../etc/passwd", ("json", "msgpack", "cbor")),
    "hidden": (".hidden", ("json",)),
    "slash": ("a/b", ("json",)),
    "129 characters": ("a" * 129, ("json",)),
    "newline": ("a\n", ("json",)),
    "deep": (nested(SERIALIZED_DEPTH), ("json", "msgpack", "cbor")),
    "list": ([[]], ("json",)),
    "map": ({"": 0}, ("json",)),
}


@on_reactor
@pytest.mark.parametrize("case", EVERYWHERE)
async def test_the_same_value_everywhere(siege: Siege, case: str) -> None:
    value, serializers = EVERYWHERE[case]
    # Elsewhere, because a client that thinks for long misses its pings.
    of_it: list[Call] = await in_thread(lambda: list(calls_with(value)))
    for serializer in serializers:
        for call in of_it:
            await abuse(siege, call, serializer, operator=True)
        await siege.prove_alive()


# -- sizes and depths --------------------------------------------------------------------------------------------------

MEGABYTES_10 = "x" * 10_000_000


@on_reactor
@pytest.mark.parametrize("serializer", ATTACKERS)
async def test_ten_megabytes_in_any_place_are_refused(siege: Siege, serializer: str) -> None:
    client = await siege.attacker(serializer)
    (receipt,) = await client.call(uris.MAILBOX_SEND, [message(to="vault", payload=MEGABYTES_10)])
    assert (receipt["status"], receipt["error"]) == ("refused", f"{E}payload_too_large")
    for key in ("id", "to", "subject", "priority", MEGABYTES_10):
        # Together they must fit into a frame.
        value = 1 if key == MEGABYTES_10 else MEGABYTES_10
        (receipt,) = await client.call(uris.MAILBOX_SEND, [message(**{key: value})])
        assert receipt["status"] == "refused"
        check_error(receipt["error"], receipt["detail"])
    calls_of_it: list[tuple[str, list[Any]]] = [
        (uris.DIRECTORY_GET, [MEGABYTES_10]),
        (uris.MAILBOX_ACK, [[MEGABYTES_10]]),
        (uris.MAILBOX_NACK, [[{"token": "1.1", "reason": MEGABYTES_10}]]),
        (uris.DIRECTORY_BEAT, [{"sent_at": 1, "progress": MEGABYTES_10}]),
        (uris.MAILBOX_FETCH, [{MEGABYTES_10: 1}]),
    ]
    for uri, args in calls_of_it:
        with pytest.raises(Refused) as caught:
            await client.call(uri, *args)
        check_error(str(caught.value.error), str(caught.value.args[0]))
    await siege.prove_alive()


@on_reactor
@pytest.mark.parametrize("serializer", ATTACKERS)
async def test_a_frame_that_is_too_large_ends_its_session_alone(siege: Siege, serializer: str) -> None:
    client = await siege.attacker(serializer)
    client.send_frame(b" " * (17 * 1024 * 1024))
    await client.gone
    await siege.prove_alive()


@on_reactor
@pytest.mark.parametrize("serializer", ATTACKERS)
async def test_frames_of_ten_thousand_levels_end_their_session_alone(siege: Siege, serializer: str) -> None:
    opening = {"json": b"[", "msgpack": b"\x91", "cbor": b"\x81"}[serializer]
    closing = b"]" if serializer == "json" else b""
    client = await siege.attacker(serializer)
    client.send_frame(opening * 10_000 + b"0" + closing * 10_000)
    await client.gone
    await siege.prove_alive()


@on_reactor
async def test_the_deepest_payload_reaches_readers_of_each_serializer(siege: Siege) -> None:
    deepest = message(to="anna", payload=nested(PAYLOAD_DEPTH_LIMIT))
    await siege.send_accepted(deepest)
    for serializer in ATTACKERS:
        async with siege.session("anna", serializer) as anna:
            (delivery,) = (await anna.call(uris.MAILBOX_FETCH, {"wait_s": 5}))["deliveries"]
            assert delivery["message"]["payload"] == deepest["payload"]
            # It is left unacknowledged: the next reader gets it when this one has left.
    async with siege.session("anna") as anna:
        (delivery,) = (await anna.call(uris.MAILBOX_FETCH, {"wait_s": 5}))["deliveries"]
        assert await anna.call(uris.MAILBOX_ACK, [delivery["token"]]) == [True]


@on_reactor
async def test_a_small_frame_that_means_a_billion_items_is_not_read(siege: Siege) -> None:
    bomb: list[Any] = [1]
    for _ in range(30):
        bomb = [bomb, bomb]
    client = await siege.attacker("cbor")
    call = [48, 4711, {}, uris.MAILBOX_SEND, [[message(payload=bomb)]]]
    client.send_frame(cbor2.dumps(call, value_sharing=True))
    await client.gone
    await siege.prove_alive()


# -- tokens ------------------------------------------------------------------------------------------------------------


@on_reactor
async def test_another_agents_delivery_can_neither_be_settled_nor_kept(siege: Siege) -> None:
    await siege.send_accepted(message(to="ben"))
    async with siege.session("ben") as ben, siege.session("op_jay") as boss, siege.session("anna") as anna:
        (delivery,) = (await ben.call(uris.MAILBOX_FETCH, {"wait_s": 5}))["deliveries"]
        token = delivery["token"]
        position, attempt, epoch = token.split(".")
        of_old_epoch = f"{position}.{attempt}.{'0' if epoch[0] != '0' else '1'}{epoch[1:]}"
        for stranger in (anna, boss):
            assert await stranger.call(uris.MAILBOX_ACK, [token]) == [False]
            assert await stranger.call(uris.MAILBOX_NACK, [{"token": token, "reason": "x", "requeue": False}]) == [
                False
            ]
            assert await error_of(stranger.call(uris.MAILBOX_WORKING, token, 600)) == "message_unknown"
        assert await ben.call(uris.MAILBOX_ACK, [of_old_epoch]) == [False]
        assert await ben.call(uris.MAILBOX_NACK, [{"token": of_old_epoch}]) == [False]
        assert await error_of(ben.call(uris.MAILBOX_WORKING, of_old_epoch, 600)) == "message_unknown"
        # A token that is none refuses the whole call, and settles nothing of it.
        for garbled in (
            f".{attempt}.{epoch}",
            f"x{token}",
            f"{token[0]}{2**63}{token[1:]}",
            token.replace(".", ":"),
        ):
            assert await error_of(ben.call(uris.MAILBOX_ACK, [token, garbled])) == "argument_invalid"
        assert (await ben.call(uris.MAILBOX_FETCH))["in_flight"] == 1
        assert await ben.call(uris.MAILBOX_ACK, [token, "999999999.1"]) == [True, False]
        # Twice: the message is done, and stays so.
        assert await ben.call(uris.MAILBOX_ACK, [token, token]) == [True, True]
        assert await ben.call(uris.MAILBOX_NACK, [{"token": token}]) == [False]
        assert await error_of(ben.call(uris.MAILBOX_WORKING, token, 600)) == "message_unknown"
        assert (await ben.call(uris.MAILBOX_FETCH))["in_flight"] == 0
    await siege.prove_alive()


# -- names -------------------------------------------------------------------------------------------------------------

STRANGE_NAMES = [
    f"{uris.NODE_PREFIX}\ud800",
    f"{uris.AGENT_PREFIX}jay.\ud800",
    f"{uris.AGENT_PREFIX}witness.inbox.\udfff",
    f"{uris.AGENT_PREFIX}jay./etc/passwd",
    f"{uris.AGENT_PREFIX}jay.topic.{'x' * 100_000}",
    "wamp.session.kill_all",
    "\U0001f600",
]


@on_reactor
@pytest.mark.parametrize("name", STRANGE_NAMES, ids=range(len(STRANGE_NAMES)))
async def test_strange_names_are_answered(siege: Siege, name: str) -> None:
    for operator in (False, True):
        client = await siege.attacker("json", operator)
        ways = (client.call(name), client.register(name, print), client.publish(name), client.subscribe(name, print))
        for way in ways:
            with contextlib.suppress(Refused):
                await way
        assert not client.gone.called
    await siege.prove_alive()


@on_reactor
@pytest.mark.parametrize("name", ["\ud800", "a" * 100_000, "", "../jay", "jay\n", "\u0663"], ids=range(6))
async def test_nobody_joins_under_a_strange_name(siege: Siege, name: str) -> None:
    for authid, ticket in ((name, "jay.x"), ("jay", name), ("jay", f"jay.{name}")):
        with pytest.raises(JoinRefused):
            await join(siege.node.url, authid, ticket, serializer="json-escaped")
    await siege.prove_alive()


# -- below calls -------------------------------------------------------------------------------------------------------


def write(serializer: str, value: Any) -> bytes:
    """A value as a frame."""
    if serializer == "json":
        return json.dumps(value).encode()
    return bytes(msgpack.packb(value) if serializer == "msgpack" else cbor2.dumps(value))


def frames(serializer: str) -> st.SearchStrategy[bytes]:
    """Bytes, any value, and messages of WAMP with anything in them."""
    anything = garbage(serializer)
    names = st.sampled_from([procedure.uri for procedure in PROCEDURES] + [uris.EVENT_AGENT, uris.topic_of("jay", "x")])
    options: st.SearchStrategy[Any] = st.just({}) | st.dictionaries(
        st.sampled_from(["match", "timeout", "acknowledge", "x"]), anything, max_size=2
    )
    # 64: the client's ids are small, and an answer to one of its own would end its session in its own eyes.
    wamp = st.tuples(
        st.sampled_from([1, 2, 3, 4, 5, 6, 8, 16, 17, 32, 33, 34, 36, 48, 49, 50, 64, 66, 68, 69, 70, 99]),
        st.just(2**40) | st.integers(1000, 1010) | anything,
        options | anything,
        names | anything,
    ).flatmap(lambda head: st.lists(anything, max_size=3).map(lambda rest: [*head, *rest]))
    whole = st.one_of(wamp, wamp, wamp, anything).map(lambda value: write(serializer, value))
    return whole | st.binary(max_size=30) | st.tuples(whole, st.integers(0, 20)).map(lambda cut: cut[0][: cut[1]])


@on_reactor
@pytest.mark.parametrize("serializer", ATTACKERS)
async def test_generated_frames(siege: Siege, serializer: str) -> None:
    async def batch(some: list[bytes]) -> None:
        for frame in some:
            client = await siege.attacker(serializer)
            client.send_frame(frame)
            # An answer, or the end of the session: either tells that the node is through with it.
            with contextlib.suppress(Refused, ConnectionError, TransportLost):
                await client.call(uris.DIRECTORY_FIND, {"presence": "stale"})
        await siege.prove_alive()

    @abusive
    @given(st.lists(frames(serializer), min_size=1, max_size=5))
    def attack(some: list[bytes]) -> None:
        example(batch(some))

    await in_thread(attack)


@on_reactor
async def test_frames_of_strangers(siege: Siege) -> None:
    @abusive
    @given(frames("json"))
    def attack(frame: bytes) -> None:
        connection, _ = handshake(siege.node.url)
        with connection, contextlib.suppress(ConnectionError):
            send_text_frame(connection, frame)
            send_text_frame(connection, b"[]")
            while connection.recv(4096):
                pass

    await in_thread(attack)
    await siege.prove_alive()


# -- and after all of it -----------------------------------------------------------------------------------------------


@on_reactor
async def test_the_node_is_as_it_was_and_has_what_it_accepted(siege: Siege) -> None:
    await siege.prove_alive()
    assert all(is_alive(process) for process in siege.node.processes())
    states: dict[tuple[str, str], str] = {}
    for sender in {sender for sender, _ in siege.accepted}:
        own = sorted(message_id for name, message_id in siege.accepted if name == sender)
        async with siege.session(sender.partition("/")[0]) as client:
            for start in range(0, len(own), 1000):
                answer = await client.call(uris.MAILBOX_STATUS, own[start : start + 1000])
                states.update({(sender, message_id): told["state"] for message_id, told in answer.items()})
    assert set(states) == siege.accepted
    assert set(states.values()) <= {"accepted", "delivered", "expired", "cancelled"}
    found: set[tuple[str, str]] = set()
    async with siege.session("vault") as vault, siege.session("op_jay") as boss:
        while (page := await vault.call(uris.MAILBOX_FETCH, {"max": 1000}))["deliveries"]:
            found |= {(one["message"]["from"], one["message"]["id"]) for one in page["deliveries"]}
            await vault.call(uris.MAILBOX_ACK, [one["token"] for one in page["deliveries"]])
        assert (page["pending"], page["in_flight"]) == (0, 0)
        assert {key for key, state in states.items() if state in ("accepted", "delivered")} <= found
        assert (await boss.call(uris.AUDIT_VERIFY))["ok"] is True
    lines = siege.node.log()[siege.log_start :].splitlines()
    assert [line for line in lines if EXPECTED.search(line) is None] == []
    assert max(map(len, lines), default=0) < 1000
