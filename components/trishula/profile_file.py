"""The profile file: where it is, what stands in it, and where a value comes from that stands in several places."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from trishula.errors import TrishulaError
from trishula.homes import expanded
from trishula.named_files import open_stream
from trishula.option_names import PROFILE_KEYS
from trishula.token_file import looks_like_a_token, read_token

__all__ = ["SettingsInvalid", "expanded_from", "first", "profile_path", "read_profile"]


#: A relative one is relative to the profile.
_PATHS = ("ca_file", "client_certificate", "files", "key_file", "trusted_keys")


class SettingsInvalid(TrishulaError):
    """An argument, a variable or the profile file says something that can't be used."""


def first(*candidates: tuple[object, str]) -> tuple[object, str]:
    """The first value that is there; an empty variable counts as absent, as shells make it."""
    for value, source in candidates:
        if value is not None and value != "":
            return value, source
    return None, ""


def profile_path(argument: str | None, environ: Mapping[str, str], home: Path | None) -> tuple[Path | None, str | None]:
    """Which profile is used, and what named it; both ``None`` if there is neither a name nor a home.

    Raises:
        SettingsInvalid: what names it can't.
    """
    folder = None if home is None else home / ".config" / "trishula"
    named, source = first((argument, "the argument profile"), (environ.get("TRISHULA_PROFILE"), "TRISHULA_PROFILE"))
    if named is None:
        return (None if folder is None else folder / "profile.toml"), None
    text = str(named)
    if looks_like_a_token(text):
        raise SettingsInvalid(
            f"{source} seems to hold a token (it is not shown); it must be the name of a profile or the path of one"
        )
    if "/" not in text and not text.endswith(".toml"):
        if folder is None:
            raise SettingsInvalid(
                f"{source} names the profile {text!r} below the home directory, and there is none; give the profile's "
                "path"
            )
        return folder / f"{text}.toml", source
    return expanded_from(text, source), source


def expanded_from(path: str, source: str) -> Path:
    """A path with its ``~`` replaced, wherever it stands.

    Raises:
        SettingsInvalid: the home directory is unknown; the sentence begins with ``source``.
    """
    try:
        return expanded(path)
    except ValueError as error:
        raise SettingsInvalid(f"{source} can't be used: {error}") from None


def read_profile(path: Path, named_by: str | None) -> dict[str, object]:
    """What a profile says, by key; nothing if it is not there, and nothing named it.

    Raises:
        SettingsInvalid: it can't be read, or has a key that nobody knows.
    """
    try:
        with open_stream(path) as file:
            values = tomllib.loads(file.read().decode("utf-8-sig"))
    except FileNotFoundError:
        if named_by is None:
            return {}
        raise SettingsInvalid(f"{named_by} names the profile {path}, and there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"the profile {path} can't be read: {error}") from None
    for key in values:
        if key not in PROFILE_KEYS:
            raise SettingsInvalid(
                f"the profile {path} has the unknown key {key!r}; the known keys are {', '.join(PROFILE_KEYS)}"
            )
    for key in _PATHS:
        value, source = values.get(key), f"{key} of the profile {path}"
        if isinstance(value, str):
            values[key] = path.parent / expanded_from(value, source)
        elif isinstance(value, list):
            values[key] = [path.parent / expanded_from(str(one), source) for one in value]
    if "token_file" in values:
        if "token" in values:
            raise SettingsInvalid(f"the profile {path} has both token and token_file; leave one out")
        token_path = path.parent / expanded_from(str(values.pop("token_file")), f"token_file of the profile {path}")
        try:
            values["token"] = read_token(token_path)
        except ValueError as error:
            raise SettingsInvalid(f"token_file of the profile {path} can't be used: {error}") from None
        values["token_file"] = token_path
    return values
