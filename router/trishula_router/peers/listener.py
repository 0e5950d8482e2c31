"""The listener: what peers say comes in here, and what can't be used goes no further.

Who speaks is who the link's key says. A word that is too long to be read, can't be read, or can't be true is noted as
refused, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from trishula.errors import NotAllowed, TrishulaError
from trishula_router.clocks.clock import Clock
from trishula_router.peers.agents_word import WORD_BYTES
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import AGENTS, ATTACHMENT, CANARY, HELLO, JOURNAL, PRESENCE, Peering
from trishula_router.peers.latest_words import LatestWords
from trishula_router.peers.outlines import excess_of_journal
from trishula_router.peers.presence_exchange import Neighbourhood

__all__ = ["Listener"]

#: What a peer's hello has at most, and its word of its agents: instances and claims, and an entry for each agent.
_HELLO_BYTES = 512 * 1024
_PRESENCE_BYTES = 1024 * 1024
_PER_AGENT_BYTES = 4096
_CANARY_BYTES = 4096
#: A piece of a file, and what stands around it.
_ATTACHMENT_BYTES = 64 * 1024 + 4096


class Attachments(Protocol):
    """Takes what is said of attachments."""

    def receive(self, peer: str, text: bytes) -> None: ...

    def lost(self, peer: str) -> None: ...


class Listener:
    """Hands each word of a peer to whom it is meant for.

    Attributes:
        attachments: takes those of attachments; the node puts it here.

    Args:
        peering: takes hellos and journals.
        neighbourhood: takes who is there.
        names: the agents registered here.
        refused: told of what is not taken: (peer, error, detail, now in s).
        clock: when.
        worked_s: for how long the thread of the node has worked, in seconds.
    """

    attachments: Attachments

    def __init__(
        self,
        peering: Peering,
        neighbourhood: Neighbourhood,
        names: Callable[[], Sequence[str]],
        refused: Callable[[str, type[TrishulaError], str, float], None],
        clock: Clock,
        worked_s: Callable[[], float],
    ) -> None:
        #: Takes canaries and their answers: (peer, text); the node puts its own here as it starts.
        self.canary: Callable[[str, bytes], None] = lambda peer, text: None
        #: Takes what a peer knows of who may join, likewise.
        self.agents: Callable[[str, bytes], None] = lambda peer, text: None
        self._peering = peering
        self._neighbourhood = neighbourhood
        self._names = names
        self._refused = refused
        self._clock = clock
        self._presences = LatestWords(lambda peer, text: self._take(PRESENCE, text, peer), clock, worked_s)

    def hear(self, kind: str, text: bytes, peer: str) -> None:
        """A peer said something, over its own link; what can't be used is noted, and changes nothing."""
        if kind == PRESENCE:
            self._presences.come(peer, text)
        else:
            self._take(kind, text, peer)

    def lost(self, peer: str) -> None:
        """A peer is out of reach: what it said before and what waits is no longer so."""
        self._presences.forget(peer)
        self.attachments.lost(peer)

    def _take(self, kind: str, text: bytes, peer: str) -> None:
        hear = {HELLO: self._peering.receive_hello, JOURNAL: self._peering.receive_journal, CANARY: self.canary}
        hear |= {AGENTS: self.agents, ATTACHMENT: self.attachments.receive}
        # To read what is larger would keep everybody else waiting. A run of records has what messages have.
        presence_bytes = _PRESENCE_BYTES + _PER_AGENT_BYTES * len(self._names())
        most = {HELLO: _HELLO_BYTES, PRESENCE: presence_bytes, CANARY: _CANARY_BYTES, AGENTS: WORD_BYTES}
        most[ATTACHMENT] = _ATTACHMENT_BYTES
        try:
            if len(text) > most.get(kind, len(text)):
                raise Unbelievable(f"it has {len(text)} bytes, and at most {most[kind]} mean anything")
            if kind == JOURNAL and (too_many := excess_of_journal(text, len(self._names()))) is not None:
                raise Unbelievable(too_many)
            hear.get(kind, self._neighbourhood.receive)(peer, text)
        except (Unbelievable, msgspec.MsgspecError, ValueError) as error:
            # Of a peer of another version, it may be, or one whose key somebody else has.
            detail = f"what the node {peer} said as {kind} is not taken: {error}"[:500]
            self._refused(peer, NotAllowed, detail, self._clock.seconds())
