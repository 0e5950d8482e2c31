"""Order among the messages of one sender: while an ordered handler has one of them, the later ones wait in its *lane*.

A lane is there as long as a handler is busy with a message of its sender; senders don't wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trishula.consumer.handlers import Handler
from trishula.consumer.jobs import Key, key_of
from trishula.contract.deliveries import Delivery
from trishula.runtime.pending import Pending

__all__ = ["Lanes"]


class Lanes:
    """See the module's docstring.

    Args:
        run: runs a handler; returns what is still to come of it, if it is not through yet.
        emptied: called when the last message of a lane is through.
    """

    def __init__(
        self, run: Callable[[Delivery, Handler], Pending[object] | None], emptied: Callable[[], object]
    ) -> None:
        self._run = run
        self._emptied = emptied
        self._lanes: dict[str, deque[tuple[Delivery, Handler]]] = {}

    def put(self, delivery: Delivery, handler: Handler) -> None:
        """Run the handler, now or when those of the same sender that came before are through."""
        sender = delivery.message.sender or ""
        lane = self._lanes.get(sender)
        if lane is not None:
            lane.append((delivery, handler))
            return
        job = self._run(delivery, handler)
        if job is not None:
            self._lanes[sender] = deque()
            job.when_done(lambda _: self._next(sender))

    def _next(self, sender: str) -> None:
        lane = self._lanes.pop(sender)
        while lane:
            job = self._run(*lane.popleft())
            if job is not None:
                self._lanes[sender] = lane
                job.when_done(lambda _: self._next(sender))
                return
        self._emptied()

    def recall(self, key: Key) -> bool:
        """Take a message out that is not to run; whether it was waiting."""
        for lane in self._lanes.values():
            for waiting in lane:
                if key_of(waiting[0].message) == key:
                    lane.remove(waiting)
                    return True
        return False

    def clear(self) -> list[Delivery]:
        """Take all out that waits."""
        waiting = [delivery for lane in self._lanes.values() for delivery, _ in lane]
        for lane in self._lanes.values():
            lane.clear()
        return waiting
