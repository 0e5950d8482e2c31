"""The watch over an agent's loop: a handler that blocks it is named in the log while it does.

While the loop's thread is in a handler nothing else of the agent runs: no other handler, no heartbeat, no answer to a
ping, so that after some seconds its node takes it for frozen. Its author sees none of that; so a thread of its own
(:class:`Watch`) asks the loop each second for an answer, and after :data:`BLOCKED_S` without one says which handler the
loop is in, with which message, and at which line it stands.

:class:`Blockage` decides, and is never to blame a handler for what happened to the whole process. A process that was
stopped (SIGSTOP, a suspended machine, a debugger from outside) looks late itself; it has used no processor time
meanwhile, unlike a handler that kept the interpreter to itself. A debugger inside of the process is seen in the stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from enum import Enum
from types import FrameType

__all__ = ["BLOCKED_S", "Blockage", "Watch", "Word"]

_log = logging.getLogger("trishula")

#: How often the loop is asked.
LOOK_S = 1.0
#: After so long without an answer the loop is blocked. A node ends the session of who is silent for 4.5 s.
BLOCKED_S = 2.0
#: A look that comes so much later than it should says that the process stood still, or that its threads did.
_LATE_S = 1.0
#: What debuggers that run inside of the process are made of; the names of modules begin so.
_DEBUGGERS = ("bdb", "pdb", "pydevd", "_pydevd", "debugpy", "ptvsd", "IPython.core.debugger")


class Word(Enum):
    """What a look comes to."""

    ASK = "ask the loop"
    WAIT = "wait"
    BLOCKED = "it is blocked"
    FREE = "it runs again"


class Blockage:
    """Whether the loop is blocked, as a look each second shows.

    Attributes:
        blocked_s: how long it has not answered.
    """

    def __init__(self, now_s: float, cpu_s: float) -> None:
        self.blocked_s = 0.0
        self._looked_s = now_s
        self._cpu_s = cpu_s
        # When the loop was asked; None when it has answered.
        self._asked_s: float | None = None
        self._told = False

    def look(self, now_s: float, cpu_s: float, *, answered: bool) -> Word:
        """What this look comes to.

        Args:
            now_s: the clock for spans.
            cpu_s: the processor time of the process.
            answered: whether the loop has answered the question before.
        """
        gap_s, used_s = now_s - self._looked_s, cpu_s - self._cpu_s
        self._looked_s, self._cpu_s = now_s, cpu_s
        if self._asked_s is None:
            self._asked_s = now_s
            return Word.ASK
        if answered:
            self.blocked_s = now_s - self._asked_s
            self._asked_s = now_s
            if self._told:
                self._told = False
                return Word.FREE
            return Word.ASK
        if gap_s > LOOK_S + _LATE_S and used_s < gap_s / 2:
            # What was asked before says nothing any more.
            self._asked_s = now_s
        self.blocked_s = now_s - self._asked_s
        if self.blocked_s >= BLOCKED_S and not self._told:
            self._told = True
            return Word.BLOCKED
        return Word.WAIT


class Watch:
    """The thread; made and started in the loop's thread.

    Args:
        whose: the agent's name.
        ask_loop: has a function called in the loop's thread; it may be called in any thread.
        at_work: which handler the loop's thread is in, given the asyncio task that it is in.
    """

    def __init__(
        self,
        whose: str,
        ask_loop: Callable[[Callable[[], object]], object],
        at_work: Callable[[object], str | None],
    ) -> None:
        self._whose = whose
        self._ask_loop = ask_loop
        self._at_work = at_work
        self._watched = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        self._over = threading.Event()
        self._answered = threading.Event()
        # Who was in the way when it was said; the same one is named when that is over.
        self._culprit = ""
        # A daemon: a program that ends without a word to its agent need not wait for it.
        threading.Thread(target=self._run, name=f"trishula-watch-{whose}", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()

    def _run(self) -> None:
        blockage = Blockage(time.monotonic(), time.process_time())
        while not self._over.wait(LOOK_S):
            word = blockage.look(time.monotonic(), time.process_time(), answered=self._answered.is_set())
            if word is Word.BLOCKED:
                self._tell(blockage.blocked_s)
            elif word is not Word.WAIT:
                if word is Word.FREE and self._culprit:
                    _log.warning(
                        "The loop of %s runs again, after %.0f s in %s", self._whose, blockage.blocked_s, self._culprit
                    )
                self._answered.clear()
                try:
                    self._ask_loop(self._answered.set)
                except RuntimeError:
                    # The loop has ended without a word to its agent.
                    return

    def _tell(self, blocked_s: float) -> None:
        frame = sys._current_frames().get(self._watched)
        place = None if frame is None else _place(frame)
        self._culprit = ""
        if place is None:
            return
        task = None if self._loop is None else asyncio.current_task(self._loop)
        name = self._at_work(task)
        self._culprit = f"the handler {name}" if name is not None else "code that is none of its handlers"
        _log.warning(
            "The loop of %s has been blocked for %.0f s by %s, at %s: nothing else of the agent runs meanwhile, and a "
            "node ends the session of an agent that is silent for some seconds. Declare a handler that blocks with "
            "thread=True, or await instead of blocking",
            self._whose,
            blocked_s,
            self._culprit,
            place,
        )


def _place(frame: FrameType) -> str | None:
    """Where a thread stands, for people; ``None`` if it waits for events, or somebody debugs it.

    The innermost line that is not the standard library's: that of ``time.sleep`` or of a socket helps nobody.
    """
    place = None
    # Others wait by selectors too: subprocess, for one.
    innermost, caller = (_module_of(one) for one in (frame, frame.f_back))
    if innermost == "twisted.internet.epollreactor" or (innermost, caller) == ("selectors", "asyncio.base_events"):
        return None
    step: FrameType | None = frame
    while step is not None:
        name = _module_of(step)
        if name.startswith(_DEBUGGERS):
            return None
        if place is None and name.partition(".")[0] not in sys.stdlib_module_names:
            place = f"{step.f_code.co_filename}:{step.f_lineno}"
        step = step.f_back
    return place or f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _module_of(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))
