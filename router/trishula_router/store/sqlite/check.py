"""The check of a whole store: every record against the chain, every message and body against its record.

It reads in one transaction, so it sees the store of one instant, whatever the node writes meanwhile; as long as it
runs the write-ahead log can't start anew, so it grows by what is written. It runs on a connection and a thread of its
own: in the node (``audit verify``) as in a command beside it (``node verify``).

What each pass can tell:

* the journal: a record that is changed, missing or unreadable;
* the messages: one that is missing, that is not the one that was accepted, or whose state or keeper is not what the
  journal's records add up to;
* the bodies: one that doesn't match the checksum in its record, or that is missing although its message is open. A body
  whose record is itself damaged can't be proved; it is only asked to be JSON of the right size;
* SQLite's own check of pages and indexes, which finds what no checksum covers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from trishula_router.store.bases import Base
from trishula_router.store.facts import AcceptedFacts
from trishula_router.store.interface import Verification
from trishula_router.store.journal import ORIGIN_SHIFT, SEQUENCE_MASK, ChainCheck, Damage, Kind, Record, follow
from trishula_router.store.messages import State
from trishula_router.store.origins import Numbering, position_in, read_base, read_numbering
from trishula_router.store.sqlite.check_sums import Sums
from trishula_router.store.sqlite.damage import Unreadable, is_damage, read_all
from trishula_router.store.telling import body_damage, message_damage

__all__ = ["Progress", "check_store"]

#: Told now and then how far it is, from 0 to 1.
Progress = Callable[[float], None]

_JOURNAL = "SELECT position, at, kind, facts, digest FROM journal"
_MESSAGE = (
    "SELECT m.position, m.sender, m.id, m.recipient, m.type, m.priority, m.size_bytes, {identity}, m.state, m.life,"
    " m.settled, m.keeper, m.hop, j.at, j.kind, j.facts, j.digest FROM message AS m"
    " LEFT JOIN journal AS j ON j.position = m.position"
)
#: What a backup of before schema version 5 doesn't have, and what it means there.
_IDENTITY = ("m.digest, m.use, m.reply_to", "'', 0, NULL")
_BODY = (
    "SELECT b.position, b.envelope, j.at, j.kind, j.facts, j.digest FROM body AS b"
    " LEFT JOIN journal AS j ON j.position = b.position"
)
_PASSES = 4
_TELL_EVERY = 200


def check_store(connection: sqlite3.Connection, progress: Progress = lambda _: None) -> Verification:
    """Check everything; what can't be read is a damage, not a fault.

    Args:
        connection: in a transaction, which is a new one afterwards; nothing may have been written in it.
        progress: told how far it is.
    """
    text_factory = connection.text_factory
    # Text with a damaged byte has to come out as something that differs, not as an error.
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        return _Check(connection, progress).run()
    finally:
        connection.text_factory = text_factory
        # SQLite commits no transaction that met a page it couldn't read.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN")


class _Check:
    def __init__(self, connection: sqlite3.Connection, progress: Progress) -> None:
        self._connection = connection
        self._progress = progress
        self._damages: list[Damage] = []
        self._numbering = self._read_numbering()
        #: Where each origin begins.
        self._bases = {number: self._read_base(number) for number in (0, *sorted(self._numbering.names))}
        #: The newest sequence of each origin.
        self._lasts = {number: self._find_last(number) for number in self._bases}
        begins = {number: base.sequence for number, base in self._bases.items()}
        self._sums = Sums(self._lasts, self._numbering, begins)
        #: Records that are damaged, missing or unreadable: what they told can't be held against anybody.
        self._doubted: set[int] = set()
        self._tell_in = 0

    def run(self) -> Verification:
        records = self._check_journal()
        self._check_messages()
        bodies = self._check_bodies()
        self._check_missing_bodies()
        self._check_file()
        self._progress(1.0)
        return Verification(records, bodies, tuple(self._named(damage) for damage in dict.fromkeys(self._damages)))

    def _read_numbering(self) -> Numbering:
        try:
            return read_numbering(self._connection)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._damages.append(Damage(0, f"whose the copied journals are can't be read ({error})"))
            return Numbering("")

    def _read_base(self, number: int) -> Base:
        try:
            return read_base(self._connection, number)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._damages.append(Damage(0, f"where the journal begins can't be read ({error})"))
            return Base()

    def _find_last(self, number: int) -> int:
        last = 0
        for table in ("journal", "message"):
            try:
                found = self._connection.execute(
                    f"SELECT max(position) FROM {table} WHERE position BETWEEN ? AND ?",
                    (position_in(number, 0), position_in(number, SEQUENCE_MASK)),
                ).fetchone()[0]
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
            else:
                last = max(last, (found or 0) & SEQUENCE_MASK)
        # A damaged page may claim any position.
        pages: int = self._connection.execute("PRAGMA page_count").fetchone()[0]
        return min(last, self._bases[number].sequence + pages * 200 + 1000)

    def _rows(self, number: int, select: str, key: str) -> Iterator[tuple[Any, ...] | Unreadable]:
        """All rows of a table, origin by origin; ``number`` is the pass."""
        for origin in self._lasts:
            yield from self._rows_of(origin, number, select, key)

    def _rows_of(self, origin: int, number: int, select: str, key: str) -> Iterator[tuple[Any, ...] | Unreadable]:
        last = position_in(origin, self._lasts[origin])
        done = sum(self._lasts[before] for before in self._lasts if before < origin)
        total = max(1, sum(self._lasts.values()))
        for row in read_all(self._connection, select, key, position_in(origin, 0), last):
            self._tell_in -= 1
            if self._tell_in < 0:
                self._tell_in = _TELL_EVERY
                self._progress((number + min(1.0, (done + (row[0] & SEQUENCE_MASK)) / total)) / _PASSES)
            yield row

    def _record(self, position: int) -> str:
        """A record as the sentences name it."""
        number, sequence = position >> ORIGIN_SHIFT, position & SEQUENCE_MASK
        name = self._numbering.names.get(number)
        return f"record {sequence}" + (f" of node {name[0]}" if name else "")

    # -- the journal ---------------------------------------------------------------------------------------------------

    def _check_journal(self) -> int:
        count = sum(self._check_chain(origin) for origin in self._lasts)
        try:
            for alias, message in self._connection.execute("SELECT position, message FROM alias"):
                self._sums.join(alias, message)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._damages.append(Damage(0, f"which messages several nodes accepted can't be read ({error})"))
        return count

    def _check_chain(self, origin: int) -> int:
        count, last, base = 0, self._lasts[origin], self._bases[origin]
        node = self._numbering.names[origin][0] if origin else ""
        chain = ChainCheck(base.digest, base.sequence, node)
        for row in self._rows_of(origin, 0, _JOURNAL, "position"):
            sequence = row[0] & SEQUENCE_MASK
            if sequence <= base.sequence:
                # Held where the records around it were cut: its neighbours don't prove it, its message must fit it.
                count += self._see_held(row)
                continue
            if isinstance(row, Unreadable):
                # Behind the last one that can be read there may be nothing at all.
                if sequence < last or chain.sequence == sequence - 1:
                    self._doubt(row.position, f"{self._record(row.position)} can't be read ({row.why})")
                chain.skip(sequence)
                continue
            count += 1
            record = Record(*row)
            missing = range(
                position_in(origin, chain.sequence + 1), min(record.position, position_in(origin, last) + 1)
            )
            what = follow(chain, record)
            if what is not None:
                self._damages.append(Damage(record.position, what))
                self._doubted.update(missing or [record.position])
            if record.kind != Kind.ACCEPTED and not _is_json(record.facts):
                self._doubted.add(record.position)
            # A damaged one may tell nonsense, and then what it tells is in doubt.
            self._sums.add(record)
        return count

    def _see_held(self, row: tuple[Any, ...] | Unreadable) -> int:
        if isinstance(row, Unreadable):
            if self._is_held(row.position):
                self._doubt(row.position, f"{self._record(row.position)} can't be read ({row.why})")
            return 0
        self._sums.add(Record(*row))
        return 1

    def _is_held(self, position: int) -> bool:
        return self._connection.execute("SELECT 1 FROM held WHERE record = ?", (position,)).fetchone() is not None

    def _doubt(self, position: int, what: str) -> None:
        self._doubted.add(position)
        self._damages.append(Damage(position, what))

    # -- messages and bodies -------------------------------------------------------------------------------------------

    def _check_messages(self) -> None:
        columns = {name for _, name, *_ in self._connection.execute("PRAGMA table_info(message)")}
        select = _MESSAGE.format(identity=_IDENTITY["digest" not in columns])
        for row in self._rows(1, select, "m.position"):
            position = row[0]
            self._sums.see(position)
            if isinstance(row, Unreadable):
                if self._can_read("message", position):
                    continue
                self._damages.append(
                    Damage(position, f"the row of message {{}} ({self._record(position)}) can't be read")
                )
                continue
            _, sender, message_id, recipient, kind, priority, size_bytes, digest, use, reply_to, *rest = row
            state, life, settled, keeper, hop, *record = rest
            if record[0] is None or position in self._doubted:
                continue
            stored = AcceptedFacts(sender, message_id, recipient, kind, priority, size_bytes, "", digest, use, reply_to)
            what = message_damage(Record(position, *record), stored)
            if what is None and not self._state_is(position, state, life, settled):
                word = State(state).name.lower() if state in tuple(State) else str(state)
                what = f"message {message_id} from {sender} ({self._record(position)}) is not {word}, as its row says"
            if what is None and not (self._doubted or self._sums.keeps(position, keeper, hop) or self._lacks(position)):
                what = f"message {message_id} from {sender} ({self._record(position)}) is not kept by whom its row says"
            if what is not None:
                self._damages.append(Damage(position, what))
        for position in self._sums.missing():
            if position not in self._doubted:
                self._damages.append(Damage(position, f"message {{}} ({self._record(position)}) is missing"))

    def _state_is(self, position: int, state: int, life: int, settled: int | None) -> bool:
        difference = self._sums.difference(position, state, life)
        if difference == 0 or (
            difference > 0 and settled is None and (position >> ORIGIN_SHIFT or self._lacks(position))
        ):
            # A message that came here settled, or of whose end a journal told before it was cut, is ahead of records.
            return True
        if difference > 0 and settled is not None and self._is_cut(settled):
            return True
        # The record that made it so can't be read: its row is all there is to tell.
        return settled in self._doubted or (settled is None and bool(self._doubted))

    def _lacks(self, position: int) -> bool:
        """Whether records of another journal than its own, that told of a message, may have been cut."""
        return any(base.sequence and number != position >> ORIGIN_SHIFT for number, base in self._bases.items())

    def _is_cut(self, position: int) -> bool:
        return position & SEQUENCE_MASK <= self._bases.get(position >> ORIGIN_SHIFT, Base()).sequence

    def _check_bodies(self) -> int:
        count = 0
        for row in self._rows(2, _BODY, "b.position"):
            position = row[0]
            if isinstance(row, Unreadable):
                if not self._can_read("body", position):
                    self._damages.append(
                        Damage(
                            position, f"the body of message {{}} ({self._record(position)}) can't be read ({row.why})"
                        )
                    )
                continue
            count += 1
            envelope, record = row[1], row[2:]
            if record[0] is None or position in self._doubted:
                what = None if _is_json(envelope) else f"the body of message {{}} ({self._record(position)}) is damaged"
            else:
                what = body_damage(Record(position, *record), envelope)
            if what is not None:
                self._damages.append(Damage(position, what))
        return count

    def _check_missing_bodies(self) -> None:
        try:
            rows = self._connection.execute(
                "SELECT m.position FROM message AS m LEFT JOIN body AS b ON b.position = m.body"
                " WHERE m.state = 0 AND b.position IS NULL"
            ).fetchall()
        except sqlite3.DatabaseError as error:
            # Then the pages at fault were told of already, with what can't be read of them.
            if not is_damage(error):
                raise
            return
        for (position,) in rows:
            self._damages.append(Damage(position, f"the body of message {{}} ({self._record(position)}) is missing"))

    def _can_read(self, table: str, position: int) -> bool:
        try:
            row = self._connection.execute(f"SELECT * FROM {table} WHERE position = ?", (position,)).fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            # Where nothing of that number is to be expected, a page that can't be read hides nothing.
            return not self._sums.is_message(position)
        return row is not None

    # -- the file, and names -------------------------------------------------------------------------------------------

    def _check_file(self) -> None:
        """What SQLite finds wrong with the file's structure: its pages, its indexes."""
        self._progress((_PASSES - 1) / _PASSES)
        try:
            for (said,) in self._connection.execute("PRAGMA integrity_check(10)"):
                if said != "ok":
                    self._damages.append(Damage(0, f"the store's file is damaged ({said})"))
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self._damages.append(Damage(0, f"the store's file is damaged ({error})"))

    def _named(self, damage: Damage) -> Damage:
        """The damage with the id and the sender of the message that it hit, from whichever of the two rows is whole."""
        named = self._name_of(damage.position) if damage.position else None
        if named is None:
            return msgspec.structs.replace(damage, what=damage.what.replace(" {}", ""))
        message_id, sender = named
        what = damage.what.replace("{}", f"{message_id} from {sender}")
        return msgspec.structs.replace(damage, what=what, id=message_id, sender=sender)

    def _name_of(self, position: int) -> tuple[str, str] | None:
        by_record = "SELECT facts ->> 'id', facts ->> 'from' FROM journal WHERE position = ? AND kind = 'accepted'"
        for question in ("SELECT id, sender FROM message WHERE position = ?", by_record):
            try:
                found = self._connection.execute(question, (position,)).fetchone()
            except sqlite3.DatabaseError:
                continue
            if found is not None and all(isinstance(value, str) for value in found):
                return found[0], found[1]
        return None


def _is_json(envelope: object) -> bool:
    try:
        return isinstance(envelope, bytes) and msgspec.json.decode(envelope) is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
