"""Belief: what peers say to each other, and what of it can't be true.

A peer proves by its link's key who it is, and not that its words are sound. Each word is held against what this node
knows for itself; a word that can't be true changes nothing.
"""

from __future__ import annotations

import msgspec

from trishula.contract.texts import is_line
from trishula_router.peers.journal_policy import Peer, Replication
from trishula_router.store.first_use import MOST_FIRST_USE
from trishula_router.store.interface import Store
from trishula_router.store.runs import Extract

__all__ = ["Belief", "Hello", "Journal", "Unbelievable"]

#: What a hello has at most: journals of all nodes, each as often as a store was begun anew; and the least and greatest
#: number that means anything.
_MOST_JOURNALS = 4096
_EPOCH_LETTERS = 64
_MOST = 2**53


class Unbelievable(Exception):
    """What a peer said can't be true; the text is a clause that says why."""


class Hello(msgspec.Struct):
    # What stands behind "missed" older versions don't tell and don't read: see PeerClocks.heard.
    node: str
    epoch: str
    held: dict[str, int]
    missed: bool = False
    sent_at: int = 0
    mark: int = 0
    echo: int = 0
    echo_age_ms: int = 0
    # What it runs, and the digest of its file of agents: where they differ, operators are told.
    version: str = ""
    agents: str = ""
    # Whether it heeds revocations (:mod:`trishula_router.store.revoked`), and not only holds them.
    revokes: bool = False
    # Up to which record its journal is in its archive. An older version tells none, and can't copy a journal that
    # begins so, with a run of what is left of that (store.runs.Rest).
    base: int = -1
    # From which use on it counts ids (store.first_use), and up to where it has no bodies of messages, by the epochs of
    # journals. An older version tells neither, and while one is there nothing is counted anew.
    first_use: int = -1
    bare: dict[str, int] = {}


class Journal(msgspec.Struct):
    # Older versions don't tell "sent_at".
    node: str
    writer: str
    extract: Extract
    sent_at: int = 0


class Belief:
    """Holds the words of peers against what is known.

    Args:
        node: the own node's name.
        store: what is held.
        replication: what is known of the peers.
    """

    def __init__(self, node: str, store: Store, replication: Replication) -> None:
        self._node = node
        self._store = store
        self._replication = replication

    def against_hello(self, peer: str, hello: Hello) -> str | None:
        """Why a hello can't be true."""
        if hello.node != peer:
            return f"it speaks as {hello.node[:_EPOCH_LETTERS]}"
        journals = {*hello.held, *hello.bare}
        if len(journals) > _MOST_JOURNALS or any(len(one) > _EPOCH_LETTERS for one in (hello.epoch, *journals)):
            return "it names more journals, or longer epochs, than there are"
        held = (*hello.held.values(), *hello.bare.values())
        numbers = (hello.base + 1, hello.sent_at, hello.mark, hello.echo, hello.echo_age_ms, *held)
        if any(not 0 <= number < _MOST for number in numbers):
            return "it has numbers that count nothing"
        if not -1 <= hello.first_use <= MOST_FIRST_USE:
            return "it counts ids from a use on that there is not"
        if any(len(word) > _EPOCH_LETTERS or not is_line(word) for word in (hello.version, hello.agents)):
            return "its version, or the digest of its agents, is none"
        others = {one.epoch: one.name for one in self.others(peer) if one.is_up}
        owner = self._node if hello.epoch == self._store.epoch else others.get(hello.epoch)
        return None if owner is None else f"its epoch {hello.epoch} is that of {owner}"

    def heed(self, peer: str, hello: Hello) -> None:
        """Keep what a peer can do, and where its journal begins."""
        known = self._replication.peers[peer]
        known.revokes, known.takes_bases, known.base = hello.revokes, hello.base >= 0, max(0, hello.base)
        known.first_use, known.bare = hello.first_use, hello.bare
        if hello.first_use > self._store.first_use:
            # The next hello brings it again if the store can't take it; the store says why.
            self._store.raise_first_use(hello.first_use).addErrback(lambda _: None)

    def with_store(self, hello: Hello) -> Hello:
        """A hello of this node, with what it says of the store: its base, from which use on it counts, what is bare."""
        base, bare = self._store.base().sequence, dict(self._replication.bare)
        return msgspec.structs.replace(hello, base=base, first_use=self._store.first_use, bare=bare)

    def others(self, peer: str) -> list[Peer]:
        """The other peers."""
        return [one for one in self._replication.peers.values() if one.name != peer]

    def against_journal(self, peer: str, journal: Journal) -> str | None:
        """Why a run of records can't be taken from a peer."""
        if journal.node != peer:
            return f"it speaks as {journal.node[:_EPOCH_LETTERS]}"
        epoch, first = journal.extract.epoch, journal.extract.first
        rest = journal.extract.rest
        if rest is not None and not first <= rest.last <= rest.until < _MOST:
            return "it tells what is left of records that it names in no order"
        if not 0 < first < _MOST or not epoch or len(epoch) > _EPOCH_LETTERS or not 0 <= journal.sent_at < _MOST:
            return "it has numbers that count nothing"
        if epoch == self._store.epoch:
            return "it brings this node's own journal"
        known = next((one.node for one in self._store.origins() if one.number and one.epoch == epoch), None)
        if epoch == self._replication.peers[peer].epoch:
            return (
                None if journal.writer == peer else f"its own journal is not one of {journal.writer[:_EPOCH_LETTERS]}"
            )
        # A node may have been given another name since.
        writer = self._replication.peers.get(known or journal.writer)
        if writer is None or writer.name == peer or not writer.is_up:
            return None
        # One of before: of a store that it lost, or left for a backup.
        if known is None and epoch != writer.epoch and not self._replication.durable_at(writer.name, epoch):
            return f"it brings a journal of {writer.name} that {writer.name}, which is there, doesn't know"
        return None
