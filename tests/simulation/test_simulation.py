"""Thousands of short histories of the real rules on a virtual clock; the checker judges each.

A failing seed is printed. ``PYTHONHASHSEED=M SIMULATION_SEED=N pytest tests/simulation`` runs that one alone, the same
each time: sets of texts are gone through in an order that Python draws anew for each process unless it is told. ``make
test`` draws one and prints it. ``SIMULATION_SEEDS=N`` runs so many in place of the usual number.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import LoggedErrors
from tests.simulation.actors import AgentActor, Fetcher, Sender
from tests.simulation.world import World
from tests.support.stores import result_of
from trishula.errors import StorageFailed, StorageFull
from trishula_drill.autopsy import examine
from trishula_drill.checker import Verdict, check
from trishula_drill.history import Ended, Event
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.store.messages import State

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "10000"))
CHUNKS = 20
ONLY = os.environ.get("SIMULATION_SEED")
HASHES = os.environ.get("PYTHONHASHSEED", "random")

NAMES = ("agni", "dc", "rushabdev", "script")
#: So long faults strike; then all is healed, and every message must come to its end.
STORM_S = 2.0
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def principals(tmp_path_factory: pytest.TempPathFactory) -> Principals:
    file = tmp_path_factory.mktemp("agents") / "agents.json"
    with update_agents(file) as known:
        known.update({name: AgentEntry() for name in NAMES})
    return Principals(file)


def live(seed: int, principals: Principals) -> tuple[Verdict, World]:
    """One history.

    Raises:
        AssertionError: a message didn't end, or a fault of the node's own came up.
    """
    world = World(seed, principals, Path("/nonexistent"))
    events: list[Event] = []
    tell = events.append
    chance = world.chance
    senders = [Sender(world, tell, name, ("agni", "script")) for name in ("dc", "rushabdev")]
    agent, script = AgentActor(world, tell, "agni"), Fetcher(world, tell, "script")
    for sender in senders:
        for _ in range(chance.randint(1, 3)):
            world.later(0.0, STORM_S, sender.burst)
    faults: list[Callable[[], object]] = [
        lambda: world.kill_node(chance.uniform(0.05, 1.0)),
        lambda: world.break_a_session(),
        lambda: world.break_a_session(),
        lambda: script.kill(),
        lambda: world.fail_the_disk(StorageFull("full"), StorageFailed("failed")),
    ]
    for _ in range(chance.randint(1, 6)):
        world.later(0.0, STORM_S, chance.choice(faults))
    while world.clock.seconds() < STORM_S:
        world.step()
    world.is_calm = True
    ids = [message_id for sender in senders for message_id in sender.ids]
    until_s = world.clock.seconds() + PATIENCE_S
    while any(sender.client.unconfirmed for sender in senders) or _open(world, ids):
        assert world.clock.seconds() < until_s, f"seed {seed}: not ended: {_open(world, ids)}"
        look_s = world.clock.seconds() + 0.5
        while world.clock.seconds() < look_s:
            world.step()
    for sender in senders:
        sender.stop()
        tell(Ended(world.instant_ns(), sender.name, killed=False))
    agent.stop()
    script.stop()
    assert world.bugs == [], f"seed {seed}: {world.bugs[0]}"
    verdict = check(events, examine(world.memory, ids, result_of))
    if "disk: settle" in world.faults:
        # What could not be settled waits some seconds, and others go first.
        others = tuple(violation for violation in verdict.violations if violation.kind != "order")
        verdict = replace(verdict, violations=others)
    return verdict, world


def _open(world: World, ids: list[str]) -> list[str]:
    stored = result_of(world.memory.with_ids(ids))
    return [message.id for message in stored if message.state is State.OPEN]


@pytest.mark.parametrize("chunk", [0] if ONLY else range(CHUNKS))
def test_no_seed_breaks_a_promise(chunk: int, principals: Principals, logged_errors: LoggedErrors) -> None:
    seeds = [int(ONLY)] if ONLY else range(chunk, SEEDS, CHUNKS)
    struck: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for seed in seeds:
        try:
            verdict, world = live(seed, principals)
        except Exception as error:
            error.add_note(f"the failing seed: PYTHONHASHSEED={HASHES} SIMULATION_SEED={seed}")
            raise
        assert verdict.violations == (), (
            f"PYTHONHASHSEED={HASHES} SIMULATION_SEED={seed}: {verdict.violations[0].sentence}"
        )
        struck.update(world.faults)
        ended.update(verdict.ends)
    # The node says so when a disk fails on something that nobody waits for.
    logged_errors.flush(StorageFull, StorageFailed)
    if len(seeds) >= 200:
        # A simulation in which nothing happens would pass as well.
        faults = {"kill node", "break", "repeat", "kill script", "disk: append", "disk: settle"}
        refusals = {f"refused: {why}" for why in ("mailbox_full", "rate_limited", "storage_full", "storage_failed")}
        assert struck.keys() == faults | refusals
        assert ended.keys() >= {"done", "expired", "cancelled"}


def test_a_seed_is_a_history(principals: Principals, logged_errors: LoggedErrors) -> None:
    first, second = live(7, principals), live(7, principals)
    assert first[0] == second[0]
    assert first[1].clock.seconds() == second[1].clock.seconds()
    assert first[1].faults == second[1].faults
    logged_errors.flush(StorageFull, StorageFailed)
