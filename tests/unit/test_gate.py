"""The gate: who comes to a linked node that starts waits until it has asked its peers, and not for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.stores import result_of
from trishula.contract import uris
from trishula.errors import TokenInvalid
from trishula_router.agents.file import AgentEntry
from trishula_router.agents.gate import Gate
from trishula_router.agents.tokens import TokenEntry, digest_of
from trishula_router.store.facts import TokenFacts, write_facts
from trishula_router.store.journal import Kind
from trishula_router.store.memory import MemoryStore
from trishula_router.store.revoked import revocations_in

TOKEN = "agni.secret"
AGENTS = {"agni": AgentEntry(tokens=(TokenEntry(digest_of(TOKEN), 1.0),))}


def come(rig: Rig) -> Deferred[Any]:
    details: dict[str, Any] = {"ticket": TOKEN, "session": 1, "transport": {"peer": "tcp4:10.0.0.7:4711"}}
    coming: Deferred[Any] = Deferred.fromCoroutine(rig.node.authenticate(uris.REALM, "agni", details))
    return coming


def test_a_lone_node_lets_in_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("e1"), Clock(), agents=AGENTS).start()
    assert result_of(come(rig))["authid"] == "agni"


def test_a_linked_node_waits_for_its_peers_a_while(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("e1"), Clock(), agents=AGENTS, peers=("rushabdev",)).start()
    let_in: list[object] = []
    come(rig).addCallback(let_in.append)
    rig.advance(1.4)
    assert let_in == []
    rig.advance(0.2)
    come(rig).addCallback(let_in.append)
    assert len(let_in) == 2


def test_what_was_revoked_meanwhile_lets_nobody_in_that_waited(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryStore("e1"), Clock(), agents=AGENTS, peers=("rushabdev",)).start()
    coming = come(rig)
    facts = TokenFacts("agni", "revoked", "", "root", sha256=digest_of(TOKEN), everywhere=True)
    rig.node.principals.revoke(revocations_in(Kind.TOKEN, 1, write_facts(facts)))
    rig.advance(2)
    with pytest.raises(TokenInvalid):
        result_of(coming)


def test_it_opens_once_and_what_was_to_be_done_first_is() -> None:
    done: list[str] = []
    gate = Gate()
    gate.shut(lambda: done.append("first"))
    waiting = Deferred.fromCoroutine(gate.passed())
    waiting.addCallback(lambda _: done.append("second"))
    assert done == []
    gate.open()
    gate.open()
    assert done == ["first", "second"]
