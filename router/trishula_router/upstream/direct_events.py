"""Send an event to one session where it is, instead of by a publication that the router hands out.

A delivery goes to one session, on a topic of its own. Crossbar takes a publication of an embedded component as it takes
any: it asks for the permission, looks for receivers and leaves out all but the eligible one, and puts a dozen debug
lines together before it doesn't write them. Measured on two cores: a message on its own, sent, pushed and acknowledged,
took 730 µs of the worker's time that way and takes 545 µs so. What arrives is the same event.

It is an :class:`Event` of ours: Autobahn's, which can be anybody's, looks at two dozen values that it doesn't have each
time that one is made, and again when it is written, which takes longer than to write what it has.

It reaches into private names of Crossbar (26.10.1: ``RouterApplicationSession._router``, ``Router._broker``,
``Broker._subscription_map``, ``Router._session_id_to_session``); if they are not as expected, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from trishula_router.upstream.crossbar_parts import Parts, has

__all__ = ["DirectEvents", "Event"]

log = Logger()

#: WAMP's number of the message.
_EVENT = 36


class Event:
    """An event as it travels, in place of Autobahn's message; under its name, by which Crossbar counts messages."""

    __slots__ = ("_told",)

    def __init__(
        self,
        subscription: int,
        publication: int,
        *,
        args: list[object],
        publisher: int,
        publisher_authid: str,
        publisher_authrole: str,
    ) -> None:
        details = {
            "publisher": publisher,
            "publisher_authid": publisher_authid,
            "publisher_authrole": publisher_authrole,
        }
        self._told = [_EVENT, subscription, publication, details, args]

    def serialize(self, codec: Any) -> bytes:
        """What goes over the wire, by Autobahn's serializer of objects."""
        return bytes(codec.serialize(self._told))

    def __repr__(self) -> str:
        return f"Event({self._told[1:]})"


class DirectEvents:
    """See the module's docstring.

    Args:
        publisher: the embedded session, whose events they are.
        make_event: :class:`Event`, or Autobahn's class of the message.
        new_id: numbers of publications.
    """

    def __init__(self, publisher: Any, make_event: Callable[..., Any], new_id: Callable[[], int]) -> None:
        self._publisher = publisher
        self._make_event = make_event
        self._new_id = new_id
        self._router: Any = None
        self._sessions: dict[int, Any] = {}
        self._subscription_of: Callable[[str], Any] = lambda topic: None

    def install(self, transport: object) -> bool:
        """Find the way in the router that the embedded session's ``transport`` leads into.

        Returns:
            Whether Crossbar is as expected; if not, :meth:`send` sends nothing.
        """
        parts = Parts.behind(transport)
        router = parts.router
        if not has(router, verbs=("send",), tables=("_session_id_to_session",)):
            return False
        if not has(parts.topics, verbs=("get_observation",)):
            return False
        self._router, self._sessions = router, router._session_id_to_session
        self._subscription_of = parts.topics.get_observation
        return True

    def send(self, topic: str, session: int, argument: object) -> bool:
        """Send an event with one argument to a session, if it listens.

        Returns:
            Whether that could be done this way: ``False`` if Crossbar is not as expected.
        """
        if self._router is None:
            return False
        receiver, subscription = self._sessions.get(session), self._subscription_of(topic)
        if receiver is None or subscription is None or receiver not in subscription.observers:
            # As with a publication that nobody hears.
            return True
        source = self._publisher
        event = self._make_event(
            subscription.id,
            self._new_id(),
            args=[argument],
            publisher=source._session_id,
            publisher_authid=source._authid,
            publisher_authrole=source._authrole,
        )
        try:
            self._router.send(receiver, event)
        except Exception:
            # Too large for what the client takes, not to be written in its format, or its socket closes just now.
            log.failure("an event for session {session} could not be sent", session=session)
        return True
