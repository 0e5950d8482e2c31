"""What a node hands out of its attachments to linked nodes: what they ask for, in pieces, between everything else.

A piece waits while the link has something on its way, so that messages and what the nodes tell each other come first,
though not for ever; and all that goes to one node has the budget that an agent has (``attachments.rate``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.errors import AttachmentDamaged
from trishula.session.carrying import Road
from trishula_router.attachments.disk import Disk
from trishula_router.attachments.ledger import Key, Ledger
from trishula_router.attachments.pace import Pace
from trishula_router.attachments.words import PIECE_BYTES, Lack, Piece, Want, Word
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock

__all__ = ["Lending"]

log = Logger()

#: While there is more than this on its way to a peer, a piece waits; two of them keep a link busy.
_ROAD_BYTES = 2 * PIECE_BYTES
_LOOK_S = 0.01
#: So long at most: also beside a journal that catches up a file gets on.
_MOST_S = 1.0
#: So many wants of one peer are served; it has two under way, and asks again for what it hears nothing of.
_MOST_WANTS = 8


class Lending:
    """See the module's docstring.

    Args:
        ledger: what there is.
        disk: where the files are.
        pace: the budget of each node.
        clock: timers and spans.
        say: tells a peer something.
        road_to: how it stands with the link to a peer.
        damage: notes that a file is not what it was: (key, clause) → the error that says so.
    """

    def __init__(
        self,
        ledger: Ledger,
        disk: Disk,
        pace: Pace,
        clock: Clock,
        *,
        say: Callable[[str, Word], None],
        road_to: Callable[[str], Road | None],
        damage: Callable[[Key, str], AttachmentDamaged],
    ) -> None:
        self._ledger = ledger
        self._disk = disk
        self._pace = pace
        self._clock = clock
        self._say = say
        self._road_to = road_to
        self._damage = damage
        self._wants: dict[tuple[str, Key], Want] = {}

    def asked(self, peer: str, want: Want) -> None:
        """A peer wants some of an attachment; what it wanted of it before it wants no more."""
        known = peer, want.key
        is_served = known in self._wants
        if not is_served and sum(name == peer for name, _ in self._wants) >= _MOST_WANTS:
            return
        self._wants[known] = want
        if not is_served:
            serving: Deferred[None] = Deferred.fromCoroutine(self._serve(peer, want.key))
            serving.addErrback(log_fault, log, "an attachment could not be handed to {peer}", peer=peer)

    def lost(self, peer: str) -> None:
        """A peer is away, and wants nothing any more."""
        for known in [known for known in self._wants if known[0] == peer]:
            del self._wants[known]

    async def _serve(self, peer: str, key: Key) -> None:
        known = peer, key
        try:
            while (want := self._wants.get(known)) is not None:
                if await self._lend(peer, want) and self._wants.get(known) is want:
                    return
        finally:
            self._wants.pop(known, None)

    async def _lend(self, peer: str, want: Want) -> bool:
        """Serve a want; whether it was to its end."""
        offset, end = want.offset, min(want.offset + want.count, want.size_bytes)
        while offset < end:
            count = min(PIECE_BYTES, end - offset)
            await self._pace.wait(peer, count)
            await self._road_has_room(peer)
            if self._wants.get((peer, want.key)) is not want:
                return False
            try:
                data = await self._read(want, offset, count)
            except AttachmentDamaged as error:
                self._say(peer, Lack(*want.key, error.sentence))
                return True
            if not data:
                self._say(peer, Lack(*want.key, f"it has no such file of {want.agent}, or has let it go"))
                return True
            self._say(peer, Piece(*want.key, offset, data))
            offset += len(data)
        return True

    async def _read(self, want: Want, offset: int, count: int) -> bytes:
        files, key = self._disk.files, want.key
        async with self._disk.locked(key):
            held = self._ledger.get(key)
            if files is None or held is None or not held.is_complete or held.size_bytes != want.size_bytes:
                return b""
            if not await self._disk.is_whole(files, key):
                raise self._damage(key, "is not what its digest says")
            try:
                data = await self._disk.do(partial(files.read, key, offset, count))
            except OSError as error:
                raise self._damage(key, f"can't be read ({error.strerror or error})") from None
            if len(data) < count:
                raise self._damage(key, f"has {offset + len(data)} bytes instead of {held.size_bytes}")
            return data

    async def _road_has_room(self, peer: str) -> None:
        until_s = self._clock.seconds() + _MOST_S
        # What is not known to have arrived, and doesn't move, has perhaps long arrived: no mark followed it.
        while (road := self._road_to(peer)) is not None and road.is_moving and road.queued_bytes > _ROAD_BYTES:
            if self._clock.seconds() >= until_s:
                return
            pause: Deferred[None] = Deferred()
            self._clock.callLater(_LOOK_S, pause.callback, None)
            await pause
