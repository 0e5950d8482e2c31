"""What is known of the link to each peer, on the side that makes it and on the side that is linked to."""

from __future__ import annotations

from typing import Any

from trishula_router.peers.link_standing import LinkStandings


def told(standings: LinkStandings, now_s: float, *keys: str) -> tuple[Any, ...]:
    found = standings.told("laptop", now_s)
    return tuple(found[key] for key in keys)


def test_a_peer_that_never_came_is_awaited_since_the_start() -> None:
    standings = LinkStandings(100.0)
    assert standings.told("laptop", 130.0) == {
        "up": False,
        "made_by": "the peer",
        "up_for_s": None,
        "trouble": "laptop is to make the link, and has not come since this node started",
        "trouble_s_ago": 30.0,
        "troubles": 0,
    }


def test_who_makes_the_link_knows_the_latest_cause_and_how_often() -> None:
    standings = LinkStandings(0.0)
    standings.made_here("laptop")
    assert told(standings, 1.0, "made_by", "trouble", "troubles") == ("this node", None, 0)
    standings.trouble("laptop", "connection refused", 2.0)
    standings.trouble("laptop", "its certificate is over", 3.0)
    assert told(standings, 5.0, "up", "trouble", "trouble_s_ago", "troubles") == (
        False, "its certificate is over", 2.0, 2,
    )  # fmt: skip


def test_a_link_that_carries_has_no_trouble_until_there_is_one_again() -> None:
    standings = LinkStandings(0.0)
    standings.trouble("laptop", "refused", 1.0)
    standings.up("laptop", 2.0)
    assert told(standings, 12.0, "up", "up_for_s", "trouble", "troubles") == (True, 10.0, None, 0)
    # A second link, which is refused, doesn't end the first.
    standings.trouble("laptop", "its link is there", 13.0)
    assert told(standings, 14.0, "up", "trouble", "trouble_s_ago") == (True, "its link is there", 1.0)
    standings.down("laptop", "it broke", 20.0)
    assert told(standings, 21.0, "up", "up_for_s", "trouble", "troubles") == (False, None, "it broke", 2)


def test_the_end_of_a_link_that_another_took_the_place_of_is_no_end() -> None:
    standings = LinkStandings(0.0)
    standings.up("laptop", 1.0)
    standings.up("laptop", 30.0)
    # The old connection's end is noticed late.
    standings.down("laptop", "the peer's link to this node ended", 31.0)
    assert told(standings, 40.0, "up", "up_for_s", "trouble") == (True, 10.0, None)
    standings.down("laptop", "it broke", 41.0)
    assert told(standings, 42.0, "up", "trouble", "troubles") == (False, "it broke", 1)
    # Nor does one that never carried count.
    standings.down("laptop", "it broke again", 43.0)
    standings.up("laptop", 44.0)
    assert told(standings, 45.0, "up", "trouble") == (True, None)


def test_a_refused_stranger_may_be_the_peer_that_is_awaited() -> None:
    standings = LinkStandings(0.0)
    standings.trouble(None, "this node doesn't know the key", 5.0)
    why = "somebody was refused who is perhaps laptop with another key: this node doesn't know the key"
    assert told(standings, 7.0, "trouble", "trouble_s_ago", "troubles") == (why, 2.0, 1)
    # What is known of the peer itself, and later, counts more; and a peer that this node links to is no stranger.
    standings.trouble("laptop", "it could not prove its key", 8.0)
    assert told(standings, 9.0, "trouble") == ("it could not prove its key",)
    standings.made_here("agni")
    assert standings.told("agni", 9.0)["trouble"] is None
    standings.up("laptop", 10.0)
    assert told(standings, 11.0, "trouble") == (None,)
