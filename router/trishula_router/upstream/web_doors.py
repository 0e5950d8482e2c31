"""What a stranger gets over HTTP from a node: the pages that are configured, and nothing about the machine behind them.

What Crossbar and Twisted do there by themselves, and what is done here instead, for every web transport of the process:

- Twisted spools the body of a request into a temporary file, however long it is and whatever becomes of the request.
  None of a node's paths takes one: a request with a body is answered 413 as soon as its head is there, and what follows
  is dropped.
- Over TLS Twisted offers HTTP/2 where its packages are installed: a second way in, which no client of a node needs.
- Crossbar tells its version in each answer, and its version, the id of its process and the configured directory on its
  page for what is not there. Here the header names the product, and the page says what it is about.
- At a path with a NUL byte, or one that is no UTF-8, Twisted logs a traceback of its own code, and answers 500 at the
  first. Here there is nothing at such a path, and nothing to tell.
- A request line with bytes beyond ASCII in its path gets past Twisted, whose bound is 176 where it means octal 176, and
  its page for an unsupported method fails on it: a traceback and 500. Here such a request is answered 400, as it means.
- Crossbar lets every page of the web read what it serves, with credentials. Nothing here is for other pages.
- Crossbar tells every client in its WELCOME on which host, in which process and in which worker it is served.

It reaches into names that are no interface (Twisted 26.10: ``Request.gotLength``, ``_parseRequestLine``; Crossbar
26.10.1: ``Resource404``, ``set_cross_origin_headers``, ``File.getChild``, the keys ``x_cb_…``), so each is looked for
first.
"""

from __future__ import annotations

from typing import Any

__all__ = ["guard_web"]

_NO_BODY = (
    b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 33\r\n\r\n"
    b"A node takes no bodies over HTTP\n"
)
_NOT_THERE = (
    b'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Not found</title>\n'
    b"<p>There is nothing here. Agents join a node over WebSocket at <code>/ws</code>.</p>\n</html>\n"
)
#: What Crossbar adds to a WELCOME of its own.
_ABOUT_THE_HOST = "x_cb_"


def guard_web(server: Any, base: Any, static: Any, welcome: Any) -> list[str]:
    """Have the web transports of this process answer as this module says.

    Args:
        server: Twisted's module of web servers.
        base, static: Crossbar's modules of web services in general, and of files.
        welcome: Autobahn's class of the message.

    Returns:
        What is not as expected, and so was left as it is.
    """
    strange = []
    if callable(getattr(server.Request, "gotLength", None)):
        server.Request.gotLength = _take_no_body(server.Request.gotLength)
    else:
        strange.append("twisted.web.server.Request.gotLength")
    http: Any = getattr(server, "http", None)
    if callable(getattr(http, "_parseRequestLine", None)):
        http._parseRequestLine = _of_ascii(http._parseRequestLine)
    else:
        strange.append("twisted.web.http._parseRequestLine")
    server.version = b"TRISHULA"
    if callable(getattr(server.Site, "acceptableProtocols", None)):
        server.Site.acceptableProtocols = _speak_http_1
    else:
        strange.append("twisted.web.server.Site.acceptableProtocols")
    if callable(getattr(base.Resource404, "render_GET", None)):
        base.Resource404.render_GET = _say_not_there
    else:
        strange.append("crossbar.webservice.base.Resource404.render_GET")
    if callable(getattr(static, "set_cross_origin_headers", None)):
        static.set_cross_origin_headers = _set_nothing
    else:
        strange.append("crossbar.webservice.static.set_cross_origin_headers")
    file: Any = getattr(static, "File", None)
    if callable(getattr(file, "getChild", None)) and hasattr(file, "childNotFound"):
        file.getChild = _possible(file.getChild)
    else:
        strange.append("twisted.web.static.File.getChild")
    if callable(getattr(welcome, "marshal", None)):
        welcome.marshal = _without_the_host(welcome.marshal)
    else:
        strange.append("autobahn.wamp.message.Welcome.marshal")
    return strange


def _take_no_body(got_length: Any) -> Any:
    def take(request: Any, length: int | None) -> None:
        # Of a chunked body the length is not known.
        if length == 0:
            got_length(request, length)
            return
        request.handleContentChunk = request.requestReceived = _drop
        request.channel.transport.write(_NO_BODY)
        request.channel.loseConnection()

    return take


def _drop(*_: object) -> None:
    """What comes of a request that is answered already."""


def _of_ascii(parse: Any) -> Any:
    def parsed(line: bytes) -> Any:
        if not line.isascii() or b"\x7f" in line:
            raise ValueError("a byte of the request line is no printable one of ASCII")
        return parse(line)

    parsed.before = parse  # type: ignore[attr-defined]
    return parsed


def _possible(get_child: Any) -> Any:
    def get(resource: Any, path: bytes, request: Any) -> Any:
        return get_child(resource, path, request) if _names_a_file(path) else resource.childNotFound

    return get


def _names_a_file(path: bytes) -> bool:
    try:
        return "\0" not in path.decode()
    except UnicodeDecodeError:
        return False


def _say_not_there(resource: Any, request: Any) -> bytes:
    request.setResponseCode(404)
    return _NOT_THERE


def _speak_http_1(site: Any) -> list[bytes]:
    return [b"http/1.1"]


def _set_nothing(request: Any) -> None:
    """In place of the headers that let other pages read."""


def _without_the_host(marshal: Any) -> Any:
    def told(message: Any) -> Any:
        parts = marshal(message)
        details = parts[-1]
        for key in [key for key in details if key.startswith(_ABOUT_THE_HOST)]:
            del details[key]
        extra = details.get("authextra")
        if isinstance(extra, dict):
            details["authextra"] = {key: extra[key] for key in extra if not key.startswith(_ABOUT_THE_HOST)}
        return parts

    return told
