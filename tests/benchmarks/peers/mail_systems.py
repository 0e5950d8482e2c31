"""Mail for models behind MCP, as ``gauntlet.py`` drives it: TRISHULA's door, and *mcp_agent_mail*.

A :class:`System` is a server that can be killed and started again on what it has stored. A :class:`Mailbox` is one
agent's; each is used by one thread. A text begins with a word that occurs once, its *mark*.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.mcp_wire import McpClient, NoAnswer, ToolFailed
from tests.benchmarks.peers.servers import CantStart, wait_listening
from tests.support.node import NodeProcess, environment
from trishula_drill.proxy import free_port

__all__ = ["AgentMail", "Mailbox", "Seen", "System", "Trishula"]

#: (id, mark) of a message that was read.
Seen = tuple[str, str]

_SHOWN = re.compile(r"^=== message (\S+) from \S+ \(the bus vouches for the sender\) ===\n.*\n\| (\S+)", re.MULTILINE)


class Mailbox(ABC):
    """One agent's mail.

    Attributes:
        name: of the agent.
    """

    name: str

    @abstractmethod
    def send(self, to: Sequence[str], text: str) -> None:
        """Send to agents, or to all if there are none; the mark is the message's id where a sender may choose that.

        Raises:
            ToolFailed, NoAnswer: see :class:`~tests.benchmarks.peers.mcp_wire.McpClient`.
        """

    @abstractmethod
    def read(self) -> list[Seen]:
        """What has not been read yet; it is dealt with then. An empty list is the end of it. Raises as :meth:`send`."""

    @abstractmethod
    def finds(self, mark: str) -> bool:
        """Whether a search finds the message. Raises as :meth:`send`."""

    @abstractmethod
    def claims(self, path: str) -> bool:
        """Claim a file for this agent alone; whether it was told that it has it. Raises as :meth:`send`."""


class System(ABC):
    """A server with its agents.

    Args:
        folder: where all of it is kept.
        names: of the agents.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names

    @abstractmethod
    def start(self) -> None:
        """Start it, for the first time or again. Raises :class:`CantStart`."""

    @abstractmethod
    def kill(self) -> None:
        """End all its processes by SIGKILL."""

    @abstractmethod
    def mailboxes(self) -> list[Mailbox]:
        """One for each agent; the agents are made."""


class Trishula(System):
    """A node, and ``trishula mcp --http`` before it.

    Args:
        python: of an environment with ``trishula[mcp]``.
    """

    def __init__(self, folder: Path, names: Sequence[str], python: str) -> None:
        super().__init__(folder, names)
        self._python = python
        self._node = NodeProcess(folder / "state", port=free_port())
        self._port = free_port()
        self._door: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._node.start()
        around = environment(TRISHULA_URL=self._node.url, TRISHULA_AGENT_STATE=str(self._folder / "agents"))
        command = [self._python, "-m", "trishula.cli.main", "mcp", "--http", str(self._port), "--result-size", "100000"]
        self._door = _spawned(command, self._folder / "door.log", around, self._port)

    def kill(self) -> None:
        self._node.kill()
        _killed(self._door)

    def mailboxes(self) -> list[Mailbox]:
        tokens = {name: self._node.token(name) for name in self._names}
        return [_Door(name, self._port, token) for name, token in tokens.items()]


class _Door(Mailbox):
    def __init__(self, name: str, port: int, token: str) -> None:
        self.name = name
        self._client = McpClient(port, "/mcp", {"Authorization": f"Bearer {token}"})
        self._unsettled: set[str] = set()

    def send(self, to: Sequence[str], text: str) -> None:
        for one in to or ["broadcast"]:
            self._client.call("send", to=one, text=text, message_id=text.split()[0])

    def read(self) -> list[Seen]:
        shown: list[Seen] = _SHOWN.findall(self._client.call("inbox", most=64)[0])
        ids = [message_id for message_id, _ in shown]
        # A message whose ack has failed comes again, by a later session at the latest: this reader knows it by its id.
        new = [seen for seen in shown if seen[0] not in self._unsettled]
        self._unsettled.update(ids)
        if ids:
            with contextlib.suppress(NoAnswer, ToolFailed):
                self._client.call("ack", message_ids=ids)
                self._unsettled.difference_update(ids)
        return new

    def finds(self, mark: str) -> bool:
        return mark in self._client.call("search", words=mark)[0]

    def claims(self, path: str) -> bool:
        return " is yours (fencing token " in self._client.call("lease_claim", scope=f"path:{path}")[0]


