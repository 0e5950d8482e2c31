"""The file of a node's figures: it lasts, it begins anew when it can't be used, and it never keeps a node from work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.logs import Logged, logged
from trishula_router.objectives.book import Book, Page, SavedBook
from trishula_router.objectives.recorder import open_book
from trishula_router.settings.objectives import ObjectiveOptions
from trishula_router.settings.options import parse_options
from trishula_router.store.sqlite.objectives_file import OBJECTIVES_FILE, ObjectivesFile

__all__ = ["logged"]

MINUTE_MS = 60_000
PAGE = Page([(MINUTE_MS, 120_000, b'{"done":3}'), (MINUTE_MS, 60_000, b"{}")], {"tick": "125000"}, {MINUTE_MS: 120_000})


def file_in(directory: Path) -> ObjectivesFile:
    return ObjectivesFile(directory, lambda call: call())


def write(directory: Path, *pages: Page) -> None:
    file = file_in(directory)
    for page in pages:
        file.write(page)
    file.close()


def test_what_was_written_is_read_again_and_what_is_too_old_is_gone(tmp_path: Path) -> None:
    write(tmp_path, PAGE)
    assert file_in(tmp_path).read() == SavedBook([(MINUTE_MS, 120_000, b'{"done":3}')], {"tick": "125000"})


def test_a_first_run_knows_nothing(tmp_path: Path) -> None:
    assert file_in(tmp_path).read() == SavedBook()


@pytest.mark.parametrize(
    "content", [b"this is no database, and longer than a header of SQLite has to be.....", b"SQLite"]
)
def test_a_damaged_file_is_set_aside_with_a_sentence(tmp_path: Path, logged: Logged, content: bytes) -> None:
    (tmp_path / OBJECTIVES_FILE).write_bytes(content)
    assert file_in(tmp_path).read() == SavedBook()
    (said,) = logged.sentences("warn")
    assert "can't be used" in said and "begins to count anew" in said
    assert (tmp_path / "node.objectives.damaged").read_bytes() == content
    write(tmp_path, PAGE)
    assert file_in(tmp_path).read().notes == {"tick": "125000"}


@pytest.mark.parametrize(("row", "notes"), [(b"{", {}), (b'{"done":-1}', {}), (b"{}", {"tick": '"soon"'})])
def test_figures_that_are_none_are_set_aside_too(
    tmp_path: Path, logged: Logged, row: bytes, notes: dict[str, str]
) -> None:
    write(tmp_path, Page([(MINUTE_MS, 60_000, row)], notes, {}))
    config = parse_options({"state": str(tmp_path)}, base=tmp_path, path="extra")
    assert isinstance(open_book(config, file_in(tmp_path)), Book)
    assert "begins to count anew" in logged.sentences("warn")[0]
    assert not (tmp_path / OBJECTIVES_FILE).exists()


def test_a_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.write(PAGE)
    file.close()
    (tmp_path / OBJECTIVES_FILE).unlink()
    write(tmp_path, PAGE)
    assert file_in(tmp_path).read().rows


def test_a_directory_that_can_not_be_written_is_said_once(tmp_path: Path, logged: Logged) -> None:
    write(tmp_path / "away", PAGE, PAGE, PAGE)
    assert ["can't be kept" in said for said in logged.sentences("warn")] == [True]


def test_a_book_comes_back_from_the_file(tmp_path: Path) -> None:
    book = Book(ObjectiveOptions(), SavedBook())
    book.begin(1_000_000, 0.0)
    book.maintenance.start(1_000_000, 60.0, "a new disk", "boss")
    book.look(1_010_000, 10.0, is_up=True, added=book.series.window(1_000_000, 300.0))
    write(tmp_path, book.page(1_010_000))
    again = Book(ObjectiveOptions(), file_in(tmp_path).read())
    assert again.maintenance.told(0) == book.maintenance.told(0)
    assert again.series.window(1_010_000, 3600.0).as_map() == book.series.window(1_010_000, 3600.0).as_map()
