"""Taking a v1 archive into a history: each file is counted once, nothing is guessed, nothing in the archive changes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.cli.main import run
from trishula.errors import FolderUnusable
from trishula.files import tree
from trishula.files.history import History, read_history
from trishula.files.importing import Importing, ImportOutcome
from trishula.files.names import Names
from trishula.files.seen import Seen
from trishula.files.tree import Found, walk


def a_file(**more: Any) -> bytes:
    base = {"id": "1", "from": "mac", "to": "agni", "type": "task", "priority": "high", "body": "look"}
    return json.dumps({**base, "timestamp": "2026-02-10T00:02:00Z", **more}).encode()


def put(root: Path, name: str, data: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three messages, one of them twice, and all kinds of odd files."""
    root = tmp_path / "v1"
    put(root, "mac/outbox/1.json", a_file())
    put(root, "agni/inbox/1.json", a_file(**{"from": "dc"}))
    put(root, "agni/archive/2026-02-10/2.json", a_file(id="2", priority=5, timestamp=1770681720))
    put(root, "agni/outbox/3.json", b'{"from": "agni", "to": "all", "type": "note", "body": [1]}')
    put(root, "agni/inbox/9.json", a_file(body="something else"))
    put(root, "agni/inbox/half.json", a_file()[:30])
    put(root, "agni/inbox/bytes.json", b"\xff\xfe{}")
    put(root, "agni/inbox/nobody.json", b'{"id": "4", "to": "agni", "type": "task"}')
    put(root, "agni/inbox/.1.json.a1B2c3", a_file())
    put(root, "agni/inbox/1 (conflicted copy 2026-02-10).json", a_file())
    put(root, "agni/inbox/1.json.why.txt", b"why")
    (root / "link.json").symlink_to("mac/outbox/1.json")
    (root / "link").symlink_to("mac")
    os.mkfifo(root / "pipe.json")
    return root


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["files", "import", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["files"] == sum(found[outcome.value] for outcome in ImportOutcome)
    assert found["odd"] == len(found["odd_files"])
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["imported"], found["known"], found["copies"], found["odd"]


def everything(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.rglob("*"))


def test_each_file_is_counted_once_and_every_odd_one_has_its_sentence(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, into = everything(archive), tmp_path / "history.jsonl"
    found = told(capsys, str(archive), "--into", str(into))
    assert found["files"] == sum(not path.is_dir() or path.is_symlink() for path in archive.rglob("*"))
    assert counts(found) == (3, 0, 1, 10)
    odd = {one["file"]: one["why"] for one in found["odd_files"]}
    assert "has another message 1 from dc" in odd["agni/inbox/9.json"]
    assert "no JSON" in odd["agni/inbox/half.json"] and "UTF-8" in odd["agni/inbox/bytes.json"]
    assert "from is missing" in odd["agni/inbox/nobody.json"]
    assert "symbolic link" in odd["link.json"] and "no regular file" in odd["pipe.json"]
    assert [one["file"] for one in found["noted_files"]] == ["agni/outbox/3.json"] * 2
    lines = {line.key: line for line in read_history(into)}
    assert set(lines) == {("dc", "1"), ("dc", "2"), ("agni", "3")}
    assert lines["dc", "2"].message["timestamp"] == 1770681720000 and lines["dc", "2"].message["payload"] == "look"
    assert lines["agni", "3"].message["to"] == "broadcast" and "timestamp" not in lines["agni", "3"].message
    assert everything(archive) == before
    assert into.stat().st_mode & 0o777 == 0o600


def test_a_second_import_adds_nothing_and_says_so(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "history.jsonl"
    assert counts(told(capsys, str(archive), "--into", str(into), "--dry-run")) == (3, 0, 1, 10)
    assert not into.exists()
    told(capsys, str(archive), "--into", str(into))
    once = into.read_bytes()
    assert counts(told(capsys, str(archive), "--into", str(into))) == (0, 3, 1, 10)
    assert into.read_bytes() == once
    assert run(["files", "import", str(archive), "--into", str(into)]) == 0
    out = capsys.readouterr().out
    assert "Nothing was added" in out and "agni/inbox/half.json" in out
    put(archive, "new.json", a_file(id="5"))
    assert counts(told(capsys, str(archive), "--into", str(into))) == (1, 3, 1, 10)
    assert into.read_bytes().startswith(once)


def test_an_import_that_was_killed_goes_on(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "history.jsonl"
    told(capsys, str(archive), "--into", str(into))
    whole = into.read_bytes().splitlines(keepends=True)
    for length in (0, 1, len(whole[0]) - 1, len(whole[0]), len(whole[0]) + 40):
        into.write_bytes(b"".join(whole)[:length])
        kept = into.read_bytes().count(b"\n")
        found = told(capsys, str(archive), "--into", str(into))
        assert counts(found) == (3 - kept, kept, 1, 10)
        assert len(list(read_history(into))) == 3


def test_the_names_of_agents_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "v1", "1.json", a_file(to="box"))
    into = tmp_path / "h"
    for words, pair in (
        ((), ("dc", "box")),
        (("--name", "mac=mac"), ("mac", "box")),
        (("--name", "mac=laptop", "--name", "box=agni"), ("laptop", "agni")),
    ):
        into.unlink(missing_ok=True)
        told(capsys, str(tmp_path / "v1"), "--into", str(into), *words)
        (line,) = read_history(into)
        assert (line.message["from"], line.message["to"]) == pair


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["mac"], "no pair of names"),
        (["mac=Dc"], "no pair of names"),
        (["=dc"], "no pair of names"),
        (["mac=dc", "laptop=dc"], "the same agent's"),
        (["mac=dc", "mac=agni"], "both dc's and agni's"),
    ],
)
@pytest.mark.parametrize("command", [["import"], ["bridge", "--agent", "agni"]])
def test_names_that_lead_to_no_agent_are_refused(
    command: list[str], names: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for name in names for word in ("--name", name)]
    assert run(["files", *command, str(tmp_path), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_history_lies_outside_of_its_archive_and_is_nothing_else(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["files", "import", str(archive), "--into", str(archive / "h")]) == 2
    assert "outside" in capsys.readouterr().err
    (tmp_path / "diary").write_text("dear diary\n")
    assert run(["files", "import", str(archive), "--into", str(tmp_path / "diary")]) != 0
    assert "line 1 of" in capsys.readouterr().err
    assert (tmp_path / "diary").read_text() == "dear diary\n"


def test_one_import_at_a_time_adds_to_a_history(tmp_path: Path) -> None:
    with History(tmp_path / "h"), pytest.raises(FolderUnusable, match="another import"):
        History(tmp_path / "h")
    with History(tmp_path / "h"):
        pass


def test_the_history_is_shown_and_no_text_in_it_reaches_the_terminal_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "v1", "1.json", a_file(subject="first", body="\x1b[31mred"))
    put(tmp_path / "v1", "2.json", a_file(id="2", **{"from": "agni", "to": "mac"}, timestamp="2026-03-01T00:00:00Z"))
    put(tmp_path / "v1", "\x1b[2J.json", b"{")
    into = str(tmp_path / "h")
    assert run(["files", "import", str(tmp_path / "v1"), "--into", into]) == 0
    assert "\x1b" not in capsys.readouterr().out
    shown = {}
    for words in ((), ("--from", "dc"), ("--to", "dc"), ("--since", "2026-02-20"), ("--until", "2026-02-20")):
        assert run(["files", "history", "--into", into, *words, "--json"]) == 0
        shown[words] = [json.loads(line)["message"]["id"] for line in capsys.readouterr().out.splitlines()]
    assert list(shown.values()) == [["1", "2"], ["1"], ["2"], ["2"], ["1"]]
    assert run(["files", "history", "--into", into]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["FROM", "dc", "agni"]
    assert run(["files", "history", "--into", into, "--id", "1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\\x1b[31mred" in out and "it came over no bus" in out
    assert run(["files", "history", "--into", str(tmp_path / "gone")]) == 2
    assert "there is no history" in capsys.readouterr().err


def test_a_tree_may_be_deeper_than_functions_can_be(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):
        deep = deep / "d"
        deep.mkdir()
    (deep / "1.json").write_bytes(a_file())
    try:
        (found,) = walk(tmp_path)
    finally:
        # What removes the test's directory is such a function.
        (deep / "1.json").unlink()
        while deep != tmp_path:
            deep.rmdir()
            deep = deep.parent
    assert found.path == "d/" * 1100 + "1.json" and found.data == a_file()


def test_a_large_directory_is_listed_in_parts_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_AT_ONCE", 3)
    for number in range(10):
        put(tmp_path, f"{number}.json", b"{}")
        put(tmp_path, f"below/{number}.json", b"{}")
    paths = [found.path for found in walk(tmp_path)]
    assert paths == [*(f"{number}.json" for number in range(10)), *(f"below/{number}.json" for number in range(10))]
    files = walk(tmp_path)
    assert [next(files).path for _ in range(11)][-1] == "below/0.json"
    shutil.rmtree(tmp_path / "below")
    # What was listed is told, and that it can't be read any more.
    assert [found.why_not is None for found in files] == [False, False]


def test_what_an_import_has_seen_needs_room() -> None:
    seen = Seen()
    seen.put(("dc", "1"), "00ff")
    seen.put(("dc", "2"), "01", "odd\udcff.json")
    assert (seen.get(("dc", "1")), seen.get(("agni", "1"))) == (("00ff", None), None)
    assert seen.get(("dc", "2")) == ("01", "odd\\udcff.json")
    seen._base.close()
    with pytest.raises(FolderUnusable, match="SQLITE_TMPDIR"):
        seen.put(("dc", "3"), "00")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["mac", "dc", "agni"]), st.sampled_from("xy"))))
