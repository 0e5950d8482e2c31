"""Flipped bits in a store's file: found, named, and nothing is lost but what they hit.

Bits are flipped in real files, where it hurts: in bodies, records, rows, indexes, the structure of pages; and anywhere.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import ReactorQueue, open_sqlite
from tests.support.subjects import InSqlite, append, draft, flipped
from trishula_router.store.interface import StoreError
from trishula_router.store.journal import Damage
from trishula_router.store.messages import State
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import verify_file

PAGE = 4096


def body_of(number: int, size: int = 200) -> bytes:
    return json.dumps({"number": f"<{number}>", "text": "x" * size}).encode()


#: What the mailbox of agni holds, by position: every third message is settled.
OPEN = {number: body_of(number, 9000 if number % 10 == 0 else 200) for number in range(1, 201) if number % 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a store of 200 messages."""
    directory = tmp_path_factory.mktemp("written")
    subject = InSqlite(directory)
    drafts = [
        draft(f"m{number}", body=body_of(number, 9000 if number % 10 == 0 else 200), priority=1 + number % 5)
        for number in range(1, 201)
    ]
    append(subject, *drafts)
    subject.do(lambda store: store.deliver([(3, 1), (6, 1)], "agni", None, 200))
    settled = [number for number in range(1, 201) if number not in OPEN]
    subject.do(lambda store: store.settle(settled, State.DONE, None, 300))
    subject.close()
    return (directory / FILE_NAME).read_bytes()


@pytest.fixture
def directory(tmp_path: Path, written: bytes) -> Path:
    (tmp_path / FILE_NAME).write_bytes(written)
    return tmp_path


def served(subject: InSqlite) -> dict[int, bytes]:
    """What the node would deliver, by position."""
    boxes = subject.do(lambda store: store.open_mailboxes())
    found: dict[int, bytes] = {}
    store = subject.store
    for address in boxes:
        head = subject.calls.wait(store.head(address, (0, 0), 1000))
        assert all(message.state is State.OPEN for message in head)
        bodies: dict[int, bytes] = subject.calls.wait(store.bodies([message.position for message in head]))
        found |= bodies
    return found


def after_opening(directory: Path) -> tuple[dict[int, bytes], tuple[Damage, ...]]:
    """What a node on that directory delivers, and what its check finds."""
    subject = InSqlite(directory)
    try:
        return served(subject), subject.do(lambda store: store.verify()).damages
    finally:
        subject.close()


def root_page(directory: Path, name: str) -> int:
    connection = sqlite3.connect(directory / FILE_NAME)
    page: int = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return page


def flip(directory: Path, place: int, bit: int = 0) -> None:
    file = directory / FILE_NAME
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def test_the_store_is_sound_before(directory: Path) -> None:
    assert after_opening(directory) == (OPEN, ())


def test_a_damaged_body_is_not_delivered_and_all_others_are(directory: Path) -> None:
    flipped(directory, b"<7>", at=1)
    found, damages = after_opening(directory)
    assert found == {position: body for position, body in OPEN.items() if position != 7}
    assert damages == (Damage(7, "the body of message m7 from dc (record 7) doesn't match its checksum", "m7", "dc"),)


def test_a_damaged_record_takes_no_message_with_it(directory: Path) -> None:
    # Its checksum can't be trusted any more, but its body was hit by nothing.
    flipped(directory, b'"id":"m7"', at=7)
    found, damages = after_opening(directory)
    assert found == OPEN
    assert damages == (Damage(7, "record 7 (accepted) doesn't match its digest", "m7", "dc"),)


def test_a_damaged_checksum_in_a_record_takes_no_message_with_it(directory: Path) -> None:
    data = (directory / FILE_NAME).read_bytes()
    flip(directory, data.index(b'"sha256":"', data.index(b'"id":"m7"')) + 12)
    found, damages = after_opening(directory)
    assert found == OPEN
    assert [damage.position for damage in damages] == [7]


def test_a_damaged_digest_is_held_against_its_record_alone(directory: Path) -> None:
    connection = sqlite3.connect(directory / FILE_NAME)
    digest = connection.execute("SELECT digest FROM journal WHERE position = 50").fetchone()[0]
    connection.close()
    flipped(directory, digest)
    found, damages = after_opening(directory)
    assert found == OPEN
    assert [damage.position for damage in damages] == [50]


def test_a_row_that_is_no_text_any_more_is_read_from_its_record(directory: Path) -> None:
    file = directory / FILE_NAME
    connection = sqlite3.connect(file)
    connection.execute("UPDATE message SET id = CAST(x'ff' || id AS TEXT) WHERE position = 7")
    connection.commit()
    connection.close()
    found, damages = after_opening(directory)
    assert found == OPEN
    assert [damage.position for damage in damages] == [7]
    assert "m7" in damages[0].what or damages[0].id is not None


