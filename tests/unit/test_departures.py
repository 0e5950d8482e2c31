"""Agents that go from the agents file, and what becomes of their mail."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.nodes import Rig
from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, StorageFull
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.store.memory import MemoryStore
from trishula_router.store.messages import State
from trishula_router.store.sqlite.files import mail_of as mail_in_store


@pytest.fixture
def store() -> HeldStore:
    return HeldStore(MemoryStore("epoch-1"))


@pytest.fixture
def rig(tmp_path: Path, store: HeldStore) -> Rig:
    return Rig(tmp_path, store, Clock()).start()


def without(rig: Rig, *names: str) -> None:
    """Take agents out of the agents file."""
    with update_agents(rig.agents_file) as agents:
        for name in names:
            del agents[name]


def mail_of(rig: Rig, session: int) -> list[dict[str, Any]]:
    return [delivery["message"] for delivery in rig.fetch(session)["deliveries"]]


def dead(rig: Rig) -> list[str]:
    operator = rig.join("dc", operator=True)
    return [letter["id"] for letter in rig.call(operator, uris.ADMIN_DEAD_LIST, {})["letters"]]


def test_the_mail_of_an_agent_that_goes_is_dead_and_its_senders_are_told(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni, instance="x")
    rig.send(dc, {"id": "m1", "to": "agni"}, {"id": "m2", "to": "agni/x", "type": "COMMAND"}, {"id": "m3", "to": "dc"})
    without(rig, "agni")
    rig.advance(0.5)
    assert rig.states(dc, "m1", "m2", "m3") == {"m1": "dead", "m2": "dead", "m3": "accepted"}
    told = {message["reply_to"]: message["payload"]["reason"] for message in mail_of(rig, dc) if "reply_to" in message}
    assert told == dict.fromkeys(("m1", "m2"), "agni is registered no more")
    assert dead(rig) == ["m1", "m2"]


def test_what_is_out_with_it_ends_too(rig: Rig) -> None:
    dc, agni = rig.join("dc"), rig.join("agni")
    rig.attach(agni)
    rig.send(dc, {"id": "m1", "to": "agni"})
    without(rig, "agni")
    rig.advance(0.5)
    rig.leave(agni)
    rig.advance(0.5)
    assert rig.states(dc, "m1") == {"m1": "dead"}
    assert rig.node.mailroom.leases == {}


def test_one_that_went_while_the_node_was_down_is_noticed(tmp_path: Path, rig: Rig) -> None:
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni"}, {"id": "m2", "to": "rushabdev"})
    rig.advance(0.5)
    rig.crash()
    again = Rig(tmp_path, rig.store, rig.clock, agents=("dc", "rushabdev")).start()
    again.advance(0.5)
    assert again.states(again.join("dc"), "m1", "m2") == {"m1": "dead", "m2": "accepted"}


def test_who_was_never_registered_here_is_left_alone(tmp_path: Path) -> None:
    # A store of a release that remembered nobody, or the copies of a peer with agents of its own.
    store = MemoryStore("epoch-1")
    rig = Rig(tmp_path, store, Clock()).start()
    rig.send(rig.join("dc"), {"id": "m1", "to": "agni"})
    rig.crash()
    result_of(store.remember({"registered": '["dc"]'}))
    again = Rig(tmp_path, store, rig.clock, agents=("dc",)).start()
    again.advance(1)
    assert again.states(again.join("dc"), "m1") == {"m1": "accepted"}


def test_one_that_comes_back_at_once_loses_nothing(rig: Rig) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni"})
    without(rig, "agni")
    with update_agents(rig.agents_file) as agents:
        agents["agni"] = AgentEntry()
    rig.advance(0.5)
    assert rig.states(dc, "m1") == {"m1": "accepted"}


def test_an_operator_ends_what_an_agent_sent_in_every_mailbox(rig: Rig) -> None:
    dc, boss = rig.join("dc"), rig.join("rushabdev", operator=True)
    agni = rig.join("agni")
    sent = [{"id": f"m{n}", "to": ("agni", "capability:deploy", "dc")[n % 3], "from": "dc/x"} for n in range(9)]
    rig.send(dc, *sent)
    rig.send(agni, {"id": "a1", "to": "dc"}, {"id": "a2", "to": "agni"})
    purge = partial(rig.call, boss, uris.ADMIN_MAILBOX_PURGE, "dc")
    assert purge({"sent": True, "dry_run": True}) == 9
    assert purge({"dry_run": True}) == 4
    assert purge({"sent": True}) == 9
    assert rig.states(dc, *(one["id"] for one in sent)) == {one["id"]: "dead" for one in sent}
    assert rig.states(agni, "a1", "a2") == {"a1": "accepted", "a2": "accepted"}
    # The sender is told, as of every dead letter, and that stays.
    assert purge({"sent": True}) == 0
    assert not rig.node.mailroom.has("capability:deploy")
    (history,) = result_of(rig.store.history("m0"))
    assert "all open mail from dc was purged by rushabdev" in str(history.records[-1].facts)


def test_a_full_store_ends_it_later(rig: Rig, store: HeldStore) -> None:
    dc = rig.join("dc")
    rig.send(dc, {"id": "m1", "to": "agni"})
    without(rig, "agni")
    store.fail_next("settle", StorageFull("full", retry_after_s=1.0))
    rig.advance(0.25)
    assert rig.states(dc, "m1") == {"m1": "accepted"}
    rig.advance(6)
    assert rig.states(dc, "m1") == {"m1": "dead"}


def test_one_that_works_at_a_linked_node_is_left_alone(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in ("one", "two")})
    one, two = nodes.rigs["one"], nodes.rigs["two"]
    nodes.advance(3)
    dc, agni = one.join("dc"), two.join("agni")
    two.begin(agni, uris.MAILBOX_ATTACH)
    one.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "agni"}])
    nodes.advance(3)
    without(one, "agni")
    nodes.advance(3)
    assert [message.state for message in result_of(one.store.with_ids(["m1"]))] == [State.OPEN]


def test_an_operator_purges_also_what_waits_for_one_that_works_at_a_linked_node(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}") for name in ("one", "two")})
    one, two = nodes.rigs["one"], nodes.rigs["two"]
    nodes.advance(3)
    dc, operator, agni = one.join("dc"), one.join("dc", operator=True), two.join("agni")
    two.begin(agni, uris.MAILBOX_ATTACH)
    one.begin(dc, uris.MAILBOX_SEND, [{"type": "STATUS", "id": "m1", "to": "agni"}])
    nodes.advance(3)
    purged = one.begin(operator, uris.ADMIN_MAILBOX_PURGE, "agni")
    nodes.advance(3)
    assert result_of(purged) == 1
    assert [message.state for message in result_of(one.store.with_ids(["m1"]))] == [State.DEAD]


def test_an_operator_purges_a_mailbox(rig: Rig) -> None:
    dc, agni, operator = rig.join("dc"), rig.join("agni"), rig.join("dc", operator=True)
    rig.attach(agni, window=1)
    rig.send(dc, *({"id": f"m{number}", "to": "agni"} for number in range(5)), {"id": "other", "to": "rushabdev"})
    assert rig.call(operator, uris.ADMIN_MAILBOX_PURGE, "agni") == 5
    assert rig.call(operator, uris.ADMIN_MAILBOX_PURGE, "agni") == 0
    assert rig.states(dc, "m0", "m4", "other") == {"m0": "dead", "m4": "dead", "other": "accepted"}
    assert {message["payload"]["reason"] for message in mail_of(rig, dc)} == {"the mailbox of agni was purged by dc"}
    # It goes on, and nobody's window is spoilt.
    rig.pushed()
    rig.send(dc, {"id": "next", "to": "agni"})
    assert rig.ids(agni) == ["next"]
    with pytest.raises(ArgumentInvalid, match="agent is"):
        rig.call(operator, uris.ADMIN_MAILBOX_PURGE, "AGNI!")


def test_a_store_from_outside_says_what_is_there_for_a_name(tmp_path: Path) -> None:
    from tests.support.stores import ReactorQueue, open_sqlite

    calls = ReactorQueue()
    store = open_sqlite(tmp_path, calls)
    rig = Rig(tmp_path, store, Clock(), agents=("agni", "agni0", "agn", "dc"))
    calls.wait(rig.node.store.open_mailboxes())
    from trishula_router.store.messages import Draft

    drafts = [
        Draft("dc", f"m{number}", (to,), "STATUS", 3, 10**15, b"{}")
        for number, to in enumerate(["agni", "agni/x", "agni0", "agn", "agni"])
    ]
    accepted = calls.wait(store.append(drafts, 1))
    calls.wait(store.settle([accepted[4].positions[0]], State.DEAD, "no", 2))
    assert mail_in_store(tmp_path / "node.sqlite", "agni") == (2, 1)
    assert mail_in_store(tmp_path / "node.sqlite", "dc") == (0, 0)
    calls.wait(store.close())
