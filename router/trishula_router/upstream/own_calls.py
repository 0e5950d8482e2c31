"""Take plain calls of the node's own procedures right from the frame that they came in.

Nearly all that agents ask of a node are such calls: sends and acks. Autobahn looks at two dozen values of each that it
doesn't have, and Crossbar hands it from the session to the router, and that to the dealer, with our own looks at it on
the way (:mod:`.asking`, :mod:`.requests`) before :mod:`.direct_calls` gets it. Measured on two cores with a hundred
agents that have one message each under way: an eighth of the worker's time went there.

Whatever speaks against a call (its id is in use, its session has enough calls or is being ended, the authorizer denies
it), the call goes the whole way after all, and is refused there with the words that are used there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from trishula_router.upstream.direct_calls import DirectCalls

__all__ = ["OwnCall", "OwnCalls"]

#: WAMP's number of the message, how many items it has with positional arguments, and its highest request id.
_CALL, _ITEMS, _HIGHEST_ID = 48, 5, 2**53


class OwnCall:
    """A call without options and keyword arguments, in place of Autobahn's message."""

    __slots__ = ("args", "procedure", "request")

    MESSAGE_TYPE = _CALL
    kwargs = None

    def __init__(self, request: int, procedure: str, args: list[Any]) -> None:
        self.request = request
        self.procedure = procedure
        self.args = args


class OwnCalls:
    """See the module's docstring.

    Args:
        procedures: the URIs of the node's own.
        direct: serves them.
        may_call: whether a session may open one more call.
        message: Autobahn's module of WAMP messages.
    """

    def __init__(
        self, procedures: Collection[str], direct: DirectCalls, may_call: Callable[[Any], bool], message: Any
    ) -> None:
        self._procedures = procedures
        self._direct = direct
        self._may_call = may_call
        self._autobahns = message.Call

    def kinds(self, known: Mapping[int, Any]) -> dict[int, Any]:
        """Autobahn's classes of messages by their numbers, with ourselves in the place of its calls."""
        return {**known, _CALL: self}

    def parse(self, raw: list[Any]) -> Any:
        """Read a call: an :class:`OwnCall`, or Autobahn's."""
        if len(raw) == _ITEMS:
            _, request, options, procedure, args = raw
            if (
                type(procedure) is str
                and procedure in self._procedures
                and type(args) is list
                and options == {}
                and type(request) is int
                and 0 < request <= _HIGHEST_ID
            ):
                return OwnCall(request, procedure, args)
        return self._autobahns.parse(raw)

    def take(self, session: Any, call: Any) -> bool:
        """Whether a message is a call that was taken; else it is the session's to hear."""
        if type(call) is not OwnCall:
            return False
        is_free = session._session_id is not None and not session._goodbye_sent and self._may_call(session)
        if not is_free or not self._direct.take(session, call):
            session.onMessage(self._autobahns(call.request, call.procedure, args=call.args))
        return True
