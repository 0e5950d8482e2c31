"""The way from this machine to a node, tried step by step, by plain sockets: facts for :mod:`trishula.doctor`.

The last step is a real session of the bus. The steps before it are tried by hand, so that each tells by itself what is
wrong: a client that can't get through knows only that it can't.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from trishula.cli.state import State
from trishula.doctor.agent_checks import Contact, ahead_of
from trishula.errors import TokenInvalid, TokenMissing, TrishulaError
from trishula.proxies import Proxy
from trishula.settings import Settings

__all__ = ["try_contact", "try_tls"]

_TIMEOUT_S = 4.0
#: Of an answer's head.
_MOST_BYTES = 16 * 1024


def try_contact(url: str, settings: Settings | None, shell: State) -> Contact:
    """Try all that an agent does to join at one URL.

    Args:
        url: of the node.
        settings: with which proxy, authorities, and token or key; ``None``: without any of them.
        shell: opens the session.
    """
    proxy = None if settings is None else settings.proxies.of(url)
    line, contact = _secured(url, settings)
    if settings is not None and settings.key is not None:
        contact = replace(contact, key=settings.key.public)
    if line is None:
        return contact
    with line:
        contact = _upgraded(line, contact, urlsplit(url).path or "/")
    if not contact.is_wamp:
        return contact
    contact = replace(contact, ahead_s=_ahead_s(contact, proxy, settings))
    return contact if settings is None else _join(contact, settings, shell)


def try_tls(url: str, settings: Settings) -> Contact:
    """Try the way to a node as far as its certificate is seen; nothing is tried of a URL without TLS."""
    if urlsplit(url).scheme != "wss":
        return Contact(url, "", 0, False)
    line, contact = _secured(url, settings)
    if line is not None:
        line.close()
    return contact


def _secured(url: str, settings: Settings | None) -> tuple[socket.socket | None, Contact]:
    """A line to a node, with TLS if its URL says so; ``None`` if that fails."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)
    proxy = None if settings is None else settings.proxies.of(url)
    contact = Contact(url, host, port, is_tls, proxy=None if proxy is None else str(proxy))
    if proxy is None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return None, replace(contact, dns_error=getattr(error, "strerror", None) or str(error))
        contact = replace(contact, addresses=tuple(dict.fromkeys(str(one[4][0]) for one in found)))
    try:
        line = _connect(contact, proxy)
    except OSError as error:
        return None, replace(contact, tcp_error=_words(error))
    secured, contact = _prepared(line, contact, proxy, settings)
    if secured is None:
        line.close()
    return secured, contact


def _connect(contact: Contact, proxy: Proxy | None) -> socket.socket:
    at = (contact.host, contact.port) if proxy is None else (proxy.host, proxy.port)
    return socket.create_connection(at, timeout=_TIMEOUT_S)


def _prepared(
    line: socket.socket, contact: Contact, proxy: Proxy | None, settings: Settings | None
) -> tuple[socket.socket | None, Contact]:
    """The line behind the proxy and with TLS, as far as there are any; ``None`` if that fails."""
    try:
        if proxy is not None:
            ask = f"CONNECT {_place(contact)} HTTP/1.1\r\nHost: {_place(contact)}\r\n"
            if proxy.authorization is not None:
                ask += f"Proxy-Authorization: {proxy.authorization}\r\n"
            status, first, _ = _ask(line, ask)
            if status is None or status // 100 != 2:
                return None, replace(contact, proxy_refusal=first or "it closes the connection")
    except OSError as error:
        return None, replace(contact, proxy_refusal=_words(error))
    if not contact.is_tls:
        return line, contact
    try:
        trusted = ssl.create_default_context(cafile=None if settings is None else settings.ca_file)
        if settings is not None and settings.client_certificate is not None:
            trusted.load_cert_chain(settings.client_certificate, password=lambda: "")
        secured = trusted.wrap_socket(line, server_hostname=contact.host)
    except ssl.SSLCertVerificationError as error:
        return None, replace(contact, tls_code=error.verify_code, tls_error=error.verify_message)
    except (OSError, ValueError) as error:
        return None, replace(contact, tls_error=_words(error))
    until = (secured.getpeercert() or {}).get("notAfter")
    if isinstance(until, str):
        contact = replace(contact, certificate_left_s=ssl.cert_time_to_seconds(until) - time.time())
    return secured, contact


def _place(contact: Contact) -> str:
    return f"{f'[{contact.host}]' if ':' in contact.host else contact.host}:{contact.port}"


def _upgraded(line: socket.socket, contact: Contact, path: str) -> Contact:
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = (
        f"GET {path} HTTP/1.1\r\nHost: {_place(contact)}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: wamp.2.json\r\n"
    )
    try:
        status, _, heads = _ask(line, upgrade)
    except OSError:
        status, heads = None, {}
    is_wamp = status == 101 and heads.get("sec-websocket-protocol") == "wamp.2.json"
    return replace(contact, status=status, is_wamp=is_wamp)


def _ahead_s(contact: Contact, proxy: Proxy | None, settings: Settings | None) -> float | None:
    """By how much our clock is ahead of the date that a page of the node has: a WebSocket's answer has none."""
    try:
        with _connect(contact, proxy) as line:
            secured, _ = _prepared(line, contact, proxy, settings)
            if secured is None:
                return None
            with secured:
                ask = f"HEAD /health HTTP/1.1\r\nHost: {_place(contact)}\r\nConnection: close\r\n"
                asked_s = time.time()
                _, _, heads = _ask(secured, ask)
        return ahead_of(parsedate_to_datetime(heads["date"]).timestamp(), asked_s, time.time())
    except (OSError, LookupError, TypeError, ValueError):
        return None


def _ask(line: socket.socket, ask: str) -> tuple[int | None, str, dict[str, str]]:
    """Status, first line and header fields of what a request is answered with."""
    line.settimeout(_TIMEOUT_S)
    line.sendall(f"{ask}\r\n".encode())
    answer = b""
    # Byte by byte: what comes behind the head of a tunnel is somebody else's.
    while not answer.endswith(b"\r\n\r\n") and len(answer) < _MOST_BYTES and (more := line.recv(1)):
        answer += more
    first, *fields = answer.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    status = int(words[1]) if len(words) > 1 and words[0].startswith("HTTP/") and words[1].isdigit() else None
    pairs = (field.partition(":") for field in fields)
    return status, first[:200], {name.strip().lower(): value.strip() for name, _, value in pairs}


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _join(contact: Contact, settings: Settings, shell: State) -> Contact:
    try:
        with State(contact.url, shell.profile, connect=shell.connect).bus(looks_only=True):
            return replace(contact, agent=settings.agent)
    except TrishulaError as error:
        is_token = isinstance(error, TokenInvalid | TokenMissing)
        return replace(contact, agent=settings.agent, join_error=error.sentence, is_token_refused=is_token)
