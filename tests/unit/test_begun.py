"""What was begun and not ended, over the end of a process: the file that tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trishula.session.begun import Begun, noted_handled


def opened(directory: Path, run: str) -> Begun:
    begun = Begun.open(directory, run)
    assert begun is not None
    return begun


def test_a_new_file_tells_of_nobody(tmp_path: Path) -> None:
    begun = opened(tmp_path, "r1")
    assert (begun.after, begun.left) == (None, [])
    assert (tmp_path / "begun").stat().st_mode & 0o777 == 0o600


def test_the_next_run_reads_what_was_begun_and_not_ended(tmp_path: Path) -> None:
    first = opened(tmp_path, "r1")
    first.told()
    notes = {name: first.begin("dc/7f3a", name) for name in ("m1", "m2", "m3")}
    first.end(notes["m2"])
    # Nothing is closed: the process was killed.
    second = opened(tmp_path, "r2")
    assert second.after == "r1"
    assert sorted(second.left) == [("dc/7f3a", "m1"), ("dc/7f3a", "m3")]


def test_it_tells_of_the_last_run_until_a_node_knows(tmp_path: Path) -> None:
    first = opened(tmp_path, "r1")
    first.told()
    first.begin("dc", "m1")
    # It ended before it had attached.
    opened(tmp_path, "r2")
    third = opened(tmp_path, "r3")
    assert (third.after, third.left) == ("r1", [("dc", "m1")])
    third.told()
    assert (third.after, third.left) == (None, [])
    fourth = opened(tmp_path, "r4")
    assert (fourth.after, fourth.left) == ("r3", [])


def test_what_begins_means_that_the_node_knew(tmp_path: Path) -> None:
    # A delivery may come before the answer to the attach that it follows.
    first = opened(tmp_path, "r1")
    first.begin("dc", "m1")
    second = opened(tmp_path, "r2")
    assert (second.after, second.left) == ("r1", [("dc", "m1")])
    second.begin("dc", "m2")
    third = opened(tmp_path, "r3")
    assert (third.after, third.left) == ("r2", [("dc", "m2")])


def test_places_are_used_again_and_what_finds_none_is_not_noted(tmp_path: Path) -> None:
    begun = opened(tmp_path, "r1")
    for number in range(5000):
        begun.end(begun.begin("dc", f"m{number}"))
    notes = [begun.begin("dc", f"n{number}") for number in range(1100)]
    assert notes.count(0) == 1100 - 1024
    longest = "x" * 128
    for note in notes:
        begun.end(note)
    begun.begin("a" * 63 + "/" + "b" * 32, longest)
    assert opened(tmp_path, "r2").left == [("a" * 63 + "/" + "b" * 32, longest)]


@pytest.mark.parametrize("content", [b"", b"something else", b"\xff" * (256 + 1024 * 256)])
def test_a_file_that_is_none_of_ours_tells_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "begun").write_bytes(content)
    begun = opened(tmp_path, "r1")
    assert (begun.after, begun.left) == (None, [])
    begun.begin("dc", "m1")
    assert opened(tmp_path, "r2").left == [("dc", "m1")]


def test_an_agent_does_without_where_it_cant_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Begun.open(tmp_path / "nowhere", "r1") is None
    assert "won't learn which message that was" in caplog.text


def test_what_ends_after_the_file_is_let_go_is_no_fault(tmp_path: Path) -> None:
    begun = opened(tmp_path, "r1")
    note = begun.begin("dc", "m1")
    begun.close()
    begun.end(note)
    assert begun.begin("dc", "m2") == 0


def test_what_was_handled_is_told_apart_from_what_had_only_begun(tmp_path: Path) -> None:
    first = opened(tmp_path, "r1")
    first.told()
    notes = [first.begin("dc/7f3a", name) for name in ("m1", "m2", "m3")]
    assert first.handled(notes[0], 0xFFFFFFFF)
    assert first.handled(notes[1], 1)
    first.end(notes[1])
    assert noted_handled(tmp_path) == {("dc", "m1")}
    second = opened(tmp_path, "r2")
    assert second.left == [("dc/7f3a", "m3")]
    assert second.left_handled == [("dc/7f3a", "m1", 0xFFFFFFFF)]
    second.told()
    assert second.left_handled == []
    assert opened(tmp_path, "r3").left_handled == []


def test_a_folder_without_the_file_notes_nothing(tmp_path: Path) -> None:
    assert noted_handled(tmp_path) == frozenset()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_was_of_a_handled_one_is_of_one_that_has_begun(tmp_path: Path) -> None:
    begun = opened(tmp_path, "r1")
    note = begun.begin("dc", "m1")
    begun.handled(note, 1)
    begun.end(note)
    assert begun.begin("dc", "m2") == note
    second = opened(tmp_path, "r2")
    assert (second.left, second.left_handled) == ([("dc", "m2")], [])


def test_what_has_no_room_for_its_checksum_is_not_noted_as_handled(tmp_path: Path) -> None:
    begun = opened(tmp_path, "r1")
    sender = "a" * 63 + "/" + "b" * 59
    note = begun.begin(sender, "x" * 128)
    assert note
    assert not begun.handled(note, 1)
    assert not begun.handled(0, 1)
    assert opened(tmp_path, "r2").left == [(sender, "x" * 128)]
    begun.close()
    assert not begun.handled(note, 1)
