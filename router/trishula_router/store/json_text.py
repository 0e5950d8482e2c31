"""JSON that people edit: read in one place, with a sentence for each way in which it is none. No I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

__all__ = ["NotJson", "keys_twice", "lines_of", "not_finite", "parse_json"]


class NotJson(Exception):
    """A text is no JSON; the text of this goes on after the file's name: ``is not JSON: …``."""


class _Twice(dict[str, object]):
    """A map of which some keys stood more than once in the text; it has the last value of each."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.twice = tuple(key for key in self if keys.count(key) > 1)


def parse_json(text: bytes) -> object:
    """What the text says. It may begin with the mark that some editors put before UTF-8.

    JSON allows a key twice in a map, and Python NaN: :func:`keys_twice` and :func:`not_finite` find them in the result.

    Raises:
        NotJson: if it is none, or deeper or longer than Python reads.
    """
    try:
        return json.loads(text, object_pairs_hook=_to_map)
    except UnicodeDecodeError:
        raise NotJson("is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotJson("is nested too deeply") from None
    except ValueError as error:
        # Python reads no whole number of more than 4,300 digits.
        digits = re.search(r"\d+", str(error))
        raise NotJson(
            f"is not JSON: it has a number of more than {digits[0] if digits else 'so many'} digits"
        ) from None


def _to_map(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    return result if len(result) == len(pairs) else _Twice(pairs)


def keys_twice(raw: object) -> Iterator[str]:
    """The path of each key that stood more than once in a map: the last one won, so a change would have no effect."""
    for path, value in _walk(raw):
        if isinstance(value, _Twice):
            yield from (f"{path}.{key}" if path else key for key in value.twice)


def not_finite(raw: object) -> Iterator[tuple[str, float]]:
    """The path of each NaN and each infinity, with it."""
    for path, value in _walk(raw):
        if isinstance(value, float) and not math.isfinite(value):
            yield path, value


def _walk(raw: object) -> Iterator[tuple[str, object]]:
    """Everything in it with its path, in the order of the text; without recursion, for it may be nested deeply."""
    left: list[tuple[str, object]] = [("", raw)]
    while left:
        path, value = left.pop()
        yield path, value
        if isinstance(value, dict):
            left += [(f"{path}.{key}" if path else key, value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            left += [(f"{path}[{index}]", value[index]) for index in reversed(range(len(value)))]


#: Texts, signs and words of JSON, and the ends of lines between them.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|\n')


def lines_of(text: str) -> dict[tuple[str | int, ...], int]:
    """In which line each value of a text begins, by its keys and places; the text is good JSON.

    Of a key that stands twice the last one counts, as in reading.
    """
    lines: dict[tuple[str | int, ...], int] = {}
    # Of each map and list that is open: the key or place of the value that comes, and whether a key comes first.
    at: list[str | int] = []
    awaits_key: list[bool] = []
    line = 1
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token in "}]":
            at.pop()
            awaits_key.pop()
        elif token == ",":
            last = at[-1]
            if isinstance(last, int):
                at[-1] = last + 1
            else:
                awaits_key[-1] = True
        elif token == ":":
            awaits_key[-1] = False
        elif at and awaits_key[-1]:
            at[-1] = json.loads(token)
        else:
            lines[tuple(at)] = line
            if token in "{[":
                at.append("" if token == "{" else 0)
                awaits_key.append(token == "{")
    return lines
