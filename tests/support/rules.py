"""The rules of the wire contract's arguments, for tests: of a value, whether the node must take it.

They are written down here once more, from the docstring of ``uris`` and from DESIGN section 3, and not taken from the
code that checks them: a check that is missing there shows here. A *rule* says ``True`` (it must be taken), ``False``
(it must be refused) or ``None`` (it is open: it depends on the node's state, or on another key).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from trishula.contract.payload import PAYLOAD_DEPTH_LIMIT

__all__ = [
    "AGENTS",
    "MAX_MS",
    "Rule",
    "integer",
    "is_copies",
    "is_id",
    "is_json",
    "is_mailbox",
    "is_place",
    "is_recipient",
    "is_text",
    "is_token",
    "like",
    "line",
    "list_of",
    "number",
    "one_of",
    "or_none",
    "text",
]

#: Who is registered at the node under test; nobody joins as the vault before the end.
AGENTS = ("witness", "vault", "jay", "mike", "charlie")

Rule = Callable[[Any], "bool | None"]
MAX_MS = 2**53 - 1


def integer(least: int, most: int) -> Rule:
    def rule(value: Any) -> bool | None:
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            # JSON has one kind of number, and Go, Lua and JavaScript send 60000.0 for 60000.
            return least <= value <= most
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return rule


def number(least: float, most: float, *, above: bool = False) -> Rule:
    def rule(value: Any) -> bool | None:
        if type(value) not in (int, float):
            # CBOR's decimal numbers
            return None if type(value).__name__ == "Decimal" else False
        # Of every number but NaN and infinity; an integer may be too large to be asked whether it is finite.
        is_finite = not isinstance(value, float) or math.isfinite(value)
        return is_finite and (least < value if above else least <= value) and value <= most

    return rule


def is_text(value: Any) -> bool:
    """Whether every client can receive it."""
    return (
        isinstance(value, str)
        and not value.startswith("\x00")
        and not any(0xD800 <= ord(one) <= 0xDFFF for one in value)
    )


def text(least: int, most: int) -> Rule:
    return lambda value: is_text(value) and least <= len(value) <= most


def line(least: int, most: int) -> Rule:
    """A text without line breaks and control characters."""

    def rule(value: Any) -> bool | None:
        return text(least, most)(value) and not any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in value)

    return rule


def like(pattern: str) -> Rule:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def one_of(*choices: str) -> Rule:
    return lambda value: isinstance(value, str) and value in choices


def or_none(rule: Rule) -> Rule:
    return lambda value: True if value is None else rule(value)


def list_of(rule: Rule, most: int) -> Rule:
    def of_list(value: Any) -> bool | None:
        if not isinstance(value, list | tuple) or len(value) > most:
            return False
        verdicts = [rule(one) for one in value]
        return False if False in verdicts else None if None in verdicts else True

    return of_list


def is_token(value: Any) -> bool:
    found = re.fullmatch(r"([0-9]+)\.[0-9]+(\..*)?", value, re.DOTALL) if isinstance(value, str) else None
    return found is not None and len(value) <= 48 and int(found[1]) < 2**63


def is_json(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | dict):
        depth += 1
        if depth > PAYLOAD_DEPTH_LIMIT:
            return False
        keys = list(value) if isinstance(value, dict) else []
        inner = value.values() if isinstance(value, dict) else value
        return all(isinstance(key, str) and is_text("x" + key) for key in keys) and all(
            is_json(one, depth) for one in inner
        )
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**53) < value < 2**53
    return value is None or isinstance(value, bool | bytes) or is_text(value)


def is_recipient(value: Any) -> bool | None:
    if not isinstance(value, str):
        return False
    if value in AGENTS:
        return True
    # Whether such an instance is there, and whether a broadcast is one too many, is the node's to know.
    is_open = value == "broadcast" or re.fullmatch(r"capability:[a-z][a-z0-9_.-]{0,62}", value) is not None
    return None if is_open or value.partition("/")[0] in AGENTS else False


def is_mailbox(value: Any) -> bool | None:
    """The address of a mailbox: of an agent, an instance or a capability."""
    if not isinstance(value, str):
        return False
    if value in AGENTS:
        return True
    # Whether there is such a one is the node's to know.
    form = r"[a-z][a-z0-9_]{0,62}(/[a-z0-9][a-z0-9_]{0,31})?|capability:[a-z][a-z0-9_.-]{0,62}"
    return None if re.fullmatch(form, value) is not None else False


def is_place(value: Any) -> bool | None:
    return list_of(integer(0, 2**63 - 1), 2)(value) if isinstance(value, list) and len(value) == 2 else False


def is_copies(value: Any) -> bool | None:
    # Whether there can be two is the node's to know.
    return None if value is None or (isinstance(value, int) and value == 2) else integer(1, 2)(value)


def is_id(value: Any) -> bool:
    return bool(like(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,127}")(value)) and not value.startswith("node:")