def test_a_state_that_nobody_wrote(directory: Path) -> None:
    connection = sqlite3.connect(directory / FILE_NAME)
    connection.execute("UPDATE message SET state = 1 WHERE position = 7")
    connection.commit()
    connection.close()
    _, damages = after_opening(directory)
    assert damages == (Damage(7, "message m7 from dc (record 7) is not done, as its row says", "m7", "dc"),)


def test_a_missing_message_and_a_missing_body(directory: Path) -> None:
    connection = sqlite3.connect(directory / FILE_NAME)
    connection.execute("DELETE FROM message WHERE position = 7")
    connection.execute("DELETE FROM body WHERE position IN (8, 9)")
    connection.commit()
    connection.close()
    found, damages = after_opening(directory)
    assert found == {position: body for position, body in OPEN.items() if position not in (7, 8)}
    # Message 9 is settled: retention may have taken its body.
    assert [damage.what for damage in damages] == [
        "message m7 from dc (record 7) is missing",
        "the body of message m8 from dc (record 8) is missing",
    ]


@pytest.mark.parametrize("table", ["body", "journal", "message"])
def test_a_page_that_can_not_be_read_takes_only_its_own_rows(directory: Path, table: str) -> None:
    # The first leaf below the root: its type is none that SQLite knows.
    data = (directory / FILE_NAME).read_bytes()
    start = (root_page(directory, table) - 1) * PAGE
    cell = int.from_bytes(data[start + 12 : start + 14], "big")
    leaf = (int.from_bytes(data[start + cell : start + cell + 4], "big") - 1) * PAGE
    flip(directory, leaf, 5)
    found, damages = after_opening(directory)
    lost = OPEN.keys() - found.keys()
    assert all(found[position] == OPEN[position] for position in found)
    if table == "body":
        assert 0 < len(lost) < 60
        named = {damage.position for damage in damages if damage.position}
        assert lost <= named
        assert any(damage.id == f"m{min(lost)}" for damage in damages)
    else:
        assert not lost
        assert {1, 2, 3} <= {damage.position for damage in damages}
    assert any("the store's file is damaged" in damage.what for damage in damages)


def test_a_node_goes_on_beside_a_damaged_index(directory: Path) -> None:
    # An entry of the index of ids: repeats of that message are not found any more, but nothing else is hit.
    flipped(directory, b"m7dcagni", at=1)
    found, damages = after_opening(directory)
    assert found == OPEN
    assert damages
    assert all(damage.position == 0 for damage in damages)


def test_what_sqlite_can_not_open_is_said_in_a_sentence(directory: Path) -> None:
    flip(directory, 3)
    with pytest.raises(StoreError) as caught:
        open_sqlite(directory, ReactorQueue())
    file = directory / FILE_NAME
    assert str(caught.value) == (
        f"the store {file} is damaged (file is not a database); restore a backup with: trishula node restore FILE, or "
        "name another state directory"
    )
    with pytest.raises(StoreError, match="is damaged"):
        verify_file(file)


@pytest.fixture
def places(written: bytes) -> Iterator[int]:
    chance = random.Random(20261123)
    return iter(chance.randrange(len(written) * 8) for _ in range(60))


def test_bits_anywhere(tmp_path: Path, written: bytes, places: Iterator[int]) -> None:
    for number, place in enumerate(places):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / FILE_NAME).write_bytes(written)
        flip(directory, place // 8, place % 8)
        try:
            found, damages = after_opening(directory)
        except StoreError as error:
            assert "trishula node restore" in str(error), place
            continue
        finally:
            shutil.rmtree(directory)  # sixty ballasts come to 2 GB
        # Never something else than was accepted, and whatever is gone is told of.
        assert all(OPEN.get(position) == body for position, body in found.items()), place
        if found != OPEN:
            assert damages, place


def test_the_check_does_not_keep_readers_waiting(directory: Path) -> None:
    subject = InSqlite(directory)
    checked = subject.store.verify()
    read = subject.do(lambda store: store.bodies([1]))
    assert read == {1: OPEN[1]}
    assert subject.calls.wait(checked).damages == ()
    # Its connection is one of its own.
    assert subject.store._checker is not None
    assert subject.store._checker is not subject.store._reader
    subject.close()


def test_a_store_can_be_closed_in_the_middle_of_a_check(directory: Path) -> None:
    subject = InSqlite(directory)
    checked = subject.store.verify()
    checked.addErrback(lambda failure: None)
    subject.close()
    subject.calls.drain()
    assert checked.called
