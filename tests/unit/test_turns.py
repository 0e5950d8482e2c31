"""A turn is kept by the node until it ends by itself, whoever says it; an agent in one is busy, however silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import json
from twisted.internet.task import Clock

from tests.support.fakebus import FakeBus
from tests.support.nodes import START_MS, Rig
from tests.support.stores import result_of
from tests.unit.test_front_door import at_the_door, in_loop
from trishula import testing
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import ArgumentInvalid
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def turn(rig: Rig, session: int, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.DIRECTORY_TURN, options or None)
    return told


def entry(rig: Rig, session: int, agent: str) -> dict[str, Any]:
    told: dict[str, Any] = rig.call(session, uris.DIRECTORY_GET, agent)
    return told


def test_a_silent_agent_in_a_turn_is_busy_until_the_turn_ends(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    assert turn(rig, dc) == {"state": "closed", "doing": None, "since": None, "until": None}
    told = turn(rig, dc, state="open", doing="refactors", for_s=600)
    assert told == {"state": "open", "doing": "refactors", "since": START_MS, "until": START_MS + 600_000}
    rig.advance(599)
    busy = entry(rig, agni, "dc")
    assert (busy["presence"], busy["progress"], busy["busy_until"]) == ("busy", "refactors", START_MS + 600_000)
    assert busy["progress_at"] == START_MS
    rig.advance(2)
    stale = entry(rig, agni, "dc")
    assert (stale["presence"], stale["progress"], stale["busy_until"]) == ("stale", None, None)
    assert turn(rig, dc)["state"] == "closed"


def test_it_is_told_with_the_mail_that_waits_and_ends_when_somebody_says_so(rig: Rig) -> None:
    dc, script = rig.join("dc"), rig.join("dc")
    turn(rig, script, state="blocked", doing="may I?")
    rig.leave(script)
    assert rig.call(dc, uris.MAILBOX_PEEK)["turn"] == "blocked"
    assert entry(rig, dc, "dc")["progress"] == "waits for a human: may I?"
    again = turn(rig, dc, state="blocked", doing="may I?")
    rig.advance(5)
    assert turn(rig, dc, state="blocked", doing="may I?")["since"] == again["since"]
    assert turn(rig, dc, state="open")["since"] == START_MS + 5000
    assert turn(rig, dc, state="closed")["state"] == "closed"
    assert rig.call(dc, uris.MAILBOX_PEEK)["turn"] == "closed"
    assert entry(rig, dc, "dc")["presence"] == "online"


def test_a_restart_of_the_node_ends_no_turn(rig: Rig, tmp_path: Path) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    turn(rig, dc, state="open", doing="refactors", for_s=600)
    turn(rig, agni, state="open", for_s=5)
    rig.advance(1)
    rig.crash()
    rig.clock.advance(30)
    again = Rig(tmp_path, rig.store, rig.clock).start()
    assert entry(again, again.join("rushabdev"), "dc")["progress"] == "refactors"
    assert turn(again, again.join("dc"))["until"] == START_MS + 600_000
    assert turn(again, again.join("agni"))["state"] == "closed"


def test_a_node_starts_with_turns_of_another_release_or_of_a_clock_that_was_ahead(rig: Rig, tmp_path: Path) -> None:
    rig.crash()
    ahead = {"state": "open", "since": START_MS + 10**10, "until": START_MS + 10**10}
    newer = {"state": "paused", "since": START_MS, "until": START_MS + 10**6}
    notes = {"dc": json.encode(ahead).decode(), "agni": json.encode(newer).decode(), "rushabdev": "{"}
    result_of(rig.store.remember({f"turn:{agent}": text for agent, text in notes.items()}))
    again = Rig(tmp_path, rig.store, rig.clock).start()
    # No turn lasts for longer than a day.
    told = turn(again, again.join("dc"))
    assert (told["state"], told["until"] - again.now()) == ("open", 86_400_000)
    assert turn(again, again.join("agni"))["state"] == turn(again, again.join("rushabdev"))["state"] == "closed"


def test_what_is_no_turn_is_refused(rig: Rig) -> None:
    dc = rig.join("dc")
    for options, key in (({"state": "shut"}, "state"), ({"for_s": 0}, "for_s"), ({"doing": "a\nb"}, "doing")):
        with pytest.raises(ArgumentInvalid, match=rf"options\.{key} is "):
            turn(rig, dc, **options)


@in_loop
async def test_a_models_door_knows_the_turn_that_a_hook_said() -> None:
    async with (
        testing.bus(agents=["dc", "agni"]) as bus,
        at_the_door(bus, "dc") as dc,
        at_the_door(bus, "agni") as agni,
    ):
        await agni.send("dc", text="x")
        assert "1 message waits" in await dc.call("agents", {})
        await dc.member.client.request(uris.DIRECTORY_TURN, {"state": "open", "doing": "a hook says so"})
        dc.member._looked_s = None
        assert "waits" not in await dc.call("agents", {"capability": "none"})
        assert "dc: busy" in await agni.agents() and "| a hook says so" in await agni.agents()
        await dc.call("turn", {"state": "blocked", "doing": "may I?\x1b"})
        told = await dc.member.client.request(uris.DIRECTORY_TURN, {})
        assert (told["state"], told["doing"]) == ("blocked", "may I?\\x1b")
        assert "1 message waits" in await dc.call("turn", {"state": "closed"})
        assert "dc: online" in await agni.agents()


def test_the_command_says_it_and_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    running = {"state": "open", "doing": "x", "since": 0, "until": 60_000}
    closed = {"state": "closed", "doing": None, "since": None, "until": None}
    bus.answers[uris.DIRECTORY_TURN] = [running, closed]
    state = State(connect=bus.connect)  # type: ignore[arg-type]
    assert run(["turn", "open", "--doing", "x", "--for", "1m"], state) == 0
    assert capsys.readouterr().out.startswith("open since 1970-01-01T")
    assert run(["turn"], state) == 0
    assert capsys.readouterr().out == "closed\n"
    assert run(["turn", "closed", "--for", "1m"], state) == 2
    assert "--doing and --for are about a turn" in capsys.readouterr().err
