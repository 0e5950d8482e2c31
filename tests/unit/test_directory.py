"""Who is there, and how anybody knows: socket, heartbeat and progress, each by itself. A node on a Clock."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from trishula.contract import uris
from trishula.errors import ArgumentInvalid
from trishula_router.agents import directory
from trishula_router.agents.presence import Known, presence_of
from trishula_router.agents.sessions import Session
from trishula_router.settings.options import PresencePolicy
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("epoch-1")


@pytest.fixture
def rig(tmp_path: Path, store: MemoryStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


@pytest.fixture
def dc(rig: Rig) -> int:
    return rig.join("dc")


def agent(rig: Rig, name: str = "agni", **options: Any) -> int:
    session = rig.join(name)
    rig.attach(session, **options)
    return session


def entry(rig: Rig, asker: int, name: str = "agni") -> dict[str, Any]:
    answer: dict[str, Any] = rig.call(asker, uris.DIRECTORY_GET, name)
    return answer


def told(rig: Rig, name: str = "agni") -> list[tuple[str, int]]:
    """(presence, since in s of the test) of the events about an agent, since the last look."""
    events = [
        (event["presence"], (event["since"] - START_MS) // 1000)
        for topic, event in rig.outlet.announced
        if topic == uris.EVENT_AGENT and event["agent"] == name
    ]
    rig.outlet.announced = []
    return events


def beat(rig: Rig, session: int, **says: Any) -> None:
    rig.call(session, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), **says})


# -- the states, in the directory and as events ------------------------------------------------------------------------


def test_who_was_never_here(rig: Rig, dc: int) -> None:
    assert entry(rig, dc) == {
        "agent": "agni",
        "presence": "offline",
        "since": None,
        "reason": "it has not been here since the node started",
        "node": None,
        "capabilities": [],
        "last_seen_at": None,
        "last_beat_at": None,
        "busy_until": None,
        "load": None,
        "progress": None,
        "progress_at": None,
        "clock_skew_ms": None,
        "sessions": 0,
    }


def test_a_life(rig: Rig, dc: int) -> None:
    rig.advance(10)
    agni = agent(rig, capabilities=["deploy"])
    rig.advance(5)
    beat(rig, agni)
    now = entry(rig, dc)
    assert (now["presence"], now["since"], now["reason"]) == (
        "online",
        START_MS + 10_000,
        "its session is joined and it gives signs of life",
    )
    assert (now["last_beat_at"], now["last_seen_at"], now["sessions"], now["node"]) == (
        rig.now(),
        rig.now(),
        1,
        "single",
    )
    rig.advance(10)
    rig.leave(agni)
    now = entry(rig, dc)
    assert (now["presence"], now["since"], now["reason"]) == (
        "offline",
        START_MS + 25_000,
        "no session of it is joined",
    )
    assert now["last_seen_at"] == START_MS + 15_000
    assert told(rig) == [("online", 10), ("offline", 25)]


def test_a_frozen_agent_is_stale_while_its_socket_lives(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    rig.advance(29)
    assert entry(rig, dc)["presence"] == "online"
    rig.advance(2)
    now = entry(rig, dc)
    assert (now["presence"], now["sessions"], now["last_seen_at"], now["last_beat_at"]) == ("stale", 1, START_MS, None)
    assert now["reason"] == "its session is joined, but no sign of life came for more than 30 s"
    rig.advance(100)
    assert told(rig) == [("online", 0), ("stale", 30)]
    beat(rig, agni)
    assert told(rig) == [("online", 131)]


def test_being_sent_something_is_no_sign_of_life(rig: Rig, dc: int) -> None:
    agent(rig)
    for index in range(8):
        rig.advance(5)
        rig.send(dc, {"id": f"m{index}", "to": "agni"})
        rig.pushed()
    assert entry(rig, dc)["presence"] == "stale"


def test_any_act_of_its_own_is(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    for index in range(8):
        rig.advance(5)
        rig.send(agni, {"id": f"m{index}", "to": "dc"})
    now = entry(rig, dc)
    assert (now["presence"], now["last_seen_at"], now["last_beat_at"]) == ("online", rig.now(), None)


def test_what_its_scripts_do_is_none(rig: Rig, dc: int) -> None:
    agent(rig)
    script = rig.join("agni")
    rig.attach(script, instance="x")
    for _ in range(8):
        rig.advance(5)
        beat(rig, script, state="busy", progress="testing")
        rig.send(script, {"id": f"h{rig.now()}", "to": "dc", "type": "HEARTBEAT"})
    now = entry(rig, dc)
    assert (now["presence"], now["progress"], now["last_beat_at"]) == ("stale", None, None)


def test_an_agent_that_beats_seldom_has_the_patience_it_asked_for(rig: Rig, dc: int) -> None:
    agent(rig, heartbeat_s=60)
    rig.advance(170)
    assert entry(rig, dc)["presence"] == "online"
    rig.advance(12)
    assert entry(rig, dc)["reason"] == "its session is joined, but no sign of life came for more than 180 s"


def test_where_there_are_very_many_each_is_told_to_beat_less_often(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_BEATS_PER_S", 0.1)
    rig = Rig(tmp_path, store, Clock(), agents=["agni", "a1", "a2"]).start()
    agni = agent(rig, heartbeat_s=10)

    def asked() -> float | None:
        answer: dict[str, float] = rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.now()})
        return answer.get("heartbeat_s")

    assert asked() is None
    others = [rig.join(name) for name in ("a1", "a2", "a1")]
    assert asked() == 40.0
    told(rig)
    rig.advance(119)
    assert told(rig) == []
    rig.advance(2)
    assert told(rig) == [("stale", 120)]
    assert asked() == 40.0
    for one in others[:2]:
        rig.leave(one)
    # With the next beat its patience is that of a node with few agents again.
    assert asked() == 20.0
    told(rig)
    rig.advance(61)
    assert told(rig) == [("stale", 181)]


def test_who_beats_seldom_enough_by_itself_is_told_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_BEATS_PER_S", 0.1)
    agni = agent(rig, heartbeat_s=20)
    rig.join("dc")
    assert "heartbeat_s" not in rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.now()})
    monkeypatch.setattr(directory, "_BEATS_PER_S", 0.0001)
    assert rig.call(agni, uris.DIRECTORY_BEAT, {"sent_at": rig.now()})["heartbeat_s"] == 60.0


# -- busy and progress -------------------------------------------------------------------------------------------------


def test_nobody_is_busy_for_ever(rig: Rig) -> None:
    """Who says so and freezes is called stale after a day."""
    agni = rig.join("agni")
    beat(rig, agni, busy_until=2**53 - 1)
    assert entry(rig, agni, "agni")["busy_until"] == START_MS + 86_400_000


def test_who_is_busy_until_then_is_not_stale_before(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    beat(rig, agni, busy_until=rig.now() + 600_000, state="busy")
    rig.advance(590)
    now = entry(rig, dc)
    assert (now["presence"], now["reason"]) == ("busy", "it said that it is busy until then")
    assert now["busy_until"] == START_MS + 600_000
    rig.advance(11)
    assert told(rig) == [("online", 0), ("busy", 0), ("stale", 600)]


def test_who_says_busy_without_an_end_must_go_on_beating(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    beat(rig, agni, state="busy")
    assert entry(rig, dc)["reason"] == "it says so in its beats"
    rig.advance(31)
    assert entry(rig, dc)["presence"] == "stale"


def test_progress_says_since_when_it_stands_still(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    for said in ("1 of 3", "2 of 3", "2 of 3", "2 of 3"):
        beat(rig, agni, state="busy", progress=said)
        rig.advance(10)
    now = entry(rig, dc)
    assert (now["progress"], now["progress_at"], now["last_beat_at"]) == (
        "2 of 3",
        START_MS + 10_000,
        START_MS + 30_000,
    )
    beat(rig, agni)
    now = entry(rig, dc)
    assert (now["progress"], now["progress_at"]) == (None, None)


def test_what_an_agent_says_ends_with_its_life(rig: Rig, dc: int) -> None:
    agni = agent(rig)
    beat(rig, agni, state="busy", busy_until=rig.now() + 600_000, load=0.5, progress="half")
    rig.leave(agni)
    assert entry(rig, dc)["presence"] == "offline"
    agent(rig)
    now = entry(rig, dc)
    assert (now["presence"], now["busy_until"], now["load"], now["progress"]) == ("online", None, None, None)


@pytest.mark.parametrize("progress", ["", "x" * 1001, 7, "\ud800"])
def test_bad_progress(rig: Rig, dc: int, progress: object) -> None:
    with pytest.raises(ArgumentInvalid, match=r"beat.progress is .*; it must be a string of 1 to 1000 characters"):
        beat(rig, dc, progress=progress)


# -- what presence costs -----------------------------------------------------------------------------------------------


def looks(monkeypatch: pytest.MonkeyPatch) -> list[Known]:
    """The agents whose presence is looked at from now on."""
    looked_at: list[Known] = []

    def counting(known: Known, sessions: Iterable[Session], *, now: int, policy: PresencePolicy) -> tuple[str, str]:
        looked_at.append(known)
        return presence_of(known, sessions, now=now, policy=policy)

    monkeypatch.setattr(directory, "presence_of", counting)
    return looked_at


@pytest.mark.parametrize("others", [0, 200])
def test_what_a_beat_costs_does_not_depend_on_how_many_agents_there_are(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    names = [f"a{index}" for index in range(others)]
    rig = Rig(tmp_path, store, Clock(), agents=["agni", *names]).start()
    agni, _ = agent(rig), [agent(rig, name) for name in names]
    rig.advance(2)
    looked_at = looks(monkeypatch)
    for _ in range(10):
        beat(rig, agni)
        rig.advance(1)
    assert looked_at == []
    beat(rig, agni, state="busy")
    assert len(looked_at) == 1
    rig.leave(agni)
    assert len(looked_at) == 2


def test_an_agent_that_beats_is_looked_at_once_for_each_span_of_patience(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    agni = agent(rig)
    rig.advance(2)
    looked_at = looks(monkeypatch)
    for _ in range(60):
        rig.advance(10)
        beat(rig, agni)
    assert 600 / 30 - 1 <= len(looked_at) <= 600 / 30 + 1
    assert told(rig) == [("online", 0)]


# -- over a restart of the node ----------------------------------------------------------------------------------------


def again(rig: Rig, tmp_path: Path, store: MemoryStore) -> tuple[Rig, int]:
    newer = Rig(tmp_path, store, rig.clock).start()
    return newer, newer.join("dc")


def test_since_when_it_is_offline_outlives_the_node(rig: Rig, tmp_path: Path, store: MemoryStore) -> None:
    agni = agent(rig)
    rig.advance(20)
    beat(rig, agni)
    rig.advance(3)
    rig.leave(agni)
    rig.advance(100)
    rig.crash()
    rig, dc = again(rig, tmp_path, store)
    now = entry(rig, dc)
    assert (now["presence"], now["since"], now["last_seen_at"]) == ("offline", START_MS + 23_000, START_MS + 20_000)
    assert now["reason"] == "it has not been here since the node started"
    assert told(rig) == []


@pytest.mark.parametrize("orderly", [True, False])
def test_who_was_here_when_the_node_ended_is_offline_since_its_last_sign_of_life(
    rig: Rig, tmp_path: Path, store: MemoryStore, orderly: bool
) -> None:
    agni = agent(rig, heartbeat_s=60)
    rig.advance(55)
    beat(rig, agni)
    # Kept once a minute; after a crash what came since is not known.
    rig.advance(10)
    if orderly:
        beat(rig, agni)
        rig.stop()
    else:
        rig.crash()
    rig, dc = again(rig, tmp_path, store)
    now = entry(rig, dc)
    expected = START_MS + (65_000 if orderly else 55_000)
    assert (now["presence"], now["since"], now["last_seen_at"]) == ("offline", expected, expected)


def test_nothing_is_written_while_nothing_changes(
    rig: Rig, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agni = agent(rig)
    rig.advance(61)
    rig.leave(agni)
    writes: list[Any] = []
    monkeypatch.setattr(store, "remember", writes.append)
    rig.advance(600)
    assert writes == []
