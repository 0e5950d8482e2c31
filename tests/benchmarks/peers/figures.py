"""What is made of the samples of a system, run by run: medians over runs, a table for 80 columns, and one for the docs.

Nothing here does I/O.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from trishula.tools.bench import percentile

__all__ = ["Figures", "milliseconds", "rows_of", "rst", "table", "typical"]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one system, in one run or typically; ``lost`` and ``doubled`` are counts of messages.

    Attributes:
        busy_p50_ms, busy_p99_ms: one way, from the call that sends to the receiver's handler, at 3 × 100 a second.
        quiet_p50_ms, quiet_p99_ms: the same at 15 a second.
        per_s: messages a second with a window of 256.
        server_us, sender_us, receiver_us: time of the processor for each of these.
        ask_p50_ms: from a question to its answer, one at a time.
        asks_per_s: with 64 under way.
    """

    busy_p50_ms: float
    busy_p99_ms: float
    quiet_p50_ms: float
    quiet_p99_ms: float
    per_s: float
    server_us: float
    sender_us: float
    receiver_us: float
    ask_p50_ms: float
    asks_per_s: float
    lost: int = 0
    doubled: int = 0


def milliseconds(samples_ns: Sequence[int], share: float) -> float:
    """A nearest-rank percentile of samples, in ms; not a number if there are none."""
    return percentile(sorted(samples_ns), share) / 1e6


def typical(runs: Sequence[Figures]) -> Figures:
    """The median of each figure over runs; what was lost or doubled in any run is added up."""
    counts = ("lost", "doubled")
    medians = {
        field.name: statistics.median(getattr(run, field.name) for run in runs)
        for field in fields(Figures)
        if field.name not in counts
    }
    return Figures(**medians, **{name: sum(getattr(run, name) for run in runs) for name in counts})


def rows_of(figures: Figures) -> list[str]:
    """A system's cells, in the order of the tables' columns."""
    return [
        f"{_ms(figures.busy_p50_ms)}/{_ms(figures.busy_p99_ms)}",
        f"{_ms(figures.quiet_p50_ms)}/{_ms(figures.quiet_p99_ms)}",
        _count(figures.per_s),
        f"{figures.server_us:.0f}/{figures.sender_us:.0f}/{figures.receiver_us:.0f}",
        _ms(figures.ask_p50_ms),
        _count(figures.asks_per_s),
    ]


def _ms(value_ms: float) -> str:
    """Three digits that count: nobody compares the hundredth of a long wait."""
    return "–" if math.isnan(value_ms) else f"{value_ms:.{2 if value_ms < 10 else 1 if value_ms < 100 else 0}f}"


def _count(value: float) -> str:
    """Three digits that count, as whole thousands are read."""
    if not value or math.isnan(value):
        return "–"
    digits = 2 - math.floor(math.log10(value))
    return f"{round(value, min(digits, 0)):,.0f}"


_WIDTHS = (18, 12, 12, 8, 14, 7, 9)
_HEADS = (
    ("", "one way p50", "/p99 in ms", "", "CPU µs/msg:", "ask", "asks"),
    ("", "3 × 100/s", "15/s", "msg/s", "srv/send/recv", "p50 ms", "/s"),
)


def table(found: Mapping[str, Figures]) -> str:
    """A table of at most 80 columns: names of systems, and their figures."""
    lines = [_line(head) for head in _HEADS]
    lines += [_line([name, *rows_of(figures)]) for name, figures in found.items()]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    first, *others = cells
    rest = "".join(f"{cell:>{width}}" for cell, width in zip(others, _WIDTHS[1:], strict=True))
    return f"{first:<{_WIDTHS[0]}}{rest}".rstrip()


_COLUMNS: tuple[str, ...] = (
    "System",
    "One way p50 / p99 in ms, 3 × 100/s",
    "The same, 15/s",
    "Messages a second",
    "CPU µs a message: server / sender / receiver",
    "Ask p50 in ms",
    "Asks a second",
    "What its confirmation means",
)


def rst(found: Mapping[str, Figures], named: Mapping[str, str], confirms: Mapping[str, str]) -> str:
    """The table for the docs (reStructuredText).

    Args:
        found: figures by the name of a system.
        named: the name with its version.
        confirms: what its confirmation means.
    """
    rows = [_COLUMNS]
    for name, figures in found.items():
        rows.append((named[name], *(cell.replace("/", " / ") for cell in rows_of(figures)), confirms[name]))
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 13 13 10 14 8 9 23", ""]
    for row in rows:
        lines += [f"   {'*' if not index else ' '} - {cell}" for index, cell in enumerate(row)]
    return "\n".join(lines)
