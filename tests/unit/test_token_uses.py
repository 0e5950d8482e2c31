"""When a token was used last: at the join, as long as its session lasts, and not by whoever was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import START_MS, Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import TokenInvalid
from trishula_router.agents.file import AgentEntry
from trishula_router.agents.token_uses import USED, Use, read_uses
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.store.memory import MemoryStore

TOKEN = "agni.secret"


def uses(store: MemoryStore) -> dict[str, Use]:
    found: dict[str, str] = result_of(store.remembered(USED))
    return read_uses(found)


def come(rig: Rig, session: int, token: str = TOKEN) -> None:
    details: dict[str, Any] = {"ticket": token, "session": session, "transport": {"peer": "tcp4:10.0.0.7:4711"}}
    rig.node.door.authenticate(uris.REALM, "agni", details)
    rig.join("agni", session=session)


def test_a_use_lasts_as_long_as_its_session(tmp_path: Path) -> None:
    store, clock = MemoryStore("e1"), Clock()
    agents = {"agni": AgentEntry(tokens=(TokenEntry(digest_of(TOKEN), 1.0),))}
    rig = Rig(tmp_path, store, clock, agents=agents).start()
    with pytest.raises(TokenInvalid):
        come(rig, 1, "agni.wrong")
    assert uses(store) == {}
    come(rig, 2)
    assert uses(store) == {digest_of(TOKEN): Use(START_MS, "a private network")}
    rig.advance(150)
    assert uses(store)[digest_of(TOKEN)].at == START_MS + 120_000
    rig.leave(2)
    rig.advance(300)
    assert uses(store)[digest_of(TOKEN)].at == START_MS + 120_000
