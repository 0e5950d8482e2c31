"""What a node tells of its store's check."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula_router.store.interface import Verification
from trishula_router.store.journal import Damage
from trishula_router.store.memory import MemoryStore


def verified(rig: Rig, monkeypatch: pytest.MonkeyPatch, *damages: Damage) -> dict[str, object]:
    def verify(self: MemoryStore) -> Deferred[Verification]:
        return succeed(Verification(50, 20, damages))

    monkeypatch.setattr(MemoryStore, "verify", verify)
    told: dict[str, object] = rig.call(rig.join("office", operator=True), uris.AUDIT_VERIFY)
    return told


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("epoch-1"), Clock()).start()


def test_a_sound_store(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(rig, monkeypatch) == {"records": 50, "bodies": 20, "ok": True, "damaged": []}


def test_a_damage_with_its_message_and_one_without(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verified(rig, monkeypatch, Damage(7, "it is damaged", "m7", "dc"), Damage(0, "the file is damaged"))
    assert told["ok"] is False
    assert told["damaged"] == [
        {"seq": 7, "what": "it is damaged", "id": "m7", "from": "dc"},
        {"seq": 0, "what": "the file is damaged"},
    ]


def test_more_than_an_answer_holds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verified(rig, monkeypatch, *(Damage(number, "it is damaged") for number in range(1, 10_004)))
    damaged = told["damaged"]
    assert isinstance(damaged, list)
    assert len(damaged) == 10_001
    assert damaged[-1] == {"seq": 0, "what": "and 3 more: trishula node verify names them all"}
