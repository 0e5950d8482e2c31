"""What was handled, on its way into the agent's file: written there together, where handlers end one after the other.

A transaction of the file costs more than most handlers. Messages of one sender whose handler awaits something end one
in each turn of the loop, and each would have a transaction of its own. So that such a one is handled is noted where its
beginning is (:mod:`trishula.session.begun`), in a few bytes that outlive the process as the file does, and it goes into
the file with all that end within :data:`~trishula.messaging.acks.GATHER_S`, as their acks go to the node. What an
earlier run noted and had no time to write, the next one finds there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from trishula.messaging.acks import GATHER_S
from trishula.messaging.agent_file import AgentFile
from trishula.runtime.surroundings import Clock, Timer
from trishula.session.begun import Begun

__all__ = ["GatheredMemory"]

#: After a failed write, in seconds. Until one succeeds, nothing more is gathered: the places for notes are few.
_RETRY_S = 1.0


class GatheredMemory:
    """See the module's docstring; an :class:`~trishula.messaging.deduplication.InboxFile`.

    Args:
        file: the agent's.
        begun: where it is noted meanwhile.
        clock: timers.
        wake: called when something is to be written at the end of this turn.
    """

    def __init__(self, file: AgentFile, begun: Begun, clock: Clock, wake: Callable[[], object]) -> None:
        self._file = file
        self._begun = begun
        self._clock = clock
        self._wake = wake
        # Of messages whose handler has just ended: where that it began is noted.
        self._ended: dict[tuple[str, str], int] = {}
        # In the order in which they came: a message may be remembered and forgotten.
        self._changes: list[partial[None]] = []
        self._notes: list[int] = []
        self._timer: Timer | None = None
        self._is_failing = False

    def ended(self, sender: str, message_id: str, note: int) -> None:
        """The handler of a message ended, and its note is free when that is on record; :meth:`remember` comes next."""
        self._ended[(sender, message_id)] = note

    def remember(self, sender: str, message_id: str, at_ms: int, content: int | None = None) -> None:
        """A message of an agent is handled."""
        note = self._ended.pop((sender, message_id), 0)
        if content is not None and not self._is_failing and self._begun.handled(note, content):
            self._changes.append(partial(self._file.remember, sender, message_id, at_ms, content))
            self._notes.append(note)
            if self._timer is None:
                self._timer = self._clock.callLater(GATHER_S, self._write)
            return
        self._pass_on()
        self._file.remember(sender, message_id, at_ms, content)
        if note:
            self._begun.end(note)
            self._wake()

    def forget(self, sender: str, message_id: str) -> None:
        """It is not remembered any more."""
        if self._changes:
            self._changes.append(partial(self._file.forget, sender, message_id))
        else:
            self._file.forget(sender, message_id)

    def _pass_on(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            change()

    def _write(self) -> None:
        self._timer = None
        self._pass_on()
        self._is_failing = not self._file.commit()
        if self._is_failing:
            self._timer = self._clock.callLater(_RETRY_S, self._write)
            return
        for note in self._notes:
            self._begun.end(note)
        self._notes.clear()

    def close(self) -> None:
        """Hand the file what is left; it is about to be closed."""
        self._pass_on()
        self.vanish()

    def vanish(self) -> None:
        """Write nothing more, as a killed process does."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
