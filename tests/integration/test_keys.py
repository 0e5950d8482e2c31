"""Agents that join by their keys (WAMP-cryptosign), at a real node: who gets in, who doesn't, and what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tests.support.keys import Pair, add_key
from tests.support.node import NodeProcess, environment
from tests.support.plain import JoinRefused, PlainClient, join
from tests.support.raw import RawClient
from tests.support.reactor import on_reactor
from tests.support.sessions import session
from trishula.contract import uris
from trishula.contract.uris import REALM
from trishula_router.agents.changes import short_id
from trishula_router.agents.tokens import key_entry

pytestmark = pytest.mark.node

AGNI, DC = Pair(), Pair()
INVALID, MISSING = "trishula.error.token_invalid", "trishula.error.token_missing"
#: After many wrong ones nobody at that address is told which it was.
REFUSED = (INVALID, "trishula.error.rate_limited")
NOT_OF_THIS_CONNECTION = (
    "what came as the signature of {} is none of its key over this connection's challenge; a signature is good once, "
    "on the connection that it was made for"
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("keys") / "state") as node:
        node.token("boss", operator=True)
        add_key(node, "agni", AGNI)
        add_key(node, "dc", DC)
        yield node


async def by_key(node: NodeProcess, name: str | None, pair: Pair, **more: Any) -> PlainClient:
    """Join as Autobahn's own client does."""
    answer = pair.by_autobahn()
    return await join(node.url, name, answer, methods=("cryptosign",), authextra={"pubkey": pair.public}, **more)


async def refused(attempt: Any) -> tuple[str, str | None]:
    with pytest.raises(JoinRefused) as caught:
        await attempt
    return caught.value.reason, caught.value.sentence


@on_reactor
@pytest.mark.parametrize("serializer", ["json", "msgpack", "cbor"])
async def test_any_client_with_cryptosign_joins_and_works(node: NodeProcess, serializer: str) -> None:
    for said in ("agni", None):
        agni = await by_key(node, said, AGNI, serializer=serializer)
        assert (agni.details.authid, agni.details.authrole) == ("agni", "agent")
        assert agni.details.authmethod == "cryptosign"
        assert "agni" in [one["agent"] for one in await agni.call(uris.DIRECTORY_LIST)]
        await agni.leave()


@on_reactor
async def test_the_record_of_a_message_says_by_what_its_sender_was_verified(node: NodeProcess) -> None:
    agni, boss = await by_key(node, "agni", AGNI), await join(node.url, "boss", node.tokens["boss"])
    for client, name in ((agni, "agni"), (boss, "boss")):
        # Nobody says it of himself.
        message = {"type": "STATUS", "id": f"proven-{name}", "to": "dc", "payload": 1}
        (receipt,) = await client.call(uris.MAILBOX_SEND, [message])
        assert receipt["status"] == "accepted"
    agents = json.loads((node.state_dir / "agents.json").read_text())["agents"]
    (token,) = (one["sha256"] for one in agents["boss"]["tokens"])
    for name, proof in (("agni", f"key {short_id(key_entry(AGNI.public, 0.0))}"), ("boss", f"token {token[:8]}")):
        (life,) = (await boss.call(uris.AUDIT_WHY, f"proven-{name}"))["messages"]
        (accepted,) = (event for event in life["events"] if event["kind"] == "accepted")
        assert accepted["proof"] == proof
    assert (await boss.call(uris.AUDIT_VERIFY))["ok"]
    for client in (agni, boss):
        await client.leave()


@on_reactor
async def test_each_refusal_says_what_is_wrong_and_tells_a_stranger_nothing(node: NodeProcess) -> None:
    stranger = Pair()

    def unknown(whose: str, name: str) -> str:
        add = f"an operator of the node adds one with `trishula token new {name} --public-key {stranger.public}`"
        return f"the key of {whose} is unknown here or was revoked; {add}"

    assert await refused(by_key(node, "agni", stranger)) == (INVALID, unknown("agni", "agni"))
    # Of an agent that isn't there the same is said.
    assert await refused(by_key(node, "nobody", stranger)) == (INVALID, unknown("nobody", "nobody"))
    assert await refused(by_key(node, None, stranger)) == (INVALID, unknown("this client", "NAME"))
    another = "the key is another agent's than dc's; use the one made for dc"
    assert await refused(by_key(node, "dc", AGNI)) == (INVALID, another)
    wrong = join(node.url, "agni", DC.by_autobahn(), methods=("cryptosign",), authextra={"pubkey": AGNI.public})
    assert await refused(wrong) == (INVALID, NOT_OF_THIS_CONNECTION.format("agni"))
    for extra in (None, {}, {"pubkey": None}, {"pubkey": "xyz"}, {"pubkey": AGNI.public.upper()}, {"pubkey": ["a"]}):
        reason, sentence = await refused(
            join(node.url, "agni", AGNI.by_autobahn(), methods=("cryptosign",), authextra=extra)
        )
        assert reason == MISSING and sentence is not None and "authextra.pubkey must be 64" in sentence
    assert await refused(by_key(node, "agni", AGNI, realm="realm1")) == (
        "trishula.error.not_allowed",
        "there is no realm 'realm1' for agents; join the realm \"trishula\"",
    )


