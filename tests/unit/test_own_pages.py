"""The node's own pages: whose pages may open a WebSocket, and with which headers files are served; on stand-ins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.upstream.own_pages import PAGE_HEADERS, guard_pages, own_origins


def may_open(origin: str, host: str) -> bool:
    return any(pattern.match(origin) for pattern in own_origins({"host": host}))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://localhost:8765", "LOCALHOST:8765"),
        ("http://::1:8765", "[::1]:8765"),
        # Behind a proxy that takes TLS off: at the default port, and at another.
        ("https://bus.example.org:443", "bus.example.org"),
        ("https://bus.example.org:8443", "bus.example.org:8443"),
        ("http://bus.example.org:80", "bus.example.org"),
    ],
)
def test_a_page_may_open_a_web_socket_to_where_it_came_from(origin: str, host: str) -> None:
    assert may_open(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example:80", "127.0.0.1:8765"),
        ("http://127.0.0.1:8000", "127.0.0.1:8765"),
        ("http://127.0.0.1:87650", "127.0.0.1:8765"),
        ("https://bus.example.org.evil.example:443", "bus.example.org"),
        ("https://busxexample.org:443", "bus.example.org"),
        ("https://bus.example.org:8443", "bus.example.org"),
        ("ftp://bus.example.org:8443", "bus.example.org:8443"),
        ("http://evil.example:80", "evil.example@bus.example.org"),
        ("http://evil.example:80", "evil.example/"),
        ("http://evil.example:80", ""),
        ("http://evil.example:80", "[evil.example"),
        ("http://evil.example:80", "evil.example:port"),
    ],
)
def test_any_other_page_may_not(origin: str, host: str) -> None:
    assert not may_open(origin, host)


class File:
    """As Twisted's."""

    def __init__(self, path: Path) -> None:
        self.path: Any = bytes(path)

    def render_GET(self, request: Any) -> str:
        return "file"


class StaticResource(File):
    """As Crossbar's."""

    def render_GET(self, request: Any) -> str:
        request.setHeader(b"cache-control", b"max-age=43200, public")
        return "crossbar"


def headers_of(path: Path, web: Path, verb: str = "render_GET") -> tuple[str, dict[str, str]]:
    class Resource(StaticResource):
        pass

    assert guard_pages(SimpleNamespace(StaticResource=Resource, File=File), web) == []
    headers: dict[bytes, bytes] = {}
    body = getattr(Resource(path), verb)(SimpleNamespace(setHeader=headers.__setitem__))
    return body, {name.decode(): value.decode() for name, value in headers.items()}


@pytest.mark.parametrize("verb", ["render_GET", "render_HEAD"])
@pytest.mark.parametrize("name", ["", "index.html", "vendor/wamp.min.js"])
def test_files_of_ours_have_the_headers(tmp_path: Path, name: str, verb: str) -> None:
    assert headers_of(tmp_path / "web" / name, tmp_path / "web", verb) == ("file", PAGE_HEADERS)


@pytest.mark.parametrize("name", ["site/index.html", "web-of-theirs/index.html", "web/../site/index.html"])
def test_what_else_is_served_stays_as_it_is(tmp_path: Path, name: str) -> None:
    body, headers = headers_of(tmp_path / name, tmp_path / "web")
    assert (body, list(headers)) == ("crossbar", ["cache-control"])


def test_what_is_not_as_expected_is_named_and_left_alone() -> None:
    assert guard_pages(SimpleNamespace(), Path()) == ["crossbar.webservice.static.StaticResource"]
