"""The files of coding agents: our entries are put in, compared and taken out, and all else stays as its owner wrote it.

A file is changed in one step, and only when something of ours changes. One that we can't read as what it should be is
not touched: the refusal says so, and shows what to write into it by hand. In a TOML file our lines stand between two
comments, because nothing that writes TOML would keep its owner's comments.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trishula.errors import TrishulaError
from trishula.front_door.coding_clients import OWN_NAME

__all__ = ["ClientFile", "FileRefused", "JsonFile", "TomlFile", "file_at"]

_BEGIN = "# TRISHULA begins: written by 'trishula setup', which takes it out again by --remove"
_END = "# TRISHULA ends"
#: What each of our hooks' commands has in it.
_OWN_VERBS = (" nudge --for ", " wake --hook ")


class FileRefused(TrishulaError):
    """A file of a client can't be read, or says something of ours that we did not write; it was not touched."""


class ClientFile:
    """A file of a client.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.before = path.read_text(encoding="utf-8") if path.exists() else None
        except (OSError, UnicodeDecodeError) as error:
            raise FileRefused(f"{path} can't be read ({error}), and was not touched") from None

    def server(self, key: str) -> object:
        """Our entry among the servers; ``None`` if there is none."""
        raise NotImplementedError

    def has_server(self, key: str, entry: Mapping[str, Any]) -> bool:
        """Whether our entry says what it should; what its owner or the client has added to it is theirs."""
        found = self.server(key)
        return isinstance(found, dict) and all(name in found and found[name] == entry[name] for name in entry)

    def set_server(self, key: str, entry: Mapping[str, Any] | None) -> None:
        """Put our entry in, or with ``None`` take it out."""
        raise NotImplementedError

    def hooks(self) -> dict[str, object]:
        """Our hooks, by the client's name for the event."""
        return {}

    def set_hooks(self, entries: Mapping[str, Sequence[Mapping[str, Any]]], version: int = 0) -> None:
        """Put our hooks in, in place of those that we had; with none, take them out.

        Args:
            entries: by the client's name for the event.
            version: what the file says its version is, if it is to say one.
        """
        raise NotImplementedError

    def text(self) -> str:
        """What it is to hold; empty: it isn't needed."""
        raise NotImplementedError

    def save(self) -> bool:
        """Write it, if it is to be changed; whether it was."""
        text = self.text()
        if text == (self.before or ""):
            return False
        # A link stays one: what it leads to is replaced.
        path = self.path.resolve()
        if not text:
            path.unlink(missing_ok=True)
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        return True


