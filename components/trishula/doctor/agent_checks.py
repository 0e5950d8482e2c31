"""What is between an agent's machine and a node, step by step: name, proxy, port, TLS, node, and token or key.

:func:`check_contact` takes what was tried (:class:`Contact`) and says what it means. What comes behind a step that
failed was not tried, and is skipped.

Policy only: no I/O, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from trishula.contract.texts import one_line
from trishula.contract.units import show_duration
from trishula.doctor.findings import Finding, fault, ok, skipped, warning

__all__ = ["CERTIFICATE_WARNS_S", "Contact", "ahead_of", "check_contact"]

#: A certificate that is over so soon should have been renewed: Let's Encrypt's tools do so 30 days before.
CERTIFICATE_WARNS_S = 14 * 86400.0
#: Clocks that follow NTP now and then differ by less.
_SKEW_S = 3.0
#: What OpenSSL calls the ways in which a certificate can be wrong: verify codes.
_EXPIRED, _SELF_SIGNED, _UNKNOWN, _OTHER_NAME = (10,), (18, 19), (2, 20, 21), (62, 64)


@dataclass(frozen=True, slots=True)
class Contact:
    """What was tried with one URL; ``None`` where it was not tried, or not found out.

    Attributes:
        url, host, port, is_tls: of the node.
        proxy: host and port of the proxy that leads there.
        addresses: what the host's name leads to; a proxy looks that up by itself.
        dns_error: why it leads to none.
        tcp_error: why nobody took the connection: the node, or the proxy.
        proxy_refusal: what the proxy answered in the place of a tunnel.
        tls_code: OpenSSL's number of what is wrong with the certificate.
        tls_error: what went wrong in TLS, in OpenSSL's words.
        certificate_left_s: for how long the node's certificate is still valid.
        status: what the HTTP request for a WebSocket was answered with: 101 is right.
        is_wamp: whether a WebSocket for WAMP was opened.
        ahead_s: by how much this machine's clock is ahead of the clock of whoever answered.
        agent: who joined.
        key: the public key by which it is to join; ``None``: it has a token, or neither.
        join_error: why the session was not let in: a sentence.
        is_token_refused: whether that was because of the token or the key.
    """

    url: str
    host: str
    port: int
    is_tls: bool
    proxy: str | None = None
    addresses: tuple[str, ...] | None = None
    dns_error: str | None = None
    tcp_error: str | None = None
    proxy_refusal: str | None = None
    tls_code: int | None = None
    tls_error: str | None = None
    certificate_left_s: float | None = None
    status: int | None = None
    is_wamp: bool = False
    ahead_s: float | None = None
    agent: str | None = None
    key: str | None = None
    join_error: str | None = None
    is_token_refused: bool = False


def ahead_of(date_s: float, asked_s: float, answered_s: float) -> float:
    """By how much this machine's clock is ahead at least: 0.0 if the two may agree; negative if it is behind.

    Args:
        date_s: what the other one's clock said, in whole seconds, as HTTP tells it.
        asked_s: what this machine's clock said when it asked; the way may have taken all the time until the answer.
        answered_s: what it said when the answer was there.
    """
    least_s, most_s = asked_s - date_s - 1.0, answered_s - date_s
    return max(least_s, 0.0) if most_s >= 0 else most_s


def check_contact(contact: Contact) -> list[Finding]:
    """What each step of the way to a node shows, up to the first one that fails."""
    found: list[Finding] = []
    for step in (_name, _port, _proxy, _tls, _web_socket):
        found += step(contact)
        if any(finding.level == "fault" for finding in found):
            return [*found, skipped(_proof_check(contact), "the node was not reached, so nobody was asked")]
    return [*found, *_clock(contact), *_token(contact)]


def _name(contact: Contact) -> list[Finding]:
    check = f"{contact.url}: name"
    if contact.dns_error is not None:
        return [
            fault(
                check,
                f"the name {contact.host} leads to no address: {one_line(contact.dns_error)}",
                "correct the host in TRISHULA_URL or the profile, or the name's record (DNS, /etc/hosts)",
            )
        ]
    if contact.addresses is None or contact.addresses == (contact.host,):
        # A proxy looks it up; or it is an address by itself.
        return []
    return [ok(check, f"{contact.host} is {', '.join(contact.addresses)}")]


def _port(contact: Contact) -> list[Finding]:
    check = f"{contact.url}: port"
    at = f"the proxy {contact.proxy}" if contact.proxy else f"{contact.host}:{contact.port}"
    if contact.tcp_error is None:
        return [ok(check, f"{at} takes connections")]
    why = one_line(contact.tcp_error)
    if contact.proxy:
        to_do = "start the proxy or name another one (TRISHULA_PROXY, HTTPS_PROXY); NO_PROXY=HOST goes without"
    elif "refused" in why.lower():
        to_do = "nobody listens there: is the node started (trishula node status, there), and is it that port?"
    else:
        to_do = (
            "a firewall drops it, or the machine is off: let TCP to that port in, at the node's machine and at what is "
            "before it"
        )
    return [fault(check, f"{at} can't be reached: {why}", to_do)]


def _proxy(contact: Contact) -> list[Finding]:
    if contact.proxy is None:
        return []
    check = f"{contact.url}: proxy"
    if contact.proxy_refusal is None:
        return [ok(check, f"the proxy {contact.proxy} leads to {contact.host}:{contact.port}")]
    return [
        fault(
            check,
            f"the proxy {contact.proxy} makes no tunnel to {contact.host}:{contact.port}: "
            f"{one_line(contact.proxy_refusal)}",
            "have it allow CONNECT to that host and port, give it the right user and password, or go without: "
            f"NO_PROXY={contact.host}",
        )
    ]


def _tls(contact: Contact) -> list[Finding]:
    if not contact.is_tls:
        return []
    check = f"{contact.url}: TLS"
    if contact.tls_error is not None:
        said = one_line(contact.tls_error)
        if contact.tls_code in _EXPIRED:
            return [
                fault(
                    check,
                    f"the certificate of {contact.host} is over",
                    "renew it at the node (certbot renew), or set this machine's clock right if that is wrong",
                )
            ]
        if contact.tls_code in _OTHER_NAME:
            return [
                fault(
                    check,
                    f"the certificate is for other names than {contact.host}",
                    "name the node in TRISHULA_URL as its certificate does, or have one issued for this name",
                )
            ]
        if contact.tls_code in (*_SELF_SIGNED, *_UNKNOWN):
            return [
                fault(
                    check,
                    f"nobody whom this machine trusts has signed the certificate of {contact.host}: {said}",
                    "name the file of the authority that has: TRISHULA_CA_FILE, or ca_file in the profile",
                )
            ]
        return [
            fault(
                check,
                f"{contact.host}:{contact.port} and this machine can't agree on TLS: {said}",
                "is TLS spoken there at all? a node without it has a ws: URL",
            )
        ]
    left_s = contact.certificate_left_s
    if left_s is not None and left_s < CERTIFICATE_WARNS_S:
        return [
            warning(
                check,
                f"the certificate of {contact.host} is over in {show_duration(left_s)}",
                "renew it at the node; that it isn't renewed by itself is the fault to look for (certbot renew)",
            )
        ]
    told = "" if left_s is None else f", and is valid for {show_duration(left_s)}"
    return [ok(check, f"the certificate of {contact.host} is good{told}")]


def _web_socket(contact: Contact) -> list[Finding]:
    check = f"{contact.url}: WebSocket"
    if contact.is_wamp:
        return [ok(check, "a node answers there")]
    if contact.status is None:
        what = "whoever listens there doesn't speak HTTP" + ("" if contact.is_tls else ", or speaks TLS alone")
        to_do = "is it the node's port? a node with TLS has a wss: URL"
    elif contact.status == 101:
        what, to_do = "a WebSocket is opened there, and not one for WAMP", "name the node's own path, which ends in /ws"
    elif contact.status in (502, 503, 504):
        what = f"a proxy answers there with {contact.status}: the node behind it doesn't"
        to_do = "start the node (trishula node status, there), or correct the proxy's upstream"
    else:
        what = f"a web server answers there with {contact.status} and opens no WebSocket"
        to_do = "name the node's path (…/ws); a proxy before it must pass Upgrade and Connection on (deploy/nginx/)"
    return [fault(check, what, to_do)]


def _clock(contact: Contact) -> list[Finding]:
    check = f"{contact.url}: clock"
    if contact.ahead_s is None:
        return [skipped(check, "whoever answered didn't say what time it is")]
    off_s = abs(contact.ahead_s)
    if off_s <= _SKEW_S:
        return [ok(check, "this machine's clock agrees with the node's, as far as whole seconds tell")]
    way = "ahead of" if contact.ahead_s > 0 else "behind"
    return [
        warning(
            check,
            f"this machine's clock is about {show_duration(off_s)} {way} the clock of {contact.host}",
            "have both follow NTP: timedatectl set-ntp true",
        )
    ]


def _proof_check(contact: Contact) -> str:
    return f"{contact.url}: {'token' if contact.key is None else 'key'}"


def _token(contact: Contact) -> list[Finding]:
    check = _proof_check(contact)
    if contact.join_error is None:
        if contact.agent is None:
            return [skipped(check, "there is no token or key to try")]
        by = "" if contact.key is None else f" by its key {contact.key[:8]}…"
        return [ok(check, f"{contact.agent} is let in{by}")]
    if not contact.is_token_refused:
        to_do = "the sentence says it; the node's side of it: trishula doctor there"
    elif contact.key is None:
        to_do = "at the node: trishula token list, and trishula token new NAME for a new one"
    else:
        to_do = f"at the node: trishula token list, and trishula token new {contact.agent} --public-key {contact.key}"
    return [fault(check, one_line(contact.join_error), to_do)]
