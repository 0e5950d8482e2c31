"""Removals of agents that nodes share are forgotten, in the end, and what was removed doesn't come back by that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pair import Nodes
from tests.support.stores import result_of
from trishula_router.agents import shared_agents, shared_since
from trishula_router.agents.file import read_agents, update_agents
from trishula_router.agents.shared_agents import REMEMBERED_MS, AgentState, SharedAgents
from trishula_router.agents.shared_notes import KNOWN
from trishula_router.agents.shared_since import SINCE, Together
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry
from trishula_router.store.memory import MemoryStore

NAMES = ("agni", "rushabdev")
SCOUT = AgentEntry(serve=(), tokens=(TokenEntry("a" * 64, 1.0),))
#: Here removals are remembered for so long.
SHORT_S = 30.0


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    for module in (shared_agents, shared_since):
        monkeypatch.setattr(module, "REMEMBERED_MS", round(SHORT_S * 1000))
    made = Nodes(tmp_path, {name: MemoryStore(f"epoch-{name}", name) for name in NAMES}, sharing=NAMES)
    made.advance(3.0)
    change(made, "agni", lambda agents: agents.update(scout=SCOUT))
    made.advance(3.0)
    assert [says(made, name) for name in NAMES] == [True, True]
    return made


def file(nodes: Nodes, name: str) -> Path:
    return nodes._directory / name / "agents.json"


def change(nodes: Nodes, name: str, by: Callable[[dict[str, AgentEntry]], object]) -> None:
    with update_agents(file(nodes, name)) as agents:
        by(agents)


def says(nodes: Nodes, name: str) -> bool:
    """Whether the node lets scout in."""
    return "scout" in read_agents(file(nodes, name))


def remembers(nodes: Nodes, name: str) -> bool:
    """Whether the node's store has anything of scout."""
    return KNOWN + "scout" in result_of(nodes.stores[name].remembered(KNOWN))


def refusals(nodes: Nodes, name: str) -> str:
    return str(result_of(nodes.stores[name].records(after=0, limit=1000)))


def test_a_removal_is_forgotten_after_its_time_at_each_node(nodes: Nodes) -> None:
    change(nodes, "agni", lambda agents: agents.pop("scout"))
    nodes.advance(SHORT_S - 5.0)
    assert [remembers(nodes, name) for name in NAMES] == [True, True]
    nodes.advance(12.0)
    assert [remembers(nodes, name) for name in NAMES] == [False, False]
    assert len({nodes.rigs[name].node.sharing._agents.digest for name in NAMES}) == 1
    # The name is free.
    change(nodes, "rushabdev", lambda agents: agents.update(scout=SCOUT))
    nodes.advance(3.0)
    assert [says(nodes, name) for name in NAMES] == [True, True]


def test_nothing_is_forgotten_while_a_peer_is_away_that_knows_it_from_before(nodes: Nodes) -> None:
    nodes.down("rushabdev")
    change(nodes, "agni", lambda agents: agents.pop("scout"))
    nodes.advance(3 * SHORT_S)
    assert remembers(nodes, "agni")
    nodes.boot("rushabdev")
    nodes.advance(8.0)
    assert [says(nodes, name) for name in NAMES] == [False, False]
    assert [remembers(nodes, name) for name in NAMES] == [False, False]


def test_an_old_file_on_a_new_store_brings_nobody_back(nodes: Nodes) -> None:
    old = file(nodes, "rushabdev").read_bytes()
    change(nodes, "agni", lambda agents: agents.pop("scout"))
    nodes.advance(2 * SHORT_S)
    assert not remembers(nodes, "agni")
    nodes.down("rushabdev")
    nodes.stores["rushabdev"] = MemoryStore("another", "rushabdev")
    file(nodes, "rushabdev").write_bytes(old)
    nodes.boot("rushabdev")
    nodes.advance(6.0)
    assert not says(nodes, "agni")
    assert "nobody here knows scout any more" in refusals(nodes, "agni")
    # Whoever wants it says so.
    change(nodes, "rushabdev", lambda agents: agents.update(scout=AgentEntry(serve=(), operator=True)))
    nodes.advance(6.0)
    assert [says(nodes, name) for name in NAMES] == [True, True]