@on_reactor
async def test_the_public_key_and_its_digest_are_no_token(node: NodeProcess) -> None:
    pair = Pair()
    add_key(node, "shown", pair)
    known = json.loads(node.command("token", "list", "--state", str(node.state_dir)))
    (entry,) = next(one for one in known if one["agent"] == "shown")["tokens"]
    assert (entry["kind"], entry["public_key"], entry["state"]) == ("key", pair.public, "valid")
    for ticket in (f"shown.{pair.public}", "ed25519:" + pair.public):
        reason, _ = await refused(join(node.url, "shown", ticket))
        assert reason == INVALID


@on_reactor
async def test_a_key_that_has_ended_or_not_begun_says_when(node: NodeProcess) -> None:
    early, late = Pair(), Pair()
    add_key(node, "soon", early, not_before=time.time() + 3600.0)
    add_key(node, "late", late, expires_at=time.time() - 1.0)
    reason, sentence = await refused(by_key(node, "soon", early))
    assert reason == INVALID and sentence is not None and sentence.startswith("the key of soon is not valid before 20")
    reason, sentence = await refused(by_key(node, "late", late))
    assert reason == INVALID and sentence is not None and sentence.startswith("the key of late expired at 20")
    assert sentence.endswith("make a new one with `trishula token key late` on the agent's machine")


@on_reactor
async def test_token_then_key_then_key_with_two_valid_at_once(node: NodeProcess) -> None:
    first, second = Pair(), Pair()
    node.token("mover")
    add_key(node, "mover", first)
    by_token = await join(node.url, "mover", node.tokens["mover"])
    with_first = await by_key(node, "mover", first)
    state, why = ("--state", str(node.state_dir)), ("--reason", "it has a key now")
    told = json.loads(await deferToThread(node.command, "token", "list", *state))
    ids = {one["kind"]: one["id"] for agent in told if agent["agent"] == "mover" for one in agent["tokens"]}
    # The token goes, and only its sessions with it.
    await deferToThread(node.command, "token", "revoke", "mover", "--token", ids["token"], *why, *state)
    assert await by_token.gone == INVALID
    assert (await with_first.call(uris.DIRECTORY_LIST)) != []
    # The next key comes, the first one ends after a second.
    rotated = ("--public-key", second.public, "--overlap", "1s", *state)
    await deferToThread(node.command, "token", "rotate", "mover", *rotated)
    with_second = await by_key(node, "mover", second)
    assert await with_first.gone == INVALID
    assert (await with_second.call(uris.DIRECTORY_LIST)) != []
    await with_second.leave()


@on_reactor
async def test_a_revoked_key_ends_its_live_sessions_and_never_comes_back(node: NodeProcess) -> None:
    pair = Pair()
    add_key(node, "gone", pair)
    live = await by_key(node, "gone", pair)
    started_s = time.monotonic()
    state = ("--state", str(node.state_dir))
    await deferToThread(node.command, "token", "revoke", "gone", "--all", "--reason", "the laptop was lost", *state)
    assert await live.gone == INVALID
    # Generous: what is promised is 1 s.
    assert time.monotonic() - started_s < 5.0
    reason, sentence = await refused(by_key(node, "gone", pair))
    assert reason == INVALID and sentence is not None and "is unknown here or was revoked" in sentence
    again = ("token", "new", "gone", "--public-key", pair.public, *state)
    with pytest.raises(AssertionError, match="was revoked, which nothing takes back: make a new one"):
        await deferToThread(node.command, *again)
    # Nor by the file.
    add_key(node, "gone", pair)
    assert (await refused(by_key(node, "gone", pair)))[0] == INVALID
    async with session(node, "boss") as boss:
        page = await boss.call(f"{uris.AUDIT_PREFIX}query", {"kinds": ["token", "joined"], "agent": "gone"})
    facts = page["records"]
    short = next(one["key"] for one in facts if one.get("key"))
    assert any(one.get("what") == "revoked" and one["is_key"] and one["token"] == short for one in facts)


# -- attacks on a raw socket -------------------------------------------------------------------------------------------


def challenged(node: NodeProcess, name: str, pair: Pair) -> tuple[RawClient, bytes]:
    """A connection that has been challenged, and with what."""
    client = RawClient(node.url)
    client.open()
    details = {"roles": {"caller": {}}, "authmethods": ["cryptosign"], "authid": name}
    client.send([1, REALM, {**details, "authextra": {"pubkey": pair.public, "channel_binding": None}}])
    kind, method, extra = client.receive()
    assert (kind, method) == (4, "cryptosign") and extra["channel_binding"] is None
    return client, bytes.fromhex(extra["challenge"])


