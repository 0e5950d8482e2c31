"""The doors of a node, tried by attackers: agents with a token of their own, and strangers; against a real node."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import psutil
import pytest
from twisted.internet.defer import Deferred
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, Refused
from tests.support.reactor import on_reactor
from tests.support.sessions import session
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula_router.agents.file import update_agents

pytestmark = pytest.mark.node

FORGED = [{"session": 1, "authid": "agni", "authrole": "operator"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("doors") / "state") as node:
        for name in ("agni", "dc", "eve", "mallory", "sink"):
            node.token(name)
        node.token("boss", operator=True)
        yield node


def frame(*parts: object) -> bytes:
    return json.dumps(parts).encode()


async def noted(node: NodeProcess, agent: str, sentence: str) -> None:
    """Wait until a refusal of an agent is on record; such a record may wait for the next one of another kind."""
    async with session(node, "boss") as boss:
        for _ in range(100):
            answer = await boss.call(uris.AUDIT_QUERY, {"agent": agent, "kind": "refused"})
            if any(sentence in str(record) for record in answer["records"]):
                return
            # To an agent that no test reads the mail of: what the sends leave behind is no other test's finding.
            await boss.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": os.urandom(8).hex(), "to": "sink"}])
    raise AssertionError(f"no refusal of {agent} says: {sentence}")


# -- forged answers ----------------------------------------------------------------------------------------------------

#: What an attacker answers with, by the invocation's number: ERROR, YIELD, a YIELD of progress.
ANSWERS = {
    "error": lambda number: frame(8, 68, number, {}, "trishula.error.storage_full", ["forged"]),
    "result": lambda number: frame(70, number, {}, ["forged"]),
    "progress": lambda number: frame(70, number, {"progress": True}, ["forged"]),
}


class Counter:
    """Sees how many invocations the router has made: it counts them all by one counter, whoever calls whom."""

    def __init__(self, callee: PlainClient, caller: PlainClient) -> None:
        self._callee, self._caller = callee, caller
        self._made = 0

    async def next(self) -> int:
        """The number of an invocation that is made now and answered."""
        self._made += 1
        uri, answer = uris.procedure_of("agni", f"counted{self._made}"), Deferred[str]()
        await self._callee.register(uri, lambda *args, details: answer)
        called = Deferred.fromCoroutine(self._caller.call(uri))
        while not self._callee.asked:
            await self._caller.call(uris.DIRECTORY_LIST)
        (number,) = self._callee.asked
        answer.callback("answered")
        await called
        return number


@on_reactor
@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_live_call_is_answered_by_whom_it_was_made_of_alone(node: NodeProcess, kind: str) -> None:
    uri, answer = uris.procedure_of("agni", "slow"), Deferred[str]()
    heard: list[object] = []
    async with session(node, "agni") as agni, session(node, "dc") as dc, session(node, "eve") as eve:
        await agni.register(uri, lambda *args, details: answer)
        begun = Deferred.fromCoroutine(dc.call(uri, on_progress=heard.append))
        while not agni.asked:
            await dc.call(uris.DIRECTORY_LIST)
        # Numbers are counted up for the whole router, so the right one is easily met.
        (number,) = agni.asked
        eve.send_frame(ANSWERS[kind](number))
        assert await eve.ended() != ""
        answer.callback("honest")
        assert await begun == "honest"
        assert heard == []
    await noted(node, "eve", f"another session was asked (invocation {number})")


@on_reactor
async def test_the_nodes_own_calls_have_no_number_that_anybody_could_answer(node: NodeProcess) -> None:
    async with session(node, "agni") as agni, session(node, "dc") as dc, session(node, "boss") as boss:
        counter = Counter(agni, dc)
        before = await counter.next()
        waiting = Deferred.fromCoroutine(dc.call(uris.MAILBOX_FETCH, {"wait_s": 1}))
        await dc.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": os.urandom(8).hex(), "to": "mallory"}])
        await boss.call(uris.NODE_STATUS)
        assert await counter.next() == before + 1
        assert (await waiting)["deliveries"] == []


@on_reactor
@pytest.mark.parametrize("kind", ANSWERS)
async def test_the_nodes_own_calls_are_answered_by_the_node_alone(node: NodeProcess, kind: str) -> None:
    """Also where they are invocations, because Crossbar is built otherwise than expected."""
    async with session(node, "agni") as agni, session(node, "dc") as dc:
        number = await Counter(agni, dc).next()
        waiting = Deferred.fromCoroutine(dc.call(uris.MAILBOX_FETCH, {"wait_s": 3}))
        await dc.call(uris.DIRECTORY_LIST)
        # Some of the numbers are those of what an attacker's join and its own calls would take.
        for guess in range(number + 1, number + 13):
            async with session(node, "eve") as eve:
                eve.send_frame(ANSWERS[kind](guess))
                with contextlib.suppress(ConnectionError, Refused):
                    await eve.call(uris.DIRECTORY_LIST)
        assert (await waiting)["deliveries"] == []


@on_reactor
async def test_an_answer_names_nobody_else(node: NodeProcess) -> None:
    uri = uris.procedure_of("mallory", "who")
    async with session(node, "mallory") as mallory, session(node, "dc") as dc:
        await mallory.register(uri, lambda *args, details: Deferred())
        called = Deferred.fromCoroutine(dc.call(uri))
        while not mallory.asked:
            await dc.call(uris.DIRECTORY_LIST)
        mallory.send_frame(frame(70, mallory.asked[0], {"forward_for": FORGED}, ["forged"]))
        assert await mallory.ended() != ""
        with pytest.raises(Refused):
            await called
    await noted(node, "mallory", "as if for somebody else")


# -- sessions that won't go --------------------------------------------------------------------------------------------


class Stubborn:
    """A client that says nothing but what it is told to: it answers no GOODBYE."""

    def __init__(self, node: NodeProcess, name: str) -> None:
        self.name = name
        self.socket = connect(node.url, subprotocols=[Subprotocol("wamp.2.json")], compression=None)
        self._number = 0
        roles: dict[str, object] = {role: {} for role in ("caller", "callee", "publisher", "subscriber")}
        self.say(1, uris.REALM, {"roles": roles, "authmethods": ["ticket"], "authid": name})
        assert self.hear()[0] == 4
        self.say(5, node.tokens[name], {})
        self.welcome = self.hear()
        assert self.welcome[0] == 2

    def say(self, *parts: object) -> None:
        self.socket.send(json.dumps(parts))

    def hear(self, timeout_s: float = 10.0) -> list[Any]:
        heard: list[Any] = json.loads(self.socket.recv(timeout=timeout_s))
        return heard

    def ask(self, uri: str, *args: object) -> None:
        self._number += 1
        self.say(48, self._number, {}, uri, list(args))

    def call(self, uri: str, *args: object) -> Any:
        self.ask(uri, *args)
        while (heard := self.hear())[0] != 50:
            assert heard[0] == 36
        return heard[3][0]

    def await_goodbye(self) -> list[Any]:
        """Go on asking until GOODBYE comes."""
        while True:
            self.ask(uris.DIRECTORY_LIST)
            if (heard := self.hear())[0] == 6:
                return heard

    def after_goodbye(self) -> list[list[Any]]:
        """Go on as if nothing had happened, until the node hangs up; what it said meanwhile."""
        heard = []
        try:
            for number in range(1000):
                self.ask(uris.MAILBOX_SEND, [{"type": "STATUS", "id": f"after-{self.name}-{number}", "to": "dc"}])
                try:
                    heard.append(self.hear(0.05))
                except TimeoutError:
                    continue
        except ConnectionClosed:
            return heard
        raise AssertionError("the node does not hang up")


NEWS = uris.topic_of("agni", "news")


def attach(client: Stubborn) -> None:
    for number, topic in enumerate((uris.inbox_of(Address(client.name)), NEWS)):
        client.say(32, 1_000_000 + number, {}, topic)
        assert client.hear()[0] == 33
    client.call(uris.MAILBOX_ATTACH, {})


def publish(publisher: Stubborn, news: str) -> None:
    publisher.say(16, 2_000_000, {"acknowledge": True}, NEWS, [news])
    assert publisher.hear()[0] == 17


def check_nothing_came_after(node: NodeProcess, client: Stubborn, publisher: Stubborn) -> None:
    witness = Stubborn(node, client.name) if client.name in node.tokens else None
    publish(publisher, "after it was over")
    assert client.after_goodbye() == []
    if witness is not None:
        known = witness.call(uris.MAILBOX_STATUS, [f"after-{client.name}-0"])
        assert known == {} or known[f"after-{client.name}-0"]["state"] == "unknown"
        witness.socket.close()


def test_a_revoked_session_is_over_whatever_its_client_does(node: NodeProcess) -> None:
    node.token("traitor")
    client, agni = Stubborn(node, "traitor"), Stubborn(node, "agni")
    attach(client)
    publish(agni, "before")
    assert client.hear()[-1] == ["before"]
    with update_agents(node.state_dir / "agents.json") as known:
        del known["traitor"]
    del node.tokens["traitor"]
    assert client.await_goodbye()[2] == "trishula.error.token_invalid"
    [receipt] = agni.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": "behind", "to": "dc"}])
    assert receipt["status"] == "accepted"
    check_nothing_came_after(node, client, agni)
    agni.socket.close()


def test_a_session_that_was_taken_over_is_over_whatever_its_client_does(node: NodeProcess) -> None:
    old, new, agni = Stubborn(node, "eve"), Stubborn(node, "eve"), Stubborn(node, "agni")
    attach(old)
    attach(new)
    assert old.await_goodbye()[2] == "trishula.error.taken_over"
    [receipt] = new.call(uris.MAILBOX_SEND, [{"type": "STATUS", "id": "to-eve", "to": "eve"}])
    assert receipt["status"] == "accepted"
    check_nothing_came_after(node, old, agni)
    new.socket.close()
    agni.socket.close()


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def ask_http(node: NodeProcess, head: str, body: Iterable[bytes] = ()) -> bytes:
    """Say something to a node's port, and hear what it answers until it hangs up."""
    with socket.create_connection(("127.0.0.1", node.port), 10.0) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode(errors="surrogateescape"))
        with contextlib.suppress(ConnectionError):
            for part in body:
                connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65536):
                answer += more
    return answer


