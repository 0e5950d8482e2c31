"""The end of a client's session that the node has decided on: at once, whatever the client does.

Crossbar's ``wamp.session.kill`` says GOODBYE and waits for the client's own. A client that ignores GOODBYE went on as
if nothing had happened: it sent, attached and got its messages until somebody closed the socket. Here a session that is
expelled is told why, and from that instant nothing that it says is heard but its GOODBYE, and nothing more is sent to
it. Its socket is closed when it says GOODBYE, or when :data:`GRACE_S` are over.

Rejected: to close the socket at once. What the client has sent meanwhile and nobody reads makes the kernel send a
reset, which takes the GOODBYE with it; a client that was taken over would not know so, and would join again.

It reaches into private names of Crossbar (``Router._session_id_to_session``, ``RouterSession._transport``).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

__all__ = ["GRACE_S", "expel"]

#: For the GOODBYE of a client that knows what that is; over a slow line it is a round trip.
GRACE_S = 1.0

#: WAMP's number of that message.
_GOODBYE = 6


def expel(
    transport: object, session: int, uri: str, sentence: str, call_later: Callable[[float, Callable[[], None]], object]
) -> bool:
    """End a session of the router that ``transport`` leads into.

    Args:
        transport: of an embedded session, as Crossbar makes it.
        session: whose end it is: a WAMP session id.
        uri, sentence: what it is told.
        call_later: a timer: seconds, and what to do then.

    Returns:
        Whether there was such a session; it may have gone by itself.
    """
    sessions: dict[int, Any] = transport._router._session_id_to_session  # type: ignore[attr-defined]
    router_session = sessions.get(session)
    if router_session is None or router_session._transport is None:
        return False
    line = router_session._transport
    if not router_session._goodbye_sent:
        router_session.leave(uri, sentence)
    line.send = _send_nothing
    hear = router_session.onMessage

    def hear_goodbye(self: Any, message: object) -> None:
        if getattr(message, "MESSAGE_TYPE", None) == _GOODBYE:
            hear(message)
            if line.isOpen():
                line.close()

    router_session.onMessage = types.MethodType(hear_goodbye, router_session)
    call_later(GRACE_S, lambda: _abort(router_session, line))
    return True


def _send_nothing(message: object) -> None:
    """In place of the transport's way of sending."""


def _abort(router_session: Any, line: Any) -> None:
    # Crossbar forgets it when the socket is closed.
    if router_session._transport is line:
        line.transport.abortConnection()
