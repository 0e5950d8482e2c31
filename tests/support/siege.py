"""A real node with who abuses it and who watches, for tests; and what must be true of each answer to an abuse."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.support.abuse import Call
from tests.support.node import NodeProcess
from tests.support.plain import PlainClient, Refused, join
from tests.support.rules import AGENTS
from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.errors import wire_errors
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import TokenEntry, digest_of, new_token

__all__ = [
    "ATTACKERS",
    "Siege",
    "abuse",
    "check_error",
    "error_of",
    "example",
    "in_thread",
    "message",
    "register",
]

E = "trishula.error."
NOT_AUTHORIZED = "wamp.error.not_authorized"
#: The agent that abuses in each serializer; its operator is called like it, with ``op_`` before.
ATTACKERS = {"json": "jay", "msgpack": "mike", "cbor": "charlie"}
#: A worker that takes as long as this for a frame is busy with something that it should not be.
PATIENCE_S = 10.0


class Siege:
    """A node, who abuses it, and who watches.

    Attributes:
        known: (sender, id) of each message that was accepted.
        accepted: those to the vault.
    """

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.worker = node.worker_pid()
        self.log_start = len(node.log())
        self.accepted: set[tuple[str, str]] = set()
        self.known: set[tuple[str, str]] = set()
        self._clients: dict[str, PlainClient] = {}
        self._seen: list[str] = []
        self._told: Deferred[None] | None = None
        self._sent = 0

    async def watch(self) -> None:
        """Have the witness consume its mailbox."""
        self.witness = await join(self.node.url, "witness", self.node.tokens["witness"])
        await self.witness.subscribe(uris.inbox_of(Address("witness")), self._heard)
        await self.witness.call(uris.MAILBOX_ATTACH, {"window": 1024})
        self.friend = await join(self.node.url, "friend", self.node.tokens["friend"], serializer="msgpack")

    async def leave(self) -> None:
        for client in (self.witness, self.friend, *self._clients.values()):
            if not client.gone.called:
                await client.leave()

    async def attacker(self, serializer: str, operator: bool = False) -> PlainClient:
        """The session of an attacker; a new one, if the last one is gone."""
        name = ("op_" if operator else "") + ATTACKERS[serializer]
        client = self._clients.get(name)
        if client is None or client.gone.called:
            how = "json-escaped" if serializer == "json" else serializer
            client = self._clients[name] = await join(self.node.url, name, self.node.tokens[name], serializer=how)
        return client

    @asynccontextmanager
    async def session(self, name: str, serializer: str = "json") -> AsyncIterator[PlainClient]:
        """A session of its own for one test."""
        client = await join(self.node.url, name, self.node.tokens[name], serializer=serializer)
        try:
            yield client
        finally:
            await client.leave()

    async def send_accepted(self, wire: dict[str, Any]) -> None:
        """Send a message that is right."""
        (receipt,) = await self.friend.call(uris.MAILBOX_SEND, [wire])
        assert receipt["status"] == "accepted", receipt

    def _heard(self, deliveries: list[dict[str, Any]], details: Any) -> None:
        self._seen += [one["message"]["id"] for one in deliveries]
        tokens = [one["token"] for one in deliveries]
        Deferred.fromCoroutine(self.witness.call(uris.MAILBOX_ACK, tokens))
        if self._told is not None and not self._told.called and f"proof-{self._sent}" in self._seen:
            self._told.callback(None)

    async def prove_alive(self) -> None:
        """A message reaches the witness, from end to end."""
        from twisted.internet import reactor

        assert not self.witness.gone.called, f"the witness lost its session: {self.witness.gone.result}"
        self._sent += 1
        self._seen.clear()
        self._told = Deferred()
        await self.send_accepted(message(id=f"proof-{self._sent}", to="witness", priority=1))
        await self._told.addTimeout(PATIENCE_S, cast(Any, reactor))
        assert self.node.worker_pid() == self.worker


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run what would hold up the reactor: a test of hypothesis, which waits for its examples by :func:`example`."""
    return await deferToThread(work)


