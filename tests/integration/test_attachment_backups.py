"""Attachments in backups of a real node: copied while it runs, left out on request, put back, and checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_attachments import client_of, digest_of, file_of, kept, until
from tests.support.node import ROOT, NodeProcess, environment
from tests.support.reactor import on_reactor
from trishula.exit_codes import Exit

pytestmark = pytest.mark.node


def node_command(*arguments: object) -> tuple[int, dict[str, Any]]:
    """What a command of ``trishula node`` ended with, and what it told."""
    command = [sys.executable, "-m", "trishula.cli.main", "node", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120)
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


@on_reactor
async def test_attachments_are_backed_up_verified_and_put_back(tmp_path: Path) -> None:
    source = file_of(tmp_path / "build.tar", 300_000, b"backup")
    empty = file_of(tmp_path / "empty", 0, b"")
    state, backup = tmp_path / "state", tmp_path / "today.sqlite"
    with NodeProcess(state) as node:
        for name in ("agni", "dc"):
            node.token(name)
        async with client_of(node, "dc") as (dc, _), client_of(node, "agni") as (_agni, got):
            await dc.send("agni", id="backed.up", attachment=source)
            await dc.send("agni", attachment=empty)
            await until(lambda: len(got) == 2)
            # What no message names is not copied.
            (state / "attachments" / "dc" / hashlib.sha256(b"x").hexdigest()).write_bytes(b"x")
        code, told = node_command("backup", backup, "--state", state)
        assert (code, told["attachments"]) == (0, {"files": 2, "size_bytes": 300_000, "damaged": [], "missing": []})
        copied = tmp_path / "today.sqlite.attachments" / "dc" / digest_of(source)
        assert (digest_of(copied), copied.stat().st_mode & 0o777) == (digest_of(source), 0o600)
        code, told = node_command("backup", tmp_path / "small.sqlite", "--no-attachments", "--state", state)
        assert code == 0 and "attachments" not in told
        assert not (tmp_path / "small.sqlite.attachments").exists()
    (here,) = (path for path in kept(node, "dc") if path.name == digest_of(source))
    here.write_bytes(b"damaged")
    code, told = node_command("verify", "--state", state)
    (sentence,) = told["attachments"]["damaged"]
    assert (code, told["ok"]) == (Exit.FAILED, True)
    assert f"the attachment sha256:{digest_of(source)} of dc is not what its digest says: message backed.up" in sentence
    here.unlink()
    code, told = node_command("verify", "--state", state)
    assert (code, len(told["attachments"]["missing"])) == (Exit.FAILED, 1)
    code, told = node_command("backup", tmp_path / "worse.sqlite", "--state", state)
    assert (code, told["attachments"]["files"], len(told["attachments"]["missing"])) == (Exit.FAILED, 1, 1)
    assert node_command("verify", "--no-attachments", "--state", state)[0] == 0
    # Without the directory beside it there is nothing to put back, and that is no failure.
    code, told = node_command("restore", tmp_path / "small.sqlite", "--state", state)
    assert (code, told["attachments_missing"]) == (0, 1)
    shutil.rmtree(state / "attachments")
    code, told = node_command("restore", backup, "--state", state)
    assert (code, told["attachments"]["files"], told["attachments"]["missing"]) == (0, 2, [])
    assert digest_of(here) == digest_of(source)
    node.restart()
    try:
        async with client_of(node, "agni") as (agni, _):
            saved = await agni.save_attachment("backed.up", tmp_path / "saved", sender="dc")
            assert digest_of(saved) == digest_of(source)
    finally:
        node.__exit__(None, None, None)
