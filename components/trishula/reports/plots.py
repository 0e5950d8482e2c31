"""A report's plots, drawn by Matplotlib: as SVG to stand in a page, and all of them in one PNG.

Matplotlib's own interface for programs is used, without ``pyplot``: nothing global is changed, and no window can open.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from trishula.reports.summary import Report

__all__ = ["PLOTS", "as_png", "as_svgs"]

#: Colours that people who don't tell red from green tell apart (Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#999999"
#: The busiest agents of the matrix; more would not be read.
_MOST_AGENTS = 16
#: A longer name is written smaller; one that is longer still is cut in the middle.
_LONG, _LONGEST = 20, 54
#: With more agents, or a longer name, a matrix has numbers below it.
_MOST_BESIDE, _LONG_BESIDE = 6, 12
_STYLE: Any = {
    "font.size": 9,
    # Text stays text, so that a page's reader can search it, in the reader's own font.
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    # A name is no formula.
    "text.parse_math": False,
}


def as_svgs(report: Report) -> dict[str, str]:
    """Each plot's name → its ``<svg>`` element."""
    found = {}
    for name, (height, draw) in PLOTS.items():
        # The same report gives the same bytes, and no two plots of a page have a name in common.
        with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
            figure = Figure(figsize=(7.5, height(report)), layout="constrained")
            draw(figure.add_subplot(), report)
            written = io.StringIO()
            FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None, "Creator": None})
            found[name] = written.getvalue()[written.getvalue().index("<svg") :]
    return found


def as_png(report: Report) -> bytes:
    """All plots below each other."""
    with mpl.rc_context(_STYLE):
        heights = [height(report) for height, _ in PLOTS.values()]
        figure = Figure(figsize=(9, sum(heights) + 0.6), dpi=110, layout="constrained")
        figure.suptitle(f"TRISHULA from {_day(report['since'])} to {_day(report['until'])} (UTC)")
        axes = figure.subplots(len(PLOTS), 1, height_ratios=heights)
        for one, (_, draw) in zip(axes, PLOTS.values(), strict=True):
            draw(one, report)
        written = io.BytesIO()
        FigureCanvasAgg(figure).print_png(written)
        return written.getvalue()


def _latency(axes: Axes, report: Report) -> None:
    axes.set_title("Latency from acceptance until done", loc="left")
    axes.set_ylabel("ms")
    known = [step for step in report["series"] if step["p50_ms"] is not None]
    if not known:
        return _nothing(axes, report, "no message was done")
    at = [_num(step["at"]) for step in known]
    axes.plot(at, [step["p99_ms"] for step in known], color=_ORANGE, marker=".", label="p99")
    axes.plot(at, [step["p50_ms"] for step in known], color=_BLUE, marker=".", label="p50")
    # Outages are a thousand times the usual, which would be a flat line.
    axes.set_yscale("symlog", linthresh=10)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,.0f}"))
    _legend(axes)
    return _time(axes, report)


def _traffic(axes: Axes, report: Report) -> None:
    axes.set_title(f"Messages accepted, each {_span(report['step_s'])}", loc="left")
    if not report["series"]:
        return _nothing(axes, report, "no message was accepted")
    at = [_num(step["at"]) for step in report["series"]]
    width = report["step_s"] / 86_400
    below = [0] * len(at)
    for name, color in (("done", _GREEN), ("open", _GREY), ("cancelled", _BLUE), ("expired", _ORANGE), ("dead", _RED)):
        counts = [step[name] for step in report["series"]]
        if any(counts):
            axes.bar(at, counts, width, bottom=below, color=color, align="edge", label=name)
            below = [low + count for low, count in zip(below, counts, strict=True)]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    return _time(axes, report)


def _availability(axes: Axes, report: Report) -> None:
    axes.set_title("Availability: nodes, agents, incidents", loc="left")
    rows: list[tuple[str, str, list[tuple[Sequence[Sequence[int]], str]]]] = [
        (f"node {node['node']}", _GREEN, [(node["down"], _RED), (node["unknown"], _GREY)]) for node in report["nodes"]
    ]
    rows += [(str(agent["agent"]), _BLUE, [(agent["away"], _GREY)]) for agent in _agents_shown(report)]
    in_rows = ("node down", "node not known", "agent away")
    others = [one for one in report["incidents"] if one["kind"] not in in_rows]
    whole_ms = report["until"] - report["since"]
    for row, (_, there, gaps) in enumerate(rows):
        axes.broken_barh([_bar(report["since"], whole_ms)], (row - 0.35, 0.7), color=there, alpha=0.35)
        for spans, gone in gaps:
            axes.broken_barh([_bar(begin, end - begin) for begin, end in spans], (row - 0.35, 0.7), color=gone)
    for one in others:
        axes.axvspan(_num(one["from"]), _num(one["until"] or report["until"]), color=_ORANGE, alpha=0.25, lw=0.8)
    _name_rows(axes, [name for name, *_ in rows])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _time(axes, report)


