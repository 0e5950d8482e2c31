"""Cells against a plain model: whatever was accepted is handled once, and ends everywhere as it ended.

The road loses, repeats, reorders, forgets everything and goes down, while cells die and agents move.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cells import AGENTS, World

CELLS = ("east", "north", "south")

_SEND = st.tuples(st.just("send"), st.sampled_from(CELLS), st.sampled_from(AGENTS), st.sampled_from(AGENTS))
_MOVE = st.tuples(st.just("move"), st.sampled_from(CELLS), st.sampled_from(AGENTS), st.booleans())
_FAULT = st.one_of(
    st.tuples(st.just("crash"), st.sampled_from(CELLS)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("down"), st.booleans()),
    st.tuples(st.just("weather"), st.sampled_from([0.0, 0.3, 0.9]), st.sampled_from([0.0, 0.5])),
)
_PASS = st.tuples(st.just("pass"), st.sampled_from([0.1, 1.0, 6.0]))
_STEPS = st.lists(st.one_of(_SEND, _SEND, _MOVE, _FAULT, _PASS), min_size=4, max_size=24)


def play(world: World, steps: list[tuple[object, ...]]) -> dict[str, tuple[str, str, str]]:
    """Carry out steps; what was accepted: id → (cell, sender, recipient)."""
    accepted: dict[str, tuple[str, str, str]] = {}
    for number, (what, *how) in enumerate(steps):
        if what == "send":
            cell, sender, to = map(str, how)
            message_id = f"m{number}"
            message = {"type": "STATUS", "id": message_id, "to": to, "payload": number}
            (receipt,) = world[cell].send(sender, message)
            assert receipt["status"] == "accepted"
            accepted[message_id] = cell, sender, to
        elif what == "move":
            cell, agent, leaves_first = str(how[0]), str(how[1]), bool(how[2])
            for other in CELLS:
                # An agent whose machine died is at two for a while.
                if leaves_first and other != cell:
                    world[other].leave(agent)
            world[cell].attach(agent)
        elif what == "crash":
            world[str(how[0])].crash()
        elif what == "flush":
            world.roads.flush()
        elif what == "down":
            world.roads.is_down = bool(how[0])
        elif what == "weather":
            world.weather(float(str(how[0])), float(str(how[1])), 0.5)
        else:
            world.advance(float(str(how[0])))
    return accepted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_STEPS, st.integers(0, 1_000_000))
def test_nothing_is_lost_nothing_runs_twice_and_ends_are_equal(steps: list[tuple[object, ...]], seed: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), CELLS, Random(seed), step_s=0.25)
        accepted = play(world, steps)
        world.weather()
        world.roads.is_down = False
        for agent in AGENTS:
            at = next((name for name in CELLS if agent in world[name].sessions), "east")
            for name in CELLS:
                if name != at:
                    world[name].leave(agent)
            world[at].attach(agent)

        def states(message_id: str) -> set[str | None]:
            return {world[name].state(message_id) for name in CELLS} - {None}

        world.until(lambda: all(states(message_id) == {"done"} for message_id in accepted), at_most_s=1500.0)
        assert world.ran == {(to, sender, message_id): 1 for message_id, (_, sender, to) in accepted.items()}
        assert all(world[name].cells.told()["out_messages"] == 0 for name in CELLS)
