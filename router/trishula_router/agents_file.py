"""The file of agents: who may join, with what grants, and the hashes of their tokens.

``<state>/agents.json``, mode 0600, is made and changed by ``trishula token new`` and may be edited by hand::

    {"agents": {"agni": {"operator": false,
                         "send": ["*"],            // to whom: "*", "broadcast" or agents' names
                         "call": ["dc", "rushabdev.uptime"],   // what: "*", an agent, or an agent.procedure
                         "tokens": [{"sha256": "9f86…", "created_at": "2026-02-10T00:02:00Z",
                                     "not_before": null, "expires_at": null}]}}}

Writers hold an exclusive lock on ``agents.json.lock`` while they read, change and write, so that two commands at once
lose nothing. The file is replaced by a rename: a reader sees the old file or the new one, never a half, and needs no
lock. The lock is a file of its own because the rename gives ``agents.json`` a new inode each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trishula.names import AGENT_RULE, BROADCAST, Address, is_agent_name
from trishula_router.options import MISSING, ConfigError, Fault
from trishula_router.tokens import TokenRecord

__all__ = [
    "ANYBODY",
    "AgentRecord",
    "AgentsFileError",
    "Stamp",
    "parse_agents",
    "read_agents",
    "render_agents",
    "stamp_of",
    "update_agents",
]

#: The grant that covers every agent.
ANYBODY = "*"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PROCEDURE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

#: What changes when the file does: modification time in ns, inode, size. ``None``: there is no file.
Stamp = tuple[int, int, int] | None


class AgentsFileError(Exception):
    """The file of agents can't be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One agent, as the file has it.

    Attributes:
        operator: whether it may ask about everybody's messages, and administer the node.
        send: to whom it may send.
        call: whose procedures it may call.
        tokens: what it may join with.
    """

    operator: bool = False
    send: tuple[str, ...] = (ANYBODY,)
    call: tuple[str, ...] = (ANYBODY,)
    tokens: tuple[TokenRecord, ...] = ()


def read_agents(path: Path) -> dict[str, AgentRecord]:
    """What the file says; nobody, if there is no file: a node starts before its first token is made.

    Raises:
        AgentsFileError: if it can't be read, others can read it, or it says something else than it may.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise AgentsFileError(f"the file of agents {path} can't be read: {error.strerror}") from error
    if mode & 0o077:
        raise AgentsFileError(
            f"the file of agents {path} has mode {mode:04o}, so that others on this machine can read or change it; "
            f"run: chmod 600 {path}"
        )
    try:
        raw = json.loads(text)
    except UnicodeDecodeError:
        raise AgentsFileError(f"the file of agents {path} is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise AgentsFileError(
            f"the file of agents {path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    try:
        return parse_agents(raw)
    except ConfigError as error:
        raise AgentsFileError("\n".join(f"{path}: {fault.sentence}" for fault in error.faults)) from None


def stamp_of(path: Path) -> Stamp:
    """By what a reader notices that the file was changed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@contextlib.contextmanager
def update_agents(path: Path) -> Iterator[dict[str, AgentRecord]]:
    """Change the file: yields what it says, to be changed in place; writes it if the block ends without an error.

    Raises:
        AgentsFileError: if it can't be read or written; then it is as it was.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AgentsFileError(f"the file of agents {path} can't be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        agents = read_agents(path)
        yield agents
        _replace(path, render_agents(agents))
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    # One name is enough: only the holder of the lock writes it, and what a killed writer left is overwritten.
    temporary = path.with_name(path.name + ".new")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The rename itself must survive a power cut: a token that was handed out has to work afterwards.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise AgentsFileError(f"the file of agents {path} can't be written: {error.strerror}") from error


def render_agents(agents: Mapping[str, AgentRecord]) -> str:
    """The file's text: sorted and indented, because people read and edit it."""
    raw = {
        "agents": {
            name: {
                "operator": record.operator,
                "send": list(record.send),
                "call": list(record.call),
                "tokens": [
                    {
                        "sha256": token.sha256,
                        "created_at": _show_instant(token.created_at),
                        "not_before": _show_instant(token.not_before),
                        "expires_at": _show_instant(token.expires_at),
                    }
                    for token in record.tokens
                ],
            }
            for name, record in sorted(agents.items())
        }
    }
    return json.dumps(raw, indent=2) + "\n"


def _show_instant(instant_s: float | None) -> str | None:
    if instant_s is None:
        return None
    return datetime.fromtimestamp(instant_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_agents(raw: object) -> dict[str, AgentRecord]:
    """Check what the file says.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[Fault] = []
    top = _Map(raw, "the file", "", faults)
    listed = _Map(top.take("agents", MISSING), "agents", "agents", faults)
    top.close()
    agents: dict[str, AgentRecord] = {}
    for name in listed.names():
        if not is_agent_name(name):
            faults.append(Fault("agents", name, f"it is no agent's name: that is {AGENT_RULE}"))
            continue
        agents[name] = _parse_agent(listed.take(name, {}), f"agents.{name}", faults)
    if faults:
        raise ConfigError(tuple(faults))
    return agents


class _Map:
    """One map of the file; notices the keys that nobody asked for."""

    def __init__(self, raw: object, shown: str, path: str, faults: list[Fault]) -> None:
        if not isinstance(raw, Mapping):
            faults.append(Fault(shown, raw, "it must be a map"))
            raw = {}
        self._raw: Mapping[str, object] = raw
        self._prefix = f"{path}." if path else ""
        self._faults = faults
        self._known: list[str] = []

    def names(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._raw.get(key, default)

    def close(self) -> None:
        for key, value in self._raw.items():
            if key not in self._known:
                known = ", ".join(self._known)
                self._faults.append(
                    Fault(self._prefix + key, value, f"it is an unknown key; the known keys are {known}")
                )


def _parse_agent(raw: object, path: str, faults: list[Fault]) -> AgentRecord:
    entry = _Map(raw, path, path, faults)
    operator = entry.take("operator", False)
    if not isinstance(operator, bool):
        faults.append(Fault(f"{path}.operator", operator, "it must be true or false"))
    send = _parse_grants(entry.take("send", [ANYBODY]), f"{path}.send", _is_recipient, faults)
    call = _parse_grants(entry.take("call", [ANYBODY]), f"{path}.call", _is_callable, faults)
    listed = entry.take("tokens", [])
    if not isinstance(listed, list):
        faults.append(Fault(f"{path}.tokens", listed, "it must be a list of tokens"))
        listed = []
    tokens = [_parse_token(item, f"{path}.tokens[{index}]", faults) for index, item in enumerate(listed)]
    entry.close()
    return AgentRecord(operator is True, send, call, tuple(tokens))


def _parse_grants(raw: object, path: str, keeps: Callable[[str], bool], faults: list[Fault]) -> tuple[str, ...]:
    if not isinstance(raw, list):
        faults.append(Fault(path, raw, 'it must be a list of grants, such as ["*"]'))
        return ()
    grants: list[str] = []
    for index, item in enumerate(raw):
        if isinstance(item, str) and keeps(item):
            grants.append(item)
        else:
            kinds = (
                '"*", "broadcast", an agent or "capability:" and a name'
                if keeps is _is_recipient
                else '"*", an agent or agent.procedure'
            )
            faults.append(Fault(f"{path}[{index}]", item, f"it must be {kinds}"))
    return tuple(grants)


def _is_recipient(grant: str) -> bool:
    if grant in (ANYBODY, BROADCAST) or is_agent_name(grant):
        return True
    try:
        return Address.parse(grant).capability is not None
    except ValueError:
        return False


def _is_callable(grant: str) -> bool:
    agent, dot, procedure = grant.partition(".")
    return grant == ANYBODY or (is_agent_name(agent) and (not dot or _PROCEDURE.match(procedure) is not None))


def _parse_token(raw: object, path: str, faults: list[Fault]) -> TokenRecord:
    entry = _Map(raw, path, path, faults)
    sha256 = entry.take("sha256", MISSING)
    if not isinstance(sha256, str) or _SHA256.match(sha256) is None:
        # The value is not shown: it might be a token that somebody pasted where its hash belongs.
        faults.append(
            Fault(f"{path}.sha256", MISSING if sha256 is MISSING else "…", "it must be 64 hexadecimal digits")
        )
        sha256 = ""
    created_at = _parse_instant(entry.take("created_at", 0), f"{path}.created_at", faults)
    not_before = _parse_instant(entry.take("not_before", None), f"{path}.not_before", faults)
    expires_at = _parse_instant(entry.take("expires_at", None), f"{path}.expires_at", faults)
    entry.close()
    return TokenRecord(sha256, created_at or 0.0, not_before, expires_at)


def _parse_instant(raw: object, path: str, faults: list[Fault]) -> float | None:
    if raw is None:
        return None
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if isinstance(raw, str):
        with contextlib.suppress(ValueError):
            instant = datetime.fromisoformat(raw)
            # Without an offset it would mean another instant on each machine.
            if instant.tzinfo is not None:
                return instant.timestamp()
    faults.append(
        Fault(path, raw, 'it must be an instant such as "2026-02-10T00:02:00Z", seconds since the epoch, or null')
    )
    return None
