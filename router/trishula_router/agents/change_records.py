"""Changes of tokens and grants on record: a node that sees its agents' file changed writes them into its journal.

A change has a record ``token`` or ``grants`` (:mod:`trishula_router.store.facts`), with who made it and why, as the
command that made it noted (:mod:`.change_notes`); what nobody noted was *edited by hand*. That holds for what changed
while no node ran as well: what is on record already is remembered in the store, agent by agent, and compared with the
file when the node starts. A store that remembers nothing yet begins with what the file says then, and of that only
what commands noted is written: who made the rest, and when, nobody knows.

What is remembered goes to the store before the record does, and the store makes both durable at once: a restart neither
writes a change again nor leaves one out.

What a note says to be revoked everywhere is written as that: linked nodes copy the record, and heed it
(:mod:`trishula_router.store.revoked`). So it has the whole hash of such a token; of others nothing is told but the
first eight digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.logger import Logger

from trishula_router.agents.change_notes import BY_HAND, Note, Stamp, done_notes, notes_file_of
from trishula_router.agents.changes import Change, Outline, changes_between, first_end_ms, outline_of
from trishula_router.agents.file import stamp_of
from trishula_router.agents.principals import Principals
from trishula_router.background import log_fault
from trishula_router.store.facts import Facts, GrantsFacts, TokenFacts
from trishula_router.store.interface import Store
from trishula_router.store.journal import Kind

__all__ = ["ChangeRecords"]

log = Logger()

#: Under what the store remembers what is on record of an agent, and, with nothing behind it, the last note used.
_PREFIX = "agents-file:"
#: As long may the grants of an agent be in a record; those of a hundred agents are a list that nobody reads.
_GRANTS_LETTERS = 1000


class ChangeRecords:
    """Writes down what changes in a node's file of agents.

    Args:
        principals: the file as the node sees it.
        store: remembers what is on record.
        note: writes a record.
        revoke: writes one that takes tokens away everywhere, of the command with that number.
        now: the wall clock in ms.
    """

    def __init__(
        self,
        principals: Principals,
        store: Store,
        note: Callable[[Kind, Facts], None],
        revoke: Callable[[int, Sequence[TokenFacts]], None],
        now: Callable[[], int],
    ) -> None:
        self._principals = principals
        self._store = store
        self._note = note
        self._revoke = revoke
        self._now = now
        self._on_record: dict[str, Outline] | None = None
        self._used = 0
        self._seen_version = -1
        self._seen_files: tuple[Stamp, Stamp] = None, None
        self._next_end_ms = float("inf")

    async def begin(self) -> None:
        """Take over what is on record, and write what changed since then."""
        if self._principals.path is None:
            return
        remembered = await self._store.remembered(_PREFIX)
        is_first = not remembered
        self._used = int(remembered.pop(_PREFIX, "0"))
        self._on_record = {
            name.removeprefix(_PREFIX): msgspec.json.decode(text, type=Outline)
            for name, text in remembered.items()
            if text
        }
        if is_first:
            self._remember({})
        self._compare(only_noted=is_first)

    def look(self) -> None:
        """Write what changed since the last look: to be called a few times a second."""
        if self._on_record is None or self._principals.path is None:
            return
        # A command that found nothing to take away here wrote down what others are to take away.
        is_noted = self._files() != self._seen_files
        if is_noted or self._principals.version != self._seen_version or self._now() >= self._next_end_ms:
            self._compare()

    def _compare(self, *, only_noted: bool = False) -> None:
        assert self._on_record is not None and self._principals.path is not None
        now = self._now()
        self._seen_version = self._principals.version
        after = {name: outline_of(record, now) for name, record in self._principals.records.items()}
        before, self._on_record, self._next_end_ms = self._on_record, after, first_end_ms(after)
        changes = changes_between(before, after)
        fresh = {
            _PREFIX + name: msgspec.json.encode(after[name]).decode() if name in after else ""
            for name in {*before, *after}
            if before.get(name) != after.get(name)
        }
        self._seen_files = self._files()
        # Read behind the file of agents: a change that is seen has its note by then.
        done = done_notes(notes_file_of(self._principals.path), self._principals.stamp)
        notes = [one for one in done if one.number > self._used]
        told = [(change, _note_of(change, notes)) for change in changes]
        revoking = [note for note in notes if note.revoked is not None]
        if not fresh and not revoking:
            return
        explaining = [note for _, note in told if note is not None]
        self._used = max((note.number for note in (*explaining, *revoking)), default=self._used)
        self._remember(fresh)
        for change, note in told:
            is_told = change.what == "revoked" and note in revoking
            if not is_told and (note is not None or not only_noted):
                self._write(change, note, before, after)
        for note in revoking:
            self._revoke(note.number, _revoked_by(note, before))

    def _files(self) -> tuple[Stamp, Stamp]:
        """What changes when the file of agents does, as it was read, or the notes beside it."""
        assert self._principals.path is not None
        return self._principals.stamp, stamp_of(notes_file_of(self._principals.path))

    def _remember(self, fresh: Mapping[str, str]) -> None:
        self._store.remember({**fresh, _PREFIX: str(self._used)}).addErrback(
            log_fault, log, "what is on record of the agents' file could not be kept"
        )

    def _write(
        self, change: Change, note: Note | None, before: Mapping[str, Outline], after: Mapping[str, Outline]
    ) -> None:
        by, reason = (BY_HAND, None) if note is None else (note.by, note.reason)
        if not change.token:
            if change.what == "expired" and note is None:
                # Nobody did that.
                by, reason = "", None
            self._note(Kind.GRANTS, GrantsFacts(change.agent, _cut(change.before), _cut(change.after), by, reason))
            return
        if change.what == "expired":
            # Nobody did that.
            by, reason = "", None
        there = (after if change.agent in after else before)[change.agent]
        until = there.tokens.get(change.token) if change.what in ("new", "rotated") else None
        is_key = change.token in there.keys
        facts = TokenFacts(change.agent, change.what or "", change.token, by, reason, until, is_key=is_key)
        self._note(Kind.TOKEN, facts)


def _note_of(change: Change, notes: Sequence[Note]) -> Note | None:
    """The latest note that tells of a change.

    Several commands may have changed the grants of one agent since the last look: then the one counts that left them as
    they are.
    """
    for note in reversed(notes):
        for one in note.changes:
            same = (one.agent, one.token, one.after) == (change.agent, change.token, change.after)
            # A command that takes a grant away makes the same change as the end of that grant.
            same = same and (one.what == change.what or not change.token)
            if same:
                return note
    return None


def _revoked_by(note: Note, before: Mapping[str, Outline]) -> list[TokenFacts]:
    """The records of what a command took away everywhere: one for each token, and one for all that there may be."""
    revoked = note.revoked
    assert revoked is not None
    owners = {one.token: one.agent for one in note.changes if one.what == "revoked"}
    # One that had expired is no change of this file.
    owners = {token: name for name, outline in before.items() for token in outline.tokens} | owners
    records = []
    for digest in revoked.tokens:
        token = digest[:8]
        agent = owners.get(token, revoked.agent)
        is_key = agent in before and token in before[agent].keys
        facts = TokenFacts(agent, "revoked", token, note.by, note.reason, sha256=digest, everywhere=True, is_key=is_key)
        records.append(facts)
    if revoked.before is not None:
        facts = TokenFacts(revoked.agent, "revoked", "", note.by, note.reason, before=revoked.before, everywhere=True)
        records.append(facts)
    return records


def _cut(grants: str | None) -> str | None:
    return grants if grants is None or len(grants) <= _GRANTS_LETTERS else grants[: _GRANTS_LETTERS - 1] + "…"
