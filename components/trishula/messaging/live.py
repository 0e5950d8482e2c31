"""Live calls and events: their arguments and results travel packed (:mod:`trishula.contract.payload`), or are refused.

Live calls and events are not stored, so no outbox watches over them: a frame that the node can't read or that is too
large for it ends the session: the caller's by an argument, and that of the agent that was called by its result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import CoroutineType
from typing import Any

import msgspec

from trishula.contract.limits import NodeLimits
from trishula.contract.payload import pack
from trishula.contract.units import show_bytes
from trishula.contract.uris import procedure_of, topic_of
from trishula.errors import PayloadTooLarge, TrishulaError
from trishula.runtime.pending import Pending, rejected, run_handler, start
from trishula.session.membership import Membership
from trishula.session.transport import Endpoint

__all__ = ["Live", "pack_arguments", "packing"]

_log = logging.getLogger("trishula")


class Live:
    """The live topics and procedures of one client.

    Args:
        member: has the session, and puts them on each one that follows.
        agent: whose topics and procedures they are.
    """

    def __init__(self, member: Membership, agent: str) -> None:
        self._member = member
        self._agent = agent

    def subscribe(self, topic: str, on_event: Callable[..., object]) -> Pending[None]:
        """Hear a topic, by its URI; what the handler raises, at once or later, is logged."""

        def heard(*args: Any, **_: Any) -> None:
            try:
                outcome = on_event(*args)
            except Exception:
                _log.exception("The handler of %s failed", topic)
                return
            if isinstance(outcome, CoroutineType):
                outcome = run_handler(outcome)
            if isinstance(outcome, Pending):
                outcome.when_done(ended)

        def ended(outcome: Pending[Any]) -> None:
            if outcome.error is not None:
                _log.error("The handler of %s failed", topic, exc_info=outcome.error)

        return self._member.subscribe(topic, heard)

    def publish(self, topic_name: str, *args: Any) -> Pending[None]:
        """Publish on our own topic of that name; resolved when the router has it."""
        topic = topic_of(self._agent, topic_name)
        try:
            packed, _ = pack_arguments(f"the event on {topic}", args, {}, self._member.limits)
        except TrishulaError as error:
            return rejected(error)
        return start(self._publish(topic, packed))

    async def _publish(self, topic: str, args: Sequence[Any]) -> None:
        link, _ = await self._member.link_within(10.0)
        await link.publish(topic, args)

    def register(self, procedure: str, endpoint: Endpoint) -> Pending[None]:
        """Offer a procedure, on every session from now on.

        A result that can't travel is an error to its caller: the frame would end this session.

        Raises:
            ValueError: it can't have that name.
        """
        uri = procedure_of(self._agent, procedure)
        return self._member.register(uri, packing(procedure, endpoint, lambda: self._member.limits))


def pack_arguments(
    what: str, args: Sequence[object], kwargs: Mapping[str, object], limits: NodeLimits
) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]:
    """The arguments of a live call or an event, packed.

    Args:
        what: what they are, such as ``the call of agni.report``; refusals begin with it.
        args: positional ones.
        kwargs: those by name.
        limits: the node's.

    Raises:
        PayloadNotJson: one of them breaks the rule of payloads.
        PayloadTooLarge: they are too large for one frame.
    """
    room_bytes = limits.room_bytes
    packed = [_packed(one, f"{what}, argument {index}", room_bytes) for index, one in enumerate(args, 1)]
    named = {name: _packed(one, f"{what}, argument {name}", room_bytes) for name, one in kwargs.items()}
    size_bytes = sum(len(name) for name in named) + sum(len(bytes(one)) for one in (*packed, *named.values()))
    if size_bytes > room_bytes:
        raise _too_large(what, size_bytes, room_bytes)
    return packed, named


def packing(procedure: str, endpoint: Endpoint, limits: Callable[[], NodeLimits]) -> Endpoint:
    """A procedure whose result travels packed; one that can't travel is an error to its caller.

    Args:
        procedure: its name, for the sentences.
        endpoint: the procedure.
        limits: what the node takes by then.
    """

    def called(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Pending[Any]:
        return _Result(endpoint(args, kwargs), f"the result of {procedure}", limits)

    return called


class _Result(Pending[Any]):
    """The outcome of a procedure, packed when it is there."""

    __slots__ = ("_limits", "_outcome", "_what")

    def __init__(self, outcome: Pending[Any], what: str, limits: Callable[[], NodeLimits]) -> None:
        super().__init__()
        self._outcome = outcome
        self._what = what
        self._limits = limits
        outcome.when_done(self._pack)

    def cancel(self) -> None:
        self._outcome.cancel()

    def _pack(self, outcome: Pending[Any]) -> None:
        error = outcome.error
        if error is not None:
            self.reject(error)
            return
        try:
            self.resolve(_pack_result(self._what, outcome.result(), self._limits()))
        except TrishulaError as fault:
            # Its author should know, too.
            _log.error("Its caller gets an error: %s", fault)
            self.reject(fault)


def _pack_result(what: str, result: object, limits: NodeLimits) -> msgspec.Raw:
    """The result of a live call, packed; errors as :func:`pack_arguments`."""
    packed = _packed(result, what, limits.room_bytes)
    if len(bytes(packed)) > limits.room_bytes:
        # More than as JSON, as floats can be.
        raise _too_large(what, len(bytes(packed)), limits.room_bytes)
    return packed


def _packed(value: object, path: str, limit_bytes: int) -> msgspec.Raw:
    return msgspec.Raw(pack(value, path=path, limit_bytes=limit_bytes))


def _too_large(what: str, size_bytes: int, limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"{what}: {size_bytes} bytes, and a frame to the node takes {limit_bytes} ({show_bytes(limit_bytes)}); put the "
        "data where the recipient can fetch it and send its address"
    )
