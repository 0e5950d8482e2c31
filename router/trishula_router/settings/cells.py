"""The options of cells, ``cells``: the Redis by which a node reaches agents at nodes that it is not linked with.

A cell is a node, or two linked ones that have the same ``cells.name``. Without that name there is none of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula_router.settings.faults import Section
from trishula_router.settings.redis_server import (
    REDIS_RULE,
    RedisAddress,
    RedisServer,
    is_path,
    optional_text,
    read_url,
)

__all__ = ["CellOptions", "parse_cells"]

_NAME_RULE = f"the name of the cell, {AGENT_RULE}; empty for none"
_KEY_RULE = "the path of the file with the cells' key, relative to the state directory, mode 0600"
_SENTINEL_RULE = "HOST:PORT, without TLS"
_MASTER_RULE = "the name that the sentinels have for the master, 1 to 100 printable characters without a space"
_SENTINEL = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class CellOptions:
    """By which Redis this node's cell is joined with others.

    Attributes:
        name: the cell's; each cell has its own, and linked nodes have the same; empty for no cells.
        redis: the Redis (6.2 or later) that joins the cells. Beyond the node's machine it must be ``rediss:``, but in a
            ``trusted_network``.
        redis_password: where the password for it is; empty for none.
        redis_ca: the file with the certificates of authorities that are trusted for ``rediss:``, relative to the state
            directory; empty for those of the machine.
        key_file: the file with the key that all cells share: with it they prove to each other what they put into Redis.
        sentinels: which sentinels say which Redis is the master; then host and port in ``redis`` are not used.
        sentinel_master: the name that they have for it.
        maxlen: about how many of the newest entries the stream of a cell keeps. What is cut is sent again.
        late_s: so old may the oldest message be that waits to be taken by its cell, or the canary that came back last,
            before ``/ready`` calls that *degraded*.
    """

    name: str = ""
    redis: str = ""
    redis_password: str = ""
    redis_ca: str = ""
    key_file: str = ""
    sentinels: tuple[str, ...] = ()
    sentinel_master: str = ""
    maxlen: int = 100_000
    late_s: float = 60.0

    @property
    def address(self) -> RedisAddress:
        """What :attr:`redis` says.

        Raises:
            ValueError: it is no URL.
        """
        return read_url(self.redis)

    @property
    def sentinel_addresses(self) -> list[tuple[str, int]]:
        """(host, port) of each sentinel."""
        found = [_SENTINEL.fullmatch(text) for text in self.sentinels]
        return [(one["host"].strip("[]"), int(one["port"])) for one in found if one is not None]


def parse_cells(section: Section, is_network_trusted: bool) -> CellOptions:
    """Read ``cells``; each fault is left with ``section``.

    Args:
        section: of the options.
        is_network_trusted: the option ``trusted_network``.
    """

    name = optional_text(section, "name", _NAME_RULE, is_agent_name)
    redis = RedisServer.read(section, REDIS_RULE)
    options = CellOptions(
        name=name,
        redis=redis.url,
        redis_password=redis.password,
        redis_ca=redis.ca,
        key_file=optional_text(section, "key_file", _KEY_RULE, is_path),
        sentinels=section.names("sentinels", _SENTINEL_RULE, _is_sentinel),
        sentinel_master=optional_text(section, "sentinel_master", _MASTER_RULE, _is_master),
        maxlen=section.count("maxlen", 100_000, 1_000, 100_000_000),
        late_s=section.duration_s("late", "1m", "5s", "30d"),
    )
    # Which Redis the sentinels will name, and where it is, nobody knows.
    may_be_open = (redis.is_on_this_machine and not options.sentinels) or is_network_trusted
    redis.check(section, REDIS_RULE, name="cells", told="messages", may_be_open=may_be_open)
    _check_together(section)
    section.close()
    return options


def _check_together(section: Section) -> None:
    if section.shown("name", ""):
        for key, rule in (("redis", REDIS_RULE), ("key_file", _KEY_RULE)):
            if not section.shown(key, ""):
                section.fault(key, section.shown(key, ""), f"it must be {rule}: cells.name needs it")
    else:
        for key in ("redis", "redis_password", "redis_ca", "key_file", "sentinels", "sentinel_master"):
            if section.shown(key, None):
                section.fault(key, section.shown(key, None), "it must not be there without cells.name")
    if bool(section.shown("sentinels", None)) != bool(section.shown("sentinel_master", "")):
        key = "sentinel_master" if section.shown("sentinels", None) else "sentinels"
        rule = "cells.sentinels and cells.sentinel_master must both be there, or neither"
        section.fault(key, section.shown(key, ""), rule)


def _is_sentinel(text: str) -> bool:
    found = _SENTINEL.fullmatch(text)
    return found is not None and 0 < int(found["port"]) < 65_536


def _is_master(text: str) -> bool:
    return len(text) <= 100 and text.isprintable() and " " not in text
