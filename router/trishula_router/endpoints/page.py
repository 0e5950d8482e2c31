"""A page that a node serves over HTTP to probes and programs: read only, never kept by anybody, one request each.

The connection ends with the answer. A connection that stays would be one more stranger, which is ended after a minute
(:mod:`trishula_router.upstream.strangers`), and the log would tell of a probe as it tells of an attacker; and whoever
sends a thousand requests over one connection would pass by the limits on connections.

It reaches into one name of Twisted's that is no interface (``HTTPChannel.persistent``, 26.10); without it connections
stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.web.resource import Resource

__all__ = ["Answer", "Page"]

_METHODS = (b"GET", b"HEAD")
_NOT_ALLOWED = b"This page can be read (GET, HEAD) and nothing else.\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to one request.

    Attributes:
        body: the text, encoded.
        content_type: of the body.
        code: the HTTP status.
        headers: more headers.
    """

    body: bytes
    content_type: bytes = b"application/json"
    code: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Page(Resource):
    """One page; a subclass says what is on it.

    Args:
        extra: what the configuration has as ``extra`` of the path; none of ours has any.
    """

    def __init__(self, extra: object = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def answer(self, request: Any) -> Answer:
        """What is said to a request of the methods GET and HEAD."""
        raise NotImplementedError

    def render(self, request: Any) -> bytes | int:
        """Answer a request, as Twisted calls it: with the body, or with a word that it comes later."""
        if request.method in _METHODS:
            said = self.answer(request)
        else:
            said = Answer(_NOT_ALLOWED, b"text/plain", 405, ((b"allow", b", ".join(_METHODS)),))
        return self.say(request, said)

    def say(self, request: Any, said: Answer) -> bytes:
        """Put an answer's head into the request's; the body, to be sent."""
        request.setResponseCode(said.code)
        headers = ((b"content-type", said.content_type), (b"cache-control", b"no-store"), (b"connection", b"close"))
        for name, value in (*headers, (b"x-content-type-options", b"nosniff"), *said.headers):
            request.setHeader(name, value)
        if hasattr(request.channel, "persistent"):
            request.channel.persistent = 0
        # Of a HEAD too, for which Twisted sends no body.
        request.setHeader(b"content-length", str(len(said.body)).encode())
        return b"" if request.method == b"HEAD" else said.body
