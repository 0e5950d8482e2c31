"""Being joined to one of the nodes: the loop around the attempts, without the WAMP in them.

Which node and when is decided in :mod:`trishula.session.reconnect_policy` and :mod:`trishula.session.failback_policy`;
how one node is joined is an :class:`Attempt` (the real one is in :mod:`trishula.session.connection`). At any time there
are

* the *race*: attempts of the round, side by side, until one has joined; the others are given up then;
* or the *session*: the attempt that has joined, until its socket is closed;
* and beside a session on a node that is not the first of the list, a *watch* on a better one. When it has lasted, it
  joins; the listener sets up what it needs on it and then says ``moved``: the watch is the session now, and the old
  one *retires*: it goes when its last calls are answered.

A takeover, of a node that we have left or are about to leave, is no end: it is by ourselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trishula.errors import TakenOver, TrishulaError
from trishula.runtime.backoff import Backoff
from trishula.runtime.pending import Pending
from trishula.runtime.surroundings import Surroundings, Timer
from trishula.session.failback_policy import Failback
from trishula.session.reconnect_policy import DEFAULT_BACKOFF, Rejoin
from trishula.session.transport import Link, Listener

__all__ = ["Attempt", "Joining", "Owner"]


class Attempt(Protocol):
    """One try to join one node, and the session that came of it, until its socket is closed."""

    @property
    def url(self) -> str:
        """The node's URL."""

    def begin(self, *, watching: bool) -> None:
        """Open the connection, and join unless it is only to be watched."""

    def join(self) -> None:
        """Join on a connection that is watched."""

    def leave(self) -> None:
        """Go away now: with a goodbye if there is a session."""

    def retire(self) -> None:
        """Go away when the calls that are under way are through."""


class Owner(Protocol):
    """Who hears what becomes of an attempt."""

    def attempt_opened(self, attempt: Attempt) -> None:
        """A connection that is only watched is open."""

    def attempt_joined(self, attempt: Attempt, link: Link) -> None:
        """It has joined."""

    def attempt_ended(self, attempt: Attempt, error: TrishulaError) -> None:
        """The socket is closed, or was never opened."""