class JsonFile(ClientFile):
    """A file of JSON."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._values = json.loads(self.before) if self.before and self.before.strip() else {}
        except ValueError as error:
            raise FileRefused(f"{path} is not plain JSON ({error}), and was not touched") from None
        if not isinstance(self._values, dict):
            raise FileRefused(f"{path} holds no JSON object, and was not touched")
        self._is_changed = False

    def _table(self, key: str) -> dict[str, Any]:
        table = self._values.get(key, {})
        if not isinstance(table, dict):
            raise FileRefused(f"{key} in {self.path} is no object, and the file was not touched")
        return table

    def server(self, key: str) -> object:
        return self._table(key).get(OWN_NAME)

    def set_server(self, key: str, entry: Mapping[str, Any] | None) -> None:
        found = self.server(key)
        if found is None if entry is None else self.has_server(key, entry):
            return
        self._is_changed = True
        table = self._table(key)
        if entry is not None:
            self._values[key] = {**table, OWN_NAME: {**(found if isinstance(found, dict) else {}), **entry}}
            return
        self._put(key, {name: one for name, one in table.items() if name != OWN_NAME})

    def hooks(self) -> dict[str, object]:
        return {
            event: own
            for event, entries in self._table("hooks").items()
            if isinstance(entries, list) and (own := [one for one in entries if _is_ours(one)])
        }

    def set_hooks(self, entries: Mapping[str, Sequence[Mapping[str, Any]]], version: int = 0) -> None:
        if self.hooks() == entries:
            return
        self._is_changed = True
        if version and entries:
            self._values = {"version": version, **self._values}
        table = dict(self._table("hooks"))
        for event in {**table, **entries}:
            before = table.get(event, [])
            if not isinstance(before, list):
                raise FileRefused(f"hooks.{event} in {self.path} is no list, and the file was not touched")
            after = [one for one in before if not _is_ours(one)]
            if event in entries:
                after.extend(map(dict, entries[event]))
            if after or event not in self.hooks():
                table[event] = after
            else:
                del table[event]
        self._put("hooks", table)
        if not entries and self._values == {"version": version}:
            self._values = {}

    def _put(self, key: str, table: dict[str, Any]) -> None:
        if table:
            self._values[key] = table
        else:
            self._values.pop(key, None)

    def text(self) -> str:
        if not self._is_changed:
            return self.before or ""
        return json.dumps(self._values, indent=2, ensure_ascii=False) + "\n" if self._values else ""


def _is_ours(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    hooks = entry.get("hooks", [entry])
    if not isinstance(hooks, list) or len(hooks) != 1 or not isinstance(hooks[0], dict):
        return False
    command = hooks[0].get("command")
    return isinstance(command, str) and any(verb in command for verb in _OWN_VERBS) and "trishula" in command


class TomlFile(ClientFile):
    """A file of TOML."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        text = self.before or ""
        try:
            self._values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise FileRefused(f"{path} is no TOML ({error}), and was not touched") from None
        head, found, rest = text.partition(f"{_BEGIN}\n")
        block, ended, tail = rest.partition(f"{_END}\n")
        if found and not ended:
            raise FileRefused(f"{path} has the line {_BEGIN!r} without {_END!r}, and was not touched")
        self._is_ours = bool(found)
        # A client writes there what its user allows for good, such as [mcp_servers.trishula.tools.inbox].
        _, header, below = block.rstrip("\n").partition("\n[")
        self._below = f"\n[{below}" if found and header else ""
        self._rest = head.rstrip("\n") + ("\n" if head.strip() else "") + tail if found else text
        self._own = ""

    def server(self, key: str) -> object:
        table = self._values.get(key)
        return table.get(OWN_NAME) if isinstance(table, dict) else None

    def set_server(self, key: str, entry: Mapping[str, Any] | None) -> None:
        if self.server(key) is not None and not self._is_ours:
            raise FileRefused(
                f"{self.path} has a table {key}.{OWN_NAME} that 'trishula setup' did not write, and was not touched; "
                "take the table out, and run it again"
            )
        if entry is None:
            if f"[{key}.{OWN_NAME}." in self._rest:
                raise FileRefused(
                    f"{self.path} has a table below {key}.{OWN_NAME} outside of our lines, which would be left without "
                    "a server; nothing was touched: take the table out, and run it again"
                )
            return
        lines = [_BEGIN, f"[{key}.{OWN_NAME}]"]
        # A string of JSON is one of TOML.
        lines += [f"{name} = {_in_toml(value)}" for name, value in entry.items()]
        self._own = "\n".join([*lines, *([self._below] if self._below else []), _END, ""])

    def set_hooks(self, entries: Mapping[str, Sequence[Mapping[str, Any]]], version: int = 0) -> None:
        pass

    def text(self) -> str:
        if not self._own:
            return self._rest
        # A table goes on to the next one: ours is the last.
        rest = self._rest.rstrip("\n")
        return f"{rest}\n\n{self._own}" if rest else self._own


def _in_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_in_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def file_at(path: Path) -> ClientFile:
    """A client's file, by its name.

    Raises:
        FileRefused: it can't be read as what it should be.
    """
    return TomlFile(path) if path.suffix == ".toml" else JsonFile(path)