def _matrix(axes: Axes, report: Report) -> None:
    axes.set_title("Messages from (rows) to (columns)", loc="left")
    counted: dict[str, int] = {}
    for pair in report["pairs"]:
        for name in {pair["from"], pair["to"]}:
            counted[name] = counted.get(name, 0) + pair["accepted"]
    names = sorted(sorted(counted, key=lambda name: (-counted[name], name))[:_MOST_AGENTS])
    if not names:
        return _nothing(axes, report, "no message was accepted")
    place = {name: number for number, name in enumerate(names)}
    cells = [[0] * len(names) for _ in names]
    for pair in report["pairs"]:
        if pair["from"] in place and pair["to"] in place:
            cells[place[pair["from"]]][place[pair["to"]]] = pair["accepted"]
    axes.imshow(cells, cmap="Blues", aspect="auto")
    most = max(map(max, cells))
    for row, line in enumerate(cells):
        for column, count in enumerate(line):
            if count:
                axes.text(
                    column, row, _short(count), ha="center", va="center", color="w" if count > most / 2 else "k", size=8
                )
    if len(names) > _MOST_BESIDE or max(map(len, names)) > _LONG_BESIDE:
        # Below each other names have room, and beside each other their numbers do.
        axes.set_xticks(range(len(names)), [str(number) for number in range(1, len(names) + 1)])
        _name_rows(axes, [f"{_shortened(name)}  {number}" for number, name in enumerate(names, 1)])
    else:
        axes.set_xticks(range(len(names)), names)
        _name_rows(axes, names)
    axes.grid(visible=False)
    return None


def _reconnects(axes: Axes, report: Report) -> None:
    axes.set_title("Reconnects and failovers", loc="left")
    agents = [one for one in _agents_shown(report) if one["reconnects"]]
    if not agents:
        return _nothing(axes, report, "no agent had to connect anew")
    rows = range(len(agents))
    axes.barh(rows, [one["reconnects"] for one in agents], color=_BLUE, label="reconnects")
    axes.barh(rows, [one["failovers"] for one in agents], color=_ORANGE, label="failovers")
    _name_rows(axes, [str(one["agent"]) for one in agents])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    axes.grid(visible=False, axis="y")
    return None


def _legend(axes: Axes) -> None:
    """Beside the title: within the plot it would lie on what is drawn."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, frameon=False, borderaxespad=0.1)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    is_long = max(map(len, names), default=0) > _LONG
    axes.set_yticks(range(len(names)), [_shortened(name) for name in names], fontsize=7 if is_long else None)


def _shortened(name: str) -> str:
    """A name that leaves room for a plot: its begin and its end; tables have all of it."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 20]}…{name[-18:]}"


def _rows(report: Report) -> float:
    return 0.9 + 0.28 * max(2, len(report["nodes"]) + len(_agents_shown(report)))


def _matrix_height(report: Report) -> float:
    names = {pair[side] for pair in report["pairs"] for side in ("from", "to")}
    return 1.2 + 0.32 * max(2, min(len(names), _MOST_AGENTS))


def _reconnects_height(report: Report) -> float:
    return 0.9 + 0.28 * max(2, sum(bool(one["reconnects"]) for one in _agents_shown(report)))


def _agents_shown(report: Report) -> list[Mapping[str, Any]]:
    busiest = sorted(report["agents"], key=lambda one: (-one["sessions"], str(one["agent"])))[:_MOST_AGENTS]
    return sorted(busiest, key=lambda one: str(one["agent"]))


#: Each plot's name → how high it is, in inches, and what draws it.
PLOTS: Mapping[str, tuple[Callable[[Report], float], Callable[[Any, Report], None]]] = {
    "latency": (lambda _: 2.4, _latency),
    "traffic": (lambda _: 2.2, _traffic),
    "availability": (_rows, _availability),
    "matrix": (_matrix_height, _matrix),
    "reconnects": (_reconnects_height, _reconnects),
}


def _nothing(axes: Axes, report: Report, words: str) -> None:
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=_GREY)
    axes.set_yticks([])
    axes.set_xticks([])


def _time(axes: Axes, report: Report) -> None:
    axes.set_xlim(_num(report["since"]), _num(report["until"]))
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _num(at_ms: int) -> float:
    return float(date2num(datetime.fromtimestamp(at_ms / 1000, UTC)))


def _bar(begin_ms: int, length_ms: int) -> tuple[float, float]:
    return _num(begin_ms), length_ms / 86_400_000


def _day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _span(step_s: float) -> str:
    for unit, unit_s in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if step_s >= unit_s:
            count = round(step_s / unit_s)
            return unit if count == 1 else f"{count} {unit}s"
    return "second" if step_s == 1 else f"{step_s:g} seconds"


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
