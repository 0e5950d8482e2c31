"""Which tokens are revoked at every node, as one node knows it. Policy only: no I/O.

A revocation always wins: no file of agents, older or newer, brings back a token that it takes away, and nothing takes a
revocation back. A token that was made later is none of its business, so whoever is to be let in again gets a new one.
"""

from __future__ import annotations

from collections.abc import Mapping

from trishula_router.agents.tokens import TokenEntry
from trishula_router.store.revoked import EVERY_AGENT, Revocation, read_revocation

__all__ = ["Revocations"]


class Revocations:
    """All that a node knows of."""

    def __init__(self) -> None:
        self._of_tokens: dict[str, Revocation] = {}
        # By agent, the one that reaches furthest.
        self._before: dict[str, Revocation] = {}

    def add(self, notes: Mapping[str, str]) -> bool:
        """Take some into account; whether one of them was not known.

        Args:
            notes: as a store remembers them (:mod:`trishula_router.store.revoked`).
        """
        is_new = False
        for text in notes.values():
            one = read_revocation(text)
            if one is None:
                continue
            if one.sha256:
                known, key = self._of_tokens, one.sha256
            else:
                known, key = self._before, one.agent
            if key not in known or known[key].before < one.before:
                known[key] = one
                is_new = True
        return is_new

    def of(self, agent: str, token: TokenEntry) -> Revocation | None:
        """What took a token of an agent away, if anything did."""
        found = self._of_tokens.get(token.sha256)
        if found is not None:
            return found
        for name in (agent, EVERY_AGENT):
            before = self._before.get(name)
            if before is not None and _made_at(token) < before.before:
                return before
        return None

    def good_from_s(self, agent: str) -> float:
        """A token of the agent that is made at that instant (seconds since the epoch), or later, is not revoked."""
        reach = (one.before for name in (agent, EVERY_AGENT) if (one := self._before.get(name)) is not None)
        return max(reach, default=0) / 1000


def _made_at(token: TokenEntry) -> int:
    """When it was made, ms."""
    return round(token.created_at * 1000)
