"""Changes of tokens and grants on record: a node that sees its agents' file changed writes them into its journal.

A change has a record ``token`` or ``grants`` (:mod:`trishula_router.store.facts`), with who made it and why, as the
command that made it noted (:mod:`.change_notes`); what nobody noted was *edited by hand*. That holds for what changed
while no node ran as well: what is on record already is remembered in the store, agent by agent, and compared with the
file when the node starts. A store that remembers nothing yet begins with what the file says then, and of that only
what commands noted is written: who made the rest, and when, nobody knows.

What is remembered goes to the store before the record does, and the store makes both durable at once: a restart neither
writes a change again nor leaves one out.

Of a token nothing is told but the first eight digits of its hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from twisted.logger import Logger

from trishula_router.agents.change_notes import BY_HAND, Note, done_notes, notes_file_of
from trishula_router.agents.changes import Change, Outline, changes_between, first_end_ms, outline_of
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
        now: the wall clock in ms.
    """

    def __init__(
        self, principals: Principals, store: Store, note: Callable[[Kind, Facts], None], now: Callable[[], int]
    ) -> None:
        self._principals = principals
        self._store = store
        self._note = note
        self._now = now
        self._on_record: dict[str, Outline] | None = None
        self._used = 0
        self._seen_version = -1
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
        if self._on_record is None:
            return
        if self._principals.version != self._seen_version or self._now() >= self._next_end_ms:
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
        if not fresh:
            return
        # Read behind the file of agents: a change that is seen has its note by then.
        done = done_notes(notes_file_of(self._principals.path), self._principals.stamp)
        notes = [one for one in done if one.number > self._used]
        told = [(change, _note_of(change, notes)) for change in changes]
        self._used = max((note.number for _, note in told if note is not None), default=self._used)
        self._remember(fresh)
        for change, note in told:
            if note is not None or not only_noted:
                self._write(change, note, before, after)

    def _remember(self, fresh: Mapping[str, str]) -> None:
        self._store.remember({**fresh, _PREFIX: str(self._used)}).addErrback(
            log_fault, log, "what is on record of the agents' file could not be kept"
        )

    def _write(
        self, change: Change, note: Note | None, before: Mapping[str, Outline], after: Mapping[str, Outline]
    ) -> None:
        by, reason = (BY_HAND, None) if note is None else (note.by, note.reason)
        if change.what is None:
            self._note(Kind.GRANTS, GrantsFacts(change.agent, _cut(change.before), _cut(change.after), by, reason))
            return
        if change.what == "expired":
            # Nobody did that.
            by, reason = "", None
        there = (after if change.agent in after else before)[change.agent]
        until = there.tokens.get(change.token) if change.what in ("new", "rotated") else None
        self._note(Kind.TOKEN, TokenFacts(change.agent, change.what, change.token, by, reason, until))


def _note_of(change: Change, notes: Sequence[Note]) -> Note | None:
    """The latest note that tells of a change.

    Several commands may have changed the grants of one agent since the last look: then the one counts that left them as
    they are.
    """
    for note in reversed(notes):
        for one in note.changes:
            same = (one.agent, one.token, one.what, one.after) == (
                change.agent, change.token, change.what, change.after,
            )  # fmt: skip
            if same:
                return note
    return None


def _cut(grants: str | None) -> str | None:
    return grants if grants is None or len(grants) <= _GRANTS_LETTERS else grants[: _GRANTS_LETTERS - 1] + "…"
