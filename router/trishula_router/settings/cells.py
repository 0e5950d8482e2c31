"""The options of cells, ``cells``: the Redis by which a node reaches agents at nodes that it is not linked with.

A cell is a node, or two linked ones that have the same ``cells.name``. Without that name there is none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.homes import expanded
from trishula_router.settings.faults import WHOLE, Section
from trishula_router.settings.mirror import RedisAddress, has_password, is_secret, is_url, read_url

__all__ = ["CellOptions", "parse_cells"]

_NAME_RULE = f"the name of the cell, {AGENT_RULE}; empty for none"
_URL_RULE = "redis://[USER@]HOST[:PORT][/DATABASE] or rediss://… (TLS), without a password"
_SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"
_KEY_RULE = "the path of the file with the cells' key, relative to the state directory, mode 0600"
_CA_RULE = "the path of a file, relative to the state directory; empty for none"
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

    def text(key: str, rule: str, keeps: Callable[[str], bool]) -> str:
        value = section.text(key, "", rule, lambda one: not one or keeps(one))
        # Of a fault the section makes something up.
        return value if section.shown(key, "") == value else ""

    options = CellOptions(
        name=text("name", _NAME_RULE, is_agent_name),
        redis=text("redis", _URL_RULE, lambda value: is_url(value) or has_password(value)),
        redis_password=text("redis_password", _SECRET_RULE, is_secret),
        redis_ca=text("redis_ca", _CA_RULE, _is_path),
        key_file=text("key_file", _KEY_RULE, _is_path),
        sentinels=section.names("sentinels", _SENTINEL_RULE, _is_sentinel),
        sentinel_master=text("sentinel_master", _MASTER_RULE, _is_master),
        maxlen=section.count("maxlen", 100_000, 1_000, 100_000_000),
        late_s=section.duration_s("late", "1m", "5s", "30d"),
    )
    _check_together(section, options, is_network_trusted)
    section.close()
    return options


def _check_together(section: Section, options: CellOptions, is_network_trusted: bool) -> None:
    if has_password(options.redis):
        # Not shown: whoever reads the fault need not know it.
        section.fault("redis", WHOLE, f"it must be {_URL_RULE}: that goes into cells.redis_password ({_SECRET_RULE})")
    elif options.redis:
        address = options.address
        is_here = address.is_on_this_machine and not options.sentinels
        if not (address.has_tls or is_here or is_network_trusted):
            section.fault(
                "redis",
                options.redis,
                "it must be rediss://… (TLS), or anybody on the way could read the messages and the password; or say "
                'why the network is to be trusted: extra, "trusted_network": "why it is to be trusted"',
            )
        if options.redis_ca and not address.has_tls:
            section.fault("redis_ca", options.redis_ca, "it must not be there without rediss://… in cells.redis")
    if section.shown("name", ""):
        for key, rule in (("redis", _URL_RULE), ("key_file", _KEY_RULE)):
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


def _is_path(text: str) -> bool:
    try:
        expanded(text)
    except ValueError:
        return False
    return "\x00" not in text
