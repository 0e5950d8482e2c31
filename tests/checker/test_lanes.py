"""The lanes of ``make test``: what each one says is told, and whatever ends the whole ends all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lanes import COMPUTING, OPERATING, ROOT, SERVING, Lane, Run, run_again

GENEROUS_S = 60.0


def files_in(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("test_*.py"))


def test_each_file_of_tests_is_in_one_lane() -> None:
    run = [path for lane in (COMPUTING, SERVING, OPERATING) for name in lane.paths for path in files_in(ROOT / name)]
    assert sorted(run) == sorted((ROOT / "tests").glob("*/test_*.py"))


def lane(folder: Path, *, has_nodes: bool = True) -> Lane:
    return Lane((str(folder), "--rootdir", str(folder), "-p", "no:cacheprovider"), has_nodes=has_nodes)


def ended(folder: Path, *bodies: str, has_nodes: bool = True) -> Run:
    folder.mkdir()
    for number, body in enumerate(bodies):
        (folder / f"test_{folder.name}_{number}.py").write_text(f"def test_it():\n    {body}\n")
    run = Run(lane(folder, has_nodes=has_nodes))
    run.wait()
    return run


@pytest.mark.parametrize(
    ("body", "status", "said"), [("assert True", 0, "1 passed in"), ("assert False", 1, "1 failed in")]
)
def test_a_run_tells_how_it_ended(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], body: str, status: int, said: str
) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    run = Run(lane(tmp_path))
    run.wait()
    assert f": exit status {status}: {said}" in run.verdict()
    run.show()
    assert said.encode() in capfdbinary.readouterr().out


def test_a_run_that_is_ended_leaves_its_test_and_nothing_else(tmp_path: Path) -> None:
    begun, left = tmp_path / "begun", tmp_path / "left"
    (tmp_path / "test_it.py").write_text(
        "import pathlib, time\n"
        "def test_it():\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        "    try:\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        f"        pathlib.Path({str(left)!r}).touch()\n"
    )
    run = Run(lane(tmp_path))
    deadline_s = time.monotonic() + GENEROUS_S
    while not begun.exists():
        assert time.monotonic() < deadline_s, run.verdict()
        time.sleep(0.05)
    run.end()
    assert run.is_over
    assert left.exists()
    assert ": exit status 2: " in run.verdict()


def by_chance(folder: Path) -> str:
    """Fails once."""
    there = f"__import__('pathlib').Path({str(folder / 'there')!r})"
    return f"was = {there}.exists(); {there}.touch(); assert was"


def test_a_file_with_nodes_that_failed_by_chance_is_run_again(tmp_path: Path) -> None:
    again = run_again([ended(tmp_path / "good", "assert True"), ended(tmp_path / "bad", by_chance(tmp_path), "pass")])
    assert again is not None
    assert again.process.returncode == 0
    assert "exit status 0: 1 passed" in again.verdict()


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    again = run_again([ended(tmp_path / "bad", "assert False")])
    assert again is not None
    assert again.process.returncode == 1


@pytest.mark.parametrize("has_nodes", [True, False])
def test_a_fault_of_a_computing_lane_is_one(tmp_path: Path, has_nodes: bool) -> None:
    runs = [ended(tmp_path / "other", by_chance(tmp_path)), ended(tmp_path / "it", "assert 0", has_nodes=has_nodes)]
    assert (run_again(runs) is None) is not has_nodes


def test_more_than_a_few_files_do_not_fail_by_chance(tmp_path: Path) -> None:
    assert run_again([ended(tmp_path / "bad", *["assert False"] * 4)]) is None


def test_a_lane_that_broke_off_is_not_run_again(tmp_path: Path) -> None:
    broken = ended(tmp_path / "broken", "import os; os._exit(3)")
    assert run_again([ended(tmp_path / "bad", by_chance(tmp_path)), broken]) is None
    assert run_again([ended(tmp_path / "good", "pass")]) is None
