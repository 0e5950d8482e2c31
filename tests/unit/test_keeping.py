"""``trishula node verify``, ``backup``, ``restore`` on real files, without a node."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.contract.test_store import InSqlite, append, draft, flipped, is_sound, kinds, open_ids
from trishula.cli.exits import Exit
from trishula.cli.main import cli
from trishula_router.commands.state import hold_state_dir
from trishula_router.store.interface import State
from trishula_router.store.sqlite import FILE_NAME


def trishula(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["node", *map(str, arguments)])


def told(result: Result) -> dict[str, object]:
    value: dict[str, object] = json.loads(result.stdout)
    return value


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with the messages m1 and m2, of which m1 is done."""
    directory = tmp_path / "state"
    directory.mkdir()
    subject = InSqlite(directory)
    append(subject, draft("m1", body=b'{"text":"first"}'), draft("m2", body=b'{"text":"second"}'))
    subject.do(lambda store: store.settle([1], State.DONE, None, 5))
    subject.close()
    return directory


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_of_a_sound_store(state: Path) -> None:
    before = (state / FILE_NAME).read_bytes()
    result = trishula("verify", "--state", state)
    assert result.exit_code == Exit.OK
    assert result.stdout == f"{state / FILE_NAME}: 3 records and 2 bodies, all as they were written\n"
    assert (state / FILE_NAME).read_bytes() == before


def test_verify_names_what_is_damaged(state: Path) -> None:
    flipped(state, b'{"text":"second"}', at=9)
    result = trishula("verify", "--state", state)
    assert result.exit_code == Exit.FAILED
    assert "  the body of message m2 from dc (record 2) doesn't match its checksum\n" in result.stdout
    result = trishula("verify", "--state", state, "--json")
    assert result.exit_code == Exit.FAILED
    assert told(result) == {
        "file": str(state / FILE_NAME),
        "records": 3,
        "bodies": 2,
        "ok": False,
        "damaged": [
            {
                "seq": 2,
                "what": "the body of message m2 from dc (record 2) doesn't match its checksum",
                "id": "m2",
                "from": "dc",
            }
        ],
    }


def test_verify_without_a_store(tmp_path: Path) -> None:
    result = trishula("verify", "--state", tmp_path / "away")
    assert result.exit_code == Exit.FAILED
    assert f"there is no store {tmp_path / 'away' / FILE_NAME}; name the state directory" in result.stderr


@pytest.mark.parametrize("content", [b"Dear diary, " * 1000, b""])
def test_verify_of_what_is_no_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    result = trishula("verify", "--state", tmp_path)
    assert result.exit_code == Exit.FAILED
    assert str(tmp_path / FILE_NAME) in result.stderr
    assert "Traceback" not in result.output


# -- backup ------------------------------------------------------------------------------------------------------------


