"""The mode of an agent, each state with each event."""

from __future__ import annotations

from itertools import product

import pytest

from trishula.files.mode_policy import TABLE, Event, Mode, ModePolicy, State

#: How to come to a state.
ROADS = {
    State.DEGRADED: [],
    State.LIVE: [Event.ATTACHED],
    State.ALONE: [Event.DUE],
    State.TOLD: [Event.ATTACHED, Event.BUS_IN_FALLBACK],
}

#: The same table as the module's docstring has, in its order: ATTACHED, LOST, DUE, BUS_IN_FALLBACK, BUS_LIVE.
EXPECTED = {
    State.LIVE: "LIVE DEGRADED LIVE TOLD LIVE",
    State.DEGRADED: "LIVE DEGRADED ALONE DEGRADED DEGRADED",
    State.ALONE: "LIVE ALONE ALONE ALONE ALONE",
    State.TOLD: "TOLD ALONE TOLD TOLD LIVE",
}


def policy_in(state: State, *, has_folder: bool = True) -> ModePolicy:
    policy = ModePolicy(0.0, has_folder=has_folder)
    for event in ROADS[state]:
        policy.heard(event, 0.0)
    assert policy.state is state
    return policy


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=lambda one: one.name)
def test_each_state_with_each_event(state: State, event: Event) -> None:
    policy = policy_in(state)
    after = State[EXPECTED[state].split()[list(Event).index(event)]]
    assert policy.heard(event, 1.0) is (after.mode is not state.mode)
    assert policy.state is after


def test_the_table_is_whole() -> None:
    assert {state: set(row) for state, row in TABLE.items()} == {state: set(Event) for state in State}


def test_it_begins_without_a_session_and_falls_back_when_none_comes() -> None:
    policy = ModePolicy(100.0, has_folder=True, fallback_after_s=2.0)
    assert [policy.mode, policy.due_s] == [Mode.DEGRADED, 102.0]
    assert not policy.tick(101.9)
    assert policy.tick(102.0)
    assert [policy.mode, policy.due_s] == [Mode.FALLBACK, None]


@pytest.mark.parametrize("state", [State.LIVE, State.ALONE, State.TOLD])
def test_time_changes_only_what_waits(state: State) -> None:
    policy = policy_in(state)
    assert policy.due_s is None
    assert not policy.tick(1000.0)


def test_the_time_without_a_session_begins_when_one_is_lost() -> None:
    policy = policy_in(State.LIVE)
    assert policy.heard(Event.LOST, 50.0)
    assert policy.due_s == 52.0
    # Told of once more: it is gone since the first time.
    policy.heard(Event.LOST, 51.0)
    assert policy.due_s == 52.0


def test_a_session_in_time_prevents_the_fallback() -> None:
    policy = policy_in(State.LIVE)
    policy.heard(Event.LOST, 50.0)
    assert policy.heard(Event.ATTACHED, 51.0)
    assert not policy.tick(60.0)
    assert policy.mode is Mode.LIVE


def test_without_a_folder_there_is_no_fallback() -> None:
    policy = policy_in(State.DEGRADED, has_folder=False)
    assert policy.due_s is None
    assert not policy.tick(1000.0)
    assert not policy.heard(Event.DUE, 1000.0)
    policy.heard(Event.ATTACHED, 1000.0)
    assert not policy.heard(Event.BUS_IN_FALLBACK, 1000.0)
    assert policy.mode is Mode.LIVE
