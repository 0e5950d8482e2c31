"""Keys where strangers come in: whose messages a door signs, and whose answers it takes."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trishula
from tests.support.loops import in_own_loop
from tests.unit.test_signed_messages import Keys, keys
from trishula import testing
from trishula.a2a_door.callers import Caller
from trishula.a2a_door.ledger import Ledger
from trishula.a2a_door.tasks import Tasks
from trishula.cli.main import run
from trishula.client import Client
from trishula.runtime.pending import start
from trishula.settings import Settings
from trishula.testing.turned_clock import LifeClock

__all__ = ["keys"]


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_task_ends_by_no_answer_that_its_agent_has_not_signed(keys: Keys, tmp_path: Path, is_signed: bool) -> None:
    agni = trishula.Agent("agni", key_file=keys.agni if is_signed else None)
    agni.on("COMMAND")(lambda message: "done by whoever")

    async def main() -> None:
        with closing(Ledger.open(tmp_path / "door")) as ledger:
            await end_of_task(ledger)

    async def end_of_task(ledger: Ledger) -> None:
        async with testing.bus(agents=["agni", "dc"]) as bus, bus.run(agni):
            around = bus._around(LifeClock(bus.clock))
            settings = bus._settings("dc", trusted_keys=keys.trusted, require_signature=["RESULT"])
            client = Client(settings, around=around, connection=bus.wire("dc"))
            joined = start(client.start())
            await bus.idle()
            caller, tasks = Caller("dc", "dc.x", client, joined, 0.0), Tasks(ledger, around.now_ms, lambda: None)
            beginning = asyncio.ensure_future(tasks.begin(caller, "agni", {"messageId": "m", "parts": [{"text": "?"}]}))
            await bus.idle()
            task = await beginning
            await bus.idle()
            refreshing = asyncio.ensure_future(tasks.refresh(caller))
            await bus.idle()
            await refreshing
            found, told = ledger.task(task.id), str(ledger.events(task.id))
            assert found is not None
            assert found.state == ("completed" if is_signed else "failed"), told
            assert ("done by whoever" in told) is is_signed
            assert ("its answer was refused" in told) is not is_signed
            assert ledger.unacked("dc") == []
            await client.stop()

    in_own_loop(main)


@pytest.mark.parametrize("door", ["mcp", "a2a"])
def test_the_key_of_who_opens_a_door_signs_for_nobody_who_comes_in(
    keys: Keys, door: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[Settings] = []

    def serve(*args: Any) -> None:
        opened: Callable[..., Any] = args[-1]
        if door == "mcp":
            opened("dc.secret")
        else:
            opened()

    def service(own: Settings, of_caller: Callable[[str], Settings], *_: Any, **__: Any) -> None:
        found.append(of_caller("dc.secret"))

    monkeypatch.setattr("trishula.front_door.member.Member", found.append)
    # In place of what needs the SDKs, which are not everywhere.
    for name, parts in (
        ("front_door.server", {"over_stdio": serve}),
        ("front_door.web_server", {"PATH": "/mcp", "over_http": serve}),
        ("a2a_door.web_server", {"over_http": serve}),
        ("a2a_door.service", {"Service": service}),
    ):
        monkeypatch.setitem(sys.modules, f"trishula.{name}", SimpleNamespace(**parts))
    find_spec = importlib.util.find_spec
    there = ("mcp", "a2a")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: name in there or find_spec(name, *more))
    monkeypatch.setenv("TRISHULA_STATE", str(tmp_path / "state"))
    profile = tmp_path / "agni.toml"
    profile.write_text(
        f'token = "agni.x"\nkey_file = "{keys.agni}"\ntrusted_keys = "{keys.trusted}"\nrequire_signature = true\n'
    )
    command = ["mcp", "--http", "0"] if door == "mcp" else ["a2a", "serve", "--listen", "0"]
    assert run(["--profile", str(profile), *command]) == 0
    [settings] = found
    assert (settings.agent, settings.keys.key_files, settings.key) == ("dc", (), None)
    # Whose keys count here holds for all that goes through the door.
    assert settings.keys == replace(settings.keys, trusted_keys=keys.trusted)
    assert settings.keys.require_signature
