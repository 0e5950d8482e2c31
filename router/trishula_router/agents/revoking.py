"""Revoking: takes tokens away at this node and at those that it is linked with, and says how far that has got.

A command writes the agents' file and a note beside it, and knows nothing else of nodes. The node writes the records
(:meth:`Revoking.write`), heeds them itself as soon as they are durable, and so does each peer that copies them
(:meth:`Revoking.copied`). Which peers hold them by now it says in a file beside that of the agents, which the command
looks at until all that can be reached have them (:func:`read_reached`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula_router.agents.principals import Principals
from trishula_router.background import log_fault
from trishula_router.store.facts import TokenFacts, write_facts
from trishula_router.store.interface import Copied, Store
from trishula_router.store.journal import Kind
from trishula_router.store.revoked import REVOKED, revocations_in
from trishula_router.store.runs import Extract

__all__ = ["PeerReached", "Reached", "Revoking", "reached_file_of", "read_reached", "shared_file_of", "write_reached"]

log = Logger()

#: Under what a store remembers that its journals were read; among revocations it is none.
_READ = f"{REVOKED}read"
_PAGE = 1000
#: What could not be written is tried again so often.
_RETRY_MS = 2000


class PeerReached(msgspec.Struct, frozen=True):
    """How far a revocation has got at one peer.

    Attributes:
        reached: whether the peer heeds it.
        is_up: whether the peer can be reached now.
        heeds: whether the peer heeds revocations at all: one of an earlier release holds the record and does nothing.
            ``True`` of a peer that was not heard of yet.
    """

    reached: bool
    is_up: bool
    heeds: bool


class Reached(msgspec.Struct, frozen=True):
    """How far the latest revocation has got.

    Attributes:
        number: of the note of the command that made it.
        peers: by name.
    """

    number: int
    peers: dict[str, PeerReached]


class Revoking:
    """See the module's docstring.

    Args:
        principals: whose tokens are taken away.
        store: keeps the records, and remembers what they say.
        standing: of the peers, see :class:`PeerReached`, given a sequence of the own journal that they are to hold.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        principals: Principals,
        store: Store,
        standing: Callable[[int], Mapping[str, PeerReached]],
        now: Callable[[], int],
    ) -> None:
        self._principals = principals
        self._store = store
        self._standing = standing
        self._file = None if principals.path is None else reached_file_of(principals.path)
        self._now = now
        self._failed: list[tuple[int, Sequence[TokenFacts]]] = []
        self._retry_at = 0
        # Of the latest command: its number, and the sequence of the record (0: not known yet).
        self._latest: tuple[int, int] | None = None
        self._said: Reached | None = None

    async def begin(self) -> None:
        """Heed what the store remembers: before anybody is let in."""
        remembered = await self._store.remembered(REVOKED)
        self._principals.revoke(remembered)
        if _READ not in remembered:
            reading: Deferred[None] = Deferred.fromCoroutine(self._read_journals())
            reading.addErrback(log_fault, log, "the journals could not be read for revocations; it is tried again")
        said = None if self._file is None else read_reached(self._file)
        if said is not None and not all(one.reached for one in said.peers.values()):
            self._latest = said.number, 0

    async def _read_journals(self) -> None:
        """Heed what a node of an earlier release copied, and did not know the meaning of: once for a store.

        Nobody waits for that: a journal of millions is read for it.
        """
        after, found = 0, {_READ: "1"}
        while page := await self._store.records(after=after, limit=_PAGE, kind=Kind.TOKEN, origin=None):
            for record in page:
                found |= revocations_in(record.kind, record.at, record.facts)
            after = page[-1].position
        self._principals.revoke(found)
        await self._store.remember(found)

    def write(self, number: int, records: Sequence[TokenFacts]) -> None:
        """Take tokens away everywhere.

        Args:
            number: of the command's note.
            records: what is to be written.
        """
        now = self._now()
        missing = len(records)

        def written(_: object) -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                for facts in records:
                    self._principals.revoke(revocations_in(Kind.TOKEN, now, write_facts(facts)))
                self._latest = number, 0

        def failed(failure: Failure) -> None:
            if (number, records) not in self._failed:
                self._failed.append((number, records))
            self._retry_at = self._now() + _RETRY_MS
            log_fault(failure, log, "a revocation could not be written, and is tried again")

        for facts in records:
            self._store.note(Kind.TOKEN, facts, now).addCallbacks(written, failed)
        if not records:
            self._latest = number, 0

    def copied(self, copy: Copied, extract: Extract) -> None:
        """Heed what was copied of another node's journal."""
        for index, (at, kind, facts, _) in enumerate(extract.records):
            # What lies behind a gap is not held, and comes again.
            if kind == Kind.TOKEN and extract.first + index <= copy.sequence:
                self._principals.revoke(revocations_in(kind, at, facts))
        if extract.rest is not None:
            told = {key: text for key, text in extract.rest.notes.items() if key.startswith(REVOKED) and key != _READ}
            self._principals.revoke(told)

    def look(self) -> None:
        """Try again what failed, and say how far the latest has got: to be called a few times a second."""
        if self._failed and self._now() >= self._retry_at:
            failed, self._failed = self._failed, []
            for number, records in failed:
                self.write(number, records)
        if self._latest is None or self._file is None:
            return
        number, sequence = self._latest
        if not sequence:
            # By now it counts the record, which is durable.
            sequence = self._store.high_water
            self._latest = number, sequence
        reached = Reached(number, dict(self._standing(sequence)))
        if reached != self._said:
            self._said = reached
            try:
                write_reached(self._file, reached)
            except OSError as error:
                log.warn("how far a revocation has got can't be written: {why}", why=error.strerror)
        if all(one.reached for one in reached.peers.values()):
            self._latest = None


def write_reached(file: Path, reached: Reached) -> None:
    """Say how far a change has got, for the command that made it.

    Raises:
        OSError: it can't be written.
    """
    # A node that is killed loses a progress report, and no revocation: it need not be on the disk.
    temporary = file.with_name(file.name + ".new")
    temporary.write_bytes(msgspec.json.encode(reached) + b"\n")
    temporary.chmod(0o600)
    temporary.replace(file)


def reached_file_of(agents_file: Path) -> Path:
    """Where a node says how far the latest revocation has got, beside its file of agents; mode 0600."""
    return agents_file.with_name(agents_file.name + ".reached")


def shared_file_of(agents_file: Path) -> Path:
    """Where it says how far the latest change of that file has got, if linked nodes share it; mode 0600."""
    return agents_file.with_name(agents_file.name + ".shared")


def read_reached(file: Path) -> Reached | None:
    """How far the latest revocation has got, as the node said last; ``None``: it said nothing."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(file.read_bytes(), type=Reached)
    return None
