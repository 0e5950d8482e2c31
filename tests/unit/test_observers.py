"""An observer at a whole node: what it may ask tells it no payload, and nobody hears anything from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import NotAllowed, RecipientForbidden
from trishula_router.agents.file import AgentEntry
from trishula_router.alerting import facts_of
from trishula_router.metrics import mailboxes
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    agents = {"wall": AgentEntry(observer=True), "both": AgentEntry(observer=True, operator=True)}
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()


def test_a_message_to_an_observer_is_refused_and_one_to_an_operator_that_observes_is_not(tmp_path: Path) -> None:
    agents = {
        "wall": AgentEntry(observer=True),
        "both": AgentEntry(observer=True, operator=True),
        "dc": AgentEntry(send=("*",)),
    }
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=agents).start()
    dc = rig.join("dc")
    addresses = ("wall", "wall/7f3a", "both")
    first, second, third = rig.send(dc, *({"id": f"m{n}", "to": to} for n, to in enumerate(addresses)))
    for receipt in (first, second):
        assert (receipt["status"], receipt["error"]) == ("refused", RecipientForbidden.uri)
        assert "wall is an observer, which takes no mail" in receipt["detail"]
        assert "retry_after_s" not in receipt
    assert third["status"] == "accepted"


@pytest.mark.parametrize("says", [{"progress": "look at me"}, {"state": "busy"}, {"busy_until": 2}, {"load": 0.0}])
def test_an_observers_beat_tells_nobody_anything(rig: Rig, says: dict[str, object]) -> None:
    wall = rig.join("wall")
    with pytest.raises(NotAllowed, match="wall is an observer, which tells nobody anything"):
        rig.call(wall, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), **says})
    rig.advance(2)
    [entry] = [one for one in rig.call(wall, uris.DIRECTORY_LIST) if one["agent"] == "wall"]
    assert (entry["presence"], entry["progress"], entry["load"]) == ("online", None, None)


def test_an_observer_gives_signs_of_life_and_an_operator_says_what_it_likes(rig: Rig) -> None:
    assert rig.call(rig.join("wall"), uris.DIRECTORY_BEAT, {"sent_at": rig.now()})["received_at"] == rig.now()
    both = rig.join("both", operator=True)
    rig.call(both, uris.DIRECTORY_BEAT, {"sent_at": rig.now(), "progress": "at it"})
    assert "at it" in [one["progress"] for one in rig.call(both, uris.DIRECTORY_LIST)]


def test_who_comes_to_look_and_goes_is_missed_by_nobody(tmp_path: Path) -> None:
    roles = {"wall": AgentEntry(observer=True), "boss": AgentEntry(operator=True), "dc": AgentEntry()}
    rig = Rig(tmp_path, MemoryStore("epoch-1"), Clock(), agents=roles).start()
    for name, record in roles.items():
        rig.leave(rig.join(name, operator=record.operator))
    rig.advance(60)
    away = {labels for name, labels, _ in mailboxes.read(rig.node, {}) if name == "trishula_agent_away_seconds"}
    assert away == {("dc",)}
    assert result_of(Deferred.fromCoroutine(facts_of(rig.node, lambda: None))).visitors == {"wall", "boss"}
