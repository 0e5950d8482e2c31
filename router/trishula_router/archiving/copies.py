"""What linked nodes have to do with each other's cuts: what all hold, and how far a copy of a journal is cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from trishula_router.store.interface import Store

__all__ = ["Holder", "Holders", "cut_copies", "held_by_all", "lacking"]


class _Progress(Protocol):
    durable: int


class Holder(Protocol):
    """What a peer told; see :class:`trishula_router.peers.journal_policy.Peer`."""

    @property
    def epoch(self) -> str | None: ...

    @property
    def base(self) -> int: ...

    @property
    def is_up(self) -> bool: ...

    @property
    def first_use(self) -> int: ...

    @property
    def bare(self) -> Mapping[str, int]: ...

    @property
    def journals(self) -> Mapping[str, _Progress]: ...


class Holders(Protocol):
    """What the peers hold, as they told since this node's start; see :class:`trishula_router.peers.Replication`.

    Attributes:
        bare: what this node has no bodies of; told to the peers: see :meth:`.Cuttable.bare`.
    """

    bare: Mapping[str, int]

    @property
    def peers(self) -> Mapping[str, Holder]:
        """The peers by name, heard of or not."""

    def durable_at(self, name: str, epoch: str | None = None) -> int:
        """Up to which record a journal, by default this node's own, is durable at a peer; 0 if it was not heard of."""


def held_by_all(holders: Holders, newest: int) -> int:
    """Up to which record all peers hold this node's journal; all of it if there is no peer."""
    return min((holders.durable_at(name) for name in holders.peers), default=newest)


def lacking(holders: Holders, sequence: int) -> list[str]:
    """The peers that haven't told that they hold a record of this node's journal."""
    return [name for name in holders.peers if holders.durable_at(name) < sequence]


async def cut_copies(store: Store, holders: Holders, step: int, steps: int) -> None:
    """Cut the copies of the peers' journals as far as these are in an archive, and held by all that need them.

    A journal of a store that is no more (its node lost its disk) is cut by nobody: its archive may have gone with it.

    Args:
        store: with the copies.
        holders: what the peers hold.
        step: records in a transaction.
        steps: transactions for each of them.
    """
    for origin in store.origins()[1:]:
        writer = next((name for name, peer in holders.peers.items() if peer.epoch == origin.epoch), None)
        if writer is None:
            continue
        others = (holders.durable_at(name, origin.epoch) for name in holders.peers if name != writer)
        until = min(holders.peers[writer].base, origin.sequence, *others)
        before = store.base(origin.number).sequence
        for _ in range(steps):
            if before >= until:
                break
            after = (await store.cut_copy(origin.number, until, step)).sequence
            if after == before:
                break
            before = after
