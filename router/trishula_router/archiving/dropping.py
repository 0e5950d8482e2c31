"""Dropping: has the rows of messages deleted that are long over, which are all that grows without an end.

A node by itself drops what was accepted before ``retention.ids`` and was cut. Linked nodes may be told of a message by
each other, so there a row goes only once nothing more can come that it is needed for:

* All records that tell of it are cut here and held by all peers: so none of them has it open, and each knows it under
  its id until it forgets it, too.
* Since a peer told that it holds these records, this node has copied all that the peer had written by then. So whatever
  a peer accepted before it knew the message, as the same one, is here as well, and nothing will bring it as a new one.
* If it is dead, no peer has its body any more, by what each tells: else it could be replayed there, and its recipient
  here would get nothing.

The first two are asked of one instant: what all peers had told then (:class:`Sharing`) holds from when this node holds
as much. As the row of a message goes, uses are counted from another number on, which all peers are to know at once; so
none goes while a peer is away, or is of a release that knows nothing of that. See
:mod:`trishula_router.store.first_use` for what that makes safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trishula_router.archiving.copies import Holder, Holders
from trishula_router.store.bases import Shared
from trishula_router.store.interface import Store
from trishula_router.store.journal import ORIGIN_SHIFT
from trishula_router.store.runs import Origin

__all__ = ["Dropping", "Sharing"]


class Sharing:
    """What all linked nodes hold, as of an instant since when this node has caught up; policy only."""

    def __init__(self) -> None:
        # What was told of each journal by the peers, in the epochs they were in; and what followed of the time before.
        self._asked: dict[tuple[str, str | None], dict[str, int]] | None = None
        self._agreed: dict[tuple[str, str | None], dict[str, int]] | None = None

    def look(self, peers: Mapping[str, Holder], origins: Iterable[Origin]) -> Shared | None:
        """What is shared; ``None`` if that is not known now, or a peer is away, or doesn't say from where it counts."""
        origins = list(origins)
        if len(origins) == 1:
            # Nobody has told of anything here: no peer has been there yet.
            return Shared({0: origins[0].base}, {0: origins[0].base})
        if not all(peer.is_up and peer.first_use >= 0 for peer in peers.values()):
            self._asked = None
            return None
        held = {origin.epoch: origin.sequence for origin in origins}
        told = {
            (name, peer.epoch): {epoch: one.durable for epoch, one in peer.journals.items()}
            for name, peer in peers.items()
        }
        if self._asked is None or self._asked.keys() != told.keys():
            self._asked = told
        if all(held.get(epoch, 0) >= last for one in self._asked.values() for epoch, last in one.items()):
            self._agreed, self._asked = self._asked, None
        if self._agreed is None or self._agreed.keys() != told.keys():
            return None
        # Of a node that has lost its peers what is here is all there is.
        lasts = {
            origin.number: min((one.get(origin.epoch, 0) for one in self._agreed.values()), default=origin.sequence)
            for origin in origins
        }
        bares = {
            origin.number: min((peer.bare.get(origin.epoch, 0) for peer in peers.values()), default=origin.sequence)
            for origin in origins
        }
        return Shared(lasts, bares)


class Dropping:
    """Drops what is over, a part of it each round.

    Args:
        store: what is durable.
        holders: what the nodes that this one is linked with hold.
    """

    def __init__(self, store: Store, holders: Holders) -> None:
        self._store = store
        self._holders = holders
        self._sharing = Sharing()
        self._after: dict[int, int] = {}

    async def round(self, ids_since: int, at: int, messages: int, steps: int) -> None:
        """Drop.

        Args:
            ids_since: ids of messages that were accepted before this instant (ms) may be forgotten.
            at: now.
            messages: looked at in one transaction.
            steps: transactions for each journal.
        """
        origins = self._store.origins()
        if not self._holders.peers and len(origins) == 1:
            await self._drop(0, ids_since, at, messages, steps, None)
            return
        self._holders.bare = await self._store.bare()
        shared = self._sharing.look(self._holders.peers, origins)
        if shared is not None:
            for origin in origins:
                await self._drop(origin.number, ids_since, at, messages, steps, shared)

    async def _drop(
        self, number: int, ids_since: int, at: int, messages: int, steps: int, shared: Shared | None
    ) -> None:
        begin = number << ORIGIN_SHIFT
        after = self._after.get(number, begin)
        for _ in range(steps):
            dropped = await self._store.drop(after, messages, ids_since=ids_since, at=at, shared=shared)
            after = dropped.after or begin
            if not dropped.after:
                break
        self._after[number] = after
