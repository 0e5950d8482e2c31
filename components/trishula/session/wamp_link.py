"""One joined session: what may be asked on it, and for how long; see :class:`trishula.session.transport.Link`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from autobahn.wamp.exception import ApplicationError, SerializationError, TransportLost
from autobahn.wamp.types import PublishOptions, RegisterOptions
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from trishula.contract.uris import AGENT_PREFIX, DIRECTORY_BEAT, MAILBOX_WORKING
from trishula.errors import (
    PayloadNotJson,
    RemoteError,
    TrishulaError,
)
from trishula.runtime.pending import Pending, rejected
from trishula.runtime.surroundings import Clock, Timer
from trishula.session.transport import AnswerLate, Ending, Endpoint, LinkLost
from trishula.session.wamp_errors import error_of_answer, error_to_wire

__all__ = ["ATTEMPT_TIMEOUT_S", "Carrier", "WampLink"]

#: From the first SYN to a joined session. The next node doesn't wait so long for a host that answers nothing at all.
ATTEMPT_TIMEOUT_S = 5.0

#: What a handler says before it blocks the loop: it is on its way when the verb returns.
_AT_ONCE = frozenset({MAILBOX_WORKING, DIRECTORY_BEAT})


class Carrier(Protocol):
    """What carries a session: one try to join a node (:mod:`trishula.session.connection`)."""

    def mark_sent(self) -> int:
        """Where what was sent until now ends."""

    def is_busy_with(self, position: int) -> bool:
        """Whether what was sent before a position is still on its way, or something long is on its way to us."""

    def push(self) -> None:
        """Hand what was said until now to the kernel."""

    def served(self) -> None:
        """The node answered something on this session."""

    def call_ended(self) -> None:
        """A call on the session is through, ours or one that was made of us."""

    def drop(self, error: TrishulaError) -> None:
        """End the session as if the network had."""


class WampLink:
    """One joined session; see :class:`trishula.session.transport.Link`."""

    __slots__ = ("_carrier", "_clock", "_is_served", "_session", "ending", "under_way", "url")

    def __init__(self, url: str, session: Any, clock: Clock, carrier: Carrier) -> None:
        self.url = url
        self.under_way = 0
        self.ending: Ending | None = None
        self._session = session
        self._clock = clock
        self._carrier = carrier
        self._is_served = False

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        # How long to wait for an agent's procedure its caller has decided.
        is_strict = uri.startswith(AGENT_PREFIX)
        answer = self._request(
            uri, lambda: self._session.call(uri, *args, **(kwargs or {})), timeout_s, is_strict=is_strict
        )
        if uri in _AT_ONCE:
            self._carrier.push()
        return answer

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        return self._request(topic, lambda: self._session.subscribe(handler, topic), ATTEMPT_TIMEOUT_S)

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        def invoked(*args: Any, **kwargs: Any) -> Deferred[Any]:
            self.under_way += 1
            return endpoint(args, kwargs).deferred().addBoth(self._through).addErrback(error_to_wire)

        # A node that has not noticed yet that our last session is dead still holds its registration.
        options = RegisterOptions(force_reregister=True)
        return self._request(uri, lambda: self._session.register(invoked, uri, options=options), ATTEMPT_TIMEOUT_S)

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        options = PublishOptions(acknowledge=True)
        return self._request(topic, lambda: self._session.publish(topic, *args, options=options), ATTEMPT_TIMEOUT_S)

    def drop(self) -> None:
        self._carrier.drop(LinkLost(f"the session with {self.url} was given up"))

    def _request(
        self, uri: str, begin: Callable[[], Deferred[Any]], timeout_s: float | None, *, is_strict: bool = False
    ) -> Pending[Any]:
        try:
            deferred = begin()
        except SerializationError as error:
            return rejected(PayloadNotJson(f"what was to be sent to {uri} can't be written: {error}"))
        except TransportLost:
            return rejected(LinkLost(f"the connection to {self.url} was lost before {uri} was asked"))
        pending = _Request(self, deferred)
        self.under_way += 1
        timer: Timer | None = None
        position = self._carrier.mark_sent()

        def late(wait_s: float) -> None:
            nonlocal timer
            if not is_strict and self._carrier.is_busy_with(position):
                # On a slow line the question or the answer takes as long as it takes.
                timer = self._clock.callLater(wait_s, late, wait_s)
            else:
                self.give_up(deferred)

        if timeout_s is not None:
            timer = self._clock.callLater(timeout_s, late, timeout_s)

        def answered(value: object) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            if not self._is_served:
                self._is_served = True
                self._carrier.served()
            pending.resolve(value)

        def failed(failure: Failure) -> None:
            if timer is not None and timer.active():
                timer.cancel()
            pending.reject(self._error_of_call(uri, timeout_s, failure))

        deferred.addCallbacks(answered, failed).addBoth(self._through)
        return pending

    def _through(self, outcome: Any) -> Any:
        self.under_way -= 1
        if self.under_way == 0:
            self._carrier.call_ended()
        return outcome

    def give_up(self, deferred: Deferred[Any]) -> None:
        """Wait no longer for an answer."""
        if self._session.is_attached():
            # Autobahn sends a CANCEL, so that a long poll doesn't go on for nobody.
            with contextlib.suppress(TransportLost):
                deferred.cancel()

    def _error_of_call(self, uri: str, timeout_s: float | None, failure: Failure) -> BaseException:
        error = failure.value
        if isinstance(error, TrishulaError):
            return error
        if isinstance(error, TransportLost):
            return LinkLost(f"the connection to {self.url} was lost before {uri} answered")
        if isinstance(error, CancelledError):
            return AnswerLate(f"{uri} did not answer within {timeout_s:g} s")
        if isinstance(error, ApplicationError):
            return error_of_answer(uri, error)
        return RemoteError(f"{uri} failed: {error}", remote_uri=type(error).__name__)


class _Request(Pending[Any]):
    """The outcome of a question on a link."""

    __slots__ = ("_deferred", "_link")

    def __init__(self, link: WampLink, deferred: Deferred[Any]) -> None:
        super().__init__()
        self._link = link
        self._deferred = deferred

    def cancel(self) -> None:
        if not self.done:
            self._link.give_up(self._deferred)
