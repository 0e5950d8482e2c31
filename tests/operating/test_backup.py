"""A node's store is checked and copied while the node runs, and put back: what a client sees of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.node import NodeProcess, environment
from tests.support.reactor import on_reactor
from tests.support.sessions import session
from trishula.contract import uris
from trishula_router.store.sqlite.connection import FILE_NAME

pytestmark = pytest.mark.node


def run(*arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """A command of the node with ``--json``: exit code, what it printed, what it complained of."""
    command = [sys.executable, "-m", "trishula_router", "node", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60.0)
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def message(number: int, text: object) -> dict[str, Any]:
    return {"type": "STATUS", "to": "agni", "id": f"m{number}", "payload": text}


@on_reactor
async def test_a_running_node_is_checked_copied_and_put_back(tmp_path: Path) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy.sqlite"
    with NodeProcess(state) as node:
        for name in ("dc", "agni", "office"):
            node.token(name, operator=name == "office")
        async with session(node, "dc") as dc:
            await dc.call(uris.MAILBOX_SEND, [message(number, number) for number in range(50)])
            code, verdict, _ = run("verify", "--state", state)
            assert (code, verdict["ok"], verdict["bodies"]) == (0, True, 50)
            code, made, _ = run("backup", copy, "--state", state)
            assert (code, made["ok"], made["bodies"]) == (0, True, 50)
            await dc.call(uris.MAILBOX_SEND, [message(50, 50)])
        code, _, said = run("restore", copy, "--state", state)
        assert code == 1
        assert "a node already runs on the state directory" in said
        async with session(node, "agni") as agni:
            fetched = await agni.call(uris.MAILBOX_FETCH, {"max": 100})
            assert len(fetched["deliveries"]) == 51
            former = {"epoch": fetched["epoch"], "position": fetched["high_water"]}
            old_token = fetched["deliveries"][0]["token"]
            assert (await agni.call(uris.MAILBOX_FETCH, former))["epoch_changed"] is False
        async with session(node, "office") as office:
            assert (await office.call(uris.AUDIT_VERIFY))["ok"] is True
    assert run("restore", copy, "--state", state)[0] == 0
    tokens = node.tokens
    with NodeProcess(state) as node:
        node.tokens = tokens
        async with session(node, "agni") as agni:
            # A token of the old history settles nothing of the new one.
            assert await agni.call(uris.MAILBOX_ACK, [old_token]) == [False]
            told = await agni.call(uris.MAILBOX_FETCH, {"max": 100, **former})
            assert told["epoch_changed"] is True
            assert told["epoch"] != former["epoch"]
            assert [one["message"]["id"] for one in told["deliveries"]] == [f"m{number}" for number in range(50)]


@on_reactor
async def test_a_node_on_a_damaged_store_serves_all_but_what_is_damaged(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with NodeProcess(state) as node:
        for name in ("dc", "agni", "office"):
            node.token(name, operator=name == "office")
        tokens = node.tokens
        async with session(node, "dc") as dc:
            await dc.call(uris.MAILBOX_SEND, [message(number, f"<<{number}>>") for number in range(20)])
    file = state / FILE_NAME
    data = bytearray(file.read_bytes())
    assert data.count(b"<<7>>") == 1
    data[data.index(b"<<7>>") + 2] ^= 1
    file.write_bytes(data)
    code, verdict, _ = run("verify", "--state", state)
    assert (code, [damage["id"] for damage in verdict["damaged"]]) == (1, ["m7"])
    with NodeProcess(state) as node:
        node.tokens = tokens
        async with session(node, "agni") as agni:
            fetched = await agni.call(uris.MAILBOX_FETCH, {"max": 100})
            whole = [f"m{number}" for number in range(20) if number != 7]
            assert [one["message"]["id"] for one in fetched["deliveries"]] == whole
            acked = await agni.call(uris.MAILBOX_ACK, [one["token"] for one in fetched["deliveries"]])
            assert all(acked)
        async with session(node, "office") as office:
            (damage,) = (await office.call(uris.AUDIT_VERIFY))["damaged"]
            assert (damage["id"], damage["from"]) == ("m7", "dc")
            (life,) = (await office.call(uris.AUDIT_WHY, "m7"))["messages"]
            assert life["state"] == "dead"
            assert "its body is missing from the node's store, or damaged" in json.dumps(life)
