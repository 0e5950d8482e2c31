"""Errors on their way over WAMP: what the node or an agent answered, as our own classes, and the other way."""

from __future__ import annotations

from typing import Any, NoReturn

from autobahn.wamp.exception import ApplicationError
from twisted.python.failure import Failure

from trishula.contract.payload import error_data
from trishula.contract.texts import legible
from trishula.contract.uris import ADMIN_PREFIX, AGENT_PREFIX, AUDIT_PREFIX, NODE_PREFIX, PREFIX
from trishula.errors import (
    BusUnreachable,
    CallFailed,
    NodeStopping,
    NotAllowed,
    PayloadNotJson,
    ProcedureUnknown,
    RemoteError,
    TokenInvalid,
    TrishulaError,
    from_wire,
    retry_after_in,
)

__all__ = ["error_of_answer", "error_of_leaving", "error_to_wire", "heard_by_caller"]


def _sentence(error: ApplicationError) -> str:
    return str(error.args[0]) if error.args else str(error.error)


def error_of_answer(uri: str, error: ApplicationError) -> TrishulaError:
    """What a call failed with.

    Args:
        uri: what was called.
        error: what came back.
    """
    sentence = _sentence(error)
    is_the_nodes = uri.startswith(PREFIX) and not uri.startswith(AGENT_PREFIX)
    if is_the_nodes and error.error in (ApplicationError.NO_SUCH_PROCEDURE, ApplicationError.CANCELED):
        # Its procedures go before its sessions do. What was sent then is not refused: it is offered again.
        return NodeStopping(f"the node takes no call of {uri} now: it stops or starts; try again, or another node")
    if error.error == ApplicationError.AUTHORIZATION_FAILED:
        return NodeStopping(f"the node can't say now whether {uri} is allowed: it stops or starts ({sentence})")
    if error.error == ApplicationError.NO_SUCH_PROCEDURE:
        return ProcedureUnknown(f"nobody offers {uri} now: its agent is not connected, or has no such procedure")
    if error.error == ApplicationError.NOT_AUTHORIZED:
        return NotAllowed(_why_not_allowed(uri))
    if error.error == ApplicationError.INVALID_PAYLOAD:
        return PayloadNotJson(f"the answer of {uri} can't be written: {sentence}")
    if error.error in (ApplicationError.CANCELED, ApplicationError.TIMEOUT):
        return CallFailed(f"{uri} was cancelled before it answered")
    return from_wire(error.error, sentence, error.kwargs)


def _why_not_allowed(uri: str) -> str:
    """The router's own sentence has numbers of sessions and names of roles, and nothing to go on with."""
    if uri.startswith((AUDIT_PREFIX, NODE_PREFIX, ADMIN_PREFIX)):
        return (
            f"this needs an operator's token, and this agent's is none ({uri}); whoever keeps the node makes an agent "
            "an operator with: trishula token new NAME --operator"
        )
    return (
        f"this agent may not use {uri}: its grants in agents.json, or the rules of the bus, say no; the journal has "
        "the reason, for an operator: trishula audit query --kind refused"
    )


def heard_by_caller(uri: str, error: BaseException) -> TrishulaError:
    """What the caller of a procedure gets when the procedure fails so: there and back over the wire.

    Args:
        uri: the procedure's.
        error: what it failed with.
    """
    try:
        error_to_wire(Failure(error))  # type: ignore[no-untyped-call]
    except ApplicationError as told:
        return error_of_answer(uri, told)


def error_of_leaving(url: str, reason: str, sentence: str | None) -> TrishulaError:
    """Why a session ended, or was not let in: our own errors typed, everything else as "not reachable now"."""
    if reason == ApplicationError.NO_AUTH_METHOD:
        # Tokens are taken everywhere.
        return TokenInvalid(
            f"the node at {url} takes no keys: it is of an earlier release, or its configuration has no cryptosign "
            "beside ticket in paths.ws.auth; join it with a token"
        )
    error = from_wire(reason, sentence or reason, {"retry_after_s": retry_after_in(sentence or "")})
    if isinstance(error, RemoteError):
        return BusUnreachable(f"the node at {url} ended the session: {sentence or reason} ({reason})")
    return error


def error_to_wire(failure: Failure) -> NoReturn:
    """A procedure's error as its caller sees it: our own classes by their URI, everything else as a failed call."""
    error = failure.value
    data = None if error is None else error_data(error)
    details: dict[str, Any] = {} if data is None else {"data": data}
    if isinstance(error, RemoteError):
        raise ApplicationError(error.remote_uri, legible(error.sentence), **details)
    if isinstance(error, TrishulaError) and error.uri is not None:
        if error.retry_after_s is not None:
            details["retry_after_s"] = error.retry_after_s
        raise ApplicationError(error.uri, legible(error.sentence), **details)
    raise ApplicationError(CallFailed.uri, legible(f"{type(error).__name__}: {error}"), **details)
