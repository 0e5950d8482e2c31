"""Scopes: what a work lease is about, and when two of them overlap.

==========================  ==================================================================
``task:NAME``               a task, whatever the team calls one: ``task:ISSUE-17``
``role:NAME``               a role that one agent has at a time: ``role:release-manager``
``path:PATTERN``            files of a tree: ``path:src/**/*.py``
``path:TREE:PATTERN``       files of one of several trees, such as a repository: ``path:web:docs``
==========================  ==================================================================

A task or a role overlaps with itself alone. Patterns of two trees never overlap. Patterns of one tree overlap if there
could be a path that both cover, whether there is such a file or not: ``*.py`` and ``test_*`` do (``test_a.py``).

A pattern is a relative path of segments with ``/`` between them. ``*`` stands for any characters of one segment, none
too, ``?`` for one character, and a segment ``**`` for any number of segments, none too. A pattern covers what it
matches and all that is below: ``src`` covers ``src/a.py``, so a directory needs no ``/**``. There is no way to write a
``*`` or ``?`` that stands for itself; ``?`` covers both. Upper and lower case differ.

Whoever claims something has it compared with all that others have, so a scope has 200 characters and 32 segments at
most. Releases before took 500 and any number: what they granted is still read (:meth:`Scope.of_record`).

Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import takewhile
from typing import TypeVar

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid

__all__ = ["MOST_LETTERS", "MOST_SEGMENTS", "SCOPE_RULE", "Scope"]

#: A pattern is compared with each of the others, segment by segment.
MOST_LETTERS = 200
MOST_SEGMENTS = 32
SCOPE_RULE = (
    "task:NAME, role:NAME, path:PATTERN or path:TREE:PATTERN of at most 200 characters in one line; a PATTERN is a "
    "relative path of at most 32 segments, none of them empty, . or .., such as src/**/*.py"
)
#: Of what releases before granted.
_MOST_RECORDED = 500
#: How many comparisons of two patterns are remembered; each takes some 200 bytes.
_REMEMBERED = 16_384
_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}\Z")
_TREE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Wild(Enum):
    """What stands for more than itself: in a segment, and among segments."""

    ANY = "*"
    ONE = "?"
    DEEP = "**"


# Without wildcards, its text.
_Segment = str | tuple[str | _Wild, ...] | _Wild
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Scope:
    """See the module's docstring.

    Attributes:
        text: as it was written.
        kind: ``task``, ``role`` or ``path``.
        name: of the task, the role or the tree; "" for the tree without a name.
    """

    text: str
    # All else follows from the text.
    kind: str = field(compare=False)
    name: str = field(compare=False)
    _segments: tuple[_Segment, ...] = field(default=(), compare=False)
    # The directories that it names before anything else.
    _head: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: object, path: str = "scope") -> Scope:
        """Read a scope.

        Args:
            text: what somebody wrote.
            path: what refusals call it.

        Raises:
            ArgumentInvalid: it is none.
        """
        found = _parse(text) if isinstance(text, str) and len(text) <= MOST_LETTERS else None
        # The last one stands for what is below.
        if found is None or len(found._segments) > MOST_SEGMENTS + 1:
            raise ArgumentInvalid(f"{path} is {show_value(text)}; it must be {SCOPE_RULE}")
        return found

    @classmethod
    def of_record(cls, text: str) -> Scope:
        """Read the scope of a lease that there is: a node of before may have granted a longer one.

        To pass over it would have two agents work on the same.

        Raises:
            ArgumentInvalid: it is none.
        """
        found = _parse(text) if len(text) <= _MOST_RECORDED else None
        if found is None:
            raise ArgumentInvalid(f"scope is {show_value(text)}; it must be {SCOPE_RULE}")
        return found

    def overlaps(self, other: Scope) -> bool:
        """Whether there could be something that both are about."""
        if (self.kind, self.name) != (other.kind, other.name):
            return False
        if self.kind != "path":
            return True
        # Most pairs differ there.
        is_apart = not self._head.startswith(other._head) and not other._head.startswith(self._head)
        return not is_apart and _overlap(self, other)

    def covers(self, path: str, tree: str = "") -> bool:
        """Whether it is about a file, by its path from the root of its tree, with ``/`` between the segments."""
        if (self.kind, self.name) != ("path", tree):
            return False
        return _share_a_path(self._segments, tuple(path.split("/")))


@lru_cache(_REMEMBERED)
def _overlap(one: Scope, other: Scope) -> bool:
    return _share_a_path(one._segments, other._segments)


def _parse(text: str) -> Scope | None:
    kind, _, rest = text.partition(":")
    if kind in ("task", "role"):
        return Scope(text, kind, rest) if _NAME.match(rest) else None
    tree, colon, pattern = rest.rpartition(":")
    if kind != "path" or _UNPRINTABLE.search(pattern) or (colon and not _TREE.match(tree)):
        return None
    written = pattern.removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in written):
        return None
    # All that is below is covered too.
    # One ** stands for what several in a row do.
    kept = [one for one, then in zip(written, [*written[1:], "**"], strict=True) if one != "**" or then != "**"]
    segments = (*map(_segment, kept), _Wild.DEEP)
    head = "".join(f"{segment}/" for segment in takewhile(lambda one: isinstance(one, str), segments))
    return Scope(text, kind, tree, segments, head)


def _segment(text: str) -> _Segment:
    if text == "**":
        return _Wild.DEEP
    if "*" not in text and "?" not in text:
        return text
    # A run of stars stands for what one does.
    text = re.sub(r"\*+", "*", text)
    return tuple(_Wild.ANY if char == "*" else _Wild.ONE if char == "?" else char for char in text)


def _share_a_path(one: tuple[_Segment, ...], other: tuple[_Segment, ...]) -> bool:
    """Whether two patterns have a path in common."""

    def alike(segment: _Segment, reached: int) -> int:
        return sum(1 << at for at in _places(reached) if _share_a_name(segment, other[at]))

    return _have_common(one, len(other), _places_of(other, _Wild.DEEP), _Wild.DEEP, alike)


def _share_a_name(one: _Segment, other: _Segment) -> bool:
    """Whether two segments have a name in common."""
    if one == other or (_Wild.ANY,) in (one, other):
        return True
    if isinstance(one, str) and isinstance(other, str):
        return False
    assert isinstance(one, str | tuple) and isinstance(other, str | tuple)
    everywhere, many = (1 << len(other)) - 1, _places_of(other, _Wild.ANY)
    by_char: dict[str | _Wild, int] = {_Wild.ONE: everywhere ^ many}
    for at, char in enumerate(other):
        by_char[char] = by_char.get(char, 0) | 1 << at
    any_one = _places_of(other, _Wild.ONE)
    return _have_common(one, len(other), many, _Wild.ANY, lambda char, _: by_char.get(char, 0) | any_one)


def _have_common(one: Sequence[_Part], width: int, manys: int, many: _Wild, alike: Callable[[_Part, int], int]) -> bool:
    """Whether two patterns have something in common: one is walked along, with all places of the other that fit so far.

    A set of places is an integer that has their bits. So most pairs are told apart at the first parts that differ, and
    the worst ones, of stars and letters in turn, by some arithmetic a letter. A table of both would need a step for
    each pair of letters, and one agent can have the node compare thousands of patterns.

    Args:
        one: the parts of the one; no two ``many`` follow each other, nor do they in the other.
        width: how many parts the other has.
        manys: the places of the other where ``many`` is.
        many: the part that stands for any number of parts.
        alike: given a part of the one and places of the other that are reached: at which it and the other's part have
            something in common. What it says of other places is not used.
    """
    others = (1 << width) - 1 - manys
    places = 1 | (manys & 1) << 1
    for part in one:
        if part is many:
            # All that follows in the other can be what this part stands for.
            places = (1 << (width + 1)) - (places & -places)
        else:
            places = (places & manys) | (alike(part, places & others) & places & others) << 1
            places |= (places & manys) << 1
        if not places:
            return False
    return bool(places >> width)


def _places(places: int) -> Iterator[int]:
    while places:
        yield (places & -places).bit_length() - 1
        places &= places - 1


def _places_of(parts: Sequence[object], part: _Wild) -> int:
    return sum(1 << at for at, one in enumerate(parts) if one is part)
