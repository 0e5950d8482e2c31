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

Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid

__all__ = ["MOST_LETTERS", "SCOPE_RULE", "Scope"]

#: A pattern is compared with each of the others, segment by segment.
MOST_LETTERS = 500
SCOPE_RULE = (
    "task:NAME, role:NAME, path:PATTERN or path:TREE:PATTERN of at most 500 characters in one line; a PATTERN is a "
    "relative path without empty segments, . and .., such as src/**/*.py"
)
_NAME = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\u2028\u2029]{1,200}\Z")
_TREE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class _Wild(Enum):
    """What stands for more than itself: in a segment, and among segments."""

    ANY = "*"
    ONE = "?"
    DEEP = "**"


_Segment = tuple[str | _Wild, ...] | _Wild
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
    kind: str
    name: str
    _segments: tuple[_Segment, ...] = ()

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
        if found is None:
            raise ArgumentInvalid(f"{path} is {show_value(text)}; it must be {SCOPE_RULE}")
        return found

    def overlaps(self, other: Scope) -> bool:
        """Whether there could be something that both are about."""
        if (self.kind, self.name) != (other.kind, other.name):
            return False
        return self.kind != "path" or _share_a_path(self._segments, other._segments)

    def covers(self, path: str, tree: str = "") -> bool:
        """Whether it is about a file, by its path from the root of its tree, with ``/`` between the segments."""
        if (self.kind, self.name) != ("path", tree):
            return False
        return _share_a_path(self._segments, tuple(tuple(segment) for segment in path.split("/")))


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
    return Scope(text, kind, tree, (*map(_segment, written), _Wild.DEEP))


def _segment(text: str) -> _Segment:
    if text == "**":
        return _Wild.DEEP
    return tuple(_Wild.ANY if char == "*" else _Wild.ONE if char == "?" else char for char in text)


def _share_a_path(one: tuple[_Segment, ...], other: tuple[_Segment, ...]) -> bool:
    """Whether two patterns have a path in common."""
    return _have_common(one, other, _Wild.DEEP, _share_a_name)


def _share_a_name(one: _Segment, other: _Segment) -> bool:
    """Whether two segments have a name in common."""
    assert isinstance(one, tuple) and isinstance(other, tuple)
    return _have_common(one, other, _Wild.ANY, lambda a, b: a is _Wild.ONE or b is _Wild.ONE or a == b)


def _have_common(
    one: Sequence[_Part], other: Sequence[_Part], many: _Wild, alike: Callable[[_Part, _Part], bool]
) -> bool:
    """Whether two patterns have something in common: both are walked at once, from the end, as far as each can go.

    Args:
        one, other: their parts.
        many: the part that stands for any number of parts.
        alike: whether two other parts have something in common.
    """
    width = len(other)
    # Whether one[i:] and other[j:] have something in common, for the i that is looked at and the one behind it.
    behind = [False] * (width + 1)
    for i in range(len(one), -1, -1):
        here = [False] * (width + 1)
        for j in range(width, -1, -1):
            if i == len(one) and j == width:
                here[j] = True
            elif i < len(one) and one[i] is many:
                here[j] = behind[j] or (j < width and here[j + 1])
            elif j < width and other[j] is many:
                here[j] = here[j + 1] or (i < len(one) and behind[j])
            elif i < len(one) and j < width:
                here[j] = behind[j + 1] and alike(one[i], other[j])
        behind = here
    return behind[0]
