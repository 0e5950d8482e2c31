"""Which keys a member of the bus has and knows: its own key file, the file of others' keys, what it takes unsigned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

from trishula.contract.message import MAIL_TYPES
from trishula.token_file import looks_like_a_token

__all__ = ["REQUIRE_RULE", "GivenKeys", "KeySettings", "key_settings", "read_required"]

REQUIRE_RULE = f"true or false, or a list of types of messages: {', '.join(MAIL_TYPES)}"
_ALL, _NONE = ("true", "all", "on"), ("false", "none", "off")


class GivenKeys(TypedDict, total=False):
    """Keys as arguments: those of :func:`trishula.settings.load`, which says what each means."""

    key_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    trusted_keys: str | os.PathLike[str] | None
    require_signature: bool | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class KeySettings:
    """See the module's docstring.

    Attributes:
        key_files: the agent's own keys: by the first one it signs what it sends, and joins if it has no token; it reads
            what is encrypted for any. Empty: it has none.
        trusted_keys: the file with the keys of others; ``None``: no signature is looked at.
        require_signature: the types of messages that are taken only with a good signature.
    """

    key_files: tuple[Path, ...] = ()
    trusted_keys: Path | None = None
    require_signature: frozenset[str] = frozenset()

    @property
    def key_file(self) -> Path | None:
        """The first of the agent's own keys."""
        return self.key_files[0] if self.key_files else None

    def of_another(self) -> KeySettings:
        """Those for an agent that has only come by with its token: its messages are not ours to sign."""
        return replace(self, key_files=())


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
    value, source = found("key_file", "TRISHULA_KEY_FILE")
    listed = value if isinstance(value, list | tuple) else [] if value is None else [value]
    key_files = tuple(_path(one, source, expanded) for one in listed)
    for path in key_files:
        _check_key_file(path, source)
    value, source = found("trusted_keys", "TRISHULA_TRUSTED_KEYS")
    trusted = None if value is None else _path(value, source, expanded)
    value, source = found("require_signature", "TRISHULA_REQUIRE_SIGNATURE")
    try:
        required = read_required(value)
    except ValueError as error:
        raise ValueError(f"{source} is {value!r}; {error}") from None
    if required and trusted is None:
        raise ValueError(
            f"{source} asks for signatures, and nothing says whose keys count: name a file in trusted_keys or "
            "TRISHULA_TRUSTED_KEYS, and write keys into it with 'trishula key trust'"
        )
    return KeySettings(key_files, trusted, required)


def _path(value: object, source: str, expanded: Callable[[str, str], Path]) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{source} must be the path of a file")
    if looks_like_a_token(os.fspath(value)):
        raise ValueError(f"{source} seems to hold a token (it is not shown); it must be the path of a file")
    return expanded(os.fspath(value), source)


def _check_key_file(path: Path, source: str) -> None:
    # Late: few programs have one.
    from trishula.key_file import read_key_file

    try:
        read_key_file(path)
    except ValueError as error:
        raise ValueError(f"{source} can't be used: {error}") from None
