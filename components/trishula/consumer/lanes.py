"""Order among the messages of one sender: while an ordered handler has one of them, the later ones wait in its *lane*.

A lane is there as long as a handler is busy with a message of its sender; senders don't wait for each other.

What was awaited when a message came goes on before the message's handler begins: the one who sent a question has the
receipt before the answer is handled. An asyncio task that begins in a later turn of the loop keeps to that; two turns
for each message of a lane are slow. So the first message of a lane begins in a later turn, and with the end of its task
the lane asks for one turn: in that turn begin, one behind the other and each at once, those that were in the lane when
the turn was asked for, and no later one. One that awaits something ends two turns later at the earliest: with its end
begin at once, and without a turn of their own, those that were in the lane when it began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial

from trishula.consumer.handlers import Handler
from trishula.consumer.jobs import Key, key_of
from trishula.contract.deliveries import Delivery
from trishula.runtime.pending import Pending, Running
from trishula.runtime.tasks import soon

__all__ = ["TURN_S", "Lanes"]

#: How long all lanes together may keep one turn of the loop with handlers that they begin at once, in seconds; each
#: lane begins one at least. So a slow handler holds the loop once a turn, as ever.
TURN_S = 0.005


class _Lane:
    """The messages of one sender that wait.

    Attributes:
        due: those that may begin in the next turn of the lane, or with the end of the task that runs.
        waiting: those that came later.
        context: in which the first message of the lane began; the others begin in the same.
    """

    __slots__ = ("context", "due", "waiting")

    def __init__(self) -> None:
        self.due: deque[tuple[Delivery, Handler]] = deque()
        self.waiting: deque[tuple[Delivery, Handler]] = deque()
        self.context: Context = copy_context()


class Lanes:
    """See the module's docstring.

    Args:
        run: runs a handler; told whether to begin it at once. Returns what is still to come of it, if it is not through
            yet.
        emptied: called when the last message of a lane is through.
        seconds: the clock for spans.
    """

    def __init__(
        self,
        run: Callable[[Delivery, Handler, bool], Pending[object] | None],
        emptied: Callable[[], object],
        seconds: Callable[[], float],
    ) -> None:
        self._run = run
        self._emptied = emptied
        self._seconds = seconds
        self._lanes: dict[str, _Lane] = {}
        # How many messages wait in all lanes.
        self._backlog = 0

    @property
    def backlog(self) -> int:
        """How many messages wait for those before them."""
        return self._backlog

    def put(self, delivery: Delivery, handler: Handler) -> None:
        """Run the handler, now or when those of the same sender that came before are through."""
        sender = delivery.message.sender or ""
        lane = self._lanes.get(sender)
        if lane is not None:
            lane.waiting.append((delivery, handler))
            self._backlog += 1
            return
        job = self._run(delivery, handler, False)
        if job is not None:
            self._lanes[sender] = lane = _Lane()
            job.when_done(partial(self._go_on, sender, lane))

    def _go_on(self, sender: str, lane: _Lane, ended: Pending[object] | None) -> None:
        """The one before is through; ``None``: those that began at once are, and so is their turn."""
        if lane.due and isinstance(ended, Running):
            lane.context.run(self._turn, sender, lane)
            return
        if lane.waiting:
            lane.due.extend(lane.waiting)
            lane.waiting.clear()
        if not lane.due:
            del self._lanes[sender]
            self._emptied()
        elif ended is None or isinstance(ended, Running):
            soon(partial(self._turn, sender, lane), lane.context)
        else:
            # It was no task, and there may be no loop.
            self._begin_next(sender, lane)

    def _turn(self, sender: str, lane: _Lane) -> None:
        until_s = self._seconds() + TURN_S / len(self._lanes)
        while lane.due:
            self._backlog -= 1
            job = self._run(*lane.due.popleft(), True)
            if job is not None:
                # What came until now has been here for two turns when it ends.
                lane.due.extend(lane.waiting)
                lane.waiting.clear()
                job.when_done(partial(self._go_on, sender, lane))
                return
            if self._seconds() >= until_s:
                break
        self._go_on(sender, lane, None)

    def _begin_next(self, sender: str, lane: _Lane) -> None:
        while waiting := lane.due or lane.waiting:
            self._backlog -= 1
            job = self._run(*waiting.popleft(), False)
            if job is not None:
                job.when_done(partial(self._go_on, sender, lane))
                return
        del self._lanes[sender]
        self._emptied()

    def recall(self, key: Key) -> bool:
        """Take a message out that is not to run; whether it was waiting."""
        for lane in self._lanes.values():
            for part in (lane.due, lane.waiting):
                for waiting in part:
                    if key_of(waiting[0].message) == key:
                        part.remove(waiting)
                        self._backlog -= 1
                        return True
        return False

    def clear(self) -> list[Delivery]:
        """Take all out that waits."""
        waiting = []
        for lane in self._lanes.values():
            for part in (lane.due, lane.waiting):
                waiting += [delivery for delivery, _ in part]
                part.clear()
        self._backlog = 0
        return waiting
