"""Tables in terminals of any width and in pipes: nothing is cut, and what is folded stays with its row."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from trishula.cli.agents import _table as table_of_agents
from trishula.cli.tables import Fields, Table
from trishula.cli.words import NOTHING, local_time

LONG_ID = "node:single:" + "4f" * 50


def letters() -> Table:
    table = Table("Number", "Dead since", "Type", "To", "Message", "From", "Reason", below=("From", "Reason"))
    table.add_row("16", "2026-11-28T16:48:02Z", "STATUS", "agni", "m.1", "dc/7c253c66", "5 of 5 attempts failed " * 3)
    table.add_row("2100", "2026-11-28T16:48:02Z", "STATUS", "rushabdev", "deploy-42", "dc", NOTHING)
    return table


def printed(shown: object, width: int | None) -> list[str]:
    """The lines, as a terminal of that width shows them; without one, as a pipe gets them."""
    out = io.StringIO()
    # A pipe's reader has no width: COLUMNS, which the default comes from, must not matter.
    console = Console(
        file=out, force_terminal=width is not None, color_system=None, width=40 if width is None else width
    )
    console.print(shown, soft_wrap=width is None)
    return out.getvalue().splitlines()


def test_in_a_pipe_a_row_is_a_line_however_long() -> None:
    lines = printed(letters(), None)
    assert lines == [
        "Number  Dead since            Type    To         Message    From         Reason",
        "16      2026-11-28T16:48:02Z  STATUS  agni       m.1        dc/7c253c66  "
        + ("5 of 5 attempts failed " * 3).strip(),
        "2100    2026-11-28T16:48:02Z  STATUS  rushabdev  deploy-42  dc           –",
    ]


def test_what_fits_a_terminal_is_the_same_there() -> None:
    assert printed(letters(), 200) == printed(letters(), None)


def test_at_80_columns_what_has_no_room_goes_below_its_row() -> None:
    assert printed(letters(), 80) == [
        "Number  Dead since            Type    To         Message",
        "16      2026-11-28T16:48:02Z  STATUS  agni       m.1",
        "    from: dc/7c253c66, reason: 5 of 5 attempts failed 5 of 5 attempts failed 5",
        "    of 5 attempts failed",
        "2100    2026-11-28T16:48:02Z  STATUS  rushabdev  deploy-42",
        "    from: dc",
    ]


@pytest.mark.parametrize("agent", ["agni", "a-rather-long-name-of-an-agent"])
def test_the_dates_of_agents_are_on_one_line_each_at_80_columns(agent: str) -> None:
    seen_at, since = 1_795_850_364_231, 1_795_763_964_231
    entry = {"agent": agent, "presence": "online", "node": "rushabdev", "last_seen_at": seen_at, "since": since}
    shown = printed(table_of_agents([{**entry, "capabilities": ["host", "deploy"], "clock_skew_ms": -3}]), 80)
    assert all(len(line) <= 80 for line in shown)
    for date in (local_time(seen_at, "seconds"), local_time(since, "seconds")):
        assert sum(date in line for line in shown) == 1


def test_a_last_column_is_folded_where_there_is_room_for_it() -> None:
    table = Table("Time", "Details")
    table.add_row("12:00", "word " * 20)
    assert printed(table, 60) == [
        "Time   Details",
        "12:00  " + ("word " * 10).strip(),
        "       " + ("word " * 10).strip(),
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_nothing_is_ever_cut(width: int) -> None:
    table = Table("Number", "Message", "To")
    table.add_row("1", LONG_ID, "agni")
    table.add_row("2", "m.2", "ä" * 90)
    lines = printed(table, width)
    assert all(len(line) <= width for line in lines)
    text = "".join(line.strip().removeprefix("Message").strip() for line in lines)
    assert LONG_ID in text.replace(" ", "")
    assert sum(line.count("ä") for line in lines) == 90
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [None, 30])
def test_fields_go_on_under_themselves(width: int | None) -> None:
    lines = printed(Fields([("name", "one\ntwo"), ("n", "3")]), width)
    assert lines == ["name  one", "      two", "n     3"]
