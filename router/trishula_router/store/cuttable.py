"""How journals are cut: the part of the store's interface that moves where they begin."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from trishula_router.store.bases import Base, Dropped, Shared
from trishula_router.store.facts import ArchivedFacts

__all__ = ["Cuttable"]


class Cuttable(Protocol):
    """The part of :class:`trishula_router.store.interface.Store` that cuts journals."""

    def base(self, number: int = 0) -> Base:
        """Where a journal begins, by default the own one; as of the last commit that the caller's thread was told of.

        Of another node's journal, one that is behind (:attr:`.Base.is_behind`) is being taken over from a node that
        has cut it: see :class:`trishula_router.store.runs.Rest`.
        """

    def archived(self, facts: ArchivedFacts, at: int) -> Deferred[Base]:
        """Append the record that the own journal's next records are in an archive segment: :meth:`cut` may cut them.

        It may draw on what is kept back for acks, because it leads to more room.

        Raises:
            NotArchivable: the segment is not that of the journal's next records.
        """

    def cut(self, limit: int) -> Deferred[Base]:
        """Delete the next ``limit`` of the own journal's records that are archived, but for those that are held.

        One transaction, which the base moves in. Held are the records of messages that are open, have their body, or
        were settled behind what is archived, and the newest word on the bus's mode.
        """

    def cut_copy(self, number: int, until: int, limit: int) -> Deferred[Base]:
        """Delete the next ``limit`` records of another node's journal that are in that node's archive.

        Held are those of messages that are open or have their body, those that came before the message that they tell
        of, and words on the bus's mode. One transaction, which the base moves in.

        Args:
            number: of the origin.
            until: up to here they are archived; never behind what is held here.
            limit: how many.
        """

    def let_go(self, after: int, limit: int) -> Deferred[int]:
        """Delete records that were held when the journal was cut and are needed no more.

        Looked at are ``limit`` messages for which records are held, behind the one at a position (0 to begin). The
        answer says where to go on; 0 at the end.
        """

    def drop(
        self, after: int, limit: int, *, ids_since: int, at: int, shared: Shared | None = None
    ) -> Deferred[Dropped]:
        """Delete messages whose records were cut, and whose ids may be forgotten; of ``limit`` behind a position.

        Of a linked node those alone of which all records are within what is shared; the first use is above theirs then,
        in the same transaction.

        Args:
            after: a position, in the journal that is looked at; 0, or that journal's first possible one, to begin.
            limit: how many to look at.
            ids_since: ids of messages that were accepted before this instant (ms) may be forgotten.
            at: now.
            shared: of a linked node.
        """

    @property
    def first_use(self) -> int:
        """Which use of its id a message is whose id is not known here: see :mod:`.first_use`."""

    def raise_first_use(self, first_use: int) -> Deferred[None]:
        """Count from a use on, if that is higher."""

    def bare(self) -> Deferred[dict[str, int]]:
        """For each journal, by its epoch, up to which record of those that were cut no message has its body here."""

    def shrink(self) -> Deferred[bool]:
        """Give free pages back to the disk that the next days don't need: one step, of some milliseconds.

        The answer says whether there may be more. It is for now and then; if nothing is due it costs nothing.
        """
