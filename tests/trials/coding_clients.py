"""Coding clients with a scripted model in place of their vendor's: where each comes from, and how it is set up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CLIENTS", "Client", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client runs.

    Attributes:
        home: its home directory; nothing of the person's own is read or written.
        project: the directory that it works in.
        model: the scripted model's URL.
        programs: what comes first on its ``PATH``.
    """

    home: Path
    project: Path
    model: str
    programs: str

    def environment(self, **more: str) -> dict[str, str]:
        """Of everything that runs there: none of the person's keys and settings."""
        kept = {key: os.environ[key] for key in ("LANG", "LC_ALL", "TMPDIR") if key in os.environ}
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "HOME": str(self.home), "PATH": path, "TERM": "xterm-256color", "NO_PROXY": "*", **more}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _opencode(place: Place) -> Mapping[str, str]:
    path = place.project / "opencode.json"
    scripted = {"name": "scripted", "tool_call": True, "limit": {"context": 100_000, "output": 8_000}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{place.model}/v1", "apiKey": "none"},
        "models": {"scripted": scripted},
    }
    own = {"model": "scripted/scripted", "small_model": "scripted/scripted", "provider": {"scripted": provider}}
    _write(path, json.dumps({**json.loads(path.read_text()), **own, "autoupdate": False, "share": "disabled"}))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _codex(place: Place) -> Mapping[str, str]:
    path = place.home / ".codex" / "config.toml"
    own = f"""
model = "scripted"
model_provider = "scripted"
approval_policy = "never"
check_for_update_on_startup = false

[model_providers.scripted]
name = "scripted"
base_url = "{place.model}/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"

[projects."{place.project}"]
trust_level = "trusted"

"""
    allowed = '\n[mcp_servers.trishula.tools.inbox]\napproval_mode = "approve"\n'
    _write(path, own + path.read_text().replace("# TRISHULA ends", f"{allowed}# TRISHULA ends"))
    return {"SCRIPTED_KEY": "none"}


def _claude_code(place: Place) -> Mapping[str, str]:
    key = "sk-ant-scripted-0123456789abcdef0123456789"
    state = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {"approved": [key[-20:]], "rejected": []},
        "projects": {str(place.project): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}},
    }
    _write(place.home / ".claude.json", json.dumps(state))
    settings = {"enableAllProjectMcpServers": True, "permissions": {"allow": ["mcp__trishula"]}}
    _write(place.project / ".claude" / "settings.local.json", json.dumps(settings))
    return {
        "ANTHROPIC_BASE_URL": place.model,
        "ANTHROPIC_API_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "MCP_CONNECTION_NONBLOCKING": "false",
        "ENABLE_TOOL_SEARCH": "false",
    }


def _gemini(place: Place) -> Mapping[str, str]:
    home = place.home / ".gemini"
    _write(home / "trustedFolders.json", json.dumps({str(place.project): "TRUST_FOLDER"}))
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"disableAutoUpdate": True},
        "privacy": {"usageStatisticsEnabled": False},
    }
    _write(home / "settings.json", json.dumps(settings))
    return {"GOOGLE_GEMINI_BASE_URL": place.model, "GEMINI_API_KEY": "none"}


@dataclass(frozen=True, slots=True)
class Client:
    """A coding client.

    Attributes:
        package: its name in the npm registry.
        program: its command.
        ready: what stands on its screen when it waits for a prompt.
        prepare: writes its own settings beside ours; the variables that it gets.
        options: of the command.
    """

    package: str
    program: str
    ready: str
    prepare: Callable[[Place], Mapping[str, str]]
    options: tuple[str, ...] = ()


CLIENTS: Mapping[str, Client] = {
    "opencode": Client("opencode-ai", "opencode", "Ask anything", _opencode),
    # Its hooks are trusted by a person, one by one, in its terminal.
    "codex": Client(
        "@openai/codex", "codex", "Ask Codex to do anything", _codex, options=("--dangerously-bypass-hook-trust",)
    ),
    "claude-code": Client("@anthropic-ai/claude-code", "claude", "? for shortcuts", _claude_code),
    # Without a model's name it asks another model first which one to ask.
    "gemini": Client(
        "@google/gemini-cli",
        "gemini",
        "Type your message",
        _gemini,
        options=("--approval-mode", "yolo", "--model", "gemini-2.5-pro"),
    ),
}
