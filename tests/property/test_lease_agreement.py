"""Two agents at two nodes claim the same, whatever their disks, their link and their clocks do: one alone is sure."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.support.pair import Nodes
from tests.support.stores import HeldStore, result_of
from trishula.contract import uris
from trishula_router.store.memory import MemoryStore

_NAMES = ("agni", "rushabdev")
_steps = st.sampled_from(
    [
        *(f"{what} {name}" for name in _NAMES for what in ("claim", "release", "hold", "write", "write", "free")),
        *("settle", "settle", "advance", "advance", "cut", "lose", "heal"),
    ]
)


def confirmed(nodes: Nodes) -> set[str]:
    """Whom some node tells that it has it for sure, and has not taken it back."""
    return {
        told["holder"]
        for name, rig in nodes.rigs.items()
        for told in rig.node.leases.work_leases.list()
        if told["state"] == "granted" and not told["provisional"] and told["node"] == name
    }


@settings(max_examples=30)
@given(st.lists(_steps, min_size=4, max_size=25), st.sampled_from([-5000, 0, 5000]))
def test_no_two_are_confirmed_at_once_and_in_the_end_one_has_it(steps: list[str], ahead_ms: int) -> None:
    stores = {name: HeldStore(MemoryStore(f"epoch-{name}")) for name in _NAMES}
    with TemporaryDirectory() as directory:
        nodes = Nodes(Path(directory), {**stores}, aheads_ms={"rushabdev": ahead_ms})
        nodes.advance(2)
        sessions = {"agni": nodes.rigs["agni"].join("dc"), "rushabdev": nodes.rigs["rushabdev"].join("agni")}
        calls: list[Deferred[object]] = []
        for step in steps:
            what, _, name = step.partition(" ")
            if what == "claim":
                calls.append(nodes.rigs[name].begin(sessions[name], uris.LEASE_CLAIM, "path:src", {"queue": True}))
            elif what == "release":
                calls.append(nodes.rigs[name].begin(sessions[name], uris.LEASE_RELEASE, "path:src"))
            elif what in ("hold", "free"):
                stores[name].holding = what == "hold"
                if what == "free":
                    stores[name].let_all()
            elif what == "write":
                stores[name].let_write(1)
            elif what == "settle":
                nodes.settle()
            elif what == "advance":
                nodes.advance(0.75)
            else:
                {"cut": nodes.cut, "lose": nodes.lose_journals, "heal": nodes.heal}[what]()
            assert len(confirmed(nodes)) <= 1
        for call in calls:
            call.addErrback(lambda failure: None)
        for store in stores.values():
            store.holding = False
            store.let_all()
        nodes.heal()
        for _ in range(20):
            nodes.advance(0.5)
            assert len(confirmed(nodes)) <= 1
        found = [rig.node.leases.work_leases.list() for rig in nodes.rigs.values()]
        assert found[0] == found[1]
        granted = [told for told in found[0] if told["state"] == "granted"]
        assert len(granted) == (1 if found[0] else 0), found[0]
        assert not any(told["provisional"] for told in granted)


@pytest.mark.parametrize("ahead_ms", [-5000, 0, 5000])
def test_of_two_grants_that_one_commit_of_a_disk_makes_known_one_stays(tmp_path: Path, ahead_ms: int) -> None:
    slow = HeldStore(MemoryStore("epoch-r"))
    nodes = Nodes(tmp_path, {"agni": MemoryStore("epoch-a"), "rushabdev": slow}, aheads_ms={"rushabdev": ahead_ms})
    nodes.advance(2)
    dc, agni = nodes.rigs["agni"].join("dc"), nodes.rigs["rushabdev"].join("agni")
    nodes.settle()
    slow.holding = True
    calls = [nodes.rigs["agni"].begin(dc, uris.LEASE_CLAIM, "path:src")]
    nodes.settle()
    calls.append(nodes.rigs["rushabdev"].begin(agni, uris.LEASE_CLAIM, "path:src"))
    assert slow.waiting == ["copy", "note"]
    # Then what the other node has to say of its own.
    slow.let_write(2)
    nodes.settle()
    slow.let_read()
    nodes.settle()
    slow.let_read()
    nodes.settle()
    slow.holding = False
    slow.let_all()
    nodes.advance(5)
    assert sorted(result_of(call)["state"] for call in calls) == ["granted", "refused"]