class Joining:
    """See the module's docstring; plays :class:`trishula.session.transport.Connection`.

    Args:
        urls: the nodes, in order of preference.
        around: clocks and randomness.
        failback_s: for how long a better node must have been there before we go back to it; ``None`` for never.
        backoff: the pauses between rounds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        around: Surroundings,
        *,
        failback_s: float | None,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self._clock = around.clock
        self._rejoin = Rejoin(urls, random=around.random, backoff=backoff)
        self._failback = Failback(urls, after_s=failback_s, random=around.random)
        self._listener: Listener | None = None
        self._racing: list[Attempt] = []
        self._session: Attempt | None = None
        self._watch: Attempt | None = None
        # Whether the watch has joined and was offered to the listener.
        self._offered = False
        self._leaving: list[Attempt] = []
        self._timer: Timer | None = None
        self._watch_timer: Timer | None = None
        self._stopped: Pending[None] | None = None

    def attempt_at(self, url: str) -> Attempt:
        """A new attempt, not begun."""
        raise NotImplementedError

    # -- what the listener asks ----------------------------------------------------------------------------------------

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._race()

    def stop(self) -> Pending[None]:
        if self._stopped is None:
            self._stopped = Pending()
            self._stop_race_timer()
            self._stop_watch_timer()
            here = [*self._racing, *(one for one in (self._session, self._watch) if one is not None)]
            # The session stays ours, for its end is still to be told.
            for attempt in (*here, *self._leaving):
                attempt.leave()
            self._check_stopped()
        return self._stopped

    def moved(self) -> None:
        watch, old = self._watch, self._session
        if watch is None or not self._offered or self._stopped is not None:
            return
        self._watch, self._offered = None, False
        self._become(watch)
        if old is not None:
            self._leaving.append(old)
            old.retire()
        self._begin_watch()

    def _become(self, attempt: Attempt) -> None:
        """An attempt whose link was offered is the session now."""
        self._session = attempt
        now_s = self._clock.seconds()
        self._rejoin.joined(attempt.url, now_s)
        self._failback.moved(attempt.url, now_s)

    # -- the race ------------------------------------------------------------------------------------------------------

    def _race(self) -> None:
        """Have the next attempt made when it is due."""
        step = self._rejoin.attempt()
        if self._stopped is not None or self._session is not None or step is None:
            return
        url, pause_s = step
        if self._timer is not None and pause_s > 0:
            return
        self._stop_race_timer()
        if pause_s > 0:
            self._timer = self._clock.callLater(pause_s, self._due)
        else:
            self._try(url)

    def _due(self) -> None:
        self._timer = None
        step = self._rejoin.attempt()
        if step is not None:
            self._try(step[0])

    def _try(self, url: str) -> None:
        attempt = self.attempt_at(url)
        self._rejoin.begun(url)
        self._racing.append(attempt)
        attempt.begin(watching=False)
        if attempt in self._racing:
            self._race()

    # -- the watch -----------------------------------------------------------------------------------------------------

    def _begin_watch(self) -> None:
        step = self._failback.attempt()
        if self._stopped is None and self._session is not None and self._watch is None and step is not None:
            url, pause_s = step
            self._stop_watch_timer()
            self._watch_timer = self._clock.callLater(pause_s, self._open_watch, url)

    def _open_watch(self, url: str) -> None:
        self._watch_timer = None
        self._watch, self._offered = self.attempt_at(url), False
        self._watch.begin(watching=True)

    def _move(self) -> None:
        self._watch_timer = None
        if self._watch is not None:
            self._watch.join()

    # -- what attempts tell (Owner) ------------------------------------------------------------------------------------

    def attempt_opened(self, attempt: Attempt) -> None:
        if attempt is self._watch:
            self._watch_timer = self._clock.callLater(self._failback.watch_opened(), self._move)

    def attempt_joined(self, attempt: Attempt, link: Link) -> None:
        assert self._listener is not None
        if attempt is self._watch:
            self._offered = True
            self._listener.link_offered(link)
        elif attempt in self._racing:
            self._racing.remove(attempt)
            self._give_up_race()
            self._session = attempt
            now_s = self._clock.seconds()
            self._rejoin.joined(attempt.url, now_s)
            self._failback.joined(attempt.url, now_s)
            self._listener.link_joined(link)
            if self._session is attempt:
                self._begin_watch()
        else:
            attempt.leave()

    def attempt_ended(self, attempt: Attempt, error: TrishulaError) -> None:
        if attempt is self._watch:
            self._watch_ended(error)
        elif attempt is self._session:
            self._session_ended(error)
        elif attempt in self._racing:
            self._racing.remove(attempt)
            self._lost_race(attempt, error)
        elif attempt in self._leaving:
            self._leaving.remove(attempt)
        self._check_stopped()

    def _lost_race(self, attempt: Attempt, error: TrishulaError) -> None:
        assert self._listener is not None
        if self._stopped is not None:
            return
        final = self._rejoin.failed(attempt.url, error)
        if final is not None:
            self._end(final)
            return
        self._listener.node_unreachable(attempt.url, error, self._rejoin.pause_s)
        # The listener may have stopped us meanwhile.
        self._race()

    def _session_ended(self, error: TrishulaError) -> None:
        assert self._listener is not None
        now_s = self._clock.seconds()
        watch, offered = self._watch, self._offered
        self._session = None
        self._failback.lost(now_s)
        if self._stopped is not None:
            self._listener.link_lost(error)
            return
        if watch is not None and offered:
            # In the middle of a move: it goes on, to the only session that there is now.
            self._watch, self._offered = None, False
            self._become(watch)
            self._listener.link_lost(error)
            self._begin_watch()
            return
        self._rejoin.lost(now_s)
        is_over = isinstance(error, TakenOver) and not self._rejoin.doubts_takeover(now_s)
        self._stop_watch_timer()
        self._watch = None
        self._listener.link_lost(error)
        if is_over:
            if watch is not None:
                self._give_up(watch)
            self._end(error)
        elif watch is None or self._stopped is not None:
            self._race()
        else:
            # It is half of a join already.
            self._rejoin.begun(watch.url)
            self._racing.append(watch)
            watch.join()
            self._race()

    def _watch_ended(self, error: TrishulaError) -> None:
        assert self._listener is not None
        self._watch, offered = None, self._offered
        self._offered = False
        self._stop_watch_timer()
        if self._stopped is not None:
            return
        if offered:
            self._failback.move_failed()
            self._listener.link_withdrawn(error)
        else:
            self._failback.watch_failed()
        self._begin_watch()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self, error: TrishulaError) -> None:
        assert self._listener is not None
        if self._stopped is None:
            self.stop()
            self._listener.given_up(error)

    def _give_up(self, attempt: Attempt) -> None:
        self._leaving.append(attempt)
        attempt.leave()

    def _give_up_race(self) -> None:
        self._stop_race_timer()
        racing, self._racing = self._racing, []
        for attempt in racing:
            self._give_up(attempt)

    def _stop_race_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_watch_timer(self) -> None:
        if self._watch_timer is not None:
            self._watch_timer.cancel()
            self._watch_timer = None

    def _check_stopped(self) -> None:
        if self._stopped is not None and not (self._racing or self._session or self._watch or self._leaving):
            self._stopped.resolve(None)
