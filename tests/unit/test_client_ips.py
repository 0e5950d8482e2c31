"""The address that counts."""

from __future__ import annotations

import pytest

from trishula_router.client_ips import Proxies, ip_in, is_network, peer_text, site_of


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("something", "something"),
    ],
)
def test_what_an_address_counts_as(address: str, counts_as: str) -> None:
    assert site_of(address) == counts_as


@pytest.mark.parametrize(
    ("peer", "header", "address"),
    [
        # Whoever is no proxy may write what it likes.
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("::ffff:127.0.0.1", "1.1.1.1", "1.1.1.1"),
        # The client wrote the left one.
        ("127.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("127.0.0.1", "6.6.6.6,10.1.2.3,  1.1.1.1 ,10.9.9.9", "1.1.1.1"),
        ("127.0.0.1", "10.1.2.3,10.9.9.9", "10.1.2.3"),
        ("127.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", "1.1.1.1, unknown", "127.0.0.1"),
        ("127.0.0.1", "1.1.1.1, unknown, 10.9.9.9", "10.9.9.9"),
        ("127.0.0.1", "1.1.1.1," + "10.9.9.9," * 1000 + "10.9.9.9", "10.9.9.9"),
    ],
)
def test_a_named_proxy_is_believed_about_the_last_one_before_it(peer: str, header: str | None, address: str) -> None:
    assert Proxies(["127.0.0.1", "10.0.0.0/8"]).client_ip_of(peer, header) == address


def test_nobody_is_believed_unless_named() -> None:
    assert Proxies().client_ip_of("127.0.0.1", "1.1.1.1") == "127.0.0.1"
    assert not Proxies().has("127.0.0.1")
    assert not Proxies(["127.0.0.1"]).has("no address")


@pytest.mark.parametrize(("text", "is_one"), [("::1", True), ("10.0.0.0/8", True), ("10.0.0.1/8", False), ("a", False)])
def test_what_may_be_named(text: str, is_one: bool) -> None:
    assert is_network(text) == is_one


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (peer_text("10.0.0.1", 5), "10.0.0.1"),
        (peer_text("2001:db8::1", 5), "2001:db8::1"),
        ("tcp6:::1:5", "::1"),
        ("unix:/tmp/a", None),
        (None, None),
    ],
)
def test_what_autobahn_says_of_the_other_end(peer: object, address: str | None) -> None:
    assert ip_in(peer) == address
