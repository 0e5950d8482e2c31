"""A small store takes many times what it can hold, because old records go: the benchmark in its short form."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.journal_growth import grow

MIB = 1024 * 1024


def test_a_small_store_takes_many_times_what_it_holds(tmp_path: Path) -> None:
    messages, limit_bytes = 100_000, 32 * MIB
    figures = grow(tmp_path, messages, limit_bytes, ids_ms=10_000)
    # At 500 bytes a message all of it would be half as large again as the store may get.
    assert figures.file_bytes <= limit_bytes
    assert figures.archived > 0.7 * messages
    assert figures.archive_bytes < figures.archived * 150


def test_so_do_two_linked_ones(tmp_path: Path) -> None:
    messages, limit_bytes = 80_000, 24 * MIB
    figures = grow(tmp_path, messages, limit_bytes, ids_ms=10_000, linked=True)
    # With the rows of all messages it would be full.
    assert figures.file_bytes <= limit_bytes
    assert figures.archived > 0.7 * messages