def test_nodes_that_were_apart_for_longer_take_over_who_was_registered_meanwhile(nodes: Nodes) -> None:
    nodes.cut()
    nodes.advance(3.0)
    change(nodes, "agni", lambda agents: agents.update(one=SCOUT.__class__(serve=())))
    change(nodes, "rushabdev", lambda agents: agents.update(two=SCOUT.__class__(serve=())))
    nodes.advance(2 * SHORT_S)
    nodes.heal()
    nodes.advance(8.0)
    assert all({"one", "two"} <= read_agents(file(nodes, name)).keys() for name in NAMES)


def test_who_forgets_later_says_the_same_and_is_not_believed() -> None:
    at = 10**12
    one, other = SharedAgents("a"), SharedAgents("b")
    tomb = {"scout": AgentState(removed=(at, "a"))}
    for node in (one, other):
        node.merge(tomb)
    now = at + REMEMBERED_MS
    one.grow_old(now - 1)
    assert one.forget() == frozenset()
    one.grow_old(now)
    other.grow_old(now)
    assert one.forget() == {"scout"}
    assert (one.states, one.size_bytes) == ({}, 0)
    assert one.digest == other.digest
    assert one.merge(other.states, now) == set()
    assert one.merge(tomb, now - 1) == {"scout"}


def test_an_agent_that_is_there_is_never_forgotten_however_old_it_is() -> None:
    one = SharedAgents("a")
    one.begin({"scout": SCOUT})
    one.grow_old(10**13)
    assert one.forget() == frozenset()
    assert one.agents() == {"scout": SCOUT}


NOW = 10**13
OLD = AgentState((NOW - REMEMBERED_MS, "b", "{}"))


@pytest.mark.parametrize(
    ("text", "state", "is_taken"),
    [
        (f"e {NOW - REMEMBERED_MS} {NOW - 5}", OLD, False),
        (f"e {NOW - REMEMBERED_MS} {NOW - 5}", AgentState((0, "b", "{}")), False),
        # It would be later than any removal that is forgotten.
        (f"e {NOW - REMEMBERED_MS} {NOW - 5}", AgentState((NOW - REMEMBERED_MS + 1, "b", "{}")), True),
        (f"e {NOW - REMEMBERED_MS} {NOW - 5}", AgentState(removed=(5, "b")), True),
        # The node has not shared for long, was apart, or its store is another one.
        (f"e {NOW - REMEMBERED_MS + 1} {NOW - 5}", OLD, True),
        (f"e {NOW - 2 * REMEMBERED_MS} {NOW - REMEMBERED_MS - 1}", OLD, True),
        (f"other {NOW - REMEMBERED_MS} {NOW - 5}", OLD, True),
        (f"e {NOW - REMEMBERED_MS} {NOW + 5}", OLD, True),
        ("", OLD, True),
        ("e x y", OLD, True),
    ],
)
def test_what_is_taken_of_an_agent_that_nobody_knows(text: str, state: AgentState, is_taken: bool) -> None:
    why = Together(text, "e", NOW).why_not("scout", state, NOW)
    assert (why is None) == is_taken
    if why is not None:
        assert "more than 400 days ago" in why and "trishula token new scout" in why


def test_it_is_written_down_once_a_day_and_an_absence_begins_it_anew() -> None:
    together = Together("", "e", NOW)
    assert together.agreed(NOW) and not together.agreed(NOW + 1000)
    assert together.text == f"e {NOW} {NOW + 1000}"
    assert together.agreed(NOW + 86_400_000)
    later = NOW + 86_400_000 + REMEMBERED_MS
    # Apart for as long as that is no longer than what is remembered.
    assert Together(together.text, "e", later).text == together.text
    assert together.agreed(later) and together.text == f"e {NOW} {later}"
    assert together.agreed(later + REMEMBERED_MS + 1)
    assert together.text == f"e {later + REMEMBERED_MS + 1} {later + REMEMBERED_MS + 1}"


def test_a_node_remembers_since_when_over_its_restart(nodes: Nodes) -> None:
    before = result_of(nodes.stores["agni"].remembered(SINCE))[SINCE].split()[1]
    nodes.down("agni")
    nodes.boot("agni")
    nodes.advance(5.0)
    assert nodes.rigs["agni"].node.sharing._together.text.split()[1] == before
