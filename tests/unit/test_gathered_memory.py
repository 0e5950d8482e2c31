"""What was handled goes into the agent's file together; whenever the process ends, the next one knows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from tests.support.faketransport import surroundings
from trishula.consumer.gathered_memory import GatheredMemory
from trishula.messaging.acks import GATHER_S
from trishula.messaging.agent_file import AgentFile
from trishula.messaging.deduplication import Inbox, Treatment
from trishula.runtime.pending import start
from trishula.session.begun import Begun


class Life:
    """One process with that directory; how often it has asked for the end of a turn."""

    def __init__(self, directory: Path, name: str) -> None:
        self.clock = Clock()
        self.wakes = 0
        self.file = AgentFile.open(directory, surroundings(self.clock))
        begun = Begun.open(directory, name)
        assert begun is not None
        self.begun = begun
        self.memory = GatheredMemory(self.file, begun, self.clock, self._wake)
        self.inbox = Inbox()
        self.inbox.restore(self.memory, self.file.load().handled)
        for sender, message_id, content in begun.left_handled:
            self.inbox.recover(sender, message_id, 5, content)
        self.file.commit()
        begun.told()

    def _wake(self) -> None:
        self.wakes += 1

    def handle(self, message_id: str, *, content: int | None = 7) -> None:
        """A handler runs and ends, and others wait."""
        assert self.inbox.admit("dc/1", message_id, "token", content) is Treatment.RUN
        self.memory.ended("dc", message_id, self.begun.begin("dc/1", message_id))
        self.inbox.handled("dc/1", message_id, 5)

    def knows(self, message_id: str, content: int = 7) -> Treatment:
        return self.inbox.admit("dc/1", message_id, "again", content)

    def on_file(self) -> list[str]:
        return [message_id for _, message_id, _, _ in self.file.load().handled]

    def kill(self) -> None:
        self.memory.vanish()
        self.begun.close()
        self.file.vanish()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    made = Life(tmp_path / "agni", "r1")
    yield made
    made.kill()


def test_they_are_written_together_and_their_notes_are_free_then(life: Life) -> None:
    for number in range(3):
        life.handle(f"m{number}")
        assert life.file.commit()
    assert life.on_file() == []
    life.clock.advance(GATHER_S)
    assert life.on_file() == ["m0", "m1", "m2"]
    assert life.wakes == 0
    # One place of 1,024 each time.
    for number in range(3, 1500):
        life.handle(f"m{number}")
        if number % 1000 == 0:
            life.clock.advance(GATHER_S)
    life.clock.advance(GATHER_S)
    assert len(life.on_file()) == 1500
    assert life.wakes == 0


def test_who_is_killed_before_has_handled_them(life: Life, tmp_path: Path) -> None:
    life.handle("m1")
    life.begun.begin("dc/1", "m2")
    life.kill()
    second = Life(tmp_path / "agni", "r2")
    assert second.on_file() == ["m1"]
    assert second.knows("m1") is Treatment.HANDLED
    assert second.knows("m1", content=8) is Treatment.FOREIGN
    assert second.knows("m2") is Treatment.RUN
    second.kill()
    # What the second one has written is enough for the third.
    third = Life(tmp_path / "agni", "r3")
    assert third.begun.left_handled == []
    assert third.knows("m1") is Treatment.HANDLED
    third.kill()


def test_who_leaves_writes_them(life: Life, tmp_path: Path) -> None:
    life.handle("m1")
    life.memory.close()
    life.begun.close()
    start(life.file.close())
    assert not life.clock.getDelayedCalls()
    second = Life(tmp_path / "agni", "r2")
    assert second.on_file() == ["m1"]
    assert second.knows("m1") is Treatment.HANDLED
    second.kill()


def test_what_finds_no_place_is_written_at_the_end_of_the_turn(life: Life) -> None:
    for number in range(1024):
        life.begun.begin("dc/1", f"long{number}")
    life.handle("m1")
    assert life.file.is_dirty
    life.handle("m2", content=None)
    assert life.file.commit()
    assert life.on_file() == ["m1", "m2"]


def test_what_has_no_checksum_frees_its_place_and_asks_for_the_end_of_the_turn(life: Life) -> None:
    life.handle("m1", content=None)
    assert life.wakes == 1
    assert life.file.is_dirty
    assert life.begun.left_handled == []


def test_what_is_remembered_and_forgotten_meanwhile_is_forgotten(life: Life) -> None:
    life.handle("m1")
    life.handle("m2")
    life.memory.forget("dc", "m1")
    life.clock.advance(GATHER_S)
    assert life.on_file() == ["m2"]


def test_while_the_disk_is_full_nothing_is_gathered(
    life: Life, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = AgentFile.commit
    monkeypatch.setattr(AgentFile, "commit", lambda file: False)
    life.handle("m1")
    life.clock.advance(GATHER_S)
    life.handle("m2")
    assert life.wakes == 1
    monkeypatch.setattr(AgentFile, "commit", commit)
    life.clock.advance(1.0)
    assert life.on_file() == ["m1", "m2"]
    life.handle("m3")
    assert life.wakes == 1
    life.kill()
    second = Life(tmp_path / "agni", "r2")
    assert second.on_file() == ["m1", "m2", "m3"]
    second.kill()


def test_who_is_killed_while_the_disk_is_full_has_handled_them(
    life: Life, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(AgentFile, "commit", lambda file: False)
        life.handle("m1")
        life.clock.advance(GATHER_S)
        life.kill()
    second = Life(tmp_path / "agni", "r2")
    assert second.knows("m1") is Treatment.HANDLED
    second.kill()
