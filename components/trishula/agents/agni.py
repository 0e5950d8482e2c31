"""agni, infrastructure: the host's report, whether services answer, and how long certificates are still good.

Everything is done from this machine and now: a check that fails is a result (``ok`` false, and why), not an error. It
asks this machine's own services, and the hosts that its operator has listed (:mod:`.targets`); whoever names another
one is refused.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from trishula.agent import Agent
from trishula.agents.host_report import add_common
from trishula.agents.targets import LOOPBACK, Targets, load_targets
from trishula.errors import ArgumentInvalid

__all__ = ["agent", "build", "check_certificate", "check_service", "main"]

#: Of a body, enough to see that there is one.
_BODY_BYTES = 64 * 1024
#: More at once would measure our own queue.
_AT_ONCE = 16
_MAX_TARGETS = 256
_MAX_TIMEOUT_S = 60.0
#: Certificates are renewed a month before their end by most tools; two weeks before, somebody has to look.
_WARN_DAYS = 14


def check_service(target: str, timeout_s: float = 5.0, *, targets: Targets = LOOPBACK) -> dict[str, Any]:
    """Whether a service answers: ``tcp://HOST:PORT`` accepts a connection, ``http(s)://…`` gives a status below 400.

    Raises:
        ArgumentInvalid: the target is neither, or not among ``targets``, or the time limit is out of bounds.
    """
    parts = urlsplit(target)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("tcp", "http", "https") or host is None or (parts.scheme == "tcp" and not port):
        raise ArgumentInvalid(f"target is {target!r}; it must be tcp://HOST:PORT, http://HOST… or https://HOST…")
    _check_timeout(timeout_s)
    targets.check(host, port or (443 if parts.scheme == "https" else 80))
    begin_s = time.monotonic()
    try:
        if parts.scheme == "tcp":
            socket.create_connection((host, port or 0), timeout_s).close()
            found: dict[str, Any] = {"ok": True, "detail": "it accepts connections"}
        else:
            found = _ask(parts.scheme, host, port, parts.path or "/", parts.query, timeout_s)
    except (OSError, http.client.HTTPException) as error:
        found = {"ok": False, "detail": _reason(error, timeout_s)}
    return {"target": target, **found, "took_ms": round((time.monotonic() - begin_s) * 1000, 2)}


def _ask(scheme: str, host: str, port: int | None, path: str, query: str, timeout_s: float) -> dict[str, Any]:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=timeout_s)
    try:
        connection.request("GET", f"{path}?{query}" if query else path, headers={"User-Agent": "trishula-agni"})
        answer = connection.getresponse()
        size_bytes = len(answer.read(_BODY_BYTES))
    finally:
        connection.close()
    detail = f"HTTP {answer.status} {answer.reason}".strip()
    return {"ok": answer.status < 400, "detail": detail, "status": answer.status, "body_bytes": size_bytes}


def check_certificate(
    host: str, port: int = 443, timeout_s: float = 5.0, *, targets: Targets = LOOPBACK
) -> dict[str, Any]:
    """A server's certificate: until when it is good, and whether this machine trusts it for that host.

    A certificate that is not trusted is reported all the same: its end is what is asked for.

    Raises:
        ArgumentInvalid: the port or the time limit is out of bounds, or the host is not among ``targets``.
    """
    if not 0 < port < 65536:
        raise ArgumentInvalid(f"port is {port}; it must be from 1 to 65535")
    _check_timeout(timeout_s)
    targets.check(host, port)
    found: dict[str, Any] = {"host": host, "port": port}
    try:
        trusted, why = True, None
        try:
            der = _peer_certificate(host, port, timeout_s, ssl.create_default_context())
        except ssl.SSLCertVerificationError as error:
            trusted, why = False, error.verify_message
            unverified = ssl.create_default_context()
            unverified.check_hostname = False
            unverified.verify_mode = ssl.CERT_NONE
            der = _peer_certificate(host, port, timeout_s, unverified)
    except OSError as error:
        return {**found, "ok": False, "detail": _reason(error, timeout_s)}
    certificate = x509.load_der_x509_certificate(der)
    left_s = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds()
    days_left = int(left_s // 86400)
    if why is not None:
        detail = f"it is not trusted here: {why}"
    elif days_left < _WARN_DAYS:
        detail = f"it ends in {days_left} days"
    else:
        detail = f"it is good for {days_left} days"
    return {
        **found,
        "ok": trusted and days_left >= _WARN_DAYS,
        "detail": detail,
        "trusted": trusted,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": int(certificate.not_valid_before_utc.timestamp() * 1000),
        "not_after": int(certificate.not_valid_after_utc.timestamp() * 1000),
        "days_left": days_left,
    }


def _peer_certificate(host: str, port: int, timeout_s: float, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection((host, port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    if der is None:
        raise ssl.SSLError("the server shows no certificate")
    return der


def _check_timeout(timeout_s: float) -> None:
    if not 0 < timeout_s <= _MAX_TIMEOUT_S:
        raise ArgumentInvalid(f"timeout_s is {timeout_s}; it must be over 0 and at most {_MAX_TIMEOUT_S:g} seconds")


def _reason(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


async def _all_of(checks: Sequence[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run blocking checks in threads, some at a time; the results in the order of the checks."""
    if len(checks) > _MAX_TARGETS:
        raise ArgumentInvalid(f"there are {len(checks)} targets; one call takes at most {_MAX_TARGETS}")
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        async with room:
            return await asyncio.to_thread(check)

    return list(await asyncio.gather(*map(one, checks)))


def build(targets: Targets | None = None, **options: Any) -> Agent:
    """The agent.

    Args:
        targets: which hosts it asks; read from the host's file when the first one is asked for, if absent.
        options: those of :class:`~trishula.agent.Agent`.
    """
    agent = Agent("agni", capabilities=["host", "services", "certificates"], **options)
    add_common(agent)
    known = targets

    def listed() -> Targets:
        nonlocal known
        if known is None:
            known = load_targets()
        return known

    @agent.on_start
    def read() -> None:
        listed()

    # Procedures of their own: what a caller passes must not reach the list.

    @agent.procedure(name="check_service", thread=True)
    def one_service(target: str, timeout_s: float = 5.0) -> dict[str, Any]:
        """:func:`check_service`."""
        return check_service(target, timeout_s, targets=listed())

    @agent.procedure(name="check_certificate", thread=True)
    def one_certificate(host: str, port: int = 443, timeout_s: float = 5.0) -> dict[str, Any]:
        """:func:`check_certificate`."""
        return check_certificate(host, port, timeout_s, targets=listed())

    @agent.procedure()
    async def check_services(targets: list[str], timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """:func:`check_service` for many, at once."""
        return await _all_of([partial(check_service, target, timeout_s, targets=listed()) for target in targets])

    @agent.procedure()
    async def check_certificates(hosts: list[str], timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """:func:`check_certificate` for many, at once; each ``HOST`` or ``HOST:PORT``."""
        pairs = [_host_and_port(host) for host in hosts]
        return await _all_of(
            [partial(check_certificate, host, port, timeout_s, targets=listed()) for host, port in pairs]
        )

    return agent


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ArgumentInvalid(f"{text!r} is no host; it must be HOST or HOST:PORT")
    return host, 443 if port is None else port


agent = build()


def main() -> None:
    """Run it."""
    agent.run()


if __name__ == "__main__":
    main()