def example(work: Coroutine[Any, Any, Any]) -> None:
    """Run an example on the reactor, and wait for it in the thread of the test."""
    from twisted.internet import reactor

    blockingCallFromThread(cast(Any, reactor), lambda: Deferred.fromCoroutine(work))


def register(agents_file: Path) -> dict[str, str]:
    """Make everybody's tokens, in this process: a command for each of them takes longer than the node's start."""
    made = {}
    with update_agents(agents_file) as agents:
        for name in (*AGENTS, "friend", "anna", "ben", *(f"op_{name}" for name in ATTACKERS.values())):
            made[name] = new_token(name, secrets.token_urlsafe)
            record = TokenEntry(digest_of(made[name]), time.time(), None, None)
            agents[name] = AgentEntry(operator=name.startswith("op_"), tokens=(record,))
    return made


def message(**keys: Any) -> dict[str, Any]:
    return {"type": "STATUS", "id": f"m-{time.time_ns()}", "to": "vault", **keys}


async def error_of(attempt: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as caught:
        await attempt
    return str(caught.value.error).removeprefix(E)


async def abuse(siege: Siege, call: Call, serializer: str, operator: bool) -> None:
    client = await siege.attacker(serializer, operator)
    try:
        answer = await client.call(call.procedure.uri, *call.args, named=dict(call.kwargs))
    except Refused as refused:
        judge_refusal(call, refused, operator)
    else:
        assert operator or not call.procedure.for_operators
        judge_answer(siege, client, call, answer)
    assert not client.gone.called, "the call cost its caller the session"


def judge_refusal(call: Call, refused: Refused, operator: bool) -> None:
    uri, sentence = str(refused.error), str(refused.args[0])
    if call.procedure.for_operators and not operator:
        assert uri == NOT_AUTHORIZED
        return
    check_error(uri, sentence)
    if call.must is not False or call.message is not None:
        is_state = uri.removeprefix(E) in call.procedure.states
        assert is_state or (call.must is None and call.message is None), f"refused, though right: {uri} {sentence}"
    else:
        assert call.named in sentence


def check_error(uri: str, sentence: str) -> None:
    assert uri in wire_errors(), uri
    assert uri != f"{E}node_failed", sentence
    assert sentence.strip()
    assert "\n" not in sentence
    assert len(sentence) < 2000


def judge_answer(siege: Siege, client: PlainClient, call: Call, answer: Any) -> None:
    assert call.procedure.shape(answer), f"not as documented: {answer!r}"
    if call.procedure.uri != uris.MAILBOX_SEND:
        assert call.must is not False, f"taken, though wrong: {answer!r}"
        return
    assert len(answer) == len(call.args[0])
    if call.message is None:
        assert call.must is not False, f"taken, though wrong: {answer!r}"
    for index, (message, receipt) in enumerate(zip(call.args[0], answer, strict=True)):
        if receipt["status"] == "refused":
            check_error(receipt["error"], receipt["detail"])
            if receipt["error"] == f"{E}id_reused":
                # Of what was accepted, and said something else.
                assert (message.get("from") or client.details.authid, receipt["id"]) in siege.known
                continue
            assert call.must is None or (call.must is False and index == call.message), receipt
            if call.must is False:
                assert call.named in receipt["detail"]
            continue
        key = (message.get("from") or client.details.authid, receipt["id"])
        if receipt["status"] == "duplicate":
            # Of what was accepted, whatever it says now.
            assert key in siege.known
            continue
        assert index != call.message or call.must is not False, f"taken, though wrong: {message!r}"
        if message["type"] not in ("ACK", "HEARTBEAT"):
            siege.known.add(key)
            if message["to"] == "vault":
                siege.accepted.add(key)
