"""A second link of a peer: refused while the first one lives, and in its place when that has fallen silent."""

from __future__ import annotations

import pytest

from trishula_router.peers.peer_links import SILENT_S, PeerLinks


@pytest.fixture
def links() -> PeerLinks:
    links = PeerLinks()
    assert links.let_in("agni", None, 100.0) == []
    links.came(1, "agni")
    return links


def test_a_second_one_is_refused_while_something_comes_over_the_first(links: PeerLinks) -> None:
    for now_s in (100.0, 101.0, 150.0):
        assert links.let_in("agni", now_s - 0.5, now_s) is None
    assert links.let_in("dc", None, 101.0) == []


def test_one_that_has_fallen_silent_is_replaced(links: PeerLinks) -> None:
    assert links.let_in("agni", 110.0, 110.0 + SILENT_S) == [1]
    links.came(2, "agni")
    # The end of the old one may come late, and is not that of the new one.
    assert links.went(1) == "agni"
    assert links.has("agni")
    assert links.let_in("agni", None, 110.5 + SILENT_S) is None


def test_one_that_is_not_a_session_yet_counts(links: PeerLinks) -> None:
    other = PeerLinks()
    assert other.let_in("agni", None, 100.0) == []
    assert other.let_in("agni", None, 100.1) is None
    # It never became one.
    assert other.let_in("agni", None, 100.0 + SILENT_S) == []


def test_who_is_gone_may_come_back_at_once(links: PeerLinks) -> None:
    assert links.went(1) == "agni"
    assert not links.has("agni")
    assert links.let_in("agni", None, 100.1) == []
    assert links.went(7) is None
