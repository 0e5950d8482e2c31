"""Which proxy leads to which node."""

from __future__ import annotations

import pytest

from trishula.proxies import DIRECT, Proxies, Proxy, parse_proxy

OWN, SHARED = Proxy("own", 1), Proxy("shared", 2)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("proxy.example", 3128)),
        ("proxy.example:3128", Proxy("proxy.example", 3128)),
        ("http://proxy.example/", Proxy("proxy.example", 80)),
        ("http://[::1]:3128", Proxy("::1", 3128)),
        # "dc:p@ss" and "dc:"
        ("http://dc:p%40ss@h:1", Proxy("h", 1, "Basic ZGM6cEBzcw==")),
        ("dc@h:1", Proxy("h", 1, "Basic ZGM6")),
    ],
)
def test_a_proxy_is_read(text: str, proxy: Proxy) -> None:
    assert parse_proxy(text) == proxy


def test_a_proxy_is_shown_without_its_password() -> None:
    assert str(parse_proxy("http://dc:secret@[::1]:3128")) == "[::1]:3128"


@pytest.mark.parametrize("text", ["", "https://h:1", "http://", "http://h:x", "http://h:1/p", "http://h:1?q", "a b", 7])
def test_what_is_no_proxy_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"^a proxy is http://HOST:PORT"):
        parse_proxy(text)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("wss://agni.example:8765/ws", SHARED),
        ("ws://agni.example:8765/ws", None),
        ("wss://localhost:8765/ws", None),
        ("wss://127.9.9.9/ws", None),
        ("wss://[::1]/ws", None),
        ("wss://10.0.0.1/ws", SHARED),
    ],
)
def test_the_shared_proxy_leads_to_tls_nodes_elsewhere(url: str, proxy: Proxy | None) -> None:
    assert Proxies(shared=SHARED).of(url) == proxy
    assert Proxies(OWN, SHARED).of(url) == OWN
    assert DIRECT.of(url) is None


@pytest.mark.parametrize(
    ("exempt", "host", "is_exempt"),
    [
        ("example.org", "example.org", True),
        ("example.org", "agni.example.org", True),
        (".example.org", "agni.example.org", True),
        ("*.example.org", "agni.example.org", True),
        ("EXAMPLE.org", "agni.example.org", True),
        ("example.org", "example.org.", True),
        ("example.org", "badexample.org", False),
        ("example.org:443", "example.org", True),
        ("example.org:444", "example.org", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("fd00::/8", "[fd00::1]", True),
        ("[fd00::1]:443", "[fd00::1]", True),
        ("[fd00::1]:444", "[fd00::1]", False),
        ("*", "example.org", True),
        ("", "example.org", False),
        (".", "example.org", False),
    ],
)
def test_exemptions(exempt: str, host: str, is_exempt: bool) -> None:
    assert Proxies(OWN, exempt=("other", exempt)).of(f"wss://{host}/ws") == (None if is_exempt else OWN)
