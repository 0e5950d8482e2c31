"""The coding agents that we set up: which files they read, and what is in them for us. No I/O.

Each is written as its public documentation had it in November 2026.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CLIENTS", "OWN_NAME", "CodingClient", "Launch"]

#: What the server is called in the clients' files.
OWN_NAME = "trishula"
#: How long a client lets a hook stay that waits for mail.
_REWAKE_S = 86_400


@dataclass(frozen=True, slots=True)
class Launch:
    """How the front door is started.

    Attributes:
        program: the path of ``trishula``.
        profile: which agent: the name of a profile, or its path.
    """

    program: str
    profile: str

    def hook(self, form: str, event: str) -> str:
        """The command of a hook."""
        return shlex.join([self.program, "--profile", self.profile, "nudge", "--for", form, "--event", event])

    def rewake(self, form: str) -> str:
        """The command of a hook that stays until mail waits; it ends when its parent does, which no shell is to be."""
        return "exec " + shlex.join([self.program, "--profile", self.profile, "wake", "--hook", form])


def _standard(launch: Launch) -> dict[str, Any]:
    return {"command": launch.program, "args": ["mcp"], "env": {"TRISHULA_PROFILE": launch.profile}}


def _codex(launch: Launch) -> dict[str, Any]:
    # Else its first turn begins without the tools while the server starts, and with "codex exec" there is no other one.
    return {**_standard(launch), "required": True, "startup_timeout_sec": 60}


def _opencode(launch: Launch) -> dict[str, Any]:
    return {
        "type": "local",
        "command": [launch.program, "mcp"],
        "environment": {"TRISHULA_PROFILE": launch.profile},
        "enabled": True,
    }


@dataclass(frozen=True, slots=True)
class CodingClient:
    """A coding agent.

    Attributes:
        name: how it is named on the command line.
        servers: the file that names servers of MCP, relative to the project, or to the home directory with ``~/``.
        key: the table of that file in which they stand.
        entry: what stands there for us.
        hooks: the file of its hooks, if it has some that we set; ``""`` if not.
        events: its name for an event → ours.
        rewakes: its names for the events at which a hook begins that stays in the background and wakes it.
        version: the version that its file of hooks names, whose hooks then stand in an event's list themselves; 0: it
            names none, and they stand there in groups.
    """

    name: str
    servers: str
    key: str = "mcpServers"
    entry: Callable[[Launch], dict[str, Any]] = _standard
    hooks: str = ""
    events: Mapping[str, str] = field(default_factory=dict)
    rewakes: Sequence[str] = ()
    version: int = 0

    def path(self, which: str, project: Path, home: Path) -> Path:
        """Where one of its files is."""
        return home / which[2:] if which.startswith("~/") else project / which

    def hook_entries(self, launch: Launch, *, with_rewakes: bool = False) -> dict[str, list[dict[str, Any]]]:
        """Its hooks, by its own names for the events."""
        if self.version:
            return {name: [{"command": launch.hook(self.name, event)}] for name, event in self.events.items()}
        found = {
            name: [{"hooks": [{"type": "command", "command": launch.hook(self.name, event)}]}]
            for name, event in self.events.items()
        }
        for name in self.rewakes if with_rewakes else ():
            # Without "async" it would hold up a client that doesn't wake by it, such as "claude -p".
            rewake: dict[str, Any] = {"async": True, "asyncRewake": True, "timeout": _REWAKE_S}
            found.setdefault(name, []).append(
                {"hooks": [{"type": "command", "command": launch.rewake(self.name), **rewake}]}
            )
        return found


CLIENTS: Mapping[str, CodingClient] = {
    one.name: one
    for one in (
        CodingClient(
            "claude-code",
            ".mcp.json",
            hooks=".claude/settings.json",
            events={"SessionStart": "start", "UserPromptSubmit": "prompt", "Stop": "stop"},
            rewakes=("SessionStart", "Stop"),
        ),
        CodingClient(
            "codex",
            "~/.codex/config.toml",
            key="mcp_servers",
            entry=_codex,
            hooks="~/.codex/hooks.json",
            events={"SessionStart": "start", "UserPromptSubmit": "prompt", "Stop": "stop"},
        ),
        CodingClient(
            "gemini",
            ".gemini/settings.json",
            hooks=".gemini/settings.json",
            events={"SessionStart": "start", "BeforeAgent": "prompt", "AfterAgent": "stop"},
        ),
        CodingClient(
            "cursor",
            ".cursor/mcp.json",
            hooks=".cursor/hooks.json",
            events={"sessionStart": "start", "beforeSubmitPrompt": "prompt", "stop": "stop"},
            version=1,
        ),
        CodingClient("opencode", "opencode.json", key="mcp", entry=_opencode),
    )
}
