"""What a front door remembers beyond its process: the ids of the messages that its model is through with.

It is kept in a file like an agent's (:mod:`trishula.messaging.agent_file`), in a directory of its own below the
agent's, so that a program that runs as the same agent has its file to itself. One process at a time has it. A second
front door of the same agent, or one that has no place for a file, remembers as long as it lives: then a message whose
acknowledgement was lost together with the process is shown once more, and says that it may have been seen.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from trishula.consumer.agent_state import directory_of
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
        self.ids = Inbox()
        self._file: AgentFile | None = None
        if state is False:
            return
        place = None if state is True else state
        directory, _ = directory_of(settings.agent, place, os.environ, home_directory())
        if directory is not None:
            self._open(directory / _FOLDER, settings, around)

    def _open(self, directory: Path, settings: Settings, around: Surroundings) -> None:
        # Late: what keeps no file doesn't load SQLite.
        from trishula.messaging.agent_file import AgentFile

        try:
            file = AgentFile.open(directory, around)
        except (StateBusy, StateUnusable, OSError) as error:
            _log.warning("What is done is remembered only as long as this process lives: %s", error)
            return
        try:
            saved = file.load()
        except StateUnusable as error:
            file.vanish()
            _log.warning("What is done is remembered only as long as this process lives: %s", error)
            return
        bus = hashlib.sha256(f"bus of {settings.secret}".encode()).hexdigest()[:16]
        handled = saved.handled
        if saved.bus != bus:
            # Another bus may use the same ids for other messages.
            for agent, message_id, _, _ in handled:
                file.forget(agent, message_id)
            handled = []
            file.note_bus(bus)
        self._file = file
        self.ids.restore(file, handled)
        self.ids.forget(around.now_ms())
        file.commit()

    def commit(self) -> None:
        """Have what was noted outlive the process."""
        if self._file is not None:
            self._file.commit()

    async def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            await self._file.close()
