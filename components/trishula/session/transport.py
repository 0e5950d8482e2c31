"""What a client needs of a connection, as an interface.

:mod:`trishula.session.connection` is the real one; tests, and the bus in memory for tests, play another.

A *connection* keeps joining nodes until it is stopped; each time it succeeds it hands a *link* (one joined session) to
its *listener*. While it is joined to a node that is not the preferred one, it may offer a second link, to move to.

What is said on a link is *packed* before (:mod:`trishula.contract.payload`): an argument, or an item of a list in an
argument, may be a :class:`msgspec.Raw` that holds MessagePack, and is sent as it is. Over a link that speaks JSON it is
read back first (:func:`unpacked`).

What fails on a link fails with a typed error: :class:`LinkLost` and :class:`AnswerLate` for what the client itself must
deal with, the classes of :mod:`trishula.errors` for everything that a node answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from trishula.errors import TrishulaError
from trishula.runtime.pending import Pending

__all__ = ["AnswerLate", "Connection", "Ending", "Endpoint", "Link", "LinkLost", "Listener", "unpacked"]

#: A registered procedure: positional and keyword arguments to an outcome.
Endpoint = Callable[[Sequence[Any], Mapping[str, Any]], Pending[Any]]


class LinkLost(TrishulaError):
    """The connection went before the answer came: whether the node has done it is not known."""

    temporary = True


class AnswerLate(TrishulaError):
    """No answer within the time limit: whether it was done, is being done or will be done is not known."""

    temporary = True


@dataclass(frozen=True, slots=True)
class Ending:
    """How a node ended a session, without a goodbye.

    Attributes:
        reason: what it said, or what was seen of it.
        is_told: whether it said that it can't take what it was sent.
    """

    reason: str
    is_told: bool


def unpacked(value: Any) -> Any:
    """A value with what is packed in it read back."""
    if isinstance(value, msgspec.Raw):
        return msgspec.msgpack.decode(value)
    if isinstance(value, list | tuple):
        return [unpacked(one) for one in value]
    if isinstance(value, dict):
        return {key: unpacked(one) for key, one in value.items()}
    return value


class Link(Protocol):
    """One joined session with one node."""

    @property
    def url(self) -> str:
        """The node's URL."""

    @property
    def ending(self) -> Ending | None:
        """How the node ended it; ``None`` before that, after a goodbye, and if we ended it or the network did."""

    def call(
        self, uri: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Pending[Any]:
        """Call a procedure.

        Rejected with :class:`LinkLost`, :class:`AnswerLate`, :class:`~trishula.errors.PayloadNotJson` if the arguments
        can't be written, or what the callee answered.
        """

    def subscribe(self, topic: str, handler: Callable[..., object]) -> Pending[None]:
        """Receive a topic's events; their positional arguments are the handler's."""

    def register(self, uri: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure, also if an older session of the same agent still holds it."""

    def publish(self, topic: str, args: Sequence[Any]) -> Pending[None]:
        """Publish an event; resolved when the router has taken it, which doesn't mean that anybody got it."""

    def drop(self) -> None:
        """End this session as if the network had; the connection joins anew."""


class Listener(Protocol):
    """Who hears what becomes of a connection."""

    def link_joined(self, link: Link) -> None:
        """There is a session."""

    def link_lost(self, error: TrishulaError) -> None:
        """The session is gone; the connection goes on trying."""

    def link_offered(self, link: Link) -> None:
        """Beside the session there is one with a better node: set up what is needed on it and say ``moved``, or
        ``drop`` it and stay."""

    def link_withdrawn(self, error: TrishulaError) -> None:
        """The offered one is gone, before it was moved to."""

    def node_unreachable(self, url: str, error: TrishulaError, retry_in_s: float) -> None:
        """An attempt failed; the connection goes on trying."""

    def given_up(self, error: TrishulaError) -> None:
        """It is over, and trying again would not help: wrong token, or taken over."""


class Connection(Protocol):
    """Joins one of its nodes, again and again."""

    def start(self, listener: Listener) -> None:
        """Begin to try."""

    def moved(self) -> None:
        """The offered link is the session now; the one before it goes when its calls are through."""

    def stop(self) -> Pending[None]:
        """Leave cleanly and stop trying; resolved when the socket is closed."""
