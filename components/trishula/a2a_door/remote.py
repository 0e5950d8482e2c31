"""An agent of A2A, reached by the official SDK's client."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.client.client import Client
from a2a.client.errors import A2AClientError, AgentCardResolutionError
from a2a.types import a2a_pb2 as pb
from a2a.utils.constants import PROTOCOL_VERSION_CURRENT, VERSION_HEADER, TransportProtocol
from a2a.utils.errors import A2AError, InternalError
from google.protobuf.json_format import MessageToDict, ParseDict

from trishula.a2a_door.outgoing import Outcome, RemoteUnreachable
from trishula.a2a_door.parts import Parts
from trishula.errors import CallFailed
from trishula.settings import SettingsInvalid

__all__ = ["RemoteAgent", "check_url"]

_TIMEOUT_S = 30.0
#: As often an inner error of the other side is taken for a passing one.
_MOST_INNER_ERRORS = 5


class RemoteAgent:
    """See the module's docstring; a :class:`trishula.a2a_door.outgoing.Remote`.

    Its card is fetched when it is needed first, and again after each failure: the other side may be away when we start,
    and another one when it comes back.

    Args:
        url: of the agent: where its card is, without ``/.well-known/…``.
        bearer: what to show there; ``None`` for nothing.
    """

    def __init__(self, url: str, bearer: str | None) -> None:
        self._url = url.rstrip("/").removesuffix("/.well-known/agent-card.json")
        self._bearer = bearer
        headers = {VERSION_HEADER: PROTOCOL_VERSION_CURRENT}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, headers=headers, follow_redirects=False)
        self._client: Client | None = None
        #: By message or task: one that the other side can't do uses up no other one's patience.
        self._inner_errors: Counter[str] = Counter()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def give(self, message: Mapping[str, Any]) -> Outcome:
        """Give it a message; return at once."""
        request = pb.SendMessageRequest(
            message=ParseDict(dict(message), pb.Message()),
            configuration=pb.SendMessageConfiguration(return_immediately=True),
        )
        async with self._joined(str(message["messageId"])) as client:
            async for response in client.send_message(request):
                if response.HasField("message"):
                    told = response.message
                    return Outcome("", told.context_id, "completed", _parts(told.parts))
                return _outcome(response.task)
        raise CallFailed(f"{self._url} answered with neither a task nor a message")

    async def look(self, task: str) -> Outcome:
        """Ask where a task stands."""
        async with self._joined(task) as client:
            return _outcome(await client.get_task(pb.GetTaskRequest(id=task)))

    async def cancel(self, task: str) -> None:
        """Take a task back."""
        async with self._joined(task) as client:
            await client.cancel_task(pb.CancelTaskRequest(id=task))

    @asynccontextmanager
    async def _joined(self, about: str) -> AsyncIterator[Client]:
        try:
            if self._client is None:
                self._client = await self._made()
            yield self._client
        except InternalError as error:
            self._inner_errors[about] += 1
            if self._inner_errors[about] >= _MOST_INNER_ERRORS:
                del self._inner_errors[about]
                raise CallFailed(f"{self._url} has an inner error: {error}") from None
            raise RemoteUnreachable(str(error)) from None
        except (A2AClientError, httpx.HTTPError) as error:
            self._client = None
            if (status := _status(error)) is not None and 400 <= status < 500 and status not in (408, 421, 425, 429):
                raise CallFailed(f"{self._url} refuses us: {error}") from None
            raise RemoteUnreachable(str(error) or type(error).__name__) from None
        except A2AError as error:
            self._inner_errors.pop(about, None)
            raise CallFailed(f"{self._url} refuses: {error}") from None
        else:
            self._inner_errors.pop(about, None)

    async def _made(self) -> Client:
        card = await A2ACardResolver(self._http, self._url).get_agent_card()
        if self._bearer is not None:
            # A card names its own URLs, and our secret is for whom the operator named.
            ours = _origin(self._url)
            foreign = [one.url for one in card.supported_interfaces if _origin(one.url) != ours]
            if foreign:
                raise CallFailed(
                    f"the card of {self._url} leads to {foreign[0]}: our bearer token is not sent to another host"
                )
        bindings = [TransportProtocol.JSONRPC.value, TransportProtocol.HTTP_JSON.value]
        config = ClientConfig(
            streaming=False, polling=True, httpx_client=self._http, supported_protocol_bindings=bindings
        )
        return ClientFactory(config).create(card)


def check_url(url: str, bearer: str | None) -> None:
    """Whether an operator's URL can be used.

    Raises:
        SettingsInvalid: it can't; the sentence says why.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsInvalid(f"{url!r} is no URL of an agent; it must begin with https:// or http:// and a host")
    if bearer is not None and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise SettingsInvalid(f"{url!r} is not https: the bearer token would travel in the clear")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _status(error: BaseException) -> int | None:
    if isinstance(error, AgentCardResolutionError):
        return None if error.status_code is None else int(error.status_code)
    cause = error.__cause__
    return int(cause.response.status_code) if isinstance(cause, httpx.HTTPStatusError) else None


def _outcome(task: pb.Task) -> Outcome:
    state = pb.TaskState.Name(task.status.state).removeprefix("TASK_STATE_").lower().replace("_", "-")
    parts = [part for artifact in task.artifacts for part in _parts(artifact.parts)]
    if not parts or state != "completed":
        parts = _parts(task.status.message.parts) or parts
    return Outcome(task.id, task.context_id, state, parts)


def _parts(parts: Any) -> Parts:
    return [MessageToDict(part) for part in parts]