@pytest.mark.parametrize("length", ["Content-Length: 209715200", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/", "/ws", "/nowhere"])
def test_no_body_is_taken_over_http(node: NodeProcess, path: str, length: str) -> None:
    worker = psutil.Process(node.worker_pid())
    before = worker.io_counters().write_bytes
    part = (b"%x\r\n" % 65536 + bytes(65536) + b"\r\n") if "chunked" in length else bytes(65536)
    answer = ask_http(node, f"POST {path} HTTP/1.1\nHost: node\n{length}\n\n", [part] * 800)
    # What is sent on regardless may be answered by a reset, which takes the answer with it.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
    assert worker.io_counters().write_bytes - before < 10 * 1024 * 1024
    assert not [file for file in worker.open_files() if "/tmp" in file.path and str(node.state_dir) not in file.path]


def test_a_body_is_refused_with_a_sentence(node: NodeProcess) -> None:
    answer = ask_http(node, "POST / HTTP/1.1\nHost: node\nContent-Length: 5\n\n", [b"hello"])
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"A node takes no bodies over HTTP\n")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_stranger_learns_nothing_of_the_machine(node: NodeProcess) -> None:
    page = ask_http(node, "GET / HTTP/1.1\nHost: node\nOrigin: http://evil.example\nConnection: close\n\n")
    missing = [
        # Crossbar and Twisted have a page each for what is not there.
        ask_http(node, f"GET {path} HTTP/1.1\nHost: node\nConnection: close\n\n")
        for path in ("/nowhere", "/no/where", "/%00", "/no%00where", "/%ff", "/" + "long" * 100)
    ]
    refused = [
        # Twisted has a page for a method that is not supported, with the path on it.
        ask_http(node, f"POST {path} HTTP/1.1\nHost: node\nConnection: close\n\n")
        for path in ("/", "/\udc9a", "/?\udc9a", "/\x7f", "\udcb0")
    ]
    upgrade = ask_http(node, "GET /ws HTTP/1.1\nHost: node\nConnection: close\n\n")
    assert page.startswith(b"HTTP/1.1 200 ")
    assert all(answer.startswith(b"HTTP/1.1 404 ") for answer in missing)
    assert [answer[9:12] for answer in refused] == [b"405", b"400", b"400", b"400", b"400"]
    for answer in (page, *missing, *refused, upgrade):
        text = answer.decode().lower()
        assert "crossbar" not in text
        assert "autobahn" not in text
        assert "twisted" not in text
        assert "access-control" not in text
        assert str(node.worker_pid()) not in text
        assert str(node.state_dir).lower() not in text
    assert "Traceback" not in node.log()


def test_a_client_is_not_told_of_the_host_and_its_processes(node: NodeProcess) -> None:
    client = Stubborn(node, "dc")
    welcome = json.dumps(client.welcome)
    client.socket.close()
    assert "x_cb_" not in welcome
    assert socket.gethostname() not in welcome
    assert str(node.worker_pid()) not in welcome
