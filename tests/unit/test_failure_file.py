"""What a node that gives up leaves to the command that started it."""

from __future__ import annotations

from pathlib import Path

from trishula_router.failure_file import FAILURE_FILE, take_failure, write_failure


def test_what_a_node_gave_up_for_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "node.failure"
    write_failure("the store is an older one's\nrestore it: überall", {FAILURE_FILE: str(path)})
    assert path.stat().st_mode & 0o777 == 0o600
    assert take_failure(path) == "the store is an older one's\nrestore it: überall"
    assert take_failure(path) is None


def test_the_last_word_counts(tmp_path: Path) -> None:
    path = tmp_path / "node.failure"
    for why in ("a long sentence of before", "short"):
        write_failure(why, {FAILURE_FILE: str(path)})
    assert take_failure(path) == "short"


def test_a_node_that_nobody_asked_writes_nothing(tmp_path: Path) -> None:
    """As under crossbar start."""
    write_failure("no such file", {})
    write_failure("no such file", {FAILURE_FILE: ""})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_file_is_no_further_error(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "node.failure"
    write_failure("no such file", {FAILURE_FILE: str(path)})
    assert take_failure(path) is None


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "node.failure"
    path.write_text("\n")
    assert take_failure(path) is None
