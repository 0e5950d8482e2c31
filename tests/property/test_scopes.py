"""Scopes against a plain model: two patterns overlap exactly if some path is covered by both."""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from trishula.contract.scopes import Scope
from trishula.errors import ArgumentInvalid

_NAMES = ["".join(letters) for length in (1, 2, 3) for letters in product("ab", repeat=length)]
#: Long enough for what two patterns of two segments of two characters can have in common.
_PATHS = ["/".join(names) for depth in (1, 2, 3) for names in product(_NAMES, repeat=depth)]

_segments = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=2))
_patterns = st.lists(_segments, min_size=1, max_size=2).map("/".join)


def covered(pattern: str, path: str) -> bool:
    """Written once more, by a regular expression."""
    expression = ""
    for segment in pattern.split("/"):
        if segment == "**":
            expression += "(?:/[^/]+)*"
        else:
            expression += "/" + "".join({"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)) for char in segment)
    return re.fullmatch(expression + "(?:/.*)?", "/" + path) is not None


@given(_patterns, st.sampled_from(_PATHS))
def test_what_a_pattern_covers(pattern: str, path: str) -> None:
    assert Scope.parse(f"path:{pattern}").covers(path) is covered(pattern, path)


@given(_patterns, _patterns)
def test_two_overlap_exactly_if_some_path_is_covered_by_both(one: str, other: str) -> None:
    first, second = Scope.parse(f"path:{one}"), Scope.parse(f"path:{other}")
    share = any(covered(one, path) and covered(other, path) for path in _PATHS)
    assert first.overlaps(second) is second.overlaps(first) is share


@given(st.text("ab*?/", min_size=1, max_size=40), st.text("ab*?/", min_size=1, max_size=40))
def test_overlap_is_symmetric_and_reflexive_whatever_the_pattern(one: str, other: str) -> None:
    scopes = []
    for text in (one, other):
        try:
            scopes.append(Scope.parse(f"path:{text}"))
        except ArgumentInvalid:
            return
    first, second = scopes
    assert first.overlaps(first) and second.overlaps(second)
    assert first.overlaps(second) is second.overlaps(first)
