"""The options of the mirrors, ``mirror``: where a node's journal is copied to for collectors.

A URL says everything but the password, which is a secret and stands elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from trishula.homes import expanded
from trishula_router.settings.faults import WHOLE, Section

__all__ = [
    "INSTALL_REDIS",
    "MirrorOptions",
    "RedisAddress",
    "has_password",
    "is_secret",
    "is_url",
    "parse_mirror",
    "read_url",
]

INSTALL_REDIS = "pip install 'trishula-bus[redis]'"

_URL_RULE = "redis://[USER@]HOST[:PORT][/DATABASE] or rediss://… (TLS), without a password; empty for none"
_SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"
_STREAM_RULE = "1 to 200 printable characters without a space; empty for trishula:audit:NODE"
_PATH_RULE = "the path of a file, relative to the state directory; empty for none"
#: No file that a node needs is called so: lines at the end of its store, say, would be the end of that.
_FILE_RULE = "the path of a file that ends in .jsonl, relative to the state directory; empty for none"
_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What a URL of Redis says."""

    host: str
    port: int
    database: int
    user: str
    has_tls: bool

    @property
    def is_on_this_machine(self) -> bool:
        """Whether nobody else's wire is between the node and it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """Where the records of the node's own journal are copied to, besides the journal itself.

    Attributes:
        redis: the Redis (6.2 or later) with the stream that gets each record; empty for none. Beyond the node's machine
            it must be ``rediss:``, but in a ``trusted_network``.
        redis_password: where the password for it is; empty for none.
        redis_ca: the file with the certificates of authorities that are trusted for ``rediss:``, relative to the state
            directory; empty for those of the machine.
        stream: the key of the stream; by default ``trishula:audit:`` and the node's name.
        maxlen: about how many of the newest records the stream keeps.
        file: the file that gets each record as a line of JSON; empty for none.
        file_size_bytes: from this size on the file is renamed to ``FILE.1``, and a new one begun.
        file_count: how many renamed ones are kept; the oldest is deleted.
        lag_s: so old may the oldest record be that a mirror has not taken, before ``/ready`` calls that *degraded*.
    """

    redis: str = ""
    redis_password: str = ""
    redis_ca: str = ""
    stream: str = ""
    maxlen: int = 1_000_000
    file: str = ""
    file_size_bytes: int = 64 * 1024 * 1024
    file_count: int = 8
    lag_s: float = 300.0

    @property
    def redis_address(self) -> RedisAddress:
        """What :attr:`redis` says.

        Raises:
            ValueError: it is none.
        """
        return read_url(self.redis)


def parse_mirror(section: Section, is_network_trusted: bool) -> MirrorOptions:
    """Read ``mirror``; each fault is left with ``section``.

    Args:
        section: of the options.
        is_network_trusted: the option ``trusted_network``.
    """

    def text(key: str, rule: str, keeps: Callable[[str], bool]) -> str:
        value = section.text(key, "", rule, keeps)
        # Of a fault the section makes something up.
        return value if keeps(value) and section.shown(key, "") == value else ""

    options = MirrorOptions(
        redis=text("redis", _URL_RULE, lambda value: is_url(value) or has_password(value)),
        redis_password=text("redis_password", _SECRET_RULE, is_secret),
        redis_ca=text("redis_ca", _PATH_RULE, _is_path),
        stream=text("stream", _STREAM_RULE, _is_stream),
        maxlen=section.count("maxlen", 1_000_000, 1_000, 100_000_000),
        file=text("file", _FILE_RULE, _is_lines_file),
        file_size_bytes=section.size_bytes("file_size", "64 MiB", "64 KiB", "16 GiB"),
        file_count=section.count("file_count", 8, 1, 1000),
        lag_s=section.duration_s("lag", "5m", "1s", "30d"),
    )
    if has_password(options.redis):
        # Not shown: whoever reads the fault need not know it.
        section.fault("redis", WHOLE, f"it must be {_URL_RULE}: that goes into mirror.redis_password ({_SECRET_RULE})")
    elif options.redis:
        address = options.redis_address
        if not (address.has_tls or address.is_on_this_machine or is_network_trusted):
            section.fault(
                "redis",
                options.redis,
                "it must be rediss://… (TLS), or anybody on the way could read the audit and the password; or say why "
                'the network is to be trusted: extra, "trusted_network": "why it is to be trusted"',
            )
        if options.redis_ca and not address.has_tls:
            section.fault("redis_ca", options.redis_ca, "it must not be there without rediss://… in mirror.redis")
    else:
        for key, value in (("redis_password", options.redis_password), ("redis_ca", options.redis_ca)):
            if value and not section.shown("redis", ""):
                section.fault(key, value, "it must not be there without mirror.redis")
    section.close()
    return options


def is_url(text: str) -> bool:
    """Whether a text is a URL of Redis, or empty."""
    if not text:
        return True
    try:
        read_url(text)
    except ValueError:
        return False
    return True


def read_url(text: str) -> RedisAddress:
    """What a URL of Redis says.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(text)
    database = parts.path.removeprefix("/") or "0"
    good = parts.scheme in ("redis", "rediss") and parts.hostname and parts.password is None
    if not good or parts.query or parts.fragment or not (database.isascii() and database.isdigit()):
        raise ValueError("no URL of Redis")
    user = unquote(parts.username or "")
    return RedisAddress(str(parts.hostname), parts.port or _PORT, int(database), user, parts.scheme == "rediss")


def has_password(text: str) -> bool:
    """Whether a text looks like a URL with a password in it."""
    return re.match(r"[^/]*//[^/@]*:[^@]*@", text) is not None


def is_secret(text: str) -> bool:
    """Whether a text says where a secret is, or is empty."""
    kind, _, name = text.partition(":")
    return not text or (kind in ("file", "env") and bool(name))


def _is_stream(text: str) -> bool:
    return len(text) <= 200 and text.isprintable() and " " not in text


def _is_lines_file(text: str) -> bool:
    return not text or (_is_path(text) and text.endswith(".jsonl"))


def _is_path(text: str) -> bool:
    try:
        expanded(text)
    except ValueError:
        return False
    return "\x00" not in text