def test_what_goes_in_comes_out(files: list[tuple[str, str, str]]) -> None:
    work = Importing(Seen(), Names(), "2026-02-10T00:00:00Z", "ann@hub")
    found = [
        Found(f"{number}.json", a_file(id=name, body=body, **{"from": sender}))
        for number, (name, sender, body) in enumerate(files)
    ]
    lines = [line for line in map(work.judge, found) if line is not None]
    assert work.files == len(files)
    assert (
        work.counts[ImportOutcome.IMPORTED]
        == len(lines)
        == len({("dc" if s == "mac" else s, name) for name, s, _ in files})
    )
    # Whatever is a copy says what its first says.
    seen = Seen()
    for line in lines:
        seen.put(line.key, line.digest)
    again = Importing(seen, Names(), "2026-02-10T00:00:00Z", "ann@hub")
    assert [again.judge(one) for one in found] == [None] * len(found)
    assert again.counts[ImportOutcome.ODD] == work.counts[ImportOutcome.ODD]
    assert again.counts[ImportOutcome.KNOWN] == len(lines)


def test_what_says_something_else_than_the_history_is_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "v1", "1.json", a_file())
    into = tmp_path / "history.jsonl"
    told(capsys, str(tmp_path / "v1"), "--into", str(into))
    once = into.read_bytes()
    put(tmp_path / "v1", "1.json", a_file(body="something else"))
    found = told(capsys, str(tmp_path / "v1"), "--into", str(into))
    assert (found["odd"], found["known"], into.read_bytes()) == (1, 0, once)
    assert found["odd_files"][0]["why"].startswith("the history has another message 1 from dc")


def test_a_disk_that_takes_nothing_leaves_the_history_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (line,) = (Importing(Seen(), Names(), "2026-02-10", "ann@hub").judge(Found("1.json", a_file())),)
    assert line is not None
    with History(tmp_path / "h") as history:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(FolderUnusable, match="No space left"):
                history.add([line])
        assert list(read_history(tmp_path / "h")) == []
        history.add([line])
    assert list(read_history(tmp_path / "h")) == [line]