def test_a_backup_is_one_private_file_with_everything(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.sqlite"
    result = trishula("backup", target, "--state", state, "--json")
    assert result.exit_code == Exit.OK, result.output
    assert told(result) == {
        "file": str(target),
        "bytes": target.stat().st_size,
        "records": 3,
        "bodies": 2,
        "ok": True,
        "damaged": [],
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path != state] == ["b.sqlite"]


def test_a_backup_of_a_store_that_is_in_use(state: Path, tmp_path: Path) -> None:
    subject = InSqlite(state)
    append(subject, draft("m3"))
    assert trishula("backup", tmp_path / "b.sqlite", "--state", state).exit_code == Exit.OK
    append(subject, draft("m4"))
    subject.close()
    copy = sqlite3.connect(tmp_path / "b.sqlite")
    assert [row[0] for row in copy.execute("SELECT id FROM message ORDER BY position")] == ["m1", "m2", "m3"]
    copy.close()


def test_a_backup_is_never_written_over(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.sqlite"
    target.write_text("precious")
    result = trishula("backup", target, "--state", state)
    assert result.exit_code == Exit.FAILED
    assert f"{target} is there already and is not written over" in result.stderr
    assert target.read_text() == "precious"


def test_a_backup_into_nowhere(state: Path, tmp_path: Path) -> None:
    result = trishula("backup", tmp_path / "away" / "b.sqlite", "--state", state)
    assert result.exit_code == Exit.FAILED
    assert "can't be written" in result.stderr
    assert "Traceback" not in result.output


def test_a_backup_of_a_damaged_store_says_so(state: Path, tmp_path: Path) -> None:
    flipped(state, b'{"text":"second"}', at=9)
    result = trishula("backup", tmp_path / "b.sqlite", "--state", state)
    assert result.exit_code == Exit.FAILED
    assert "message m2 from dc" in result.stdout


# -- restore -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(state: Path, tmp_path: Path) -> Path:
    """A backup of the state; m2 was done and m3 sent after it."""
    target = tmp_path / "b.sqlite"
    assert trishula("backup", target, "--state", state).exit_code == Exit.OK
    subject = InSqlite(state)
    append(subject, draft("m3"))
    subject.do(lambda store: store.settle([2], State.DONE, None, 6))
    subject.close()
    return target


def test_a_restored_store_is_the_backup_under_another_epoch(state: Path, saved: Path) -> None:
    result = trishula("restore", saved, "--state", state, "--json")
    assert result.exit_code == Exit.OK, result.output
    assert told(result)["records"] == 4
    subject = InSqlite(state)
    assert open_ids(subject) == ["m2"]
    assert subject.store.epoch != "epoch-1"
    assert kinds(subject) == ["accepted", "accepted", "done", "restored"]
    assert is_sound(subject)
    append(subject, draft("m4"))
    assert is_sound(subject)
    subject.close()
    assert stat.S_IMODE((state / FILE_NAME).stat().st_mode) == 0o600


def test_the_store_that_was_there_is_kept(state: Path, saved: Path, tmp_path: Path) -> None:
    kept = Path(str(told(trishula("restore", saved, "--state", state, "--json"))["kept"]))
    assert kept.parent == state
    assert kept.name.startswith("node.sqlite.replaced-2")
    again = tmp_path / "again"
    again.mkdir()
    kept.rename(again / FILE_NAME)
    subject = InSqlite(again)
    assert open_ids(subject) == ["m3"]
    assert is_sound(subject)
    subject.close()


def test_what_a_crash_left_in_the_log_is_kept_with_it(state: Path, saved: Path, tmp_path: Path) -> None:
    # As after kill -9: the last message is in the write-ahead log only.
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    subject = InSqlite(state)
    append(subject, draft("m5"))
    for name in (FILE_NAME, FILE_NAME + "-wal"):
        (crashed / name).write_bytes((state / name).read_bytes())
    subject.close()
    kept = Path(str(told(trishula("restore", saved, "--state", crashed, "--json"))["kept"]))
    assert not (crashed / (FILE_NAME + "-wal")).exists()
    old = sqlite3.connect(kept)
    assert old.execute("SELECT count(*) FROM message WHERE id = 'm5'").fetchone() == (1,)
    old.close()
    subject = InSqlite(crashed)
    assert open_ids(subject) == ["m2"]
    assert is_sound(subject)
    subject.close()


def test_a_store_that_is_beyond_reading_can_be_replaced(state: Path, saved: Path) -> None:
    (state / FILE_NAME).write_bytes(b"\xa5" * 20_000)
    (state / (FILE_NAME + "-wal")).write_bytes(b"\xa5" * 5000)
    assert trishula("restore", saved, "--state", state).exit_code == Exit.OK
    subject = InSqlite(state)
    assert open_ids(subject) == ["m2"]
    subject.close()


def test_a_restore_into_a_new_state_directory(saved: Path, tmp_path: Path) -> None:
    result = trishula("restore", saved, "--state", tmp_path / "new", "--json")
    assert result.exit_code == Exit.OK, result.output
    assert told(result)["kept"] is None


def test_no_restore_while_a_node_runs(state: Path, saved: Path) -> None:
    before = (state / FILE_NAME).read_bytes()
    with hold_state_dir(state):
        result = trishula("restore", saved, "--state", state)
    assert result.exit_code == Exit.FAILED
    assert f"a node already runs on the state directory {state}" in result.stderr
    assert (state / FILE_NAME).read_bytes() == before


def test_a_damaged_backup_is_refused_unless_it_is_wanted(state: Path, saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[data.index(b'{"text":"second"}') + 9] ^= 1
    saved.write_bytes(data)
    before = (state / FILE_NAME).read_bytes()
    result = trishula("restore", saved, "--state", state)
    assert result.exit_code == Exit.FAILED
    assert "is damaged (the body of message m2 from dc (record 2) doesn't match its checksum)" in result.stderr
    assert (state / FILE_NAME).read_bytes() == before
    assert sorted(path.name for path in state.iterdir() if "restoring" in path.name) == []
    result = trishula("restore", saved, "--state", state, "--damaged")
    assert result.exit_code == Exit.OK
    assert "message m2" in result.stdout


def test_a_backup_that_is_none(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    result = trishula("restore", other, "--state", state)
    assert result.exit_code == Exit.FAILED
    assert f"{other} is no store of TRISHULA" in result.stderr
    assert trishula("restore", tmp_path / "away", "--state", state).exit_code == Exit.FAILED
