"""Records of a journal as they are printed: lines for people, or rows and lines of JSON for programs.

Each form is written record by record, so that the largest journal takes no memory here. Texts in records are those of
agents: control characters are made visible in all forms, and in CSV a cell that a spreadsheet would take for a formula
gets an apostrophe in front, which spreadsheets take for "this is text".
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State
from trishula.cli.words import as_json, facts_of, local_time, plain

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["COLUMNS", "FORMATS", "csv_row", "printer"]

FORMATS = ("table", "json", "jsonl", "csv")

#: The columns of CSV: what most records have, and in ``facts`` the rest of a record as JSON.
COLUMNS = ("node", "seq", "at", "kind", "agent", "from", "to", "id", "type", "reason", "error", "detail", "facts")
#: With these a spreadsheet's formula begins, also where it passes over the blank before.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
#: What a record has for programs alone.
_NOT_SHOWN = frozenset({"seq", "at", "kind", "sha256", "digest", "position"})


def printer(state: State, form: str, *, with_node: bool = False) -> Callable[[dict[str, Any]], None]:
    """What prints a record; that of CSV has printed the header already.

    Args:
        state: where to.
        form: ``table``, ``jsonl`` or ``csv``.
        with_node: whether a line for people names the record's node.
    """
    if form == "jsonl":
        return state.line
    if form == "csv":
        _write(_row(COLUMNS))
        return lambda record: _write(csv_row(record))
    return lambda record: state.print(_line(record, with_node=with_node))


def csv_row(record: Mapping[str, Any]) -> str:
    """A record as a row of CSV (RFC 4180), with its end of line; the columns are :data:`COLUMNS`."""
    told = {**record, "at": local_time(record.get("at"))}
    rest = {key: value for key, value in told.items() if key not in COLUMNS}
    cells = [told.get(column) for column in COLUMNS[:-1]]
    return _row([*("" if cell is None else _safe(cell) for cell in cells), as_json(rest) if rest else ""])


def _safe(value: object) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal obeys."""
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else as_json(value)
    return ("'" if text.lstrip(" ").startswith(_FORMULA) else "") + plain(text)


def _row(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue()


def _write(text: str) -> None:
    # Bytes: CSV is UTF-8, whatever the terminal's encoding is.
    click.echo(text.encode(errors="backslashreplace"), nl=False, file=sys.stdout)


def _line(record: dict[str, Any], *, with_node: bool) -> Text:
    from rich.text import Text

    text = Text(f"{record.get('seq'):>8}  {local_time(record.get('at'))}  ", style="dim")
    text.append(f"{plain(record.get('kind')):<12} ", style="bold")
    text.append(facts_of(_spelt_out(record), _NOT_SHOWN if with_node else _NOT_SHOWN | {"node"}), style="none")
    return text


def _spelt_out(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose list of messages that were given back says what its numbers are."""
    if record.get("kind") != "returned" or not isinstance(record.get("messages"), list):
        return record
    parts = [
        f"{one[0]} (failures: {one[1]}, due at {local_time(one[2])})"
        if isinstance(one, list) and len(one) == 3
        else one
        for one in record["messages"]
    ]
    return {**record, "messages": ", ".join(map(str, parts))}
