"""The facts of a record ``lease``: what became of a work lease, or of a claim that waits for one.

:mod:`trishula_router.leases.book` says what records add up to. A store remembers them in the transaction that makes
them durable (:mod:`.noted`), each under a key that no other record of another meaning has: so they can come in any
order, and a node that starts needs no journal to know who has what.

Nothing here does I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from trishula.contract.texts import LINE
from trishula_router.store.facts_base import Facts

__all__ = ["LEASES", "LeaseFacts", "lease_notes", "read_lease"]

#: What the keys begin with under which a store remembers leases.
LEASES = "work-lease:"
#: What a peer says must leave room for the stamps that follow.
_MOST_STAMP = 2**52
_Line = Annotated[str, msgspec.Meta(max_length=500, pattern=LINE)]


class LeaseFacts(Facts, frozen=True, gc=False):
    """What became of a work lease. Nodes of earlier releases copy the record and pass over it.

    Attributes:
        what: ``waiting``: it was claimed, and others have what it is about; ``granted``; ``confirmed``: all linked
            nodes had it then; ``renewed``: its holder was there, or its ``ttl_ms`` changed; ``ended``.
        lease: its id.
        stamp: of each record higher than those of all that its writer knew; of one that is granted the fencing token.
        node: who wrote it.
        holder: whose it is, an address; of what is waiting and granted, as are the next three.
        scope: what it is about.
        shared: whether others may share it.
        note: what for, in the holder's words.
        ttl_ms: for how long it stays when the holder is gone; of what is waiting, granted and renewed.
        order: of what is granted, the stamp of the claim.
        kept: of what is waiting, granted and renewed: it stays until the agent gives it back, whoever of it uses it.
        by: who ended it: an agent, or a node as ``node:NAME``.
        reason: why.
    """

    what: Literal["waiting", "granted", "confirmed", "renewed", "ended"]
    lease: _Line
    stamp: Annotated[int, msgspec.Meta(ge=1, le=_MOST_STAMP)]
    node: _Line
    holder: _Line = ""
    scope: _Line = ""
    shared: bool = False
    note: _Line = ""
    ttl_ms: Annotated[int, msgspec.Meta(ge=0, le=_MOST_STAMP)] = 0
    order: Annotated[int, msgspec.Meta(ge=0, le=_MOST_STAMP)] = 0
    by: _Line = ""
    reason: _Line = ""
    kept: bool = False


def read_lease(facts: bytes) -> LeaseFacts | None:
    """The facts of a record; ``None`` if they are garbled, or tell what only a newer node knows."""
    try:
        return msgspec.json.decode(facts, type=LeaseFacts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def lease_notes(facts: bytes) -> dict[str, str]:
    """What a store is to remember of a record; nothing of one that can't be read."""
    told = read_lease(facts)
    if told is None:
        return {}
    # The records of one node come in their order, those of two in any.
    return {f"{LEASES}{told.lease}:{told.what}:{told.node}": facts.decode()}
