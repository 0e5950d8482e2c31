"""Attachments of two real, linked nodes: fetched over the link, and gone on with after kill -9 of either of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_attachments import MIB, client_of, digest_of, failure_of, file_of, kept, pause, until
from tests.support.cluster import Cluster
from tests.support.reactor import on_reactor
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, AttachmentAway

pytestmark = pytest.mark.node


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Cluster]:
    # So slow that a node can be killed in the midst of a few MiB.
    options: dict[str, object] = {"attachments": {"free": "0 B", "rate": "3 MiB"}}
    cluster = Cluster(tmp_path, ("one", "two"), options=options)
    for agent in ("agni", "dc"):
        cluster.token(agent)
    cluster.token("office", operator=True)
    for node in cluster.nodes.values():
        node.tokens.update(cluster.tokens)
    with cluster:
        yield cluster


def part_of(two: Cluster, node: str, source: Path) -> int:
    """How much of a file a node has, of dc."""
    return sum(path.stat().st_size for path in kept(two[node], "dc") if path.name.startswith(digest_of(source)))


async def fetched_while_messages_pass(two: Cluster, directory: Path) -> None:
    source = file_of(directory / "build.tar", 2 * MIB, b"linked")
    async with client_of(two["one"], "dc") as (dc, _), client_of(two["two"], "agni") as (agni, got):
        await dc.send("agni", id="redact.me", attachment=source)
        await until(lambda: got)
        assert part_of(two, "two", source) == 0, "nobody asked for it yet"
        saving = agni.save_attachment(got[0], directory / "saved")
        await until(lambda: part_of(two, "two", source))
        await dc.send("agni", payload="light")
        await until(lambda: len(got) == 2)
        assert not saving.done
        assert digest_of(await saving) == digest_of(source)
        assert part_of(two, "two", source) == 2 * MIB


async def redacted_at_both(two: Cluster, directory: Path) -> None:
    source = directory / "build.tar"
    async with client_of(two["one"], "office") as (office, _):
        while True:
            try:
                told = await office.request(uris.AUDIT_REDACT, "redact.me", {"reason": "a card's number"})
                break
            except ArgumentInvalid:
                # That it is settled comes from the other node.
                await pause()
        assert told["redacted"]
        await until(lambda: [part_of(two, name, source) for name in two.nodes] == [0, 0])


async def gone_on_with_after_kill_9_of_either(two: Cluster, directory: Path) -> None:
    source = file_of(directory / "large", 6 * MIB, b"large")
    async with client_of(two["two"], "agni") as (agni, got):
        async with client_of(two["one"], "dc") as (dc, _):
            await dc.send("agni", attachment=source)
            await until(lambda: got)
        saving = agni.save_attachment(got[0], directory / "large.saved", timeout=300)
        await until(lambda: part_of(two, "two", source) > MIB)
        two["two"].kill()
        before = part_of(two, "two", source)
        assert MIB < before < 4 * MIB
        two["two"].restart()
        assert part_of(two, "two", source) >= before
        await until(lambda: part_of(two, "two", source) > before + MIB)
        two["one"].kill()
        error = await failure_of(agni.save_attachment(got[0], directory / "impatient", timeout=0.1))
        assert isinstance(error, AttachmentAway)
        assert "is not at two: one can't be reached. It is fetched when one is there again" in error.sentence
        assert "have dc send the file again" in error.sentence
        assert part_of(two, "two", source) < 6 * MIB and not saving.done
        two["one"].restart()
        assert digest_of(await saving) == digest_of(source)


async def two_copies_outlive_one_node(two: Cluster, directory: Path) -> None:
    source = file_of(directory / "twice", MIB, b"twice")
    async with client_of(two["two"], "agni") as (agni, got):
        async with client_of(two["one"], "dc") as (dc, _):
            receipt = await dc.send("agni", attachment=source, copies=2)
        assert (receipt.copies, part_of(two, "two", source)) == (2, MIB)
        two["one"].kill()
        await until(lambda: got)
        assert digest_of(await agni.save_attachment(got[-1], directory / "twice.saved")) == digest_of(source)


@on_reactor
async def test_files_between_linked_nodes_outlive_the_nodes(two: Cluster, tmp_path: Path) -> None:
    await fetched_while_messages_pass(two, tmp_path)
    await redacted_at_both(two, tmp_path)
    await gone_on_with_after_kill_9_of_either(two, tmp_path)
    await two_copies_outlive_one_node(two, tmp_path)
