"""Clients of Redis, and what is told of their faults. All of it blocks, so it is used in threads of its users' own.

The library is imported when it is used: a node that asks for no Redis needs none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trishula.contract.texts import one_line
from trishula.homes import expanded
from trishula_router.settings.alerts import SecretMissing, read_secret
from trishula_router.settings.redis_server import INSTALL_REDIS, RedisAddress

if TYPE_CHECKING:
    import redis

__all__ = ["connect", "connect_by_sentinel", "sentence_of"]

_SHOWN = 200


def connect(address: RedisAddress, password: str, ca: str, base: Path, *, timeout_s: float) -> redis.Redis:
    """A client of the Redis at an address; nothing is sent yet.

    Args:
        address: from the configuration.
        password: where its password is; empty for none.
        ca: the file of the authorities that are trusted; empty for those of the machine.
        base: the state directory, where relative paths start.
        timeout_s: of each step.

    Raises:
        SecretMissing: the password is not there.
    """
    import redis

    return redis.Redis(**_arguments(address, password, ca, base, timeout_s))


def connect_by_sentinel(
    address: RedisAddress,
    password: str,
    ca: str,
    base: Path,
    *,
    timeout_s: float,
    sentinels: Sequence[tuple[str, int]],
    master: str,
) -> redis.Redis:
    """A client of whichever Redis the sentinels call the master now; it doesn't follow when they call another one so.

    Args:
        address: says with which user, database and TLS; its host and port are not used.
        sentinels: (host, port) each.
        master: the name that the sentinels have for it.

    Raises:
        redis.RedisError: none of the sentinels knows a master.
    """
    import redis
    from redis.sentinel import Sentinel

    arguments = _arguments(address, password, ca, base, timeout_s)
    of_sentinels = {key: arguments[key] for key in ("socket_timeout", "socket_connect_timeout", "retry")}
    asked: Any = Sentinel(list(sentinels), sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    try:
        host, port = asked.discover_master(master)
    finally:
        for one in asked.sentinels:
            one.close()
    return redis.Redis(**{**arguments, "host": host, "port": port})


def _arguments(address: RedisAddress, password: str, ca: str, base: Path, timeout_s: float) -> dict[str, Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    secret = read_secret(password, base) if password else None
    more: dict[str, Any] = {}
    if address.has_tls:
        more = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
        if ca:
            more["ssl_ca_certs"] = str(base / expanded(ca))
    return {
        "host": address.host,
        "port": address.port,
        "db": address.database,
        "username": address.user or None,
        "password": secret,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # Its users have pauses of their own: tries in here would only keep what is wrong from being told.
        "retry": Retry(NoBackoff(), 0),
        "single_connection_client": False,
        **more,
    }


def sentence_of(error: Exception, password_option: str, timeout_s: float) -> str | None:
    """What to tell of a fault; ``None`` if it is none of Redis or of its client. No secret is in it.

    Args:
        error: what was raised.
        password_option: which option says where the password is.
        timeout_s: of the client.
    """
    if isinstance(error, ModuleNotFoundError):
        return f"the library for Redis is not installed: {INSTALL_REDIS}"
    if isinstance(error, SecretMissing):
        return f"{password_option}: {error}"
    import redis

    if not isinstance(error, redis.RedisError | OSError | UnicodeError | ValueError):
        return None
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return f"Redis did not answer within {timeout_s:g} s"
    if isinstance(error, UnicodeError):
        # Its text may hold what it is about.
        return "the password holds characters that can't be sent"
    if isinstance(error, redis.AuthenticationError):
        return f"Redis refuses the login ({one_line(str(error))[:_SHOWN]}); look at {password_option}"
    if isinstance(error, redis.ConnectionError | OSError):
        return f"Redis can't be reached: {one_line(str(error))[:_SHOWN]}"
    return f"Redis answered: {one_line(str(error))[:_SHOWN]}"
