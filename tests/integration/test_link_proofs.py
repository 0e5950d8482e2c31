"""Both ends of a link prove their keys before anything is said: who listens at a peer's address gets nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.task import deferLater

from tests.support.certificates import Issuer
from tests.support.cluster import Cluster
from tests.support.peers import (
    ABORT,
    AUTHENTICATE,
    CALL,
    CHALLENGE,
    HELLO,
    RESULT,
    SUBSCRIBE,
    SUBSCRIBED,
    WELCOME,
    FakeListener,
    Message,
    NodeKey,
    intrude,
)
from tests.support.plain import join
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listener_of, render_config
from trishula_router.settings.node_key import read_public_key
from trishula_router.upstream.link_proofs import CONNECTOR, LISTENER, Ends

pytestmark = pytest.mark.node

ROLES: dict[str, Any] = {"broker": {}, "dealer": {}}
TIMEOUT_S = 15.0


class Pair:
    """Two nodes that are each other's peers: ``rushabdev`` makes the link. One, the other or both run."""

    def __init__(self, directory: Path) -> None:
        self.cluster = Cluster(directory, ["agni", "rushabdev"])
        self.cluster.token("dc", operator=True)
        self.agni, self.rushabdev = self.cluster["agni"], self.cluster["rushabdev"]
        self.keys = {
            name: read_public_key(node.state_dir / "crossbar") or "" for name, node in self.cluster.nodes.items()
        }

    async def links(self, node: str) -> list[dict[str, Any]]:
        """What the journal of a node has of links."""
        client = await join(self.cluster[node].url, "dc", self.cluster.tokens["dc"])
        answer = await client.call(uris.AUDIT_QUERY, {"kind": "link", "limit": 100})
        await client.leave()
        return [record for record in answer["records"] if record["node"] == node]

    async def refusals(self, node: str, text: str, event: str = "refused") -> list[dict[str, Any]]:
        """Wait until a refusal for that reason, or another event, is on record in journal and log; those that are."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + TIMEOUT_S
        while not found:
            assert time.monotonic() < deadline, (text, await self.links(node), self.cluster[node].log()[-3000:])
            await pause(0.1)
            found = [one for one in await self.links(node) if one["event"] == event and text in one["detail"]]
        self.cluster[node].wait_log(text)
        return found


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def pair(nodes: Pair) -> Iterator[Pair]:
    try:
        yield nodes
    finally:
        nodes.cluster.stop()


async def pause(seconds: float = 0.02) -> None:
    from twisted.internet import reactor

    await deferLater(cast(Any, reactor), seconds)


async def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        await pause()


async def hears_more(listener: FakeListener) -> None:
    before = len(listener.heard)
    await until(lambda: len(listener.heard) > before + 1)


def welcome(message: Message) -> list[Message]:
    """Accepts anything, and wants everything."""
    if message[0] in (HELLO, AUTHENTICATE):
        return [[WELCOME, 7, {"roles": ROLES, "realm": uris.REALM, "authid": "rushabdev", "authrole": "rlink"}]]
    if message[0] == SUBSCRIBE:
        return [[SUBSCRIBED, message[1], 1]]
    if message[0] == CALL:
        topics = dict.fromkeys([uris.peer_topic("agni", kind) for kind in ("hello", "journal", "presence")], True)
        return [[RESULT, message[1], {}, [{"at": 1, "topics": topics, "procedures": {}}]]]
    return []


def challenging(extra_of: Callable[[dict[str, Any]], dict[str, Any]], method: str = "cryptosign") -> Any:
    """Challenges before it welcomes."""

    def answer(message: Message) -> list[Message]:
        if message[0] != HELLO:
            return welcome(message)
        return [[CHALLENGE, method, extra_of(message[2]["authextra"])]]

    return answer


def signing(key: NodeKey, shown: str, part: str, connector: str = "rushabdev") -> Any:
    """Challenges with a signature of its own key, and shows that or another one."""

    def extra_of(hello: dict[str, Any]) -> dict[str, Any]:
        nonce = os.urandom(32).hex()
        ends = Ends("agni", connector, shown, hello["pubkey"], nonce, hello.get("challenge") or "", "no TLS")
        proof = {"pubkey": shown, "challenge": nonce, "channel_binding": None}
        return {**proof, "signature": key.sign(ends.text(part))}

    return challenging(extra_of)


@on_reactor
async def test_who_listens_at_the_address_of_a_peer_gets_nothing(pair: Pair) -> None:
    own = NodeKey()
    answers = {
        "let this node in and proved no key": welcome,
        "proved nothing, or has another key": challenging(lambda _: {"challenge": "00" * 32}),
        "could not prove the key of agni": signing(own, pair.keys["agni"], LISTENER),
        "than agni, whose key stands": signing(own, own.public, LISTENER),
        "asked for something else than the proof": challenging(lambda _: {}, "ticket"),
        "for something else": challenging(lambda _: {"challenge": "no nonce", "pubkey": pair.keys["agni"]}),
    }
    agni = FakeListener(pair.agni.port, welcome)
    pair.rushabdev.start()
    try:
        for text, agni.answer in answers.items():
            await pair.refusals("rushabdev", text)
            await hears_more(agni)
        # Nothing but which key is ours, and who we are is none of it; and that nothing more is said.
        assert agni.kinds <= {HELLO, ABORT}
        hellos = [message for message in agni.heard if message[0] == HELLO]
        assert all(set(hello[2]["authextra"]) == {"pubkey", "challenge", "channel_binding"} for hello in hellos)
        nonces = [hello[2]["authextra"]["challenge"] for hello in hellos]
        assert len(set(nonces)) == len(nonces)
    finally:
        await agni.stop()
    assert "Traceback" not in pair.rushabdev.log()
    # The real one is taken, after all that.
    pair.agni.start()
    pair.rushabdev.wait_log("the link to agni is up")
    pair.agni.wait_log("the node rushabdev is there")
    for node, peer in (("agni", "rushabdev"), ("rushabdev", "agni")):
        # The log says so before the journal does.
        for event in ("proven", "up"):
            assert peer in [one["peer"] for one in await pair.refusals(node, "", event)]


@on_reactor
async def test_no_proof_is_good_for_another_connection_or_the_other_end(pair: Pair) -> None:
    pair.agni.start()
    # It signs for whoever names the key of its peer, which is public; what may that be used for?
    rushabdev, nonce = pair.keys["rushabdev"], os.urandom(32).hex()
    reflecting = await intrude(pair.agni.url)
    reflecting.hello(pubkey=rushabdev, challenge=nonce, channel_binding=None)
    kind, _, recorded = await reflecting.receive()
    assert kind == CHALLENGE
    assert recorded["pubkey"] == pair.keys["agni"]
    ends = Ends("agni", "rushabdev", recorded["pubkey"], rushabdev, recorded["challenge"], nonce, "no TLS")
    assert ends.is_signed(LISTENER, recorded["signature"])
    # Sent back, it is not ours.
    reflecting.send(AUTHENTICATE, recorded["signature"], {})
    assert (await reflecting.receive())[0] == ABORT
    await pair.refusals("agni", "could not prove its key")
    # Nor is anything of another key, or of none.
    own = NodeKey()
    for signature in (own.sign(ends.text(CONNECTOR)), "00" * 64, "", recorded["signature"] + "00" * 32):
        other = await intrude(pair.agni.url)
        other.hello(pubkey=rushabdev, challenge=nonce, channel_binding=None)
        assert (await other.receive())[0] == CHALLENGE
        other.send(AUTHENTICATE, signature, {})
        assert (await other.receive())[0] == ABORT
        other.hang_up()
    # A stranger's key is not signed for, and is on record too.
    stranger = await intrude(pair.agni.url)
    stranger.hello(pubkey=own.public, challenge=nonce, channel_binding=None)
    assert (await stranger.receive())[0] == ABORT
    (told,) = await pair.refusals("agni", "doesn't know the key")
    assert told["peer"] == "a stranger"
    # What was recorded is worth nothing to rushabdev, which asks with another nonce.
    pair.agni.stop()
    agni = FakeListener(pair.agni.port, challenging(lambda _: recorded))
    pair.rushabdev.start()
    try:
        await pair.refusals("rushabdev", "could not prove the key of agni")
        # Nor what rushabdev itself signs as a listener, for whoever says it was agni, with the nonce that it just sent.
        reflected: list[Message] = []

        async def reflect(message: Message) -> list[Message]:
            if message[0] != HELLO:
                return welcome(message)
            mine = await intrude(pair.rushabdev.url)
            mine.hello(pubkey=pair.keys["agni"], challenge=message[2]["authextra"]["challenge"])
            challenge = await mine.receive()
            mine.hang_up()
            reflected.append(challenge)
            return [[CHALLENGE, "cryptosign", {**challenge[2], "pubkey": pair.keys["agni"]}], *welcome(message)]

        agni.answer = reflect
        await until(lambda: len(reflected) > 2)
        assert all(challenge[0] == CHALLENGE for challenge in reflected)
        assert agni.kinds <= {HELLO, ABORT}
    finally:
        await agni.stop()


@on_reactor
async def test_who_proves_a_key_in_an_old_connection_proves_nothing_in_a_new_one(pair: Pair) -> None:
    pair.agni.start()
    key = NodeKey.stolen(pair.rushabdev.state_dir)
    first = await intrude(pair.agni.url)
    assert (await first.prove("agni", "rushabdev", key, pair.keys["agni"]))[0] == WELCOME
    first.hang_up()
    # All that a listener in between could have recorded: one nonce, one proof.
    nonce = os.urandom(32).hex()
    second = await intrude(pair.agni.url)
    second.hello(pubkey=key.public, challenge=nonce, channel_binding=None)
    extra = (await second.receive())[2]
    ends = Ends("agni", "rushabdev", pair.keys["agni"], key.public, extra["challenge"], nonce, "no TLS")
    proof = key.sign(ends.text(CONNECTOR))
    for _ in range(2):
        replaying = await intrude(pair.agni.url)
        replaying.hello(pubkey=key.public, challenge=nonce, channel_binding=None)
        assert (await replaying.receive())[2]["challenge"] != extra["challenge"]
        replaying.send(AUTHENTICATE, proof, {})
        assert (await replaying.receive())[0] == ABORT
    # Nor is a proof for another node's link one for this.
    for names in (("dc", "rushabdev"), ("agni", "dc"), ("rushabdev", "agni")):
        other = await intrude(pair.agni.url)
        other.hello(pubkey=key.public, challenge=nonce, channel_binding=None)
        asked = (await other.receive())[2]["challenge"]
        ends = Ends(*names, pair.keys["agni"], key.public, asked, nonce, "no TLS")
        other.send(AUTHENTICATE, key.sign(ends.text(CONNECTOR)), {})
        assert (await other.receive())[0] == ABORT
    # It was good where it belongs.
    second.send(AUTHENTICATE, proof, {})
    assert (await second.receive())[0] == WELCOME
    second.hang_up()
    assert "Traceback" not in pair.agni.log()


@on_reactor
async def test_a_link_over_tls_is_bound_to_its_channel(tmp_path: Path) -> None:
    root = Issuer("root")
    root.leaf("localhost").write(tmp_path / "node.crt", tmp_path / "node.key")
    root.write(tmp_path / "root.crt")
    pair = Pair(tmp_path)
    for name in ("agni", "rushabdev"):
        file = tmp_path / f"{name}.json"
        config = read_config_file(file)
        if name == "agni":
            listener_of(config)["endpoint"] |= {"tls": {"key": "node.key", "certificate": "node.crt"}}
        else:
            transport = config["workers"][0]["realms"][0]["rlinks"][0]["transport"]
            transport["url"] = f"wss://localhost:{pair.agni.port}/peer"
            transport["endpoint"]["tls"] = {"hostname": "localhost", "ca_certificates": ["root.crt"]}
        file.write_text(render_config(config))
    try:
        pair.agni.start()
        pair.rushabdev.start()
        pair.rushabdev.wait_log("the link to agni is up")
        pair.rushabdev.wait_log("the node agni is there")
        # The record is written behind the line in the log.
        (proven,) = await pair.refusals("rushabdev", "so did this node", "proven")
        assert proven["detail"] == "so did this node; TLS"
        # What a proxy that ends the TLS would make of it: the listener sees a channel of its own, and signs it.
        pair.rushabdev.stop()
        key, nonce = NodeKey.stolen(pair.rushabdev.state_dir), os.urandom(32).hex()
        for binding in ("tls-unique", None):
            other = await intrude(pair.agni.url, trusting=tmp_path / "root.crt")
            other.hello(pubkey=key.public, challenge=nonce, channel_binding=binding)
            extra = (await other.receive())[2]
            assert extra["channel_binding"] == binding
            known = ("agni", "rushabdev", pair.keys["agni"], key.public, extra["challenge"], nonce)
            # Only the true channel is signed: neither "none" nor another one, whatever was asked for.
            signed = [
                channel
                for channel in ("no TLS", "TLS up to a proxy", "00" * 32)
                if Ends(*known, channel).is_signed(LISTENER, extra["signature"])
            ]
            assert signed == ([] if binding else ["no TLS"])
            other.send(AUTHENTICATE, key.sign(Ends(*known, "00" * 32).text(CONNECTOR)), {})
            assert (await other.receive())[0] == ABORT
            other.hang_up()
    finally:
        pair.cluster.stop()


@on_reactor
async def test_a_node_of_the_release_before_is_let_in_and_never_linked_to(pair: Pair) -> None:
    pair.agni.start()
    key = NodeKey.stolen(pair.rushabdev.state_dir)
    for is_right in (False, True):
        old = await intrude(pair.agni.url)
        # All that it says, and signs: the bytes that it is sent.
        old.hello(pubkey=key.public, trustroot=None, challenge=None, channel_binding=None)
        kind, _, extra = await old.receive()
        assert (kind, "signature" in extra) == (CHALLENGE, False)
        challenge = extra["challenge"] if is_right else "00" * 32
        old.send(AUTHENTICATE, key.sign(bytes.fromhex(challenge)) + challenge, {})
        assert (await old.receive())[0] == (WELCOME if is_right else ABORT)
        old.hang_up()
    await pair.refusals("agni", "it is of the release before, and asked for no proof", "proven")
    pair.agni.stop()
    # As a listener it refuses to be asked for a proof, and that is no way to be linked to without one.
    sentence = "a peer proves its key and nothing else; it asked for more in its authextra"
    agni = FakeListener(pair.agni.port, lambda message: [[ABORT, {"message": sentence}, "wamp.error.not_authorized"]])
    pair.rushabdev.start()
    try:
        await pair.refusals("rushabdev", "agni is of a release that can't prove its own key")
        await hears_more(agni)
        assert agni.kinds == {HELLO}
        assert all(hello[2]["authextra"]["challenge"] for hello in agni.heard)
    finally:
        await agni.stop()
