"""The table of threats names tests and modules that exist; the one of options is the one that is tried at a node."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.option_table import ROWS

ROOT = Path(__file__).resolve().parents[2]
THREATS = (ROOT / "deploy" / "threats.rst").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"``(tests/[\w/]+\.py(?:::\w+)?)``", THREATS)))
MODULES = sorted(set(re.findall(r"``([\w/]+\.py)``", THREATS)))


def test_there_are_tests_in_the_table() -> None:
    assert len(NAMED) >= 4


@pytest.mark.parametrize("name", NAMED)
def test_the_test_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not function or re.search(rf"def {function}\(", text)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("tests/")])
def test_the_module_is_there(name: str) -> None:
    # From the top of a package: one of the same name elsewhere is another module.
    folders = (ROOT / "router" / "trishula_router", ROOT / "components" / "trishula", ROOT / "components")
    assert any((folder / name).is_file() for folder in folders)


def test_the_table_of_options_is_the_one_that_is_tried() -> None:
    section = THREATS.partition("What each option of a WAMP message does")[2]
    told = re.findall(r"   \* - (\w+)\n     - ``(.+)``\n     - (.+)\n     - (.+)\n", section)
    assert told == [(row.message, row.option, row.verdict, row.words) for row in ROWS]
    assert len({(row.message, row.option) for row in ROWS}) == len(ROWS)
