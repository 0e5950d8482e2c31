"""Attachments between linked nodes: what is said and heard of them, and on which nodes one is.

A message that was taken at another node names a file that is there; it is fetched when the first of those asks who may
have it. A message whose sender insists on copies is taken only when the file is on so many nodes, too: it is offered to
the peers, which fetch it, and until then the message is refused for a moment, and its sender's outbox tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trishula.contract.addresses import agent_of
from trishula.contract.attached import attachment_of
from trishula.contract.units import show_bytes
from trishula.errors import AttachmentAway, CopiesUnavailable, MessageInvalid, TrishulaError
from trishula_router.attachments import words
from trishula_router.attachments.fetching import ASKED_FOR_S, Fetching, Sources
from trishula_router.attachments.keeping import Keeping
from trishula_router.attachments.known import Known
from trishula_router.attachments.ledger import Key, Link
from trishula_router.attachments.lending import Lending
from trishula_router.attachments.pace import Pace
from trishula_router.background import log_fault
from trishula_router.clocks.clock import Clock
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import ATTACHMENT, Peering
from trishula_router.store.identity import latest_use
from trishula_router.store.interface import Store
from trishula_router.store.messages import StoredMessage

__all__ = ["Exchange"]

log = Logger()

#: So long it counts that a peer has one; it lets it go only when the message is gone, which comes later.
_HELD_S = 60.0
#: How soon to try again what was refused for want of copies.
_COPIED_S = 1.0
#: So long the work on an offer waits in one go.
_PATIENCE_S = 60.0


class Exchange:
    """See the module's docstring; it is also the :class:`.keeping.Elsewhere` of its node.

    Args:
        node: this node's name.
        keeping: the attachments here.
        store: knows the messages.
        peering: knows the peers.
        knows: whether an agent is registered here.
        post: sends a text to a peer: (peer, kind, text).
        clock: timers and spans.
    """

    def __init__(
        self,
        node: str,
        keeping: Keeping,
        store: Store,
        peering: Peering,
        knows: Callable[[str], object],
        post: Callable[[str, str, bytes], None],
        clock: Clock,
    ) -> None:
        self._node = node
        self._keeping = keeping
        self._store = store
        self._peering = peering
        self._knows = knows
        self._post = post
        self._clock = clock
        self._fetching = Fetching(
            node, keeping.ledger, keeping.disk, keeping.parts, clock, say=self._say, is_up=self._is_up
        )
        self._lending = Lending(
            keeping.ledger,
            keeping.disk,
            Pace(keeping.rate_bytes, clock),
            clock,
            say=self._say,
            road_to=lambda peer: self._peering.road_to(peer),
            damage=keeping.damage,
        )
        self._held_by: Known[tuple[str, Key]] = Known(_HELD_S, clock)
        # Why a peer doesn't take what it was offered last.
        self._refusals: dict[str, tuple[Key, str]] = {}
        self._taking: set[tuple[str, Key]] = set()
        keeping.elsewhere = self

    # -- what the node asks --------------------------------------------------------------------------------------------

    async def link_of(self, owner: str, message_id: str) -> Link | None:
        """What a message names that another node took; ``None`` if it names nothing, or is not here."""
        message = await self._message(owner, message_id) if self._peers else None
        if message is None or self._origin(message) is None:
            return None
        body = (await self._store.bodies([message.position])).get(message.position)
        try:
            info = None if body is None else attachment_of(msgspec.json.decode(body, type=_Envelope).payload)
        except (MessageInvalid, msgspec.MsgspecError):
            return None
        return None if info is None else self._keeping.link(owner, message_id, info)

    async def bring(self, link: Link, until_bytes: int | None, agent: str) -> None:
        """Have so much of an attachment brought here, as :meth:`.Fetching.bring` says, if a linked node may have it."""
        if self._peers and not self._fetching.is_here(link.key, until_bytes):
            sources = await self._sources(link)
            if sources.nodes:
                size_bytes = link.info.size_bytes
                await self._fetching.bring(link.key, size_bytes, until_bytes, sources, agent, ASKED_FOR_S)

    async def is_elsewhere(self, link: Link) -> bool:
        """Whether the node that took the message is a linked one, and there: what is damaged here can be let go."""
        origin = (await self._sources(link)).origin if self._peers else None
        return origin is not None and self._is_up(origin)

    def secure(self, link: Link, copies: int | None) -> None:
        """See to it that an attachment is on as many nodes as the sender of a message wants the message to be.

        Raises:
            CopiesUnavailable: it isn't yet.
        """
        missing = (copies or 1) - 1 - sum(self._held_by.has((peer, link.key)) for peer in self._peers)
        if missing <= 0:
            return
        asked = [peer for peer in self._peering.replication.in_step() if not self._held_by.has((peer, link.key))]
        for peer in asked:
            self._say(peer, words.Offer(link.agent, link.info.digest, link.message_id, link.info))
        whys = [f"{peer} doesn't take it: {self._refusals[peer][1]}" for peer in asked if self._refuses(peer, link.key)]
        raise CopiesUnavailable(
            f"the sender insists on {copies} copies, and the attached file ({show_bytes(link.info.size_bytes)}) is not "
            f"on so many nodes yet; {'; '.join(whys) or 'it is being copied to ' + ', '.join(asked)}",
            retry_after_s=_COPIED_S,
        )

    def told(self) -> dict[str, int]:
        """Figures for ``node.status``."""
        return {"fetching": self._fetching.count}

    def _refuses(self, peer: str, key: Key) -> bool:
        return self._refusals.get(peer, (None, ""))[0] == key

    @property
    def _peers(self) -> Mapping[str, object]:
        return self._peering.replication.peers

    def _is_up(self, peer: str) -> bool:
        known = self._peering.replication.peers.get(peer)
        return known is not None and known.is_up

    async def _message(self, owner: str, message_id: str) -> StoredMessage | None:
        found = [one for one in await self._store.with_ids([message_id]) if agent_of(one.sender) == owner]
        latest = latest_use(found)
        return latest[0] if latest else None

    def _origin(self, message: StoredMessage) -> str | None:
        return self._store.place(message.position)[0] or None

    async def _sources(self, link: Link) -> Sources:
        message = await self._message(link.agent, link.message_id)
        origin = None if message is None else self._origin(message)
        if origin is None:
            # It was here. Perhaps one that fetched it has it still; who is away is not waited for.
            return Sources(None, [peer for peer in self._peers if self._is_up(peer)])
        first = [origin] if origin in self._peers else []
        return Sources(origin, [*first, *(peer for peer in self._peers if peer != origin)])

    # -- words ---------------------------------------------------------------------------------------------------------

    def _say(self, peer: str, word: words.Word) -> None:
        self._post(peer, ATTACHMENT, msgspec.msgpack.encode(word))

    def receive(self, peer: str, text: bytes) -> None:
        """A peer said something.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used.
        """
        word = words.read(text)
        if peer not in self._peers:
            return
        if isinstance(word, words.Want):
            if self._keeping.limit_bytes is None:
                self._say(peer, words.Lack(*word.key, "takes and hands out no attachments (attachments.on)"))
            else:
                self._lending.asked(peer, word)
        elif isinstance(word, words.Piece | words.Lack):
            self._fetching.heard(peer, word)
        elif isinstance(word, words.Offer):
            self._offered(peer, word)
        elif isinstance(word, words.Held):
            self._held_by.add((peer, word.key))
            self._refusals.pop(peer, None)
        else:
            self._refusals[peer] = word.key, word.why

    def lost(self, peer: str) -> None:
        """A peer is away."""
        self._lending.lost(peer)
        self._fetching.lost(peer)

    def _offered(self, peer: str, offer: words.Offer) -> None:
        if not self._knows(offer.agent):
            raise Unbelievable(f"it offers a file of {offer.agent}, which nobody here knows")
        if offer.digest != offer.info.digest:
            raise Unbelievable("it offers a file by two digests")
        if (peer, offer.key) in self._taking:
            return
        self._taking.add((peer, offer.key))
        link = self._keeping.link(offer.agent, offer.message_id, offer.info)
        taking: Deferred[None] = Deferred.fromCoroutine(self._take(peer, link))
        taking.addErrback(log_fault, log, "what {peer} offered could not be taken", peer=peer)

    async def _take(self, peer: str, link: Link) -> None:
        try:
            # The message comes after it, if at all.
            self._keeping.name_link(link)
            await self._complete(peer, link)
            self._say(peer, words.Held(*link.key))
        except AttachmentAway:
            # It is offered again.
            log.debug("what {peer} offered is not here yet", peer=peer)
        except TrishulaError as error:
            self._say(peer, words.Refused(*link.key, error.sentence[:1000]))
        finally:
            self._taking.discard((peer, link.key))

    async def _complete(self, peer: str, link: Link) -> None:
        while True:
            try:
                sources, size_bytes = Sources(peer, [peer]), link.info.size_bytes
                await self._fetching.bring(link.key, size_bytes, None, sources, link.agent, _PATIENCE_S)
                if await self._keeping.has_whole(link.key):
                    return
            except AttachmentAway:
                if not self._is_up(peer):
                    raise
                pause: Deferred[None] = Deferred()
                self._clock.callLater(_COPIED_S, pause.callback, None)
                await pause


class _Envelope(msgspec.Struct):
    """Of a message's body what is looked at here."""

    payload: object = None
