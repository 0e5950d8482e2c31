"""The two lanes of ``make test``: what each says is told, and whatever ends the run ends both."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lanes import COMPUTING, ROOT, SERVING, Lane

GENEROUS_S = 60.0


def test_each_folder_of_tests_is_in_one_lane() -> None:
    folders = [f"tests/{path.name}" for path in sorted((ROOT / "tests").iterdir()) if any(path.glob("test_*.py"))]
    assert sorted([*COMPUTING, *SERVING]) == folders


@pytest.mark.parametrize(
    ("body", "status", "said"), [("assert True", 0, "1 passed in"), ("assert False", 1, "1 failed in")]
)
def test_a_lane_tells_how_it_ended(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], body: str, status: int, said: str
) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    lane = Lane([str(tmp_path), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"])
    lane.wait()
    assert f": exit status {status}: {said}" in lane.verdict()
    lane.show()
    assert said.encode() in capfdbinary.readouterr().out


def test_a_lane_that_is_ended_leaves_its_test_and_nothing_else(tmp_path: Path) -> None:
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
    lane = Lane([str(tmp_path), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"])
    deadline_s = time.monotonic() + GENEROUS_S
    while not begun.exists():
        assert time.monotonic() < deadline_s, lane.verdict()
        time.sleep(0.05)
    lane.end()
    assert lane.is_over
    assert left.exists()
    assert ": exit status 2: " in lane.verdict()
