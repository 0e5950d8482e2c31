"""The lanes of ``make test``: what each one says is told, and whatever ends the whole ends all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lanes import COMPUTING, OPERATING, ROOT, SERVING, Lane, Run

GENEROUS_S = 60.0


def files_in(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("test_*.py"))


def test_each_file_of_tests_is_in_one_lane() -> None:
    run = [path for lane in (COMPUTING, SERVING, OPERATING) for name in lane.paths for path in files_in(ROOT / name)]
    assert sorted(run) == sorted((ROOT / "tests").glob("*/test_*.py"))


def lane(folder: Path) -> Lane:
    return Lane((str(folder), "--rootdir", str(folder), "-p", "no:cacheprovider"))


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
