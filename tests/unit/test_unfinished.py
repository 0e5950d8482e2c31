"""Messages of which a part is here."""

from __future__ import annotations

from trishula_router.upstream.unfinished import Unfinished


def test_what_fits_stays() -> None:
    parts = Unfinished(members_bytes=100, strangers_bytes=10)
    assert parts.holds("a", "dc", 60) is None
    assert parts.holds("b", "eve", 40) is None
    assert parts.holds("x", None, 10) is None
    assert parts.buffered_bytes == 110
    # It grows, it does not come again.
    assert parts.holds("a", "dc", 59) is None
    assert parts.let_go("a") == 59
    assert parts.let_go("a") == 0
    assert parts.buffered_bytes == 50


def test_of_whoever_has_most_the_oldest_goes() -> None:
    parts = Unfinished(members_bytes=100)
    assert parts.holds("large", "dc", 50) is None
    for key in ("first", "second", "third"):
        assert parts.holds(key, "eve", 16) is None
    assert parts.holds("third", "eve", 22) == "first"
    parts.let_go("first")
    assert parts.holds("fourth", "agni", 60) == "fourth"


def test_strangers_are_one_owner_and_take_nothing_of_members() -> None:
    parts = Unfinished(members_bytes=100, strangers_bytes=10)
    assert parts.holds("member", "dc", 100) is None
    assert parts.holds("x", None, 6) is None
    assert parts.holds("y", None, 6) == "x"
    parts.let_go("x")
    # It has joined meanwhile.
    parts.let_go("member")
    assert parts.holds("y", "dc", 60) is None
    assert parts.holds("z", None, 10) is None


def test_a_link_goes_last() -> None:
    parts = Unfinished(members_bytes=100)
    assert parts.holds("link", "rushabdev", 90, is_link=True) is None
    assert parts.holds("small", "dc", 11) == "small"
    parts.let_go("small")
    assert parts.holds("other", "agni", 11, is_link=True) == "link"
