"""Which Redis a section of options names: its URL, where its password is, and whose certificates are trusted for it.

The URL says everything but the password, which is a secret and stands elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from trishula.homes import expanded
from trishula_router.settings.faults import WHOLE, Section

__all__ = ["INSTALL_REDIS", "REDIS_RULE", "RedisAddress", "RedisServer", "is_path", "optional_text", "read_url"]

INSTALL_REDIS = "pip install 'trishula-bus[redis]'"
#: What a URL must be.
REDIS_RULE = "redis://[USER@]HOST[:PORT][/DATABASE] or rediss://… (TLS), without a password"

_SECRET_RULE = "file:PATH or env:NAME, which holds it: a secret does not belong in the configuration"
_CA_RULE = "the path of a file, relative to the state directory; empty for none"
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


class RedisServer(NamedTuple):
    """The options ``redis``, ``redis_password`` and ``redis_ca`` of a section; each is empty if it is not there."""

    url: str
    password: str
    ca: str

    @classmethod
    def read(cls, section: Section, url_rule: str) -> RedisServer:
        """Read the three; each fault of one of them is left with ``section``. :meth:`check` is to follow.

        Args:
            section: of the options.
            url_rule: what its URL must be: :data:`REDIS_RULE`, and whether there may be none.
        """
        return cls(
            # One with a password is refused by :meth:`check`, which doesn't show it.
            optional_text(section, "redis", url_rule, lambda text: _is_url(text) or _has_password(text)),
            optional_text(section, "redis_password", _SECRET_RULE, _is_secret),
            optional_text(section, "redis_ca", _CA_RULE, is_path),
        )

    def check(self, section: Section, url_rule: str, *, name: str, told: str, may_be_open: bool) -> None:
        """Leave with ``section`` what is wrong with the three together.

        Args:
            section: of the options.
            url_rule: as for :meth:`read`.
            name: the section's.
            told: what a stranger on the way would read, besides the password.
            may_be_open: whether what goes to that Redis may go without TLS.
        """
        if _has_password(self.url):
            # Not shown: whoever reads the fault need not know it.
            rule = f"it must be {url_rule}: that goes into {name}.redis_password ({_SECRET_RULE})"
            section.fault("redis", WHOLE, rule)
        elif self.url:
            address = read_url(self.url)
            if not (address.has_tls or may_be_open):
                section.fault(
                    "redis",
                    self.url,
                    f"it must be rediss://… (TLS), or anybody on the way could read the {told} and the password; or "
                    'say why the network is to be trusted: extra, "trusted_network": "why it is to be trusted"',
                )
            if self.ca and not address.has_tls:
                section.fault("redis_ca", self.ca, f"it must not be there without rediss://… in {name}.redis")

    @property
    def is_on_this_machine(self) -> bool:
        """Whether nobody else's wire is between the node and it."""
        return _is_url(self.url) and read_url(self.url).is_on_this_machine


def optional_text(section: Section, key: str, rule: str, keeps: Callable[[str], bool]) -> str:
    """The text of an option that may be missing or empty; empty as well if it breaks its rule, which is a fault."""
    value = section.text(key, "", rule, lambda text: not text or keeps(text))
    # Of a fault the section makes something up.
    return value if section.shown(key, "") == value else ""


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


def is_path(text: str) -> bool:
    """Whether a text can be the path of a file."""
    try:
        expanded(text)
    except ValueError:
        return False
    return "\x00" not in text


def _is_url(text: str) -> bool:
    try:
        read_url(text)
    except ValueError:
        return False
    return True


def _has_password(text: str) -> bool:
    return re.match(r"[^/]*//[^/@]*:[^@]*@", text) is not None


def _is_secret(text: str) -> bool:
    kind, _, name = text.partition(":")
    return kind in ("file", "env") and bool(name)
