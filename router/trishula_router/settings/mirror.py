"""The options of the mirrors, ``mirror``: where a node's journal is copied to for collectors."""

from __future__ import annotations

from dataclasses import dataclass

from trishula_router.settings.faults import Section
from trishula_router.settings.redis_server import (
    REDIS_RULE,
    RedisAddress,
    RedisServer,
    is_path,
    optional_text,
    read_url,
)

__all__ = ["MirrorOptions", "parse_mirror"]

_URL_RULE = f"{REDIS_RULE}; empty for none"
_STREAM_RULE = "1 to 200 printable characters without a space; empty for trishula:audit:NODE"
#: No file that a node needs is called so: lines at the end of its store, say, would be the end of that.
_FILE_RULE = "the path of a file that ends in .jsonl, relative to the state directory; empty for none"


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

    redis = RedisServer.read(section, _URL_RULE)
    options = MirrorOptions(
        redis=redis.url,
        redis_password=redis.password,
        redis_ca=redis.ca,
        stream=optional_text(section, "stream", _STREAM_RULE, _is_stream),
        maxlen=section.count("maxlen", 1_000_000, 1_000, 100_000_000),
        file=optional_text(section, "file", _FILE_RULE, _is_lines_file),
        file_size_bytes=section.size_bytes("file_size", "64 MiB", "64 KiB", "16 GiB"),
        file_count=section.count("file_count", 8, 1, 1000),
        lag_s=section.duration_s("lag", "5m", "1s", "30d"),
    )
    may_be_open = redis.is_on_this_machine or is_network_trusted
    redis.check(section, _URL_RULE, name="mirror", told="audit", may_be_open=may_be_open)
    if not redis.url:
        for key, value in (("redis_password", redis.password), ("redis_ca", redis.ca)):
            if value and not section.shown("redis", ""):
                section.fault(key, value, "it must not be there without mirror.redis")
    section.close()
    return options


def _is_stream(text: str) -> bool:
    return len(text) <= 200 and text.isprintable() and " " not in text


def _is_lines_file(text: str) -> bool:
    return is_path(text) and text.endswith(".jsonl")
