"""When each token was used last, and from what kind of place: for ``trishula token list``, which finds the idle ones.

A token is used when somebody joins with it, and for as long as that session lasts. The store remembers it by the hash
of the token, without a record; it is known to a minute, also after a crash. Of an address the kind alone is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

import msgspec
from twisted.logger import Logger

from trishula_router.agents.sessions import Session, Sessions
from trishula_router.background import log_fault
from trishula_router.store.interface import Store

__all__ = ["USED", "TokenUses", "Use", "kind_of_place", "read_uses"]

log = Logger()

#: What the keys begin with under which a store remembers it.
USED = "token-used:"


class Use(msgspec.Struct, frozen=True):
    """The last use of a token: when, ms, and from where: ``this machine``, ``a private network``, ``the internet``."""

    at: int
    place: str


class TokenUses:
    """What a node knows of it.

    Args:
        store: remembers it.
        sessions: who is here.
        now: the wall clock in ms.
    """

    def __init__(self, store: Store, sessions: Sessions, now: Callable[[], int]) -> None:
        self._store = store
        self._sessions = sessions
        self._now = now
        sessions.when_joined(self._joined)

    def _joined(self, session: Session) -> None:
        self._remember([session])

    def keep(self) -> None:
        """Who is here uses a token still: to be called now and then."""
        self._remember(self._sessions.all())

    def _remember(self, sessions: Iterable[Session]) -> None:
        now = self._now()
        notes = {
            USED + one.token_digest: msgspec.json.encode(Use(now, kind_of_place(one.client_ip))).decode()
            for one in sessions
            if one.token_digest is not None
        }
        if notes:
            self._store.remember(notes).addErrback(log_fault, log, "it could not be kept when tokens were used last")


def kind_of_place(address: str | None) -> str:
    """From where somebody comes, as an address tells."""
    try:
        at = ip_address(address or "")
    except ValueError:
        return "an unknown place"
    at = getattr(at, "ipv4_mapped", None) or at
    return "this machine" if at.is_loopback else "a private network" if at.is_private else "the internet"


def read_uses(notes: Mapping[str, str]) -> dict[str, Use]:
    """What a store remembers, by the hash of the token."""
    return {key.removeprefix(USED): msgspec.json.decode(text, type=Use) for key, text in notes.items()}
