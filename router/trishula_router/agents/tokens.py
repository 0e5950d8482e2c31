"""Tokens and keys: how a token is made, what is kept of it, and which of an agent's are valid. No I/O.

A token is ``name.secret``. The name says whose it is, so that a client needs nothing else to know who it is; the secret
has 192 random bits. Only the SHA-256 of the whole token is kept. A plain hash is enough, because nobody can try 2**192
secrets: slow password hashes protect what people can remember.

In the place of a token an agent may have a *key*: an Ed25519 pair, of which it keeps the private half, and signs what
the node makes up when it joins. Of a key the public half is kept. All else is the same for both, so both are called
tokens where it makes no difference: a key has a digest as a token has one, of which no text can be the token.

An agent has at most :data:`MAX_VALID` valid tokens: enough to hand out a new one, restart the agent with it, and only
then lose the old one. A third one takes the oldest one's place (:func:`with_new_token`), so that forgotten keys never
pile up; ``trishula token new`` does that only when it is asked to. A session that joined with the one that had to go
ends, as with every token that is taken away.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

__all__ = [
    "MAX_VALID",
    "SECRET_BYTES",
    "TokenEntry",
    "digest_of",
    "digest_of_key",
    "find_key",
    "find_token",
    "key_entry",
    "new_token",
    "owner_of",
    "rotated",
    "with_new_token",
]

MAX_VALID = 2
#: The contract asks for at least 160 bits; a multiple of three bytes has no padding in base 64.
SECRET_BYTES = 24
#: What is hashed of a key begins with a byte that no UTF-8 has: there is no token with the digest of a key.
_OF_A_KEY = b"\xff" + b"ed25519:"


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """What is kept of a token, or of a key. Instants are in seconds since the epoch.

    Attributes:
        sha256: the hash of the whole token, as 64 hexadecimal digits; of a key :func:`digest_of_key`.
        created_at: when it was made.
        not_before: from when on it is valid; ``None``: at once.
        expires_at: until when; ``None``: until it is replaced or revoked.
        ed25519: the public key, 64 hexadecimal digits; ``None``: it is a token.
    """

    sha256: str
    created_at: float
    not_before: float | None = None
    expires_at: float | None = None
    ed25519: str | None = None

    @property
    def kind(self) -> str:
        """``token`` or ``key``."""
        return "token" if self.ed25519 is None else "key"

    def is_early(self, now_s: float) -> bool:
        """Whether its time has not come."""
        return self.not_before is not None and now_s < self.not_before

    def is_over(self, now_s: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now_s >= self.expires_at


def new_token(name: str, random_text: Callable[[int], str]) -> str:
    """A token for ``name``.

    Args:
        name: the agent.
        random_text: as :func:`secrets.token_urlsafe`: that many random bytes, as text without a dot.
    """
    return f"{name}.{random_text(SECRET_BYTES)}"


def owner_of(token: str) -> str:
    """The agent whose token it says it is."""
    return token.partition(".")[0]


def digest_of(token: str) -> str:
    """What is kept of ``token``."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def digest_of_key(public_key: str) -> str:
    """By what a key is known where tokens are known by their hash; ``public_key`` has 64 hexadecimal digits."""
    return hashlib.sha256(_OF_A_KEY + bytes.fromhex(public_key)).hexdigest()


def key_entry(
    public_key: str, created_at: float, not_before: float | None = None, expires_at: float | None = None
) -> TokenEntry:
    """The record of a key."""
    return TokenEntry(digest_of_key(public_key), created_at, not_before, expires_at, public_key)


def find_key(records: Iterable[TokenEntry], public_key: str) -> TokenEntry | None:
    """The record of a key, valid or not. A public key is no secret, so this may take as long as it takes."""
    return next((record for record in records if record.ed25519 == public_key), None)


def find_token(records: Iterable[TokenEntry], token: str) -> TokenEntry | None:
    """The record of ``token``, valid or not.

    All records are compared, each in constant time: the time it takes tells nothing about what is stored.
    """
    digest = digest_of(token)
    found: TokenEntry | None = None
    for record in records:
        if hmac.compare_digest(record.sha256, digest) and record.ed25519 is None:
            found = record
    return found


def with_new_token(
    records: tuple[TokenEntry, ...], new: TokenEntry, now_s: float
) -> tuple[tuple[TokenEntry, ...], int]:
    """The agent's tokens after ``new`` came, and how many valid ones had to go for it.

    Expired ones are dropped: the file stays as small as what it means. One whose time has not come counts as valid,
    because it will be.
    """
    alive = [record for record in records if not record.is_over(now_s)]
    alive.sort(key=lambda record: record.created_at)
    surplus = max(0, len(alive) - (MAX_VALID - 1))
    return (*alive[surplus:], new), surplus


def rotated(records: tuple[TokenEntry, ...], new: TokenEntry, now_s: float, overlap_s: float) -> tuple[TokenEntry, ...]:
    """The agent's tokens after ``new`` took the place of all others, which hold beside it for ``overlap_s``.

    An old token that would end before that ends as planned; without an overlap the old ones are gone.
    """
    if overlap_s <= 0.0:
        return (new,)
    end_s = now_s + overlap_s
    kept = [
        replace(record, expires_at=end_s if record.expires_at is None else min(record.expires_at, end_s))
        for record in records
        if not record.is_over(now_s)
    ]
    return (*kept, new)