class AgentMail(System):
    """*mcp_agent_mail*, over HTTP, with its database and its Git repository.

    Args:
        python: of an environment with it.
    """

    def __init__(self, folder: Path, names: Sequence[str], python: str) -> None:
        super().__init__(folder, names)
        self._python = python
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        around = {
            **os.environ,
            "HOME": str(self._folder),
            "STORAGE_ROOT": str(self._folder / "archive"),
            "DATABASE_URL": f"sqlite+aiosqlite:///{self._folder}/mail.sqlite3",
            # What would ask a language model, or print each call, or fetch a price list from the network.
            "LLM_ENABLED": "false",
            "TOOLS_LOG_ENABLED": "false",
            "LOG_RICH_ENABLED": "false",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "MCP_TOOLS_MODE": "extended",
            "CONTACT_ENFORCEMENT_ENABLED": "false",
            "HTTP_ALLOW_LOCALHOST_UNAUTHENTICATED": "true",
            "HTTP_RBAC_ENABLED": "false",
        }
        command = [self._python, "-c", "from mcp_agent_mail.cli import app; app()"]
        command += ["serve-http", "--host", "127.0.0.1", "--port", str(self._port), "--path", "/mcp/"]
        self._process = _spawned(command, self._folder / "server.log", around, self._port)

    def kill(self) -> None:
        _killed(self._process)

    def mailboxes(self) -> list[Mailbox]:
        project = str(self._folder / "project")
        Path(project).mkdir()
        maker = McpClient(self._port, "/mcp/")
        maker.call("ensure_project", human_key=project)
        found: list[Mailbox] = []
        for _ in self._names:
            # It gives them names of its own taste.
            told = maker.call("register_agent", project_key=project, program="gauntlet", model="none")[1]
            found.append(_Account(told["name"], self._port, project, told.get("registration_token")))
        for one in found:
            assert isinstance(one, _Account)
            one.everybody = [other.name for other in found if other is not one]
        return found


class _Account(Mailbox):
    """Attributes: everybody: whom a broadcast goes to; there is no word for them."""

    everybody: list[str]

    def __init__(self, name: str, port: int, project: str, token: str | None) -> None:
        self.name = name
        self._project = project
        # The original asks for a proof of who one is since 0.3; the fork on the index believes a name.
        self._sends_by = {"sender_token": token} if token else {}
        self._reads_by = {"registration_token": token} if token else {}
        self._client = McpClient(port, "/mcp/")
        self._read: set[str] = set()

    def send(self, to: Sequence[str], text: str) -> None:
        told = {"to": list(to or self.everybody), "subject": text.split()[0], "body_md": text}
        self._client.call("send_message", project_key=self._project, sender_name=self.name, **told, **self._sends_by)

    def read(self) -> list[Seen]:
        # All that is there: its cursor is an instant, and of two messages of one instant it may pass over one.
        asked: dict[str, Any] = {"project_key": self._project, "agent_name": self.name, "limit": 10_000}
        told = self._client.call("fetch_inbox", include_bodies=True, **asked, **self._reads_by)[1]["result"]
        new = [item for item in told if str(item["id"]) not in self._read]
        self._read.update(str(item["id"]) for item in new)
        return [(str(item["id"]), item["body_md"].split()[0]) for item in new]

    def finds(self, mark: str) -> bool:
        who = {"agent_name": self.name, **self._reads_by} if self._reads_by else {}
        asked = {"project_key": self._project, "query": f'"{mark}"', **who}
        return mark in self._client.call("search_messages", **asked)[0]

    def claims(self, path: str) -> bool:
        asked: dict[str, Any] = {"project_key": self._project, "agent_name": self.name, "paths": [path]}
        told = self._client.call("file_reservation_paths", exclusive=True, **asked, **self._reads_by)[1]
        # It grants what others have as well, and tells of them: that is no claim for this agent alone.
        return bool(told["granted"]) and not told["conflicts"]


def _spawned(command: Sequence[str], log: Path, around: dict[str, str], port: int) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=around
        )
    try:
        wait_listening(process, port, log)
    except CantStart:
        _killed(process)
        raise
    return process


def _killed(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()
