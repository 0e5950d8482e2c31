"""Refused joins, on record: the first from an IP address at once, and then how many more, a minute at a time.

Whoever guesses tokens makes thousands of them. The journal is for ever, so each address has one record a minute, with
``more``, how many came since the one before; and of those from more addresses than :data:`_MOST` at a time all together
have one a minute. ``count`` has them all.

Policy only; instants are seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from trishula_router.store.facts import RefusedFacts

__all__ = ["RefusedJoins"]

_EACH_S = 60.0
#: Addresses with a record of their own.
_MOST = 100


@dataclass(slots=True)
class _Source:
    """One IP address.

    Attributes:
        noted_s: when the last record was written.
        more: how many came since then.
        last: the facts of the latest of them.
    """

    noted_s: float
    more: int
    last: RefusedFacts


class RefusedJoins:
    """See the module's docstring.

    Args:
        note: takes the facts of one record.

    Attributes:
        count: how many there were since the start.
    """

    def __init__(self, note: Callable[[RefusedFacts], None]) -> None:
        self._note = note
        self._sources: dict[str | None, _Source] = {}
        self.count = 0

    def refused(self, client_ip: str | None, agent: str | None, error: str, detail: str, now_s: float) -> None:
        """A client was refused.

        Args:
            client_ip: where it came from; ``None`` if that is not known.
            agent: who it says it is, if that is a name.
            error: the URI of what it was told.
            detail: its sentence.
            now_s: the clock.
        """
        self.count += 1
        facts = RefusedFacts(agent, error, detail, client_ip)
        if client_ip not in self._sources and len(self._sources) >= _MOST:
            client_ip = None
        there = self._sources.get(client_ip)
        if there is None:
            self._sources[client_ip] = _Source(now_s, 0, facts)
            self._note(facts)
        else:
            there.more, there.last = there.more + 1, facts

    def flush(self, now_s: float) -> None:
        """Note what was counted for a minute: to be called now and then."""
        for client_ip, there in list(self._sources.items()):
            # Also after the clock was set back.
            if 0.0 <= now_s - there.noted_s < _EACH_S:
                continue
            if there.more:
                self._note(msgspec.structs.replace(there.last, more=there.more - 1))
                there.noted_s, there.more = now_s, 0
            else:
                del self._sources[client_ip]
