"""What a store remembers of records in the transaction that makes them durable.

Who holds a record has told its peers so, and may be killed in that moment, or cut the record from its journal years
later: what it means must be known all the same.

Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping

from trishula_router.store.first_use import FIRST_USE
from trishula_router.store.journal import Kind
from trishula_router.store.lease_facts import LEASES, lease_notes
from trishula_router.store.revoked import REVOKED, revocations_in

__all__ = ["NOTED", "handed_on", "notes_in"]

#: The kinds of which anything is remembered.
NOTED = (Kind.TOKEN, Kind.LEASE)


def notes_in(kind: str, at: int, facts: bytes) -> dict[str, str]:
    """What is to be remembered of a record; nothing of most."""
    return lease_notes(facts) if kind == Kind.LEASE else revocations_in(kind, at, facts)


def handed_on(notes: Mapping[str, str], node: str) -> dict[str, str]:
    """What of that belongs to records of a node's journal that were cut, for a store that never had them.

    Of leases only what that node wrote: of what another one wrote the store may have newer words, from its journal. And
    from which use on the store that hands it out counts: it doesn't tell of messages that it has forgotten.
    """
    revoked = (f"{REVOKED}token:", f"{REVOKED}before:")
    return {
        key: text
        for key, text in notes.items()
        if key == FIRST_USE or key.startswith(revoked) or (key.startswith(LEASES) and key.endswith(f":{node}"))
    }
