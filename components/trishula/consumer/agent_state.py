"""How an agent's file comes into use: where it is, whose it is, and what to do when it can't be used now.

Where: ``<state>/<agent>/agent.sqlite``; ``<state>`` is the argument ``state=``, else ``TRISHULA_AGENT_STATE``, else
``$XDG_STATE_HOME/trishula`` (``~/.local/state/trishula``). ``state=False`` keeps nothing, as scripts do. If nobody
named the place and it can't be written to, the agent runs without a file and says so once.

Most often the file is read before the agent joins. It has to wait until it has joined

* when another process uses it: that may be an older session of this very agent, which our joining ends;
* when it was written under another token. If the node's store is one that the file knows, the token was changed, and
  nothing else. If not, this is another bus: what is meant for the old one is neither sent to this one, nor are the ids
  handled there taken for this one's. The file is set aside, and comes back when the agent is back on that bus.

Meanwhile deliveries wait, and nothing is begun.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trishula.consumer.dispatcher import Dispatcher
from trishula.errors import StateBusy, StateUnusable
from trishula.homes import home_directory, state_directory
from trishula.messaging.engine import Engine
from trishula.runtime.surroundings import Surroundings
from trishula.runtime.waiting import sleep
from trishula.session.begun import Begun
from trishula.settings import Settings

if TYPE_CHECKING:
    from trishula.consumer.gathered_memory import GatheredMemory
    from trishula.messaging.agent_file import AgentFile, Saved

__all__ = ["OwnFile", "directory_of"]

_log = logging.getLogger("trishula")

#: How long an older session may take to let go of the file, after the node has told it that it is over.
_TAKEOVER_S = 10.0
_TAKEOVER_POLL_S = 0.05


def directory_of(
    agent: str, state: str | os.PathLike[str] | None, environ: Mapping[str, str], home: Path | None
) -> tuple[Path | None, bool]:
    """The directory of an agent's file, and whether somebody named the place.

    Raises:
        StateUnusable: the place that was named begins with a home directory that is unknown.
    """
    try:
        directory, is_named = state_directory(state, environ, home)
    except ValueError as error:
        raise StateUnusable(f"the agent's directory can't be used: {error}") from None
    return (None if directory is None else directory / agent), is_named


class OwnFile:
    """The file of one agent that runs.

    Args:
        settings: whose file it is, and under which token.
        state: a directory, ``None`` for the usual one, ``False`` for no file at all.
        around: for the file.
    """

    def __init__(self, settings: Settings, state: str | os.PathLike[str] | bool | None, around: Surroundings) -> None:
        self._agent = settings.agent
        self._bus = hashlib.sha256(f"bus of {settings.secret}".encode()).hexdigest()[:16]
        self._around = around
        self._file: AgentFile | None = None
        self._begun: Begun | None = None
        self._gathered: GatheredMemory | None = None
        self._saved: Saved | None = None
        self._waits = False
        self._directory: Path | None = None
        self._is_named = False
        if state is not False:
            place = None if state is None or state is True else state
            self._directory, self._is_named = directory_of(self._agent, place, os.environ, home_directory())
            if self._directory is None:
                self._do_without("there is no home directory")

    @property
    def waits(self) -> bool:
        """Whether the file can't be read before the agent has joined; until then nothing is begun."""
        return self._waits

    def begin(self, engine: Engine, dispatcher: Dispatcher) -> None:
        """Before it joins: read the file, if that can be done now.

        Raises:
            StateUnusable: the file is damaged, newer than this program, or the place that was named can't be used.
        """
        if self._directory is None:
            return
        try:
            self._open(self._directory)
        except StateBusy:
            self._waits = True
        else:
            if self._saved is None:
                return
            self._waits = self._saved.bus not in (None, self._bus)
        if self._waits:
            dispatcher.hold()
        else:
            self._use(engine, dispatcher)

    async def joined(self, engine: Engine, dispatcher: Dispatcher) -> None:
        """After it has joined: what had to wait.

        Raises:
            StateUnusable: as :meth:`begin`, and if another process doesn't let go of the file.
            TrishulaError: the engine has come to its end meanwhile; the file is left to others.
        """
        if not self._waits or self._directory is None:
            return
        deadline_s = self._around.clock.seconds() + _TAKEOVER_S
        while self._file is None:
            if engine.end is not None:
                raise engine.end
            try:
                self._open(self._directory)
            except StateBusy:
                if self._around.clock.seconds() >= deadline_s:
                    raise
                await sleep(self._around.clock, _TAKEOVER_POLL_S)
            else:
                if self._file is None:
                    break
        saved, attached = self._saved, engine.member.attached
        known = set() if saved is None else {epoch for epoch, _ in saved.nodes.values()}
        is_ours = saved is None or saved.bus in (None, self._bus)
        if saved is not None and not is_ours and (attached is None or attached.epoch not in known):
            await self._set_aside(self._directory, saved.bus or "")
        if self._file is not None:
            self._use(engine, dispatcher)
        self._waits = False
        dispatcher.release()

    async def close(self) -> None:
        """Write what is left, and let the file go."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            gathered.close()
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.close()
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    def vanish(self) -> None:
        """Let the file go as a killed process does: see :meth:`trishula.testing.Running.crash`."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            gathered.vanish()
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.close()
        file, self._file = self._file, None
        if file is not None:
            file.vanish()

    def _open(self, directory: Path) -> None:
        # Late: an agent without a file doesn't load SQLite.
        from trishula.messaging.agent_file import AgentFile

        try:
            self._file = AgentFile.open(directory, self._around)
            self._saved = self._file.load()
        except OSError as error:
            sentence = f"{directory} can't be used ({error.strerror or error})"
            if self._is_named:
                way_out = "make it writable, or name another with state= or TRISHULA_AGENT_STATE"
                if error.errno == errno.ENOSYS:
                    way_out = "run the agent without a file, by state=False"
                raise StateUnusable(f"the agent's directory {sentence}; {way_out}") from None
            self._do_without(sentence)

    def _do_without(self, reason: str) -> None:
        self._directory = None
        _log.warning(
            "%s runs without a file, for %s: what it has not sent yet and what it has handled is remembered only as "
            "long as this process lives; name a directory with state= or TRISHULA_AGENT_STATE",
            self._agent,
            reason,
        )

    def _use(self, engine: Engine, dispatcher: Dispatcher) -> None:
        file, saved = self._file, self._saved
        if file is None or saved is None:
            return
        if saved.bus != self._bus:
            file.note_bus(self._bus)
        begun = self._begun = Begun.open(file.path.parent, engine.run)
        # The memory first: what is left of an earlier run may be the reply to a message in it.
        if begun is None:
            dispatcher.remember_in(file, saved.handled)
        else:
            from trishula.consumer.gathered_memory import GatheredMemory

            self._gathered = GatheredMemory(file, begun, self._around.clock, engine.wake)
            dispatcher.remember_in(file, saved.handled, self._gathered, begun.left_handled)
            # Before the notes go.
            file.commit()
            if engine.member.attached is not None:
                # Too late: we have attached, and what was lost is judged.
                begun.told()
            engine.tell_begun(begun)
            dispatcher.note_in(begun)
        engine.keep_in(file, saved, dispatcher.done_of)
        # A long list, and it is the inbox's now.
        self._saved = None

    async def _set_aside(self, directory: Path, bus: str) -> None:
        """Another bus: its file comes, or a new one, and this one waits for its own."""
        await self.close()
        path = directory / "agent.sqlite"
        aside, ours = directory / f"agent.{bus}.sqlite", directory / f"agent.{self._bus}.sqlite"
        _log.warning(
            "%s is on another bus than before (neither its token nor the node's store is known here): what it has not "
            "sent to the other one stays in %s until it is back there",
            self._agent,
            aside,
        )
        try:
            path.rename(aside)
            if ours.exists():
                ours.rename(path)
        except OSError as error:
            raise StateUnusable(f"the agent's file {path} can't be set aside: {error}") from None
        self._open(directory)
