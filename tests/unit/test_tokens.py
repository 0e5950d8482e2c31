"""Tokens: their form, what is kept of them, how long they are valid, and how many at a time."""

from __future__ import annotations

import base64
import secrets

from trishula_router.agents.tokens import TokenEntry, digest_of, find_token, new_token, owner_of, with_new_token


def test_a_token_is_its_owners_name_and_at_least_160_random_bits() -> None:
    asked: list[int] = []

    def random_text(count: int) -> str:
        asked.append(count)
        return secrets.token_urlsafe(count)

    token = new_token("agni", random_text)
    name, dot, secret = token.partition(".")
    assert (name, dot, owner_of(token)) == ("agni", ".", "agni")
    assert asked == [24] and len(base64.urlsafe_b64decode(secret)) * 8 >= 160
    assert new_token("agni", secrets.token_urlsafe) != token


def test_only_the_hash_of_the_whole_token_finds_it() -> None:
    records = [TokenEntry(digest_of(f"agni.{text}"), 0.0) for text in ("one", "two")]
    assert find_token(records, "agni.two") == records[1]
    assert find_token(records, "dc.two") is None
    assert find_token(records, "two") is None
    assert find_token([], "agni.two") is None
    assert find_token(records, "\ud800") is None


def test_a_token_is_valid_from_not_before_until_just_before_its_end() -> None:
    token = TokenEntry("", 0.0, not_before=100.0, expires_at=200.0)
    told = [(token.is_early(now), token.is_over(now)) for now in (99.9, 100.0, 199.9, 200.0)]
    assert told == [(True, False), (False, False), (False, False), (False, True)]
    assert not TokenEntry("", 0.0).is_early(0.0)
    assert not TokenEntry("", 0.0).is_over(0.0)


def test_a_second_token_leaves_the_first_one_valid_and_a_third_ends_the_oldest() -> None:
    first, second, third = (TokenEntry(text * 64, float(at)) for at, text in enumerate("abc"))
    assert with_new_token((), first, 10.0) == ((first,), 0)
    assert with_new_token((first,), second, 10.0) == ((first, second), 0)
    assert with_new_token((second, first), third, 10.0) == ((second, third), 1)


def test_an_expired_token_makes_room_without_costing_a_valid_one() -> None:
    expired = TokenEntry("a" * 64, 0.0, expires_at=5.0)
    coming = TokenEntry("b" * 64, 1.0, not_before=50.0)
    new = TokenEntry("c" * 64, 2.0)
    assert with_new_token((expired, coming), new, 10.0) == ((coming, new), 0)
