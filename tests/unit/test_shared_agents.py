"""Agents that nodes share: of two changes the later holds, a removal ends what was before it, and a key is one's."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from trishula_router.agents.shared_agents import AgentState, SharedAgents, fault_of, same
from trishula_router.agents.text import AgentEntry
from trishula_router.agents.tokens import TokenEntry, key_entry

OLD, NEW = TokenEntry("a" * 64, 1.0), TokenEntry("b" * 64, 2.0)
AGNI = AgentEntry(serve=(), tokens=(OLD,))
KEY = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"


def node(name: str, **agents: AgentEntry) -> SharedAgents:
    made = SharedAgents(name)
    made.begin(agents)
    return made


def tell(speaker: SharedAgents, hearer: SharedAgents) -> None:
    """As it goes over a link."""
    text = msgspec.msgpack.encode(speaker.states)
    hearer.merge(msgspec.msgpack.decode(text, type=dict[str, AgentState]))


def exchange(one: SharedAgents, other: SharedAgents) -> None:
    tell(one, other)
    tell(other, one)
    assert one.agents() == other.agents()
    assert one.digest == other.digest


def change(node: SharedAgents, now_ms: int, **agents: AgentEntry | None) -> None:
    before = node.agents()
    after = {name: record for name, record in {**before, **agents}.items() if record is not None}
    node.edited(before, after, now_ms)
    assert {name: same(record, after.get(name)) for name, record in node.agents().items()} == dict.fromkeys(after, True)


def test_tokens_that_two_nodes_make_at_once_are_both_there() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 10, agni=replace(AGNI, tokens=(OLD, NEW)))
    change(b, 10, agni=replace(AGNI, tokens=(OLD, TokenEntry("c" * 64, 3.0))))
    exchange(a, b)
    assert [one.sha256[0] for one in a.agents()["agni"].tokens] == ["a", "b", "c"]


def test_a_token_that_was_taken_away_is_not_brought_back_by_who_knows_it_from_before() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 10, agni=replace(AGNI, tokens=(NEW,)))
    exchange(a, b)
    assert b.agents()["agni"].tokens == (NEW,)


def test_of_two_grants_the_later_holds_and_of_two_at_once_that_of_the_later_name() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 20, agni=replace(AGNI, send=("dc",)))
    change(b, 10, agni=replace(AGNI, operator=True))
    exchange(a, b)
    assert (b.agents()["agni"].send, b.agents()["agni"].operator) == (("dc",), False)
    change(a, 30, agni=replace(AGNI, send=("a",)))
    change(b, 30, agni=replace(AGNI, send=("b",)))
    exchange(a, b)
    assert a.agents()["agni"].send == ("b",)


def test_a_change_is_later_than_what_its_node_knew_whichever_clock_is_ahead() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 3_600_000, agni=replace(AGNI, operator=True))
    exchange(a, b)
    change(b, 10, agni=AGNI)
    exchange(a, b)
    assert not a.agents()["agni"].operator


def test_a_removal_ends_what_was_said_before_and_what_was_added_meanwhile() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 10, agni=None)
    change(b, 20, agni=replace(AGNI, tokens=(OLD, NEW)))
    exchange(a, b)
    assert a.agents() == {}
    third = TokenEntry("d" * 64, 4.0)
    change(b, 5, agni=replace(AGNI, tokens=(third,)))
    exchange(a, b)
    assert a.agents()["agni"].tokens == (third,), "who is registered anew begins with nothing of before"


def test_what_a_file_said_before_sharing_is_older_than_any_change() -> None:
    a = node("a", agni=AGNI)
    change(a, 10, agni=replace(AGNI, tokens=(NEW,), send=("dc",)))
    restored = node("z", agni=replace(AGNI, operator=True))
    exchange(a, restored)
    assert a.agents()["agni"] == replace(AGNI, tokens=(NEW,), send=("dc",))


def test_a_key_that_two_agents_got_is_the_later_ones() -> None:
    a, b = node("a"), node("b")
    change(a, 10, agni=AgentEntry(tokens=(key_entry(KEY, 1.0),)))
    change(b, 20, dc=AgentEntry(tokens=(key_entry(KEY, 2.0),)))
    exchange(a, b)
    assert {name: len(record.tokens) for name, record in a.agents().items()} == {"agni": 0, "dc": 1}


def test_a_file_that_says_what_is_known_is_no_change() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 10, agni=replace(AGNI, operator=True))
    tell(a, b)
    known = dict(b.states)
    assert b.edited({"agni": AGNI}, b.agents(), 99) == set()
    assert b.states == known


def test_of_tokens_that_were_taken_away_the_latest_are_remembered() -> None:
    a = node("a", agni=AgentEntry())
    for number in range(250):
        token = TokenEntry(f"{number:064x}", float(number))
        change(a, 2 * number, agni=AgentEntry(tokens=(token,)))
    assert len(a.states["agni"].tokens) == 201
    assert len(a.agents()["agni"].tokens) == 1


def test_a_node_that_was_away_for_very_many_rotations_brings_none_of_the_tokens_back() -> None:
    lasting = TokenEntry("c" * 64, 0.5)
    a, away = node("a", agni=replace(AGNI, tokens=(lasting, OLD))), node("b", agni=AGNI)
    exchange(a, away)
    for number in range(250):
        token = TokenEntry(f"{number:064x}", float(number + 1))
        change(a, 2 * number, agni=replace(AGNI, tokens=(lasting, token)))
    for _ in range(2):
        exchange(a, away)
        assert [one.sha256[0] for one in a.agents()["agni"].tokens] == ["c", "0"]
    change(away, 5, agni=replace(AGNI, tokens=(OLD,)))
    exchange(a, away)
    assert a.agents()["agni"].tokens == (OLD,), "an operator may"


def test_who_is_registered_anew_with_a_token_of_before_has_it() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 10, agni=None)
    change(b, 20, agni=replace(AGNI, tokens=(OLD, NEW)))
    exchange(a, b)
    assert a.agents() == {}
    # As somebody who puts the agent back into the file by hand, as it was at b.
    change(b, 30, agni=replace(AGNI, tokens=(OLD, NEW)))
    exchange(a, b)
    assert a.agents()["agni"].tokens == (OLD, NEW)


GRANTS = '{"call":["*"],"operator":false,"send":["*"]}'
TOKEN = '{"created_at":"2026-01-01T00:00:00Z","sha256":"' + "a" * 64 + '"}'


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("", AgentState((1, "b", GRANTS))),
        ("agni", AgentState((-1, "b", GRANTS))),
        ("agni", AgentState((2**60, "b", GRANTS))),
        ("agni", AgentState((1, "", GRANTS))),
        ("agni", AgentState((1, "b", '{"rule":"all"}'))),
        ("agni", AgentState((1, "b", '{"operator":1}'))),
        ("agni", AgentState((1, "b", "[]"))),
        ("agni", AgentState((1, "b", "}"))),
        ("agni", AgentState((1, "b", "[" * 100_000))),
        ("agni", AgentState((1, "b", GRANTS), {"b" * 64: (1, "b", TOKEN)})),
        ("agni", AgentState(None, {"b" * 64: (1, "b", TOKEN)})),
        ("agni", AgentState((1, "b", GRANTS), {"x": (1, "b", "")})),
        ("agni", AgentState(None, {}, (2**60, "b"))),
        ("agni", AgentState(None, {}, (1, "\x1b"))),
        ("agni", AgentState(None, {}, forgotten=(2**60, "b"))),
        ("agni", AgentState(None, {}, forgotten=(1, ""))),
    ],
)
def test_what_no_file_may_say_is_not_taken(name: str, state: AgentState) -> None:
    assert fault_of(name, state, 1000) is not None


@pytest.mark.parametrize(
    "state",
    [
        AgentState((1, "b", GRANTS), {"a" * 64: (1, "b", TOKEN)}),
        AgentState(None, {"a" * 64: (1, "b", TOKEN), "c" * 64: (1, "b", "")}, (3, "a")),
        AgentState(),
    ],
)
def test_what_a_file_may_say_is_taken(state: AgentState) -> None:
    assert fault_of("agni", state, 1000) is None


YEAR_MS = 366 * 86_400_000
NOW = 60 * YEAR_MS


def test_after_a_clock_that_was_many_years_ahead_the_agents_can_be_changed_again() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    ahead = NOW + 70 * YEAR_MS
    change(a, ahead, agni=replace(AGNI, operator=True))
    change(a, ahead + 5, agni=None)
    change(a, ahead + 6, agni=replace(AGNI, tokens=(NEW,)))
    change(a, ahead + 7, dc=replace(AGNI, tokens=()))
    assert fault_of("agni", a.states["agni"], NOW) is not None, "nobody takes that"
    said = a.agents()
    # The clock was set right.
    assert a.come_back(NOW) == {"agni", "dc"}
    assert a.come_back(NOW) == set()
    assert a.agents() == said
    assert all(fault_of(name, state, NOW) is None for name, state in a.states.items())
    exchange(a, b)
    assert b.agents() == said
    change(b, NOW, agni=replace(AGNI, tokens=(OLD,)))
    exchange(a, b)
    assert a.agents()["agni"].tokens == (OLD,)


def test_a_clock_that_stands_at_the_beginning_of_time_refuses_and_changes_nothing() -> None:
    a = node("a", agni=AGNI)
    change(a, NOW, agni=replace(AGNI, operator=True))
    assert fault_of("agni", a.states["agni"], 5_000) is None
    assert a.come_back(5_000) == set()


def test_a_key_that_one_agent_lost_to_another_does_not_come_back_when_that_one_loses_it() -> None:
    for how in (None, AgentEntry()):
        a, b, c = node("a"), node("b"), node("c")
        change(a, 10, agni=AgentEntry(tokens=(key_entry(KEY, 1.0),)))
        change(b, 20, dc=AgentEntry(tokens=(key_entry(KEY, 2.0),)))
        exchange(a, b)
        # By hand, as whoever has a stolen laptop's key is put out.
        change(b, 30, dc=how)
        exchange(a, b)
        exchange(a, c)
        for one in (a, b, c):
            assert [record.tokens for record in one.agents().values() if record.tokens] == []
        # Whoever is given it again has it.
        change(c, 5, agni=AgentEntry(tokens=(key_entry(KEY, 3.0),)))
        exchange(a, c)
        assert len(a.agents()["agni"].tokens) == 1


def test_a_key_moves_from_one_agent_to_another_whichever_clock_is_ahead() -> None:
    a, b = node("a", agni=AGNI), node("b", agni=AGNI)
    change(a, 1000, agni=AgentEntry(tokens=(key_entry(KEY, 1.0),)))
    exchange(a, b)
    change(b, 10, agni=AGNI, dc=AgentEntry(tokens=(key_entry(KEY, 1.0),)))
    exchange(a, b)
    assert {name: len(record.tokens) for name, record in a.agents().items()} == {"agni": 1, "dc": 1}
    assert a.agents()["dc"].tokens[0].ed25519 == KEY
