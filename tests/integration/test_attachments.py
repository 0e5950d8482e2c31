"""Attachments on a real node: there and back, gone on with after kill -9 of either end, bounded, and nobody else's."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.node import ROOT, NodeProcess, environment
from tests.support.reactor import on_reactor
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.attached import attachment_of
from trishula.contract.deliveries import Delivery
from trishula.contract.message import Message
from trishula.errors import (
    ArgumentInvalid,
    AttachmentDamaged,
    AttachmentsFull,
    AttachmentTooLarge,
    AttachmentUnknown,
    TrishulaError,
)
from trishula.key_file import new_key_file
from trishula.key_settings import KeySettings
from trishula.known_keys import KnownKeys
from trishula.runtime.surroundings import real
from trishula.settings import Settings, SettingsInvalid

pytestmark = pytest.mark.node

MIB = 1024 * 1024


def configured(directory: Path, **attachments: object) -> Path:
    """The shipped configuration with other options of attachments."""
    config = json.loads((ROOT / "config" / "single.json").read_text())
    config["workers"][0]["components"][0]["extra"]["attachments"] = attachments
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("attachments")
    # What the disk of whoever tests has left is not what is tested.
    config = configured(directory, size="96 MiB", agent="200 MiB", total="300 MiB", free="0 B", rate="1 GiB")
    with NodeProcess(directory / "state", config=config) as node:
        for name in ("agni", "dc", "ganga"):
            node.token(name)
        node.token("indra", operator=True)
        yield node


async def pause(seconds: float = 0.02) -> None:
    over: Deferred[None] = Deferred()
    real().clock.callLater(seconds, over.callback, None)
    await over


async def until(condition: Any, timeout_s: float = 60.0) -> None:
    clock = real().clock
    deadline_s = clock.seconds() + timeout_s
    while not condition():
        assert clock.seconds() < deadline_s, "it did not come true in time"
        await pause()


@asynccontextmanager
async def client_of(
    node: NodeProcess, name: str, keys: KeySettings | None = None
) -> AsyncIterator[tuple[Client, list[Message]]]:
    """The agent itself: what comes for it is acknowledged at once."""
    got: list[Message] = []
    client = Client(Settings((node.url,), name, node.tokens[name], keys=keys or KeySettings()))

    def take(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            got.append(delivery.message)
            client.ack_soon(delivery.token)

    client.attach(take)
    try:
        await client.start(timeout=30.0)
        yield client, got
    finally:
        await client.stop()


async def failure_of(awaitable: Any) -> TrishulaError:
    try:
        outcome = await awaitable
    except TrishulaError as error:
        return error
    raise AssertionError(f"it succeeded with {outcome!r}")


def file_of(path: Path, size_bytes: int, seed: bytes) -> Path:
    """A file no two MiB of which are the same."""
    block = hashlib.shake_256(seed).digest(MIB)
    with path.open("wb") as file:
        for index in range(0, size_bytes, MIB):
            file.write((index.to_bytes(8, "big") + block)[: min(MIB, size_bytes - index)])
    return path


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(node: NodeProcess, agent: str) -> list[Path]:
    folder = node.state_dir / "attachments" / agent
    return sorted(folder.iterdir()) if folder.is_dir() else []


@on_reactor
async def test_64_mib_go_there_and_back_and_messages_pass_between(node: NodeProcess, tmp_path: Path) -> None:
    source = file_of(tmp_path / "build.tar", 64 * MIB, b"64")
    seen: list[int] = []
    async with client_of(node, "dc") as (dc, _), client_of(node, "agni") as (agni, got):
        sending = dc.send(
            "agni", payload={"text": "the build"}, attachment=source, on_progress=lambda n, _: seen.append(n)
        )
        await until(lambda: seen and seen[-1] > MIB)
        # One that is sent meanwhile overtakes it, because the file comes first.
        await dc.send("agni", payload="light")
        assert not sending.done
        receipt = await sending
        await until(lambda: len(got) == 2)
        assert got[0].payload == "light"
        named = attachment_of(got[1].payload)
        assert named is not None
        assert (named.name, named.size_bytes, named.media_type) == ("build.tar", 64 * MIB, "application/x-tar")
        assert got[1].payload["text"] == "the build"
        (tmp_path / "inbox").mkdir()
        saved = await agni.save_attachment(got[1], tmp_path / "inbox")
        assert saved == tmp_path / "inbox" / "build.tar"
        assert digest_of(saved) == digest_of(source) == named.digest.removeprefix("sha256:")
        assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["build.tar"]
        # What is there is not written over unasked.
        assert "is there already" in (await failure_of(agni.save_attachment(got[1], saved))).sentence
        # By its id alone, and the sender its own.
        again = await dc.save_attachment(receipt.id, tmp_path / "mine.tar")
        assert digest_of(again) == digest_of(source)
    assert [path.stat().st_mode & 0o777 for path in kept(node, "dc")] == [0o600]


@on_reactor
async def test_only_who_has_part_in_the_message_may_fetch(node: NodeProcess, tmp_path: Path) -> None:
    source = file_of(tmp_path / "secret.bin", 100_000, b"secret")
    async with client_of(node, "dc") as (dc, _), client_of(node, "agni") as (_agni, got):
        await dc.send("agni", id="secret.1", attachment=source)
        await until(lambda: got)
        async with client_of(node, "ganga") as (ganga, _), client_of(node, "indra") as (indra, _):
            error = await failure_of(ganga.save_attachment(got[0], tmp_path / "stolen"))
            assert isinstance(error, AttachmentUnknown)
            # Who knows the digest alone can't have a message name it, nor find out that it is there.
            payload = {"attachment": got[0].payload["attachment"]}
            assert isinstance(await failure_of(ganga.send("ganga", payload=payload)), AttachmentUnknown)
            named = attachment_of(got[0].payload)
            assert named is not None
            begun = await ganga.request(uris.ATTACHMENT_BEGIN, named.digest, named.size_bytes)
            assert begun["have_bytes"] == 0
            seen = await indra.save_attachment("secret.1", tmp_path / "seen", sender="dc")
            assert digest_of(seen) == digest_of(source)
    assert not (tmp_path / "stolen").exists()


@on_reactor
async def test_a_file_that_is_damaged_on_the_nodes_disk_is_told_and_mended_by_sending_again(
    node: NodeProcess, tmp_path: Path
) -> None:
    source = file_of(tmp_path / "data", 200_000, b"data")
    async with client_of(node, "ganga") as (ganga, _), client_of(node, "agni") as (agni, got):
        await ganga.send("agni", attachment=source)
        await until(lambda: got)
        (there,) = (path for path in kept(node, "ganga") if path.name == digest_of(source))
        there.write_bytes(there.read_bytes()[:100_000])
        error = await failure_of(agni.save_attachment(got[0], tmp_path / "got"))
        assert isinstance(error, AttachmentDamaged)
        assert "has 100000 bytes instead of 200000, on the node's disk" in error.sentence
        assert not (tmp_path / "got").exists()
        assert (
            "is not what its digest says" in (await failure_of(agni.save_attachment(got[0], tmp_path / "got"))).sentence
        )
        await ganga.send("agni", attachment=source)
        assert digest_of(await agni.save_attachment(got[0], tmp_path / "got")) == digest_of(source)


@on_reactor
async def test_a_receiver_goes_on_with_what_it_has_and_finds_out_what_it_had_wrong(
    node: NodeProcess, tmp_path: Path
) -> None:
    source = file_of(tmp_path / "data", 3 * MIB, b"resumed")
    part = tmp_path / f".got.{digest_of(source)[:16]}.part"
    async with client_of(node, "dc") as (dc, _), client_of(node, "agni") as (agni, got):
        await dc.send("agni", attachment=source)
        await until(lambda: got)
        part.write_bytes(source.read_bytes()[: 2 * MIB])
        seen: list[int] = []
        await agni.save_attachment(got[0], tmp_path / "got", on_progress=lambda n, _: seen.append(n))
        assert seen[0] == 2 * MIB and seen[-1] == 3 * MIB
        assert digest_of(tmp_path / "got") == digest_of(source)
        part.write_bytes(b"wrong" * 1000)
        error = await failure_of(agni.save_attachment(got[0], tmp_path / "got", replace=True))
        assert isinstance(error, AttachmentDamaged)
        assert not part.exists()
        await agni.save_attachment(got[0], tmp_path / "got", replace=True)
        assert digest_of(tmp_path / "got") == digest_of(source)


@on_reactor
async def test_what_is_too_large_or_too_much_is_refused_with_the_way_out(node: NodeProcess, tmp_path: Path) -> None:
    async with client_of(node, "ganga") as (ganga, _):
        error = await failure_of(ganga.send("dc", attachment=file_of(tmp_path / "a", 97 * MIB, b"a")))
        assert isinstance(error, AttachmentTooLarge)
        assert "97 MiB" in error.sentence and "attachments.size" in error.sentence
        for index in range(2):
            digest = f"sha256:{hashlib.sha256(bytes([index])).hexdigest()}"
            await ganga.request(uris.ATTACHMENT_BEGIN, digest, 96 * MIB)
        error = await failure_of(ganga.send("dc", attachment=file_of(tmp_path / "b", 9 * MIB, b"b")))
        assert isinstance(error, AttachmentsFull)
        assert "attachments.agent" in error.sentence
        # A message without one goes all the same.
        await ganga.send("dc", payload="light")
        for wrong in (tmp_path, tmp_path / "none"):
            assert isinstance(await failure_of(ganga.send("dc", attachment=wrong)), ArgumentInvalid)
        error = await failure_of(ganga.send("dc", payload="text", attachment=tmp_path / "a"))
        assert "has a map or nothing" in error.sentence


@on_reactor
async def test_it_is_gone_on_with_after_kill_9_of_the_sender_and_of_the_node(tmp_path: Path) -> None:
    source = file_of(tmp_path / "large", 32 * MIB, b"large")
    with NodeProcess(tmp_path / "state", config=configured(tmp_path, free="0 B")) as node:
        for name in ("agni", "dc"):
            node.token(name)
        command = [sys.executable, "-m", "tests.support.uploading", node.url, "dc", node.tokens["dc"]]
        sender = subprocess.Popen(
            [*command, "agni", str(source)], stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
        )
        assert sender.stdout is not None
        while int(sender.stdout.readline()) < 8 * MIB:
            pass
        sender.kill()
        sender.communicate()
        (part,) = kept(node, "dc")
        assert part.name == f"{digest_of(source)}.{32 * MIB}.part"
        port = node.port
        seen: list[int] = []
        async with client_of(node, "agni") as (agni, got), client_of(node, "dc") as (dc, _):
            sending = dc.send("agni", attachment=source, on_progress=lambda n, _: seen.append(n))
            await until(lambda: seen and seen[-1] >= 16 * MIB)
            assert seen[0] >= 8 * MIB
            node.kill()
            count, reached = len(seen), seen[-1]
            assert part.stat().st_size >= reached
            node.restart(port=port)
            await sending
            # Nothing of what the node had is sent again.
            assert seen[count] >= reached
            await until(lambda: got)
            assert digest_of(await agni.save_attachment(got[0], tmp_path / "saved")) == digest_of(source)


@on_reactor
async def test_an_encrypted_messages_file_is_read_by_its_recipient_and_by_no_node(
    node: NodeProcess, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted.json"
    keys = {name: tmp_path / f"{name}.key" for name in ("dc", "agni")}
    for name, path in keys.items():
        KnownKeys(trusted, SettingsInvalid, "").trust(name, bytes.fromhex(new_key_file(path).public))
    source = file_of(tmp_path / "plan.txt", 3 * MIB + 5, b"plan")
    data = source.read_bytes()
    known = {name: KeySettings((path,), trusted) for name, path in keys.items()}
    async with client_of(node, "dc", known["dc"]) as (dc, _), client_of(node, "agni", known["agni"]) as (agni, got):
        await dc.send("agni", payload={"text": "the plan"}, attachment=source, encrypt=True, id="sealed.1")
        await until(lambda: got)
        (message,) = got
        assert message.encrypted
        named = attachment_of(message.payload)
        assert named is not None
        assert (named.name, named.size_bytes, named.digest) == ("plan.txt", len(data), f"sha256:{digest_of(source)}")
        assert "key" not in str(message.payload) and "sealed" not in message.to_wire()
        (tmp_path / "inbox").mkdir()
        saved = await agni.save_attachment(message, tmp_path / "inbox")
        assert saved == tmp_path / "inbox" / "plan.txt"
        assert digest_of(saved) == digest_of(source)
        assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["plan.txt"]
        # By its id alone there is no key to it.
        assert (
            "its key is in the message" in (await failure_of(dc.save_attachment("sealed.1", tmp_path / "x"))).sentence
        )
        # The same file again under its id is the same message.
        receipt = await dc.send("agni", payload={"text": "the plan"}, attachment=source, encrypt=True, id="sealed.1")
        assert receipt.status == "duplicate"
        error = await failure_of(dc.send("broadcast", attachment=source, encrypt=True))
        assert isinstance(error, ArgumentInvalid) and "can't be encrypted" in error.sentence
    kept_there = [path for path in node.state_dir.rglob("*") if path.is_file()]
    assert any(path.parent.name == "dc" and path.stat().st_size > len(data) for path in kept_there)
    windows = [data[at : at + 24] for at in range(0, len(data) - 24, 61_001)]
    for path in kept_there:
        there = path.read_bytes()
        assert not any(window in there for window in windows), f"{path.name} has some of it"
        for word in (digest_of(source).encode(), hashlib.sha256(data).digest(), b"plan.txt", b"the plan"):
            assert word not in there, f"{path.name} has {word!r}"
