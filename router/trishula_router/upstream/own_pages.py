"""The node's own pages: with which headers they are served, and that they may open a WebSocket to where they came from.

**Headers.** The dashboard is served by Crossbar's ``static``, as operators' configurations have named it from the first
release on. Crossbar has no setting for headers, and lets a browser keep each file for twelve hours. Here each file of
ours goes out with :data:`PAGE_HEADERS`: nothing runs in the page but the node's own scripts, no other page frames it,
and the browser asks each time whether the file is still the newest. What else an operator serves is left alone.

**Origin.** A browser tells in ``Origin`` which page opens a WebSocket. Autobahn compares that with a list of the
operator's (``allowed_origins``), which is empty in the shipped configurations, so that no page of the web reaches a
node. The node's own page is another matter: its origin is the host that the browser asked, by the very same request's
``Host``. :func:`own_origins` gives the patterns for that, and :mod:`.guarded_connection` adds them to the list.

Where a proxy takes TLS off, the page is at ``https://`` and the node sees a plain request, so the scheme is not
compared; on one port of one host there is one of the two. The port counts: pages of another server on the same machine
are strangers. A proxy must pass ``Host`` on as it came, with its port (nginx: ``proxy_set_header Host $http_host``).

It reaches into names that are no interface (Crossbar 26.10.1: ``static.StaticResource``, which is a ``File`` of
Twisted's with a ``path``; Autobahn 26.10.2: ``allowedOriginsPatterns``, which are matched with scheme, host and port).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["PAGE_HEADERS", "POLICY", "guard_pages", "own_origins"]

#: The policy of the node's pages: scripts, styles and pictures of the node's own files, and nothing inline.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
#: The schemes of pages, and the port of an origin that names none.
_DEFAULT_PORTS = {"http": 80, "https": 443}


def own_origins(headers: Mapping[str, str]) -> list[re.Pattern[str]]:
    """The origins of pages that came from where a request goes to, as Autobahn matches them.

    Args:
        headers: of the request, by their names in lower case.
    """
    try:
        at = urlsplit(f"//{headers.get('host', '')}")
        host, port = at.hostname, at.port
    except ValueError:
        return []
    if not host or at.path or at.query or at.fragment or at.username is not None:
        return []
    return [
        re.compile(re.escape(f"{scheme}://{host}:{default if port is None else port}") + r"\Z")
        for scheme, default in _DEFAULT_PORTS.items()
    ]


def guard_pages(static: Any, web: Path) -> list[str]:
    """Serve the node's own files with :data:`PAGE_HEADERS`.

    Args:
        static: Crossbar's module that serves files.
        web: the directory of the node's own.

    Returns:
        What is not as expected, and so was left as it is.
    """
    resource: Any = getattr(static, "StaticResource", None)
    file: Any = getattr(static, "File", None)
    if resource is None or not callable(getattr(file, "render_GET", None)):
        return ["crossbar.webservice.static.StaticResource"]
    before = resource.render_GET
    own = web.resolve()

    def render(self: Any, request: Any) -> Any:
        if own not in (path := Path(os.fsdecode(self.path)).resolve()).parents and path != own:
            return before(self, request)
        for name, value in PAGE_HEADERS.items():
            request.setHeader(name.encode(), value.encode())
        return file.render_GET(self, request)

    resource.render_GET = resource.render_HEAD = render
    return []
