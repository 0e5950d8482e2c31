"""A call of one of the node's procedures: run, and answered with its result or with an error that says something.

Errors of the node become WAMP errors here; a fault of our own is logged and becomes ``node_failed``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.types import CallDetails
from twisted.logger import Logger

from trishula.contract.texts import show_value
from trishula.errors import ArgumentInvalid, NodeFailed, TrishulaError
from trishula_router.agents.callers import Caller, Verb
from trishula_router.upstream.direct_calls import Serve

__all__ = ["as_endpoint", "serving", "to_wamp"]

log = Logger()


def to_wamp(error: TrishulaError) -> ApplicationError:
    """An error of ours, as it travels."""
    details = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
    return ApplicationError(error.uri or NodeFailed.uri, error.sentence, **details)


def serving(uri: str, verb: Verb, run: Callable[[Verb, Caller, tuple[Any, ...]], Awaitable[Any]]) -> Serve:
    """Serves the calls of a procedure, run by one of the node's ways in; a fault of ours is told as such."""

    async def serve(caller: Caller, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            if kwargs:
                named = show_value(sorted(kwargs))
                raise ArgumentInvalid(f"{uri} was called with keyword arguments {named}; it takes positional ones")
            return await run(verb, caller, tuple(args))
        except TrishulaError:
            raise
        except Exception:
            log.failure("a call of {uri} failed", uri=uri)
            sentence = f"the node failed at {uri}; its log says why. Nothing is known to be done: try again"
            raise NodeFailed(sentence) from None

    return serve


def as_endpoint(serve: Serve) -> Any:
    """A procedure as Autobahn calls it."""

    async def endpoint(*args: Any, details: CallDetails, **kwargs: Any) -> Any:
        try:
            return await serve(Caller(details.caller, details.caller_authid, details.caller_authrole), args, kwargs)
        except TrishulaError as error:
            raise to_wamp(error) from None

    return endpoint
