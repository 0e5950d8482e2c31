"""Records as CSV: what a program reads back, and what a spreadsheet must not run."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trishula.cli.audit_output import COLUMNS, csv_row
from trishula.cli.words import local_time, plain

RECORD = {"node": "a", "seq": 5, "at": 1000, "kind": "joined", "agent": "agni", "session": 12}


def cells(record: dict[str, Any]) -> dict[str, str]:
    (row,) = csv.reader(io.StringIO(csv_row(record), newline=""), strict=True)
    return dict(zip(COLUMNS, row, strict=True))


def test_a_row() -> None:
    told = cells(RECORD)
    assert (told["seq"], told["at"], told["agent"], told["from"]) == ("5", local_time(1000), "agni", "")
    assert json.loads(told["facts"]) == {"session": 12}


def test_quoting() -> None:
    row = csv_row({**RECORD, "reason": 'he said "no", and left'})
    assert row.endswith("\r\n")
    assert ',"he said ""no"", and left",' in row


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "＝"])
def test_no_cell_is_a_formula(begin: str) -> None:
    told = cells({**RECORD, "reason": begin + 'HYPERLINK("http://x")', "agent": begin + "1"})
    assert told["reason"].startswith("'")
    assert told["agent"].startswith("'")


def test_a_terminal_obeys_nothing() -> None:
    assert "\x1b" not in csv_row({**RECORD, "reason": "\x1b[2J", "more": {"x": "\x9b31m"}})


@given(st.text(), st.text())
def test_whatever_agents_say_one_record_is_one_row(reason: str, other: str) -> None:
    row = csv_row({**RECORD, "reason": reason, "other": other})
    assert row.count("\n") == 1
    told = cells({**RECORD, "reason": reason, "other": other})
    assert told["reason"].removeprefix("'") == plain(reason).removeprefix("'")
    assert not told["reason"].startswith(("=", "+", "-", "@"))
    assert json.loads(told["facts"])["other"] == other
