"""``trishula journal verify`` and ``audit verify FILE``: archives and exports checked from their files alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.segments import KEY, head, records, write
from trishula.cli.main import cli
from trishula.evidence.archive import Archive, segment_name
from trishula.exit_codes import Exit

MADE = list(records(30))


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def words(done: Result) -> str:
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with an archive of three segments, and the key that signed them."""
    archive = Archive(tmp_path / "archive" / "epoch-1")
    for first, last in ((1, 9), (10, 20), (21, 30)):
        before = MADE[first - 2].digest if first > 1 else bytes(32)
        with archive.new(head(first, before), KEY.sign) as writer:
            for record in MADE[first - 1 : last]:
                writer.add(*record)
    (tmp_path / "crossbar").mkdir()
    (tmp_path / "crossbar" / "key.pub").write_text(f"Crossbar.io\n\npublic-key-ed25519: {KEY.public}\n")
    return tmp_path


def test_a_state_directory_has_its_own_key(state: Path) -> None:
    done = run("journal", "verify", state, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"]) == (0, True)
    assert [one["proven"] for one in told["segments"]] == [[[1, 9]], [[10, 20]], [[21, 30]]]
    assert all(one["key_is_known"] for one in told["segments"])


def test_for_people(state: Path) -> None:
    done = run("journal", "verify", state / "archive", "--key", f"agni={KEY.public}")
    assert done.exit_code == 0
    assert "9 records of the journal of agni (1 to 9, " in words(done)
    assert "proven by signatures of the node agni: records 21 to 30" in words(done)


def test_a_segment_that_is_gone(state: Path) -> None:
    (state / "archive" / "epoch-1" / segment_name(10, 20)).unlink()
    done = run("journal", "verify", state)
    assert done.exit_code == Exit.FAILED
    assert "records 10 to 20 are in no segment" in words(done)


def test_a_name_that_is_not_true(state: Path) -> None:
    folder = state / "archive" / "epoch-1"
    (folder / segment_name(21, 30)).rename(folder / segment_name(21, 31))
    done = run("journal", "verify", state)
    assert done.exit_code == Exit.FAILED
    assert "its name says records 21 to 31, and it holds 21 to 30" in words(done)


def test_segments_by_name(state: Path) -> None:
    folder = state / "archive" / "epoch-1"
    done = run("journal", "verify", folder / segment_name(1, 9), folder / segment_name(21, 30), "--json")
    # Each by itself: who names single ones has not all of them.
    assert json.loads(done.stdout)["ok"]


def test_no_archive_there(tmp_path: Path) -> None:
    done = run("journal", "verify", tmp_path)
    assert done.exit_code == Exit.FAILED
    assert "there is no segment of an archive in" in words(done)


def test_a_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl.gz", bodies=True)
    done = run("audit", "verify", path, "--key", KEY.public)
    assert done.exit_code == 0
    assert "20 records of the journal of agni" in words(done)
    assert "6 bodies of messages), all as they were written" in words(done)
    assert "if its key is" not in words(done)


def test_the_key_of_the_file_is_no_proof(tmp_path: Path) -> None:
    done = run("audit", "verify", write(tmp_path / "one.jsonl.gz"))
    assert done.exit_code == 0
    assert f"if its key is {KEY.public}: that is what the file says" in words(done)


def test_a_key_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "agni.pub").write_text(f"{KEY.public}\n")
    path = write(tmp_path / "one.jsonl.gz")
    assert run("audit", "verify", path, "--key", tmp_path / "agni.pub").exit_code == 0
    assert run("audit", "verify", path, "--key", f"agni={tmp_path / 'agni.pub'}").exit_code == 0


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("nothing", "no public key (64 hexadecimal digits, as `trishula node keys` prints them), and no file with one"),
        (KEY.public[:-1], "no public key (64 hexadecimal digits"),
        (f"rushabdev={KEY.public}", "is signed by the node agni, and no --key is of that node"),
    ],
)
def test_keys_that_are_of_no_use(tmp_path: Path, key: str, told: str) -> None:
    done = run("audit", "verify", write(tmp_path / "one.jsonl.gz"), "--key", key)
    assert done.exit_code == Exit.USAGE
    assert told in words(done)


def test_what_is_wrong_is_told_in_sentences(tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl.gz", 2000, every=500)
    path.write_bytes(path.read_bytes()[:-600])
    done = run("audit", "verify", path, "--key", KEY.public)
    assert done.exit_code == Exit.FAILED
    assert "one.jsonl.gz is not as it was written the file breaks off" in words(done)
    assert "proven by signatures of the node agni: records 1 to" in words(done)


def test_a_key_without_a_file() -> None:
    done = run("audit", "verify", "--key", KEY.public)
    assert (done.exit_code, "--key is for a FILE" in words(done)) == (Exit.USAGE, True)
