"""What one connection sends: no more under way than its line carries in a moment, the rest waits here. Policy, no I/O.

A frame that was handed to the kernel is out of our hands: a ping behind a megabyte is answered when the megabyte is
through, which on a line of 1 Mbit/s takes 8 s, and whoever waits two for the answer takes a busy peer for a dead one.
So data go out in frames of at most :attr:`Outflow.frame_bytes`, behind each stretch of them goes a *mark*, a ping of
ours, and only a *window* of bytes may lie between the last mark that was answered and the last byte that was sent. What
is beyond waits, and control frames (pings, pongs) pass it.

Why marks and not the kernel's own count of what its peer acknowledged: that peer may be a proxy, with megabytes of
buffers of its own before the slow line; and the kernel of a frozen process goes on to acknowledge. Any WebSocket peer
answers pings in order, whatever it is written in.

The window is what the line carries within :data:`DELAY_S` beside its own round trip, as the last answer shows. It
doubles at most with each answer, so a line that only ever had small messages is not trusted with much at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["MARK_BYTES", "Outflow"]

#: How long what is under way may take beside the round trip of the line: so long a ping of ours waits behind data.
DELAY_S = 0.5
#: A connection begins with this window, without knowing its line.
_FIRST_WINDOW_BYTES = 64 * 1024
_WINDOW_BYTES = (16 * 1024, 4 * 1024 * 1024)
#: At 64 kbit/s the smaller one takes 2 s; on a fast line fewer and larger ones cost less.
_FRAME_BYTES = (16 * 1024, 64 * 1024)
#: The payload of a mark: as many random bytes, so that nobody answers one that he has not read.
MARK_BYTES = 12


@dataclass(frozen=True, slots=True)
class _Mark:
    """A ping behind data.

    Attributes:
        payload: what the answer repeats.
        position: how many bytes were sent before it.
        sent_s: when.
        confirmed: how many bytes had been confirmed then.
    """

    payload: bytes
    position: int
    sent_s: float
    confirmed: int


class Outflow:
    """The data frames of one connection on their way out.

    Args:
        write: hands bytes to the socket.
        ping: sends a ping with a payload.
        word: so many random bytes.

    Attributes:
        window_bytes: how much may be unconfirmed.
        waiting_bytes: what waits for room in the window.
        offered_bytes: all that was ever to be sent.
        confirmed_bytes: how much of it the peer has received for sure.
        is_closed: whether nothing goes out any more.
    """

    __slots__ = (
        "_best_s",
        "_marked",
        "_marks",
        "_ping",
        "_sent",
        "_waiting",
        "_word",
        "_write",
        "confirmed_bytes",
        "is_closed",
        "offered_bytes",
        "waiting_bytes",
        "window_bytes",
    )

    def __init__(
        self,
        write: Callable[[bytes], object],
        ping: Callable[[bytes], object],
        word: Callable[[int], bytes],
    ) -> None:
        self._write = write
        self._ping = ping
        self._word = word
        self._waiting: deque[bytes] = deque()
        self._marks: deque[_Mark] = deque()
        self._sent = self._marked = 0
        # The shortest round trip so far.
        self._best_s = float("inf")
        self.window_bytes = _FIRST_WINDOW_BYTES
        self.waiting_bytes = 0
        self.offered_bytes = 0
        self.confirmed_bytes = 0
        self.is_closed = False

    @property
    def frame_bytes(self) -> int:
        """How large a frame of data may be."""
        return min(max(self.window_bytes // 4, _FRAME_BYTES[0]), _FRAME_BYTES[1])

    @property
    def unsent_bytes(self) -> int:
        """What is not known to have arrived: it waits, is on its way, or no mark has followed yet."""
        return self.offered_bytes - self.confirmed_bytes

    def stalled_since_s(self) -> float | None:
        """Since when the peer has owed an answer to a mark; ``None`` if it owes none."""
        return self._marks[0].sent_s if self._marks else None

    def offer(self, frame: bytes, now_s: float) -> None:
        """Send a frame of data, now or when there is room."""
        if self.is_closed:
            return
        self.offered_bytes += len(frame)
        if self._waiting or self._sent - self.confirmed_bytes >= self.window_bytes:
            self._waiting.append(frame)
            self.waiting_bytes += len(frame)
            self._mark_if_owed_nothing(now_s)
        else:
            self._send(frame, now_s)

    def is_moving(self, position: int) -> bool:
        """Whether the bytes before a position (of :attr:`offered_bytes`) are still on their way, as far as is known."""
        return self.confirmed_bytes < position and bool(self._waiting or self._marks)

    def answered(self, payload: bytes, now_s: float) -> None:
        """A pong came. One that answers none of our marks says nothing; one may stand for those before it."""
        if not any(mark.payload == payload for mark in self._marks):
            return
        while (mark := self._marks.popleft()).payload != payload:
            pass
        took_s = max(now_s - mark.sent_s, 1e-6)
        self._best_s = min(self._best_s, took_s)
        carries = (mark.position - mark.confirmed) / took_s * (DELAY_S + self._best_s)
        low, high = _WINDOW_BYTES
        self.window_bytes = int(min(max(carries, low), 2 * self.window_bytes, high))
        self.confirmed_bytes = mark.position
        while self._waiting and self._sent - self.confirmed_bytes < self.window_bytes:
            frame = self._waiting.popleft()
            self.waiting_bytes -= len(frame)
            self._send(frame, now_s)
        if self._waiting:
            self._mark_if_owed_nothing(now_s)

    def flush(self) -> None:
        """Hand over all that waits: what follows is the end of the connection, which may not pass it."""
        while self._waiting:
            self._write(self._waiting.popleft())
        self.waiting_bytes = 0

    def close(self) -> None:
        """Forget what waits and what is offered from now on: nobody will get it."""
        self.is_closed = True
        self._waiting.clear()
        self.waiting_bytes = 0

    def _send(self, frame: bytes, now_s: float) -> None:
        self._write(frame)
        self._sent += len(frame)
        # Often enough to see a slow line move, and seldom enough to cost a fast one nothing.
        stretch = max(_FRAME_BYTES[0], self.window_bytes // 4)
        if self._sent - self._marked >= stretch:
            self._mark(now_s)

    def _mark_if_owed_nothing(self, now_s: float) -> None:
        # What waits goes out with an answer, and the window may have shrunk below the stretch between two marks.
        if not self._marks:
            self._mark(now_s)

    def _mark(self, now_s: float) -> None:
        mark = _Mark(self._word(MARK_BYTES), self._sent, now_s, self.confirmed_bytes)
        self._marked = self._sent
        self._marks.append(mark)
        self._ping(mark.payload)
