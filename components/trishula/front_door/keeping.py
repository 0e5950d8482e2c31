"""What a front door remembers beyond its process: the ids of the messages that its model is through with.

It is kept in a file like an agent's (:mod:`trishula.messaging.agent_file`), in a directory of its own below the
agent's, so that a program that runs as the same agent has its file to itself. One process at a time has it. A second
front door of the same agent, or one that has no place for a file, remembers as long as it lives: then a message whose
acknowledgement was lost together with the process is shown once more, and says that it may have been seen.

The file is opened once a node has let the agent in. Before that the agent is a claim of whoever brings a token, and a
made-up token must neither make files nor touch those of the agent that it names.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trishula.consumer.agent_state import directory_of
from trishula.contract.signed import MEMORY_MS
from trishula.errors import StateBusy, StateUnusable
from trishula.homes import home_directory
from trishula.messaging.deduplication import Inbox
from trishula.runtime.surroundings import Surroundings
from trishula.settings import Settings

if TYPE_CHECKING:
    from trishula.messaging.agent_file import AgentFile

__all__ = ["Memory"]

_log = logging.getLogger("trishula")

_FOLDER = "front-door"


class Memory:
    """See the module's docstring.

    Args:
        settings: whose memory, under which token.
        state: a directory, ``None`` for the usual one, ``False`` for no file at all.
        around: for the file.

    Attributes:
        ids: the memory of ids.
    """

    def __init__(self, settings: Settings, state: str | os.PathLike[str] | bool | None, around: Surroundings) -> None:
        self.ids = Inbox(age_ms=MEMORY_MS)
        self._bus = hashlib.sha256(f"bus of {settings.secret}".encode()).hexdigest()[:16]
        self._around = around
        self._file: AgentFile | None = None
        self._directory: Path | None = None
        if state is not False:
            place = None if state is True else state
            directory, _ = directory_of(settings.agent, place, os.environ, home_directory())
            self._directory = None if directory is None else directory / _FOLDER

    def joined(self) -> None:
        """A node has let the agent in: read the file, if that was not done yet."""
        directory, self._directory = self._directory, None
        if directory is not None:
            self._open(directory)

    def _open(self, directory: Path) -> None:
        # Late: what keeps no file doesn't load SQLite.
        from trishula.messaging.agent_file import AgentFile

        try:
            file = AgentFile.open(directory, self._around)
        except (StateBusy, StateUnusable, OSError) as error:
            _log.warning("What is done is remembered only as long as this process lives: %s", error)
            return
        try:
            saved = file.load()
        except StateUnusable as error:
            file.vanish()
            _log.warning("What is done is remembered only as long as this process lives: %s", error)
            return
        handled = saved.handled
        if saved.bus != self._bus:
            # Another bus may use the same ids for other messages. A new token of the same bus looks like one: what
            # would tell them apart is the node's answer to an attach, and a front door attaches to no mailbox.
            for agent, message_id, _, _ in handled:
                file.forget(agent, message_id)
            handled = []
            file.note_bus(self._bus)
        self._file = file
        self.ids.restore(file, handled)
        self.ids.forget(self._around.now_ms())
        file.commit()

    def commit(self) -> None:
        """Have what was noted outlive the process."""
        if self._file is not None:
            self._file.commit()

    async def close(self) -> None:
        """Let the file go, for good."""
        self._directory = None
        if self._file is not None:
            await self._file.close()
