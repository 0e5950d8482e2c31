"""What is told over HTTP: on stand-ins for what is not as expected, and on Crossbar's page for what is not there."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trishula_router.upstream.web_doors import guard_web


def test_what_is_not_as_expected_is_named_and_left_alone() -> None:
    nothing: Any = SimpleNamespace(Request=SimpleNamespace(), Site=SimpleNamespace(), Resource404=SimpleNamespace())
    assert guard_web(nothing, nothing, nothing, nothing) == [
        "twisted.web.server.Request.gotLength",
        "twisted.web.http._parseRequestLine",
        "twisted.web.server.Site.acceptableProtocols",
        "crossbar.webservice.base.Resource404.render_GET",
        "crossbar.webservice.static.set_cross_origin_headers",
        "twisted.web.static.File.getChild",
        "autobahn.wamp.message.Welcome.marshal",
    ]


def test_twisted_still_takes_a_path_with_a_nul_byte_for_one_of_a_file(tmp_path: Path) -> None:
    """When this fails, Twisted has mended it, and the mend here can go."""
    from twisted.web.static import File

    get: Any = getattr(File.getChild, "before", File.getChild)
    with pytest.raises(ValueError, match="null"):
        get(File(str(tmp_path)), b"\0", SimpleNamespace(postpath=[]))


def test_twisted_still_lets_bytes_beyond_ascii_pass_in_a_path() -> None:
    """When this fails, Twisted has mended it, and the mend here can go."""
    from twisted.web import http

    parse: Any = http._parseRequestLine
    assert getattr(parse, "before", parse)(b"POST /\xb0 HTTP/1.1") == (b"POST", b"/\xb0", b"HTTP/1.1")


def test_crossbar_s_page_for_what_is_not_there_still_tells_of_the_process() -> None:
    """When this fails, Crossbar's own page tells no more, and the one in its place can go."""
    from crossbar.webservice.base import Resource404

    told: dict[str, Any] = {}

    def render(**what: Any) -> str:
        told.update(what)
        return ""

    page = SimpleNamespace(render=render)
    templates = SimpleNamespace(get_template=lambda name: page)
    transport = SimpleNamespace(getPeer=lambda: SimpleNamespace(host="127.0.0.1", port=1))
    Resource404(templates, b"/srv/secret").render_GET(
        SimpleNamespace(setResponseCode=lambda code: None, transport=transport)
    )
    assert told["directory"] == "/srv/secret"
    assert told["workerPid"] == str(os.getpid())
