"""What the other nodes say of the agents that are with them."""

from __future__ import annotations

from typing import Any

import pytest

from trishula_router.peers.presence_policy import Neighbours, Presence


def entry(agent: str, presence: str, node: str | None = None, **more: Any) -> dict[str, Any]:
    return {"agent": agent, "presence": presence, "node": node, "since": 1, "reason": "said so", **more}


def spoken(node: str = "agni", **what: Any) -> Presence:
    return Presence(node, what.get("agents", []), what.get("claims", {}), what.get("instances", []))


@pytest.fixture
def neighbours() -> Neighbours:
    return Neighbours("rushabdev")


def test_an_agent_that_is_elsewhere_is_told_as_there(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(agents=[entry("dc", "online", "agni")]), 0)
    (told,) = neighbours.merged([entry("dc", "offline")])
    assert (told["presence"], told["node"]) == ("online", "agni")


def test_an_agent_that_is_here_is_told_as_here(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(agents=[entry("dc", "online", "agni")]), 0)
    (told,) = neighbours.merged([entry("dc", "stale", "rushabdev")])
    assert (told["presence"], told["node"]) == ("stale", "rushabdev")


def test_of_an_agent_that_is_nowhere_the_last_sight_is_told(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(agents=[entry("dc", "offline", last_seen_at=50)]), 0)
    assert neighbours.merged([entry("dc", "offline", last_seen_at=20)])[0]["last_seen_at"] == 50
    assert neighbours.merged([entry("dc", "offline", last_seen_at=70)])[0]["last_seen_at"] == 70


def test_agents_that_only_others_know_are_left_out(neighbours: Neighbours) -> None:
    # Who is registered is for each node's own agents file to say.
    neighbours.hear(spoken(agents=[entry("stranger", "online", "agni")]), 0)
    assert neighbours.merged([]) == []


def test_agents_of_a_node_out_of_reach_are_stale_and_not_gone(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(agents=[entry("dc", "busy", "agni"), entry("ganesh", "offline")]), 0)
    (told,) = neighbours.lost("agni", 500)
    assert (told["agent"], told["presence"], told["since"]) == ("dc", "stale", 500)
    assert told["reason"] == "its node agni can't be reached from rushabdev; when it was, the agent was busy"
    assert neighbours.merged([entry("dc", "offline")]) == [told]
    assert neighbours.lost("agni", 600) == []
    neighbours.hear(spoken(agents=[entry("dc", "online", "agni")]), 0)
    assert neighbours.merged([entry("dc", "offline")])[0]["presence"] == "online"


def test_a_node_that_was_never_heard_of_is_lost_without_a_word(neighbours: Neighbours) -> None:
    assert neighbours.lost("agni", 500) == []


# -- mailboxes ---------------------------------------------------------------------------------------------------------


def test_the_newer_of_two_consumers_has_the_mailbox() -> None:
    here, there = Neighbours("rushabdev"), Neighbours("agni")
    here.claim("dc", 1000)
    assert there.hear(spoken("rushabdev", claims=here.claims(["dc"])), 0) == ["dc"]
    there.claim("dc", 1500)
    assert here.hear(spoken("agni", claims=there.claims(["dc"])), 0) == ["dc"]
    assert there.hear(spoken("rushabdev", claims=here.claims(["dc"])), 0) == []


def test_a_claim_is_higher_than_the_one_it_knows_of_also_by_a_slow_clock() -> None:
    here, there = Neighbours("rushabdev"), Neighbours("agni")
    here.claim("dc", 9_000_000)
    there.hear(spoken("rushabdev", claims=here.claims(["dc"])), 0)
    there.claim("dc", 5)
    assert here.hear(spoken("agni", claims=there.claims(["dc"])), 0) == ["dc"]


def test_of_equal_claims_one_wins_on_both_sides() -> None:
    here, there = Neighbours("rushabdev"), Neighbours("agni")
    here.claim("dc", 1000)
    there.claim("dc", 1000)
    lost_here = here.hear(spoken("agni", claims=there.claims(["dc"])), 0)
    lost_there = there.hear(spoken("rushabdev", claims=here.claims(["dc"])), 0)
    assert (lost_here, lost_there) == ([], ["dc"])


def test_a_consumer_elsewhere_is_known_while_its_node_is_in_reach(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(claims={"dc": 7}), 0)
    assert neighbours.consumer_of("dc") == "agni"
    neighbours.lost("agni", 10)
    assert neighbours.consumer_of("dc") is None


def test_what_can_be_done_elsewhere_is_known_while_the_node_is_in_reach(neighbours: Neighbours) -> None:
    neighbours.hear(Presence("agni", [], {}, [], ["deploy"]), 0)
    neighbours.hear(Presence("laptop", [], {}, [], ["build", "deploy"]), 0)
    neighbours.hear(Presence("old", [], {}, []), 0)
    assert (neighbours.able("deploy"), neighbours.able("test")) == (["agni", "laptop"], [])
    neighbours.lost("agni", 500)
    assert neighbours.able("deploy") == ["laptop"]


def test_instances_elsewhere_are_known_also_out_of_reach(neighbours: Neighbours) -> None:
    neighbours.hear(spoken(instances=["dc/7f3a"]), 0)
    neighbours.lost("agni", 10)
    assert neighbours.has_instance("dc/7f3a")
    neighbours.hear(spoken(), 0)
    assert not neighbours.has_instance("dc/7f3a")
