"""A client's memory of a store that is another one now: told, never misread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, MessageUnknown
from trishula_router.mail.delivery_token import read_token, token_of
from trishula_router.store.memory import MemoryStore


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, MemoryStore("11111111aaaaaaaa"), Clock()).start()


ASKED = [
    ({}, None),
    ({"epoch": "11111111aaaaaaaa"}, False),
    ({"epoch": "11111111aaaaaaaa", "position": 1}, False),
    ({"epoch": "22222222aaaaaaaa", "position": 1}, True),
    ({"epoch": "x"}, True),
    # The same name and less than was seen: an old copy of the file.
    ({"epoch": "11111111aaaaaaaa", "position": 10_000}, True),
]


@pytest.mark.parametrize("verb", ["attach", "fetch"])
@pytest.mark.parametrize(("known", "changed"), ASKED)
def test_what_the_client_knew_is_compared(rig: Rig, verb: str, known: dict[str, Any], changed: bool | None) -> None:
    agni = rig.join("agni")
    answer = rig.attach(agni, **known) if verb == "attach" else rig.fetch(agni, **known)
    assert answer["epoch"] == "11111111aaaaaaaa"
    assert answer.get("epoch_changed") is changed


@pytest.mark.parametrize("uri", [uris.MAILBOX_ATTACH, uris.MAILBOX_FETCH])
@pytest.mark.parametrize(
    "known",
    [{"epoch": 5}, {"epoch": ""}, {"epoch": "x" * 65}, {"position": -1}, {"position": "1"}, {"position": 2**63}],
)
def test_what_it_says_is_checked(rig: Rig, uri: str, known: dict[str, Any]) -> None:
    with pytest.raises(ArgumentInvalid):
        rig.call(rig.join("agni"), uri, known)


def test_a_token_of_another_epoch_settles_nothing(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    (delivery,) = rig.pushed(agni)
    position = delivery["token"].partition(".")[0]
    # What a restored store has at that position is another message than the one that was delivered then.
    old = f"{position}.1.22222222"
    assert rig.ack(agni, old) == [False]
    assert rig.nack(agni, old) is False
    with pytest.raises(MessageUnknown):
        rig.call(agni, uris.MAILBOX_WORKING, old, 5)
    assert rig.states(dc, "m1") == {"m1": "delivered"}
    assert rig.ack(agni, delivery["token"]) == [True]


def test_tokens() -> None:
    assert read_token(token_of(7, 2, "0123456789abcdef"), "t", "0123456789abcdef") == (7, 2)
    assert read_token(token_of(7, 2, "e"), "t", "e") == (7, 2)
    assert read_token("7.2", "t", "0123456789abcdef") == (7, 2)
    assert read_token("7.2.76543210", "t", "0123456789abcdef") == (0, 2)
    for wrong in (
        "",
        ".",
        "7",
        "7.",
        ".2.01234567",
        "7.x.01234567",
        "-7.2.01234567",
        "9" * 19 + ".1",
        7,
        None,
        "7" * 99,
    ):
        with pytest.raises(ArgumentInvalid):
            read_token(wrong, "t", "0123456789abcdef")
