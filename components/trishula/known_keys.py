"""Whose public keys are known to a receiver: a JSON file, ``{agent: ["key", …]}``, which whoever runs it writes.

The file decides alone: a node may hand keys around, and what it says counts for nothing before somebody has written it
here. An agent may have several keys at once, so that a new one can be made known everywhere before the first message
that it signs. Two things are known by such files, and a key of the one is none of the other: who signs files of the
second road (:mod:`trishula.files.signature`), and who signs messages.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.errors import TrishulaError
from trishula.named_files import open_file

__all__ = ["KEY_BYTES", "KnownKeys", "is_key"]

_log = logging.getLogger("trishula")

KEY_BYTES = 32


def is_key(text: object) -> bool:
    """Whether it is the hexadecimal form of a public key."""
    if not isinstance(text, str) or len(text) != 2 * KEY_BYTES:
        return False
    try:
        return len(bytes.fromhex(text)) == KEY_BYTES
    except ValueError:
        return False


class KnownKeys:
    """See the module's docstring. The file is read again when it changes.

    Args:
        path: the file, which need not be there yet.
        unusable: the error of a file that can't be used.
        command: what makes a key known, for people.
    """

    def __init__(self, path: Path, unusable: Callable[[str], TrishulaError], command: str) -> None:
        self._path = path
        self._unusable = unusable
        self._form = (
            f'it must be {{"agent": ["key", …]}}, where an agent is {AGENT_RULE}, and a key is {2 * KEY_BYTES} '
            f"hexadecimal digits; put it right, or remove it and use `{command}`"
        )
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, list[bytes]] = {}

    def of(self, agent: str) -> list[bytes]:
        """An agent's keys; none if it is not in the file.

        Raises:
            TrishulaError: the file can't be read, or is no such file; the sentence says why.
        """
        self._read_if_changed()
        return list(self._keys.get(agent, ()))

    def held(self, agent: str) -> list[bytes]:
        """An agent's keys; where the file can't be read now, as it was read last, and the log says so."""
        try:
            self._read_if_changed()
        except TrishulaError as error:
            # Somebody edits it: what was known holds on.
            _log.error("The keys that are known are not read again: %s", error)
        return list(self._keys.get(agent, ()))

    def agents(self) -> dict[str, list[bytes]]:
        """All of them; errors as :meth:`of`."""
        self._read_if_changed()
        return {agent: list(keys) for agent, keys in self._keys.items()}

    def trust(self, agent: str, key: bytes) -> bool:
        """Write down that a key is an agent's; whether that is new. Errors as :meth:`of`."""
        return self.trust_all({agent: [key]})

    def trust_all(self, keys: Mapping[str, Iterable[bytes]]) -> bool:
        """Write down that keys are agents', with those that are known; whether one is new. Errors as :meth:`of`."""
        found = self.agents()
        is_new = False
        for agent, its_keys in keys.items():
            for key in its_keys:
                if key not in found.setdefault(agent, []):
                    found[agent].append(key)
                    is_new = True
        if is_new:
            self._write(found)
        return is_new

    def forget(self, agent: str, key: bytes) -> bool:
        """Take a key of an agent's out; whether it was there. Errors as :meth:`of`."""
        found = self.agents()
        if key not in found.get(agent, ()):
            return False
        found[agent].remove(key)
        self._write({name: keys for name, keys in found.items() if keys})
        return True

    def _write(self, keys: Mapping[str, Iterable[bytes]]) -> None:
        text = json.dumps({name: [one.hex() for one in known] for name, known in sorted(keys.items())}, indent=2)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(f"{text}\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise self._unusable(f"{self._path} can't be written: {error.strerror}") from None

    def _read_if_changed(self) -> None:
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            with open_file(self._path) as file:
                found = json.loads(file.read().decode("utf-8-sig"))
        except FileNotFoundError:
            self._stamp, self._keys = None, {}
            return
        except OSError as error:
            raise self._unusable(f"{self._path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise self._unusable(f"{self._path} is no JSON; {self._form}") from None
        if not isinstance(found, dict):
            raise self._unusable(f"{self._path} is no map; {self._form}")
        for agent, keys in found.items():
            if not is_agent_name(agent) or not isinstance(keys, list) or not all(map(is_key, keys)):
                raise self._unusable(f"{self._path} says something else of {agent!r} than keys; {self._form}")
        self._keys = {agent: [bytes.fromhex(key) for key in keys] for agent, keys in found.items()}
        self._stamp = stamp
