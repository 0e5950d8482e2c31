"""Tables that stay readable: in a terminal of any width, and in a pipe.

In a pipe a row is a line, the columns are aligned and two spaces apart, and nothing is cut, however wide it gets. In a
terminal a table that fits looks the same. One that doesn't fit has its last column folded where that leaves room for
it, else the columns that were named for it under each row, else each row as a block with a line for each column. Text
is folded and never cut: an id in a table can always be pasted into the next command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from trishula.cli.words import NOTHING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["Cell", "Fields", "Table"]

Cell = str | Text

_GAP = "  "
#: A last column narrower than this is no column any more.
_LEAST_LAST = 30
_INDENT = "    "
#: In a terminal so narrow that a value has less room, lines are cut: nobody works in one.
_LEAST_VALUE = 8


class Table:
    """Rows under a line of headers; a renderable of ``rich``.

    Args:
        headers: of the columns.
        below: the headers of those that go under their row where not all fit side by side.
    """

    def __init__(self, *headers: str, below: Collection[str] = ()) -> None:
        self._headers = headers
        self._below = frozenset(below)
        self._rows: list[tuple[Text, ...]] = []

    def add_row(self, *cells: Cell) -> None:
        """Add a row, of one line of text for each column."""
        self._rows.append(tuple(cell if isinstance(cell, Text) else Text(cell) for cell in cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        everything = range(len(self._headers))
        if not console.is_terminal:
            yield from self._grid(everything)
            return
        width = options.max_width
        beside = [column for column in everything if self._headers[column] not in self._below]
        if self._width(everything) <= width:
            yield from self._grid(everything)
        elif (room := width - self._width(everything[:-1]) - len(_GAP)) >= _LEAST_LAST:
            yield from self._grid(everything, console, room)
        elif self._below and self._width(beside) <= width:
            yield from self._with_lines_below(console, beside, width)
        else:
            yield from self._blocks(console, width)

    def _width(self, columns: Sequence[int]) -> int:
        return sum(self._widths(columns)) + len(_GAP) * max(0, len(columns) - 1)

    def _widths(self, columns: Iterable[int]) -> list[int]:
        return [
            max(cell_len(self._headers[column]), *(row[column].cell_len for row in self._rows), 0) for column in columns
        ]

    def _head(self, columns: Sequence[int], widths: Sequence[int]) -> Text:
        return _line([Text(self._headers[column], style="bold") for column in columns], widths)

    def _grid(
        self, columns: Sequence[int], console: Console | None = None, last_width: int | None = None
    ) -> Iterable[Text]:
        """A line a row; more where the last column is folded."""
        widths = self._widths(columns)
        yield self._head(columns, widths)
        for row in self._rows:
            cells = [row[column] for column in columns]
            if console is None or last_width is None:
                yield _line(cells, widths)
                continue
            first, *more = _folded(console, cells[-1], last_width) or [Text()]
            yield _line([*cells[:-1], first], widths)
            before = " " * (sum(widths[:-1]) + len(_GAP) * (len(columns) - 1))
            yield from (Text(before).append_text(line) for line in more)

    def _with_lines_below(self, console: Console, beside: Sequence[int], width: int) -> Iterable[Text]:
        widths = self._widths(beside)
        yield self._head(beside, widths)
        for row in self._rows:
            yield _line([row[column] for column in beside], widths)
            told = [
                Text(f"{header}: ".lower(), style="dim").append_text(row[column])
                for column, header in enumerate(self._headers)
                if column not in beside and row[column].plain not in ("", NOTHING)
            ]
            for line in _folded(console, Text(", ").join(told), width - len(_INDENT)) if told else ():
                yield Text(_INDENT).append_text(line)

    def _blocks(self, console: Console, width: int) -> Iterable[Text]:
        for number, row in enumerate(self._rows):
            if number:
                yield Text()
            yield from _pairs(console, list(zip(self._headers, row, strict=True)), width)


class Fields:
    """Names with their values, a line each; a value of several lines goes on under itself."""

    def __init__(self, pairs: Iterable[tuple[str, Cell]]) -> None:
        self._pairs = [(name, cell if isinstance(cell, Text) else Text(cell)) for name, cell in pairs]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _pairs(console, self._pairs, options.max_width if console.is_terminal else None)


def _pairs(console: Console, pairs: Sequence[tuple[str, Text]], width: int | None) -> Iterable[Text]:
    """Lines of name and value; without a ``width`` nothing is folded."""
    longest = max((cell_len(name) for name, _ in pairs), default=0)
    room = None if width is None else max(_LEAST_VALUE, width - longest - len(_GAP))
    for name, value in pairs:
        lines = value.split("\n", allow_blank=True) if room is None else _folded(console, value, room)
        first, *more = lines or [Text()]
        yield _line([Text(name, style="bold"), first], [longest, 0])
        for line in more:
            yield Text(" " * (longest + len(_GAP))).append_text(line)


def _folded(console: Console, text: Text, width: int) -> Sequence[Text]:
    """The lines of a text; its own line breaks stay."""
    folded = text.wrap(console, width, overflow="fold")
    for line in folded:
        line.rstrip()
    return list(folded)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Cells side by side; the last one is not padded, so that no line ends in spaces."""
    line = Text(no_wrap=True, overflow="ignore")
    last = len(cells) - 1
    for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        line.append_text(cell)
        if number < last:
            line.append(" " * (max(0, width - cell.cell_len) + len(_GAP)))
    line.rstrip()
    return line
