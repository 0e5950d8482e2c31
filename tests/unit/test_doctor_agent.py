"""What each step of the way to a node shows, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trishula.doctor.agent_checks import Contact, ahead_of, check_contact
from trishula.doctor.findings import Finding, Level, exit_code, fault, ok, skipped, warning

GOOD = Contact(
    "ws://agni:8765/ws", "agni", 8765, False, addresses=("10.0.0.1",), status=101, is_wamp=True, ahead_s=0.4, agent="dc"
)
KEY = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
BY_KEY = replace(GOOD, key=KEY)
SECURE = replace(GOOD, url="wss://agni/ws", port=443, is_tls=True, certificate_left_s=60 * 86400.0)


def worst(contact: Contact) -> Finding:
    found = check_contact(contact)
    order = (Level.FAULT, Level.WARNING, Level.SKIPPED, Level.OK)
    return min(found, key=lambda finding: order.index(finding.level))


@pytest.mark.parametrize("contact", [GOOD, SECURE, replace(GOOD, proxy="proxy:3128", addresses=None)])
def test_a_good_way_has_nothing_but_good_findings(contact: Contact) -> None:
    found = check_contact(contact)
    assert {finding.level for finding in found} == {Level.OK}
    assert found[-1].sentence == "dc is let in"
    assert exit_code(found) == 0


@pytest.mark.parametrize(
    ("base", "facts", "check", "sentence", "to_do"),
    [
        (
            GOOD,
            {"dns_error": "Name or service not known", "addresses": None},
            "name",
            "leads to no address",
            "/etc/hosts",
        ),
        (GOOD, {"tcp_error": "Connection refused"}, "port", "agni:8765 can't be reached", "nobody listens there"),
        (GOOD, {"tcp_error": "no answer within 4 s"}, "port", "no answer within 4 s", "a firewall drops it"),
        (GOOD, {"proxy": "p:1", "tcp_error": "Connection refused"}, "port", "the proxy p:1 can't", "NO_PROXY"),
        (GOOD, {"proxy": "p:1", "proxy_refusal": "HTTP/1.1 407 no"}, "proxy", "407 no", "user and password"),
        (SECURE, {"tls_code": 10, "tls_error": "x"}, "TLS", "the certificate of agni is over", "certbot renew"),
        (SECURE, {"tls_code": 62, "tls_error": "x"}, "TLS", "is for other names than agni", "as its certificate does"),
        (
            SECURE,
            {"tls_code": 18, "tls_error": "self-signed"},
            "TLS",
            "nobody whom this machine trusts",
            "TRISHULA_CA_FILE",
        ),
        (SECURE, {"tls_code": 20, "tls_error": "x"}, "TLS", "nobody whom this machine trusts", "TRISHULA_CA_FILE"),
        (SECURE, {"tls_error": "wrong version number"}, "TLS", "can't agree on TLS", "ws: URL"),
        (GOOD, {"status": None, "is_wamp": False}, "WebSocket", "speaks TLS alone", "wss: URL"),
        (GOOD, {"status": 101, "is_wamp": False}, "WebSocket", "not one for WAMP", "/ws"),
        (GOOD, {"status": 502, "is_wamp": False}, "WebSocket", "a proxy answers there with 502", "start the node"),
        (GOOD, {"status": 404, "is_wamp": False}, "WebSocket", "with 404 and opens no WebSocket", "Upgrade"),
        (GOOD, {"join_error": "no such\ntoken", "is_token_refused": True}, "token", "no such\\ntoken", "token list"),
        (BY_KEY, {"join_error": "unknown key", "is_token_refused": True}, "key", "unknown key", f"--public-key {KEY}"),
        (BY_KEY, {"join_error": "the node is full"}, "key", "the node is full", "trishula doctor there"),
        (GOOD, {"join_error": "the node is full"}, "token", "the node is full", "trishula doctor there"),
    ],
)
def test_each_fault_is_told_with_what_to_do(
    base: Contact, facts: dict[str, Any], check: str, sentence: str, to_do: str
) -> None:
    contact = replace(base, **facts)
    found = worst(contact)
    assert (found.level, found.check) == (Level.FAULT, f"{base.url}: {check}")
    assert sentence in found.sentence
    assert to_do in found.to_do
    assert exit_code(check_contact(contact)) == 2


@pytest.mark.parametrize(
    ("base", "facts", "check", "sentence"),
    [
        (SECURE, {"certificate_left_s": 3 * 86400.0}, "TLS", "is over in 3.0 d"),
        (GOOD, {"ahead_s": 90.0}, "clock", "90.0 s ahead of the clock of agni"),
        (GOOD, {"ahead_s": -90.0}, "clock", "90.0 s behind the clock of agni"),
    ],
)
def test_each_warning(base: Contact, facts: dict[str, Any], check: str, sentence: str) -> None:
    found = worst(replace(base, **facts))
    assert (found.level, found.check) == (Level.WARNING, f"{base.url}: {check}")
    assert sentence in found.sentence and found.to_do
    assert exit_code(check_contact(replace(base, **facts))) == 1


def test_what_was_not_tried_is_skipped_and_says_why() -> None:
    found = check_contact(replace(GOOD, tcp_error="Connection refused"))
    assert (found[-1].level, found[-1].check) == (Level.SKIPPED, "ws://agni:8765/ws: token")
    assert worst(replace(GOOD, ahead_s=None)).level is Level.SKIPPED
    assert worst(replace(GOOD, agent=None)).sentence == "there is no token or key to try"


def test_who_joins_with_a_key_is_told_of_that() -> None:
    found = check_contact(BY_KEY)
    assert (found[-1].check, found[-1].sentence) == ("ws://agni:8765/ws: key", "dc is let in by its key 3b6a27bc…")
    found = check_contact(replace(BY_KEY, agent=None, tcp_error="Connection refused"))
    assert (found[-1].level, found[-1].check) == (Level.SKIPPED, "ws://agni:8765/ws: key")


def test_exit_codes() -> None:
    good, warn, bad = ok("a", "b"), warning("a", "b", "c"), fault("a", "b", "c")
    assert [exit_code(found) for found in ([], [good, skipped("a", "b")], [good, warn], [bad, warn])] == [0, 0, 1, 2]
    assert bad.as_map() == {"check": "a", "level": "fault", "sentence": "b", "to_do": "c"}


@pytest.mark.parametrize(
    ("date_s", "asked_s", "answered_s", "ahead_s"),
    [
        # HTTP's second began up to one second before it was told.
        (100.0, 100.2, 100.3, 0.0),
        (100.0, 100.9, 101.0, 0.0),
        # How long the way takes says nothing of a clock.
        (100.0, 99.0, 109.0, 0.0),
        (100.0, 110.5, 110.6, 9.5),
        (100.0, 90.0, 91.0, -9.0),
    ],
)
def test_a_slow_way_is_no_wrong_clock(date_s: float, asked_s: float, answered_s: float, ahead_s: float) -> None:
    assert ahead_of(date_s, asked_s, answered_s) == pytest.approx(ahead_s)
