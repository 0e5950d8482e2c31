"""rushabdev, reliability: the host's report, uptime, and checks that are on its list.

A check is a command line that the *host's* operator wrote down; callers choose by name and can add nothing. It runs
without a shell, in its own process group, with a time limit, with bounded output, and without the agent's secrets in
its environment. The list is ``~/.config/trishula/rushabdev.toml`` or the file that ``TRISHULA_CHECKS`` names::

    [checks.backup_age]
    command = ["find", "/var/backups", "-mtime", "-1", "-name", "*.tar.gz"]
    timeout = "10s"          # default 30s

Without a file there are the three checks of :data:`DEFAULT_CHECKS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trishula.agent import Agent
from trishula.agents.host_report import add_common
from trishula.contract.units import parse_duration_s
from trishula.errors import ArgumentInvalid
from trishula.homes import home_directory
from trishula.settings import SettingsInvalid

__all__ = ["DEFAULT_CHECKS", "Check", "agent", "build", "load_checks", "main", "run_check"]

_log = logging.getLogger("trishula")

#: What a check may print; the rest is read and dropped, so that it doesn't block on a full pipe.
OUTPUT_LIMIT_BYTES = 64 * 1024
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class Check:
    """A command that may be run."""

    name: str
    command: tuple[str, ...]
    timeout_s: float = 30.0


#: What makes sense on every Unix host.
DEFAULT_CHECKS = {
    check.name: check
    for check in (
        Check("disk_space", ("df", "-P", "-k"), 10.0),
        Check("inodes", ("df", "-P", "-i"), 10.0),
        Check("system", ("uname", "-a"), 10.0),
    )
}


def load_checks(environ: Mapping[str, str] | None = None, home: Path | None = None) -> dict[str, Check]:
    """The list of checks.

    Raises:
        SettingsInvalid: the file can't be read, or one of its checks is not as it should be.
    """
    environ = os.environ if environ is None else environ
    named = environ.get("TRISHULA_CHECKS")
    if named:
        path = Path(named)
    elif (home := home or home_directory()) is not None:
        path = home / ".config" / "trishula" / "rushabdev.toml"
    else:
        return dict(DEFAULT_CHECKS)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsInvalid(f"TRISHULA_CHECKS names {path}, and there is no such file") from None
        return dict(DEFAULT_CHECKS)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(f"the checks in {path} can't be read: {error}") from None
    for key in values:
        if key != "checks":
            raise SettingsInvalid(f"{path} has the unknown key {key!r}; it holds [checks.NAME] tables")
    checks = values.get("checks", {})
    if not isinstance(checks, dict):
        raise SettingsInvalid(f"{path}: checks must be [checks.NAME] tables")
    return {name: _read_check(path, name, value) for name, value in checks.items()}


def _read_check(path: Path, name: str, value: object) -> Check:
    where = f"{path}: checks.{name}"
    if not isinstance(value, dict):
        raise SettingsInvalid(f"{where} must be a table with command and timeout")
    for key in value:
        if key not in ("command", "timeout"):
            raise SettingsInvalid(f"{where} has the unknown key {key!r}; the known keys are command, timeout")
    command = value.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise SettingsInvalid(f"{where}.command must be a list of strings, the program first")
    try:
        timeout_s = parse_duration_s(value.get("timeout", "30s"))
    except ValueError as error:
        raise SettingsInvalid(f"{where}.timeout is {value.get('timeout')!r}; {error}") from None
    if timeout_s <= 0:
        raise SettingsInvalid(f"{where}.timeout is {value.get('timeout')!r}; it must be longer than nothing")
    return Check(name, tuple(command), timeout_s)


async def run_check(check: Check, *, output_limit_bytes: int = OUTPUT_LIMIT_BYTES) -> dict[str, Any]:
    """Run one check; ``ok`` if it exits with 0 in time. Its standard error counts as output."""
    begin_s = time.monotonic()
    environ = {key: value for key, value in os.environ.items() if key in _KEPT_VARIABLES}
    try:
        process = await asyncio.create_subprocess_exec(
            *check.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    except OSError as error:
        detail = f"{check.command[0]} can't be started: {error.strerror}"
        return {"check": check.name, "ok": False, "exit_code": None, "detail": detail, "output": ""}
    output = bytearray()
    left = 0
    timed_out = False
    try:
        async with asyncio.timeout(check.timeout_s):
            left = await _read(process, output, output_limit_bytes)
            await process.wait()
    except TimeoutError:
        timed_out = True
    finally:
        # Also what it left behind in its group: a check that ends must not go on.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    code = process.returncode
    if timed_out:
        detail = f"it was killed: it ran longer than {check.timeout_s:g} s"
    else:
        detail = (
            f"it exited with {code}" if code is not None and code >= 0 else f"it was ended by signal {-(code or 0)}"
        )
    return {
        "check": check.name,
        "ok": code == 0 and not timed_out,
        "exit_code": None if timed_out else code,
        "detail": detail,
        "output": output.decode(errors="replace"),
        "truncated_bytes": left,
        "timed_out": timed_out,
        "took_ms": round((time.monotonic() - begin_s) * 1000, 2),
    }


async def _read(process: asyncio.subprocess.Process, output: bytearray, limit_bytes: int) -> int:
    """Read all that it prints, keep the beginning; returns how much was dropped."""
    dropped = 0
    if process.stdout is None:
        return 0
    while chunk := await process.stdout.read(16 * 1024):
        room = max(limit_bytes - len(output), 0)
        output += chunk[:room]
        dropped += len(chunk[room:])
    return dropped


def build(checks: Mapping[str, Check] | None = None, **options: Any) -> Agent:
    """The agent.

    Args:
        checks: the list of checks; read from the host's file when the first one is asked for, if absent.
        options: those of :class:`~trishula.agent.Agent`.
    """
    agent = Agent("rushabdev", capabilities=["host", "checks", "uptime"], **options)
    add_common(agent)
    known: dict[str, Check] = dict(checks or {})
    loaded = checks is not None
    started_s = time.time()

    def listed() -> dict[str, Check]:
        nonlocal loaded
        if not loaded:
            known.update(load_checks())
            loaded = True
        return known

    @agent.on_start
    def announce() -> None:
        _log.info("rushabdev runs these checks: %s", ", ".join(sorted(listed())) or "none")

    @agent.procedure()
    def list_checks() -> list[str]:
        """The names of the checks that may be run."""
        return sorted(listed())

    @agent.procedure(name="run_check")
    async def run_one(name: str) -> dict[str, Any]:
        """Run one check of the list."""
        check = listed().get(name)
        if check is None:
            raise ArgumentInvalid(f"there is no check {name!r} on the list; there are: {', '.join(sorted(listed()))}")
        return await run_check(check)

    @agent.procedure()
    async def run_checks() -> list[dict[str, Any]]:
        """Run all checks of the list, one after the other: they may compete for the same disk."""
        return [await run_check(check) for _, check in sorted(listed().items())]

    @agent.procedure()
    def uptime() -> dict[str, Any]:
        """Since when the host and this agent are up."""
        booted_s, now_s = psutil.boot_time(), time.time()
        return {
            "booted_at": int(booted_s * 1000),
            "host_uptime_s": int(now_s - booted_s),
            "agent_started_at": int(started_s * 1000),
            "agent_uptime_s": int(now_s - started_s),
        }

    return agent


agent = build()


def main() -> None:
    """Run it."""
    agent.run()


if __name__ == "__main__":
    main()
