"""Before the door's routes: who calls, from where, and how much. No SDK.

Nobody passes without a token, but to what is open to all: exactly the list of agents, their cards and the door's key.
A request that is read is read whole, within a limit of size; how long it may take to come is the server's matter
(:mod:`trishula.front_door.http_server`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable

from trishula.a2a_door.callers import Caller
from trishula.errors import TokenInvalid, TrishulaError
from trishula.front_door.body_limit import App, Receive, Scope, Send, answer, replayed, whole_body

__all__ = ["CALLER", "MOST_BYTES", "Gate"]

#: Under this name the caller is in a request's scope, and in the state of a call.
CALLER = "caller"
#: What is left of a node's own limit of 1 MiB when the message is wrapped, and some room for base64 and JSON-RPC.
MOST_BYTES = 2 * 1024 * 1024
_OPEN = re.compile(r"/agents(/[^/]+/\.well-known/agent-card\.json)?|/\.well-known/jwks\.json")


class Gate:
    """See the module's docstring.

    Args:
        app: gets what passes, with the caller in its scope.
        caller: the caller of a token; raises :class:`~trishula.errors.TrishulaError`.
        hosts: what may stand in ``Host``.
    """

    def __init__(self, app: App, caller: Callable[[str], Awaitable[Caller]], hosts: frozenset[str]) -> None:
        self._app = app
        self._caller = caller
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get(b"host", "").lower() not in self._hosts:
            await _refuse(send, 421, "this door is not known by that host name; name it by --public-url")
            return
        if b"origin" in headers:
            await _refuse(send, 403, "this door is for agents, and not for pages of browsers")
            return
        if _OPEN.fullmatch(scope["path"]):
            # What anybody may ask for is asked for without a body: nothing of a stranger's is kept in memory.
            await self._app(scope, replayed(b"", receive), send)
            return
        try:
            scope[CALLER] = await self._caller(_bearer(headers.get(b"authorization", "")))
        except TokenInvalid as error:
            await _refuse(send, 401, error.sentence)
            return
        except TrishulaError as error:
            await _refuse(send, 503, error.sentence)
            return
        body = await whole_body(receive, MOST_BYTES)
        if body is None:
            await _refuse(send, 413, f"a request may have {MOST_BYTES} bytes; send large things by their URL")
            return
        await self._app(scope, replayed(body, receive), send)


def _bearer(header: str) -> str:
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise TokenInvalid("send the agent's token as a header: Authorization: Bearer NAME.SECRET")
    return token.strip()


async def _refuse(send: Send, status: int, sentence: str) -> None:
    more = {401: [(b"www-authenticate", b"Bearer")], 503: [(b"retry-after", b"2")]}.get(status, [])
    with contextlib.suppress(OSError):
        await answer(send, status, sentence, *more)
