"""Which keys a member of the bus has and knows: its own key file, the file of others' keys, what it takes unsigned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from trishula.contract.message import MAIL_TYPES
from trishula.token_file import looks_like_a_token

__all__ = ["REQUIRE_RULE", "GivenKeys", "KeySettings", "key_settings", "read_required"]

REQUIRE_RULE = f"true or false, or a list of types of messages: {', '.join(MAIL_TYPES)}"
_ALL, _NONE = ("true", "all", "on"), ("false", "none", "off")


class GivenKeys(TypedDict, total=False):
    """Keys as arguments: those of :func:`trishula.settings.load`, which says what each means."""

    key_file: str | os.PathLike[str] | None
    trusted_keys: str | os.PathLike[str] | None
    require_signature: bool | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class KeySettings:
    """See the module's docstring.

    Attributes:
        key_file: the agent's own key, by which it signs what it sends, and joins if it has no token; ``None``: it has
            none.
        trusted_keys: the file with the keys of others; ``None``: no signature is looked at.
        require_signature: the types of messages that are taken only with a good signature.
    """

    key_file: Path | None = None
    trusted_keys: Path | None = None
    require_signature: frozenset[str] = frozenset()


def read_required(value: object) -> frozenset[str]:
    """The types that ``require_signature`` names, as a value or as a variable spells it.

    Raises:
        ValueError: it is something else.
    """
    if value is None or value is False:
        return frozenset()
    if value is True:
        return frozenset(MAIL_TYPES)
    if isinstance(value, str):
        if value.lower() in _ALL:
            return frozenset(MAIL_TYPES)
        if value.lower() in _NONE:
            return frozenset()
        value = [one.strip() for one in value.split(",") if one.strip()]
    found = list(value) if isinstance(value, Iterable) else None
    if found is None or not all(one in MAIL_TYPES for one in found):
        raise ValueError(f"it must be {REQUIRE_RULE}")
    return frozenset(found)


def key_settings(found: Callable[[str, str], tuple[object, str]], expanded: Callable[[str, str], Path]) -> KeySettings:
    """The settings of keys, each by its place.

    Args:
        found: the value of a key of the profile, by its name and its variable, and where it came from.
        expanded: the path that a text from there names.

    Raises:
        ValueError: one can't be used; the sentence says which, and why.
    """
    paths: dict[str, Path | None] = {}
    for name in ("key_file", "trusted_keys"):
        value, source = found(name, f"TRISHULA_{name.upper()}")
        if value is not None and not isinstance(value, str | os.PathLike):
            raise ValueError(f"{source} must be the path of a file")
        if value is not None and looks_like_a_token(os.fspath(value)):
            raise ValueError(f"{source} seems to hold a token (it is not shown); it must be the path of a file")
        paths[name] = None if value is None else expanded(os.fspath(value), source)
        if name == "key_file" and (path := paths[name]) is not None:
            _check_key_file(path, source)
    value, source = found("require_signature", "TRISHULA_REQUIRE_SIGNATURE")
    try:
        required = read_required(value)
    except ValueError as error:
        raise ValueError(f"{source} is {value!r}; {error}") from None
    if required and paths["trusted_keys"] is None:
        raise ValueError(
            f"{source} asks for signatures, and nothing says whose keys count: name a file in trusted_keys or "
            "TRISHULA_TRUSTED_KEYS, and write keys into it with 'trishula key trust'"
        )
    return KeySettings(paths["key_file"], paths["trusted_keys"], required)


def _check_key_file(path: Path, source: str) -> None:
    # Late: few programs have one.
    from trishula.key_file import read_key_file

    try:
        read_key_file(path)
    except ValueError as error:
        raise ValueError(f"{source} can't be used: {error}") from None
