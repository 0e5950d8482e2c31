"""What a support bundle must not have: secrets are taken out of values and of texts before they are written.

Three nets, one behind the other: keys of maps that name a secret (:func:`without_secrets`); what looks like a secret
wherever it stands, a token, a private key, a password in a URL (:class:`Redaction`); and each secret of this set-up
that is known, letter by letter.

Policy only: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

__all__ = ["REMOVED", "Redaction", "without_secrets"]

#: Stands where a secret was.
REMOVED = "(removed)"
#: Parts of the names of keys whose values are secrets. Not "key": public keys and paths of files stand there, and what
#: a private key looks like is known.
_SECRET_NAMES = re.compile(r"token|secret|passw|passphrase|authorization|credential|cookie|ticket|sha256|webhook", re.I)
#: Values of such keys that are none: they name a file.
_FILE_NAMES = re.compile(r"_file\Z|_path\Z")
#: Shorter texts stand everywhere, and would take half of a bundle with them.
_LEAST_LETTERS = 6

_SHAPES = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S), REMOVED),
    # A token: an agent's name, a dot, 160 random bits or more.
    (re.compile(r"\b([a-z][a-z0-9_]{0,62})\.[A-Za-z0-9_-]{27,}"), rf"\1.{REMOVED}"),
    # Up to the last @ of it: a password may have one.
    (re.compile(r"(?<=://)[^/\s\"']+@"), f"{REMOVED}@"),
    (re.compile(r"(?<=://hooks\.slack\.com/)[^\s\"']+"), REMOVED),
    (re.compile(r"(?i)(passw(?:or)?d|passphrase|secret|api_?key)=[^\s\"',;&]+"), rf"\1={REMOVED}"),
    (re.compile(r"(?i)\b((?:proxy-)?authorization:?\s*)(?:basic|bearer)?\s*\S+"), rf"\1{REMOVED}"),
    (re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9+/=_.-]{8,}"), rf"\1 {REMOVED}"),
    (re.compile(r"(?im)^(private-key[\w-]*:\s*).*$"), rf"\1{REMOVED}"),
)


class Redaction:
    """Takes secrets out of texts.

    Args:
        secrets: those of this set-up that are known, whatever they look like.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: one may be within another.
        known = {secret.strip() for secret in secrets if len(secret.strip()) >= _LEAST_LETTERS}
        self._secrets = sorted(known, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without them."""
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text


def without_secrets(value: Any) -> Any:
    """A value of JSON without what stands under keys that name secrets, and with nothing but the host of web addresses.

    The address of a webhook is a secret: whoever has it can write there. Addresses of nodes (``ws:``, ``wss:``) stay.
    """
    if isinstance(value, dict):
        return {key: _without(one) if _names_secret(str(key)) else without_secrets(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one) for one in value]
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        try:
            parts = urlsplit(value)
        except ValueError:
            return REMOVED
        host = f"{parts.scheme}://{parts.hostname or ''}"
        return host if parts.path in ("", "/") and not parts.query else f"{host}/{REMOVED}"
    return value


def _names_secret(key: str) -> bool:
    return _SECRET_NAMES.search(key) is not None and _FILE_NAMES.search(key) is None


def _without(value: Any) -> Any:
    """What stands under the name of a secret: texts are secrets, alone or in a list; maps have names of their own."""
    if isinstance(value, list | tuple):
        return [_without(one) for one in value]
    return REMOVED if isinstance(value, str) and value else without_secrets(value)
