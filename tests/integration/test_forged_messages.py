"""A node that lies: messages that somebody has put into its store, which an agent that wants signatures refuses.

The forger has the node's disk: records, bodies and the chain are right, so the node delivers what he writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trishula
from tests.support.loops import in_own_loop
from tests.support.node import NodeProcess
from trishula.key_file import new_key_file
from trishula.known_keys import KnownKeys
from trishula.settings import SettingsInvalid
from trishula_router.store.facts import AcceptedFacts, write_facts
from trishula_router.store.journal import ORIGIN_SHIFT, digest_of
from trishula_router.store.sqlite.connection import FILE_NAME

pytestmark = pytest.mark.node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path / "state") as node:
        node.token("agni")
        node.token("dc")
        node.token("boss", operator=True)
        yield node


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the keys of agni and dc, which know each other."""
    folder = tmp_path / "keys"
    folder.mkdir()
    known = KnownKeys(folder / "trusted.json", SettingsInvalid, "trishula key trust")
    for name in ("agni", "dc"):
        known.trust(name, bytes.fromhex(new_key_file(folder / f"{name}.key").public))
    return folder


def guard(node: NodeProcess, keys: Path) -> tuple[trishula.Agent, list[Any]]:
    agent = trishula.Agent(
        "agni",
        url=node.url,
        token=node.tokens["agni"],
        state=False,
        key_file=keys / "agni.key",
        trusted_keys=keys / "trusted.json",
        require_signature=True,
    )
    ran: list[Any] = []

    @agent.procedure()
    async def restart(service: str) -> str:
        ran.append(service)
        return "done"

    return agent, ran


def forge(state: Path, message: dict[str, Any], signature: str = "") -> None:
    """Put a message into the store of a node that is stopped, as the node itself would have done."""
    envelope = json.dumps(message).encode()
    at = message["accepted_at"]
    facts = AcceptedFacts(
        message["from"], message["id"], message["to"], message["type"], 3, len(envelope),
        hashlib.sha256(envelope).hexdigest(), signature=signature,
    )  # fmt: skip
    with sqlite3.connect(state / FILE_NAME) as store:
        own = (1 << ORIGIN_SHIFT) - 1
        last, digest = store.execute(
            "SELECT position, digest FROM journal WHERE position <= ? ORDER BY position DESC LIMIT 1", (own,)
        ).fetchone()
        written = write_facts(facts)
        position = last + 1
        record = (position, at, "accepted", written, digest_of(digest, position, at, "accepted", written))
        store.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", record)
        store.execute("INSERT INTO body VALUES (?, ?)", (position, envelope))
        store.execute(
            "INSERT INTO message (position, sender, id, recipient, type, priority, accepted_at, expires_at, size_bytes,"
            " body, arrival) VALUES (?, ?, ?, ?, ?, 3, ?, ?, ?, ?, ?)",
            (position, message["from"], message["id"], message["to"], message["type"], at, at + 600_000, len(envelope),
             position, position),
        )  # fmt: skip
    store.close()


async def until(true: Any) -> None:
    async with asyncio.timeout(20.0):
        while not true():
            await asyncio.sleep(0.02)


def test_what_a_forger_puts_into_the_store_is_delivered_and_refused(node: NodeProcess, keys: Path) -> None:
    captured: dict[str, Any] = {}

    async def genuine() -> None:
        agent, ran = guard(node, keys)
        async with (
            agent,
            trishula.AsyncClient(
                node.url, token=node.tokens["dc"], key_file=keys / "dc.key", trusted_keys=keys / "trusted.json"
            ) as dc,
        ):
            assert await dc.call_with("agni", "restart", ["nginx"], id="genuine") == "done"
            assert ran == ["nginx"]
            told = await dc.why("genuine")
            captured["signature"] = told.lives[0].events[0].details["signature"]

    in_own_loop(genuine)
    with sqlite3.connect(node.state_dir / FILE_NAME) as store:
        [envelope] = store.execute(
            "SELECT envelope FROM body JOIN message ON message.body = body.position WHERE id = 'genuine'"
        ).fetchone()
    store.close()
    message = json.loads(envelope)
    node.stop()
    command = {"args": ["everything"], "kwargs": {}}
    # Made up; with a signature of another message; a signed message under another id, and for somebody else.
    forge(node.state_dir, {**message, "id": "unsigned", "payload": command})
    forge(node.state_dir, {**message, "id": "stolen", "payload": command}, captured["signature"])
    forge(node.state_dir, {**message, "id": "renamed"}, captured["signature"])
    node.restart()

    async def attacked() -> None:
        agent, ran = guard(node, keys)
        async with agent, trishula.AsyncClient(node.url, token=node.tokens["boss"]) as boss:
            letters: list[dict[str, Any]] = []

            async def look() -> None:
                letters[:] = (await boss.request("trishula.admin.dead.list"))["letters"]

            async with asyncio.timeout(20.0):
                while len(letters) < 3:
                    await look()
                    await asyncio.sleep(0.05)
            reasons = {letter["id"]: letter["reason"] for letter in letters}
            assert "this one is not signed" in reasons["unsigned"]
            for forged in ("stolen", "renamed"):
                assert "the signature of this one is not dc's over what came" in reasons[forged]
            assert all(reason.startswith("signature refused: agni takes no COMMAND") for reason in reasons.values())
            assert ran == []
            verified = await boss.request("trishula.audit.verify")
            assert verified["ok"]

    in_own_loop(attacked)
