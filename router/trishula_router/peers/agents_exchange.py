"""Sharing: a node's file of agents follows those of its peers, and theirs follow it, where both nodes share them.

:mod:`trishula_router.agents.shared_agents` says what a change is, and which of two holds; this module reads, tells and
writes. What is known is kept in the store, with what the file said when it was looked at last: so a change that was
made while no node ran is told from what a peer said. What a peer tells is durable in the store before it is in the
file. The file is written as the commands write it, with their lock and a note of which peer it came from, and stays
what operators see and edit.

A node tells each peer every two seconds, and at each change, the digest of what it knows. A peer that knows something
else sends all that it knows, so a node that was away catches up when it comes back. How far the latest change has got
is said in a file beside that of the agents, as with revocations (:mod:`trishula_router.agents.revoking`).

A node that does not share says nothing of it and takes nothing; so does one of an earlier release, which does not
listen to this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec
from twisted.logger import Logger
from twisted.python.failure import Failure

from trishula_router.agents.change_notes import Author, Stamp, done_notes, notes_file_of
from trishula_router.agents.file import KEPT_FILE, AgentsFileError, stamp_of, update_agents
from trishula_router.agents.principals import Principals
from trishula_router.agents.revoking import PeerReached, Reached, shared_file_of, write_reached
from trishula_router.agents.shared_agents import AgentState, SharedAgents, same
from trishula_router.agents.shared_notes import KNOWN, SEEN, known_in, seen_in
from trishula_router.agents.shared_since import SINCE, Together
from trishula_router.agents.text import AgentEntry, render_agents
from trishula_router.background import log_fault
from trishula_router.peers.agents_word import WORD_BYTES, Word, faults_in
from trishula_router.peers.belief import Unbelievable
from trishula_router.peers.journal_exchange import AGENTS
from trishula_router.peers.journal_policy import Replication
from trishula_router.settings.options import NodeConfig
from trishula_router.store.interface import Store

__all__ = ["Sharing"]

log = Logger()

_PERIOD_S = 2.0
#: A peer that is in reach and has not said for so long that it shares does not.
_HEARD_WITHIN_S = 5.0
#: What could not be written is tried again so often.
_RETRY_S = 2.0
#: Some editors remove a file for an instant; one that is gone for longer is lost.
_GONE_S = 10.0


class _NotNow(Exception):
    """The file is gone; it is not written anew before an operator has looked."""


class Sharing:
    """See the module's docstring.

    Args:
        config: the node's options.
        principals: the file of agents as the node sees it.
        store: keeps what is known.
        replication: which peers are in reach.
        post: sends a text to a peer: (peer, kind, text).
        seconds: the clock for spans.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        config: NodeConfig,
        principals: Principals,
        store: Store,
        replication: Replication,
        post: Callable[[str, str, bytes], None],
        seconds: Callable[[], float],
        now: Callable[[], int],
    ) -> None:
        self._node = config.node
        self._peers: Collection[str] = config.peers if config.agents.shared else ()
        self._path = principals.path
        self._kept = config.state_dir / KEPT_FILE
        self._principals = principals
        self._store = store
        self._replication = replication
        self._post = post
        self._seconds = seconds
        self._now = now
        self._is_on = config.agents.shared and principals.path is not None
        self._has_begun = False
        self._agents = SharedAgents(config.node)
        self._together = Together("", "", 0)
        # The file as it was seen last: what differs from that is a change that was made here.
        self._seen: Mapping[str, AgentEntry] = {}
        self._looked_at: Mapping[str, AgentEntry] | None = None
        # Since when it is gone; also if nobody noticed by then: it is not there as the node starts.
        self._gone_s: float | None = None
        # Agents of whom a peer told, who may stand otherwise in the file: which peers; and writings on their way.
        self._from_peers: set[str] = set()
        self._is_behind = False
        self._writings = 0
        self._unkept: set[str] = set()
        self._retry_s = 0.0
        self._fault = ""
        # Of each peer in reach: what it said last, since when it is there, and what was sent to it whole, and when.
        self._words: dict[str, tuple[str, bool]] = {}
        self._up_since_s: dict[str, float] = {}
        self._sent: dict[str, tuple[str, float]] = {}
        self._told_s = float("-inf")
        self._told: tuple[str, bool] | None = None
        # The last change of a command that is known, and by which files.
        self._note = 0
        self._noted: tuple[Stamp, Stamp] | None = None
        self._said: Reached | None = None

    async def begin(self) -> None:
        """Take over what was known, and the file."""
        if self._path is None or not self._is_on:
            if self._path is not None:
                # Or a command would wait for what nobody says.
                with contextlib.suppress(OSError):
                    shared_file_of(self._path).unlink(missing_ok=True)
            return
        known, seen = await self._store.remembered(KNOWN), await self._store.remembered(SEEN)
        # A store that was put back from a backup knows less than the file, and can't say when that was changed.
        is_first = known.pop(KNOWN, "") != self._store.epoch
        self._seen = seen_in(seen)
        since = (await self._store.remembered(SINCE)).get(SINCE, "")
        self._together = Together(since, self._store.epoch, self._now())
        self._has_begun = True
        if is_first:
            names = self._agents.begin(self._principals.records)
            self._keep(known)
            self._saw(self._principals.records, names)
        else:
            self._agents = known_in(known, self._node, self._principals.records, self._now())
        self._is_behind = True
        if self._seen and self._principals.stamp is None:
            self._gone_s = float("-inf")
            log.warn("{path} is gone: that takes nobody away, and the next one is filled again", path=self._path)
        self.look()

    def look(self) -> None:
        """Take up what changed, write what peers told, and tell: to be called a few times a second."""
        if not self._has_begun:
            return
        try:
            self._look()
        except Exception as error:
            # Whoever calls has the node's other work to do.
            if repr(error) != self._fault:
                self._fault = repr(error)
                log.failure("linked nodes' agents could not be looked at, and are again")

    def _look(self) -> None:
        now_s = self._seconds()
        self._look_at_file()
        if self._is_behind and not self._writings and now_s >= self._retry_s:
            self._write_file()
        for name in self._peers:
            if not self._replication.peers[name].is_up:
                self._words.pop(name, None)
                self._up_since_s.pop(name, None)
                self._sent.pop(name, None)
            elif name not in self._up_since_s:
                self._up_since_s[name] = now_s
                self._told_s = float("-inf")
        if now_s - self._told_s >= _PERIOD_S or self._told != self._standing:
            late = self._agents.come_back(self._now())
            self._agents.grow_old(self._now())
            self._keep([KNOWN + name for name in late])
            self._tell(late)
        for name in self._words:
            self._send_all(name)
        self._forget()
        self._say_reached(now_s)

    def _forget(self) -> None:
        """Forget old removals, if all peers know the same."""
        known = self._standing
        if not self._peers or not known[1] or any(self._words.get(name) != known for name in self._peers):
            return
        if self._together.agreed(self._now()):
            self._keep([SINCE])
        self._keep([KNOWN + name for name in self._agents.forget()])

    def stop(self) -> None:
        """Take nothing more, and tell nothing more."""
        self._has_begun = False

    @property
    def _standing(self) -> tuple[str, bool]:
        return self._agents.digest, not self._is_behind and not self._writings

    # -- the file ------------------------------------------------------------------------------------------------------

    def _look_at_file(self) -> None:
        principals = self._principals
        assert self._path is not None
        if principals.stamp is None and self._seen:
            self._gone_s = self._seconds() if self._gone_s is None else self._gone_s
            return
        if principals.is_stale:
            return
        if principals.records is not self._looked_at:
            self._looked_at = principals.records
            before = self._seen
            if self._gone_s is not None and self._seconds() - self._gone_s >= _GONE_S:
                # Whoever made a token in the place of a lost file took away none of those who were in that.
                before = {name: before[name] for name in principals.records if name in before}
            changed = self._agents.edited(before, principals.records, self._now())
            self._saw(principals.records, changed)
            # The order of its tokens is the same in all files that say the same: their digests are compared.
            self._is_behind = True
            if changed:
                self._tell(changed)
        self._gone_s = None
        notes = notes_file_of(self._path)
        files = stamp_of(notes), principals.stamp
        if files != self._noted:
            done = done_notes(notes, principals.stamp)
            # A note that is done by now tells of the file that is there by now: it must have been seen.
            if principals.stamp == stamp_of(self._path):
                self._noted, self._note = files, max((note.number for note in done), default=0)

    def _saw(self, records: Mapping[str, AgentEntry], changed: Iterable[str]) -> None:
        """Keep what is known of agents, and what the file says."""
        fresh = {KNOWN, *(KNOWN + name for name in changed)}
        names = {*self._seen, *records}
        fresh |= {SEEN + name for name in names if self._seen.get(name) != records.get(name)}
        self._seen = dict(records)
        self._keep(fresh)

    def _text_of(self, name: str) -> str:
        return msgspec.json.encode(self._agents.states[name]).decode()

    def _note_at(self, key: str) -> str:
        """What the store is to remember under a key."""
        if key == KNOWN:
            return self._store.epoch
        if key == SINCE:
            return self._together.text
        if key.startswith(SEEN):
            name = key.removeprefix(SEEN)
            return render_agents({name: self._seen[name]}) if name in self._seen else ""
        name = key.removeprefix(KNOWN)
        return self._text_of(name) if name in self._agents.states else ""

    def _keep(self, keys: Collection[str]) -> None:
        if not keys:
            return
        self._writings += 1

        def written(outcome: object) -> object:
            self._writings -= 1
            if isinstance(outcome, Failure):
                # It is not put into the file either: a restart would take that for a change that was made here.
                self._retry_s = self._seconds() + _RETRY_S
                self._unkept.update(keys)
                self._is_behind = True
            return outcome

        self._store.remember({key: self._note_at(key) for key in keys}).addBoth(written).addErrback(
            log_fault, log, "what is known of agents could not be kept, and is tried again"
        )

    def _write_file(self) -> None:
        """Have the file say what is known."""
        assert self._path is not None
        if self._unkept:
            again, self._unkept = self._unkept, set()
            self._keep(again)
            return
        is_seen = self._principals.stamp == stamp_of(self._path) and self._gone_s is None
        if self._principals.is_stale or not is_seen:
            # It is broken or gone, or was changed in this moment: it is looked at first.
            return
        wanted = self._agents.agents()
        if not self._differing(self._seen, wanted):
            self._is_behind = False
            return
        told_by = " and ".join(sorted(self._from_peers)) or "linked with this one"
        who = Author(f"the node {told_by}", self._now())
        changed: set[str] = set()
        try:
            with update_agents(self._path, self._kept, who, patience_s=0.0) as agents:
                if self._seen and stamp_of(self._path) is None:
                    raise _NotNow
                # What was changed here a moment ago counts too.
                changed = self._agents.edited(self._seen, agents, self._now())
                wanted = self._agents.agents()
                for name in self._differing(agents, wanted):
                    if name in wanted:
                        agents[name] = wanted[name]
                    else:
                        del agents[name]
        except _NotNow:
            return
        except AgentsFileError as error:
            self._retry_s = self._seconds() + _RETRY_S / 10
            if str(error) != self._fault:
                self._fault = str(error)
                log.warn("what linked nodes told of agents can't be put into the file yet: {why}", why=error)
            self._saw(self._seen, changed)
            return
        self._fault = ""
        self._from_peers.clear()
        self._is_behind = False
        self._saw(agents, changed)
        self._principals.reload_if_changed()

    @staticmethod
    def _differing(there: Mapping[str, AgentEntry], wanted: Mapping[str, AgentEntry]) -> list[str]:
        return [name for name in {*there, *wanted} if not same(there.get(name), wanted.get(name))]

    # -- the peers -----------------------------------------------------------------------------------------------------

    def _tell(self, names: Collection[str]) -> None:
        """Tell all peers what is known of some agents, and the digest of all."""
        self._told, self._told_s = self._standing, self._seconds()
        for peer in self._peers:
            self._send(peer, names)

    def _send(self, peer: str, names: Collection[str]) -> None:
        digest, holds = self._standing
        part: dict[str, AgentState] = {}
        size_bytes = 0
        for name in sorted(names):
            more_bytes = len(self._text_of(name))
            if part and size_bytes + more_bytes > WORD_BYTES // 2:
                # Who hears a part knows less than all: the digest comes with the last one.
                self._post(peer, AGENTS, msgspec.msgpack.encode(Word(self._node, "", False, part)))
                part, size_bytes = {}, 0
            part[name] = self._agents.states[name]
            size_bytes += more_bytes
        self._post(peer, AGENTS, msgspec.msgpack.encode(Word(self._node, digest, holds, part)))

    def _send_all(self, peer: str) -> None:
        """Send a peer all that is known, if it knows something else: as often as that changes, and now and then."""
        digest, now_s = self._agents.digest, self._seconds()
        sent, sent_s = self._sent.get(peer, ("", float("-inf")))
        if self._words[peer][0] != digest and (now_s - sent_s >= _PERIOD_S or sent != digest):
            self._sent[peer] = digest, now_s
            self._send(peer, self._agents.states)

    def receive(self, peer: str, text: bytes) -> None:
        """A peer told what it knows.

        Raises:
            Unbelievable, msgspec.MsgspecError: if it can't be used; what can be of it is.
        """
        if not self._has_begun or peer not in self._peers:
            return
        word = msgspec.msgpack.decode(text, type=Word)
        if word.node != peer:
            raise Unbelievable(f"it speaks as {word.node[:64]}")
        faults = faults_in(word, self._agents, self._together, self._now())
        told = {name: state for name, state in word.agents.items() if name not in faults}
        changed = self._agents.merge(told, self._now())
        if changed:
            self._from_peers.add(peer)
            self._is_behind = True
            self._keep([KNOWN + name for name in changed])
        if word.digest:
            self._words[peer] = word.digest, word.holds
        if faults:
            raise Unbelievable(next(iter(faults.values())))

    # -- how far it has got --------------------------------------------------------------------------------------------

    def _say_reached(self, now_s: float) -> None:
        assert self._path is not None
        known = self._agents.digest, True
        standing = {
            name: PeerReached(
                self._words.get(name) == known,
                name in self._up_since_s,
                name in self._words or now_s - self._up_since_s.get(name, now_s) < _HEARD_WITHIN_S,
            )
            for name in self._peers
        }
        reached = Reached(self._note, standing)
        if reached != self._said:
            self._said = reached
            try:
                write_reached(shared_file_of(self._path), reached)
            except OSError as error:
                log.warn("how far a change of agents has got can't be written: {why}", why=error.strerror)
