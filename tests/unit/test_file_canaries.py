"""Canaries by files: between agents that have a folder, and known to nobody else, an agent of before least of all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import FakeLink
from tests.support.nodes import Rig
from tests.unit.test_second_road import INBOX, Setup
from trishula.contract import uris
from trishula.files.bridging import Bridging
from trishula.files.canary_files import FileCanaries
from trishula.files.mail_folder import MailFolder
from trishula.files.signature import FileKey
from trishula.files.v1 import Names, decode_v1
from trishula.runtime.pending import start
from trishula.watching.totals import Totals
from trishula_router.agents.file import AgentEntry
from trishula_router.metrics.figures import read
from trishula_router.objectives.canaries import FILES_PATIENCE_S
from trishula_router.store.memory import MemoryStore

NOW_MS = 1_700_000_000_000


# -- the files ---------------------------------------------------------------------------------------------------------


class Pair:
    """The folders of dc, which sends, and of agni, which knows its key."""

    def __init__(self, directory: Path) -> None:
        self.now_s = 0.0
        self.dc = MailFolder(directory / "dc", "dc", "dc.secret", seconds=lambda: self.now_s)
        self.agni = MailFolder(directory / "agni", "agni", "agni.secret", seconds=lambda: self.now_s)
        for folder in (self.dc, self.agni):
            folder.prepare()
        self.know("dc.secret")

    def know(self, token: str) -> None:
        key = FileKey.from_token(token).public
        (self.agni.directory / "keys.json").write_text(json.dumps({"dc": [key.hex()]}))

    def carry(self) -> None:
        for path in (self.dc.directory / "outbox").iterdir():
            shutil.move(path, self.agni.directory / "inbox" / path.name)

    def arrived(self) -> list[str]:
        """What agni takes for messages."""
        self.agni.read([], NOW_MS)
        self.now_s += 1
        return [one.message.id for one in self.agni.read([], NOW_MS)]

    def left(self, folder: MailFolder) -> list[str]:
        return sorted(
            f"{part}/{path.name}"
            for part in ("inbox", "outbox", "rejected", "archive")
            for path in (folder.directory / part).rglob("*")
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_a_canary_that_came_is_told_and_removed(pair: Pair) -> None:
    pair.dc.canaries.write("1-f-1", "agni", NOW_MS)
    [name] = pair.left(pair.dc)
    # In the form of v1, and carried as messages are.
    found = json.loads((pair.dc.directory / name).read_text())
    assert (found["from"], found["to"], found["subject"], name.endswith(".json")) == ("mac", "agni", "canary", True)
    pair.carry()
    assert pair.arrived() == [] and pair.agni.canaries.take() == ["1-f-1"] and pair.agni.canaries.take() == []
    assert pair.left(pair.agni) == []


def test_those_that_nobody_carries_do_not_pile_up(pair: Pair, tmp_path: Path) -> None:
    for number in range(5):
        pair.dc.canaries.write(f"1-f-{number}", "agni", NOW_MS)
        pair.dc.canaries.write(f"2-f-{number}", "surya", NOW_MS)
    assert len(pair.left(pair.dc)) == 2
    message = tmp_path / "dc" / "outbox" / "canary-of-mine.json"
    message.write_bytes(b'{"id": "canary-of-mine", "from": "mac", "to": "agni", "type": "status", "subject": "canary"}')
    again = MailFolder(tmp_path / "dc", "dc", "dc.secret", seconds=lambda: 0.0)
    again.prepare()
    assert pair.left(again) == ["outbox/canary-of-mine.json"]


@pytest.mark.parametrize("case", ["unsigned", "another key", "changed", "for somebody else"])
def test_one_that_proves_nothing_is_removed_and_not_told(
    pair: Pair, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    pair.dc.canaries.write("1-f-1", "surya" if case == "for somebody else" else "agni", NOW_MS)
    [path] = (pair.dc.directory / "outbox").iterdir()
    found = json.loads(path.read_text())
    if case == "unsigned":
        del found["signature"]
    if case == "changed":
        found["timestamp"] = "2020-01-01T00:00:00Z"
    path.write_text(json.dumps(found))
    if case == "another key":
        pair.know("dc.other")
    pair.carry()
    assert pair.arrived() == [] and pair.agni.canaries.take() == [] and pair.left(pair.agni) == []
    assert "trishula files trust dc" in caplog.text or case == "for somebody else"


def test_an_agent_of_the_release_before_rejects_one_and_shows_it_to_nobody(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rules of before: whatever lies in the inbox is judged as a message.
    monkeypatch.setattr(FileCanaries, "took", lambda *_: False)
    pair.dc.canaries.write("1-f-1", "agni", NOW_MS)
    pair.carry()
    assert pair.arrived() == [] and pair.agni.canaries.take() == []
    kept, why = pair.left(pair.agni)
    assert kept.startswith("rejected/") and "handled by nodes alone" in (pair.agni.directory / why).read_text()


def test_a_bridge_sends_none_that_came_into_its_outbox(pair: Pair) -> None:
    pair.dc.canaries.write("1-f-1", "agni", NOW_MS)
    [path] = (pair.dc.directory / "outbox").iterdir()
    message = decode_v1(path.read_bytes(), Names())
    assert "this outbox is agni's" in (Bridging("agni").fault_of(message) or "")


# -- the agent ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def setup(clock: Clock, tmp_path: Path) -> Iterator[Setup]:
    setup = Setup(clock, tmp_path)
    yield setup
    stopped = start(setup.agent.stop(grace_s=0.0))
    clock.pump([0, 0.02, 0, 2.0, 0.02, 0])
    assert stopped.done


def told(link: FakeLink) -> list[str]:
    return [args[0]["id"] for args in link.args_of(uris.MAILBOX_CANARY)]


def test_an_agent_with_a_folder_writes_one_and_says_when_it_is_written(setup: Setup) -> None:
    link = setup.join()
    assert link.args_of(uris.MAILBOX_ATTACH)[-1][0]["canaries"] == ["live", "files"]
    link.topics[INBOX]([], {"canary": {"id": "1-f-1", "to": "dc", "road": "files"}})
    setup.turn()
    [name] = setup.files("outbox")
    assert setup.read(name)["type"] == "heartbeat" and told(link) == ["1-f-1"]
    link.topics[INBOX]([], {"canary": {"id": "1", "to": "dc"}})
    link.topics[INBOX]([], {"canary": {"id": 1, "to": "dc", "road": "files"}})
    assert told(link) == ["1-f-1", "1"] and setup.heard == []


def test_one_that_can_not_be_written_is_not_said_to_be(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    link = setup.join()
    shutil.rmtree(setup.directory / "outbox")
    link.topics[INBOX]([], {"canary": {"id": "1-f-1", "to": "dc", "road": "files"}})
    setup.turn()
    assert told(link) == [] and "can't use its folder" in caplog.text


def test_one_that_comes_is_told_to_the_node_and_no_handler_sees_it(setup: Setup) -> None:
    link = setup.join()
    setup.dc.canaries.write("1-f-2", "agni", NOW_MS)
    [path] = (setup.dc.directory / "outbox").iterdir()
    shutil.move(path, setup.directory / "inbox" / path.name)
    setup.pass_s(6)
    assert told(link) == ["1-f-2"] and setup.heard == []
    assert all(setup.files(part) == [] for part in ("inbox", "archive", "rejected"))


# -- the node ----------------------------------------------------------------------------------------------------------


class Bus:
    """A node with three agents, of which two have folders, and files that take half a minute."""

    def __init__(self, directory: Path) -> None:
        agents = {name: AgentEntry() for name in ("agni", "dc", "old", "boss")}
        self.rig = Rig(directory, MemoryStore("epoch-1"), Clock(), agents=agents).start()
        self.asked: list[tuple[str, str]] = []
        self.sessions = {name: self.rig.join(name) for name in ("agni", "dc", "old")}
        for name, session in self.sessions.items():
            self.rig.attach(session, canaries=True if name == "old" else ["live", "files", "later"])
        self.on_way: list[tuple[float, str, str]] = []

    def passes(self, seconds: int, *, carried: bool = True) -> None:
        clock = self.rig.clock
        for _ in range(seconds):
            self.rig.advance(1)
            while self.rig.outlet.canaries:
                agent, session, canary = self.rig.outlet.canaries.pop(0)
                assert self.rig.call(session, uris.MAILBOX_CANARY, {"id": canary["id"]}) is True
                if canary.get("road") == "files":
                    self.asked.append((agent, canary["to"]))
                    self.on_way.append((clock.seconds() + 30, canary["to"], canary["id"]))
            due = [one for one in self.on_way if one[0] <= clock.seconds()]
            self.on_way = [one for one in self.on_way if one not in due]
            for _, agent, came in due if carried else ():
                # Nobody but the recipient can say that it has come.
                assert self.rig.call(self.sessions["old"], uris.MAILBOX_CANARY, {"id": came}) is False
                assert self.rig.call(self.sessions[agent], uris.MAILBOX_CANARY, {"id": came}) is True

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.rig.call(self.rig.join("boss", operator=True), uris.NODE_OBJECTIVES)
        return answer


def test_each_pair_with_folders_has_its_turn_each_minute(tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    high_water = bus.rig.store.high_water
    bus.passes(300)
    assert sorted(set(bus.asked)) == [("agni", "dc"), ("dc", "agni")] and len(bus.asked) == 10
    assert bus.rig.store.high_water == high_water and bus.rig.outlet.pushed == []
    answer = bus.answer()
    hour = Totals.of_map(answer["windows"]["1h"])
    assert (hour.file_canaries, hour.file_canaries_lost) == (9, 0)
    assert hour.file_canary_ms.quantile(0.5) == pytest.approx(30_000, rel=0.02)
    files = {(one["from"], one["to"]): one["canaries"] for one in answer["canaries"] if one["road"] == "files"}
    assert sum(files.values()) == 9 and set(files) == {("agni", "dc"), ("dc", "agni")}
    # The other roads are what they are without.
    assert hour.canaries == hour.canary_ms.count and hour.canaries_lost == 0
    samples = {(one, labels): value for one, labels, value in read(bus.rig.node)}
    assert samples["trishula_canaries_total", ("files", "answered")] == 9


def test_files_that_nobody_carries_are_lost_canaries_of_that_road_alone(tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    bus.passes(round(FILES_PATIENCE_S) + 70, carried=False)
    hour = Totals.of_map(bus.answer()["windows"]["1h"])
    assert hour.file_canaries == hour.file_canaries_lost >= 2 and hour.canaries_lost == 0 < hour.canaries
