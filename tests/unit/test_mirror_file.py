"""The file of a mirror: what a crash, a full disk, a rename and a foreign journal leave of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakebus import FakeBus
from trishula.cli.audit_mirror import lines_of_page
from trishula.cli.main import run
from trishula.cli.state import State
from trishula.contract import uris
from trishula.errors import NodeFailed
from trishula.evidence.chain import GENESIS, digest_of
from trishula.evidence.mirror_file import MirrorFile, Place, PositionUnreadable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def at(sequence: int) -> Place:
    return Place("epoch-1", sequence, f"{sequence:064x}")


def test_lines_are_appended_and_the_place_is_kept(path: Path) -> None:
    file = MirrorFile(path)
    assert file.place is None
    file.write(b"one\n", at(1))
    file.write(b"two\n", at(2))
    file.close()
    assert (path.read_bytes(), MirrorFile(path).place) == (b"one\ntwo\n", at(2))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_torn_line_is_cut_off(path: Path) -> None:
    for before, kept in ((b"one\ntw", b"one\n"), (b"on", b""), (b"", b""), (b"one\n", b"one\n")):
        path.write_bytes(before)
        file = MirrorFile(path)
        file.write(b"next\n", at(1))
        file.close()
        assert path.read_bytes() == kept + b"next\n"


@pytest.mark.parametrize("renamed", [True, False])
def test_a_file_that_is_gone_is_made_anew(path: Path, renamed: bool) -> None:
    file = MirrorFile(path)
    file.write(b"one\n", at(1))
    if renamed:
        path.rename(path.with_name("audit.jsonl.1"))
    else:
        path.unlink()
    file.write(b"two\n", at(2))
    file.close()
    assert path.read_bytes() == b"two\n"


def test_a_full_disk_leaves_the_place_and_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MirrorFile(path)
    file.write(b"one\n", at(1))
    write, written = os.write, 0

    def full(descriptor: int, data: Any) -> int:
        nonlocal written
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, bytes(data)[:2])
        return written

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        file.write(b"two\n", at(2))
    monkeypatch.undo()
    assert path.read_bytes() == b"one\ntw"
    assert file.place == MirrorFile(path).place == at(1)
    file.write(b"two\n", at(2))
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epoch":"e","sequence":"x","digest":""}', "\x00"])
def test_a_position_that_is_none_is_refused(path: Path, text: str) -> None:
    path.with_name("audit.jsonl.position").write_text(text)
    with pytest.raises(PositionUnreadable, match="says no position; remove it"):
        MirrorFile(path)


def page(*facts: str, previous: bytes = GENESIS, first: int = 1) -> dict[str, Any]:
    records: list[list[Any]] = []
    before = previous
    for sequence, text in enumerate(facts, first):
        before = digest_of(before, sequence, 100, "joined", text.encode())
        records.append([sequence, 100, "joined", text, before.hex()])
    return {"epoch": "epoch-1", "origin": "agni", "previous": previous.hex(), "records": records}


def test_a_record_is_one_line_whatever_it_says() -> None:
    hostile = json.dumps({"agent": "dc", "seq": 7, "detail": "a\n{} \u2028\u2029 \x1b[2J \x85 \u202e = \r\n"})
    lines, place = lines_of_page(page(hostile), None)
    text = lines.decode()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert not any(char in text for char in "\x1b\x85\u2028")
    told = json.loads(text)
    # No fact takes the place of what the node says of the record.
    assert (told["seq"], told["node"], told["facts"]) == (1, "agni", json.loads(hostile))
    assert (place.sequence, place.digest) == (1, told["digest"])


def test_what_doesnt_go_on_is_not_mirrored() -> None:
    first = page("{}")
    _, place = lines_of_page(first, None)
    with pytest.raises(NodeFailed, match="doesn't go on from what is mirrored"):
        lines_of_page(page("{}", first=2), place.digest)
    forged = page('{"agent":"dc"}')
    forged["records"][0][3] = '{"agent":"agni"}'
    with pytest.raises(NodeFailed, match="record 1 doesn't match its digest"):
        lines_of_page(forged, None)


def test_a_record_that_doesnt_fit_ends_it_and_is_not_asked_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def waits(seconds: float) -> None:
        raise AssertionError("it waits for what never comes")

    monkeypatch.setattr("trishula.cli.audit_mirror.time.sleep", waits)
    forged = {**page('{"agent":"dc"}'), "high_water": 1, "node": "agni"}
    forged["records"][0][3] = '{"agent":"agni"}'
    bus = FakeBus()
    bus.answers[uris.AUDIT_RECORDS] = [forged]
    connect: Any = bus.connect
    assert run(["audit", "mirror", "--out", str(tmp_path / "a.jsonl")], State(connect=connect)) == 1
    assert "record 1 doesn't match its digest" in capsys.readouterr().err
