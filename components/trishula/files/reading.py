"""Messages that come as files: from an agent's inbox to its handlers, and what becomes of the file then.

A file is read, and *in hand* until its message is settled. It is a delivery like those of a node, with a token of its
own: the handler's end, or the memory of ids if a node was faster, settles the file, which goes to the archive after
that is on record. A message whose handler failed comes again, five times at most; then its file is rejected.

At most a window of files is with the handlers at a time, the rest waits here, those of a sender in the order of their
time and number. The inbox is looked at every second while there is no node, and every five seconds while there is one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from trishula.contract.addresses import agent_of
from trishula.contract.deliveries import Delivery
from trishula.errors import FolderUnusable, TrishulaError
from trishula.files.errands import Errands
from trishula.files.mail_folder import Arrived, MailFolder
from trishula.messaging.second_road import PREFIX
from trishula.runtime.backoff import Backoff
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Clock, Timer

__all__ = ["Reading"]

#: Between two looks into the inbox, in seconds: without a session, with one, and while files there may still grow.
_ALONE_S = 1.0
_LIVE_S = 5.0
_SETTLING_S = 0.5
#: As nodes do it.
_ATTEMPTS = 5
_RETRY = Backoff(first_s=1.0, factor=2.0, cap_s=60.0)


class Reading:
    """See the module's docstring.

    Args:
        take: gets the deliveries.
        folder: where the files are.
        errands: does what blocks.
        clock, now_ms, random: for looks and pauses.
        window: how many messages may be in the agent's hands at a time.
        complain: says once in a while that the folder can't be used.
    """

    def __init__(
        self,
        take: Callable[[list[Delivery]], object],
        folder: MailFolder,
        errands: Errands,
        clock: Clock,
        now_ms: Callable[[], int],
        random: Callable[[], float],
        window: int,
        complain: Callable[[TrishulaError], object],
    ) -> None:
        self._take = take
        self._folder = folder
        self._errands = errands
        self._clock = clock
        self._now_ms = now_ms
        self._random = random
        self._window = window
        self._begun_before: frozenset[tuple[str, str]] = frozenset()
        self._complain = complain
        # Files that were read and are not settled, each with the times that it was given back.
        self._failures: dict[str, int] = {}
        self._arrived: dict[str, Arrived] = {}
        self._waiting: deque[Arrived] = deque()
        self._in_hand: set[str] = set()
        self._done: list[str] = []
        self._scans = False
        self._is_over = False
        self._is_live = False
        #: Told of each canary that came, by its id.
        self.canary_came: Callable[[str], object] = lambda canary: None
        self._timer: Timer | None = None

    def begin(self, begun_before: Iterable[tuple[str, str]]) -> None:
        """Look into the inbox from now on.

        Args:
            begun_before: (sender, id) of what an earlier run of the agent had begun and not ended.
        """
        self._begun_before = frozenset((agent_of(sender), message_id) for sender, message_id in begun_before)
        self._scan()

    def stop(self) -> None:
        """Look no more, and hand out nothing; what is settled by now is still put away."""
        self._is_over = True
        self._waiting.clear()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def has_session(self, is_live: bool) -> None:
        """Whether there is a session; without one the inbox is looked at more often."""
        self._is_live = is_live
        if not is_live and self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._timer = self._clock.callLater(_ALONE_S, self._scan)

    # -- in ------------------------------------------------------------------------------------------------------------

    def _scan(self) -> None:
        self._timer = None
        if self._is_over or self._scans:
            return
        self._scans = True
        known, now_ms = set(self._failures), self._now_ms()
        self._errands.do(lambda: self._folder.read(known, now_ms), self._came)

    def _came(self, outcome: Pending[list[Arrived]]) -> None:
        self._scans = False
        if self._is_over:
            _ = outcome.error
            return
        pause_s = _LIVE_S if self._is_live else _ALONE_S
        if isinstance(outcome.error, FolderUnusable):
            self._complain(outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        else:
            arrived = outcome.result()
            for canary in self._folder.canaries.take():
                self.canary_came(canary)
            for one in arrived:
                self._failures[one.name] = 0
                self._arrived[one.name] = one
            self._waiting.extend(arrived)
            if self._folder.is_changing:
                pause_s = _SETTLING_S
        self._timer = self._clock.callLater(pause_s, self._scan)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and len(self._in_hand) < self._window and not self._is_over:
            one = self._waiting.popleft()
            self._in_hand.add(one.name)
            message, failures = one.message, self._failures[one.name]
            key = agent_of(message.sender or ""), message.id
            # An earlier run may have begun it: many short handlers run between two writings of the agent's file.
            attempt = 1 + failures + (one.is_again or key in self._begun_before)
            self._take([Delivery(message, attempt, PREFIX + one.name, one.signature)])

    # -- what becomes of a file ----------------------------------------------------------------------------------------

    def settled(self, token: str) -> None:
        """A message is handled; its file is put away at the next :meth:`flush`."""
        self._done.append(token.removeprefix(PREFIX))

    def flush(self) -> None:
        """It is on record what was handled: put its files away."""
        if self._done:
            done, self._done = self._done, []
            now_ms = self._now_ms()
            self._errands.do(lambda: self._folder.archive(done, now_ms), lambda outcome: self._away(done, outcome))

    def _away(self, names: list[str], outcome: Pending[None]) -> None:
        if isinstance(outcome.error, FolderUnusable):
            # It is read again, known, and put away then.
            self._complain(outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        self._let_go(names)

    def _let_go(self, names: list[str]) -> None:
        for name in names:
            self._failures.pop(name, None)
            self._arrived.pop(name, None)
            self._in_hand.discard(name)
        self._hand_out()

    def given_back(self, token: str, reason: str, requeue: bool) -> None:
        """A message was not handled: it comes again, or its file is rejected."""
        name = token.removeprefix(PREFIX)
        if self._is_over or name not in self._failures:
            return
        self._failures[name] += 1
        failures = self._failures[name]
        if requeue and failures < _ATTEMPTS:
            self._clock.callLater(_RETRY.pause_s(failures - 1, self._random), self._again, name)
            return
        sentence = reason if not requeue else f"it failed {failures} times, the last time so: {reason}"
        self._errands.do(lambda: self._folder.reject(name, sentence), lambda outcome: self._away([name], outcome))

    def _again(self, name: str) -> None:
        self._in_hand.discard(name)
        one = self._arrived.get(name)
        if one is not None and not self._is_over:
            self._waiting.appendleft(one)
            self._hand_out()