def answered(client: RawClient, signature: Any) -> list[Any]:
    client.send([5, signature, {}])
    return client.receive()


def test_a_captured_signature_is_worth_nothing_anywhere_else(node: NodeProcess) -> None:
    first, nonce = challenged(node, "agni", AGNI)
    captured = AGNI.sign(nonce)
    second, other = challenged(node, "agni", AGNI)
    assert other != nonce
    # Also with what was signed behind it, which nobody is to believe.
    for signature in (captured, captured + nonce.hex()):
        third, _ = challenged(node, "agni", AGNI)
        with third:
            kind, _, reason = answered(third, signature)
        assert kind == 3 and reason in REFUSED
    assert answered(second, captured)[0] == 3
    assert answered(first, captured)[0] == 2
    # The session is there, and a further AUTHENTICATE is no way to anything.
    first.send([5, captured, {}])
    assert first.is_closed_within(10.0)


@pytest.mark.parametrize(
    "signature",
    ["", "0" * 128, "g" * 128, "0" * 127, "0" * 192, "0" * 4096, "é" * 64, 7, None, ["0" * 128], {"a": 1}],
    ids=lambda value: type(value).__name__ + str(len(str(value))),
)
def test_a_signature_of_no_shape_is_refused_and_the_node_goes_on(node: NodeProcess, signature: Any) -> None:
    client, _ = challenged(node, "agni", AGNI)
    with client:
        try:
            assert answered(client, signature)[0] in (3, 6)
        except ConnectionError:
            # What is no WAMP ends the connection.
            assert client.close_code
    good, nonce = challenged(node, "agni", AGNI)
    with good:
        assert answered(good, AGNI.sign(nonce))[0] == 2


def test_two_answers_at_once_are_one_try(node: NodeProcess) -> None:
    client, nonce = challenged(node, "agni", AGNI)
    with client:
        client.send([5, "0" * 128, {}])
        client.send([5, AGNI.sign(nonce), {}])
        assert client.receive()[0] == 3


def test_an_authenticate_before_any_hello_and_a_second_hello_let_nobody_in(node: NodeProcess) -> None:
    with RawClient(node.url) as client:
        client.open()
        client.send([5, "0" * 128, {}])
        assert client.is_closed_within(10.0)
    client, nonce = challenged(node, "agni", AGNI)
    with client:
        details = {"roles": {"caller": {}}, "authmethods": ["cryptosign"], "authid": "dc"}
        client.send([1, REALM, {**details, "authextra": {"pubkey": DC.public}}])
        client.send([5, AGNI.sign(nonce), {}])
        try:
            kinds = [client.receive()[0] for _ in range(2)]
        except ConnectionError:
            kinds = []
        assert 2 not in kinds


def test_nothing_that_was_signed_or_shown_is_in_the_log(node: NodeProcess) -> None:
    client, nonce = challenged(node, "agni", AGNI)
    signature = AGNI.sign(nonce)
    with client:
        assert answered(client, signature)[0] == 2
    log = node.log()
    assert signature not in log and nonce.hex() not in log and AGNI.seed.hex() not in log
    assert "Traceback" not in log


# -- our own client ----------------------------------------------------------------------------------------------------


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "trishula.cli.main", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(**environ), timeout=60.0)


def test_a_key_from_its_making_to_a_message(node: NodeProcess, tmp_path: Path) -> None:
    file = tmp_path / "home" / "scout.key"
    made = command("token", "key", "scout", "--write", str(file))
    assert made.returncode == 0, made.stderr
    public = made.stdout.strip()
    assert f"trishula token new scout --public-key {public}" in made.stderr
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    again = command("token", "key", "scout", "--write", str(file))
    assert again.returncode == 78 and f"{file} is there already" in again.stderr and public in again.stderr
    added = command("token", "new", "scout", "--public-key", public, "--state", str(node.state_dir))
    assert added.returncode == 0 and added.stdout == "", added.stderr
    who = {"TRISHULA_URL": node.url, "TRISHULA_AGENT": "scout", "TRISHULA_KEY_FILE": str(file)}
    sent = command("send", "scout", "--payload", '"to myself"', "--json", **who)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["status"] == "accepted"
    profile = tmp_path / "home" / "p.toml"
    profile.write_text(f'url = "{node.url}"\nagent = "scout"\nkey_file = "scout.key"\n')
    listed = command("--profile", str(profile), "agents", "--json")
    assert listed.returncode == 0, listed.stderr
    file.chmod(0o640)
    refused_ = command("--profile", str(profile), "agents")
    assert refused_.returncode == 2 or refused_.returncode == 78
    assert f"{file} may be read or written by others than its owner: chmod 600 {file}" in refused_.stderr
    assert os.fspath(tmp_path) not in node.log()
