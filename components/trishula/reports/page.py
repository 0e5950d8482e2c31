"""A report as one page that needs nothing else: no script, no font, no picture from elsewhere; and as Markdown.

What others wrote, reasons and names, is text in the page: the template escapes it, and nothing in the page may run.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from trishula.reports import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trishula.reports.summary import Report

__all__ = ["as_html", "as_markdown"]

#: Of what makes Markdown of a text.
_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]<>#|~&"})


def as_html(report: Report, plots: Mapping[str, str]) -> str:
    """The page.

    Args:
        report: the figures.
        plots: each plot's name → its ``<svg>`` element, see :func:`trishula.reports.plots.as_svgs`.
    """
    from jinja2 import Environment, StrictUndefined

    template = files("trishula.reports").joinpath("page.html").read_text(encoding="utf-8")
    tables = words.tables(report)
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            report=report,
            since=words.instant(report["since"]),
            until=words.instant(report["until"]),
            made_at=words.instant(report["made_at"]),
            span=words.seconds((report["until"] - report["since"]) / 1000),
            verdict=words.verdict(report),
            caveats=words.caveats(report),
            plots=plots,
            tables=tables,
            numbers={title: _number_columns(rows) for title, _, rows in tables},
        )
    )


def as_markdown(report: Report) -> str:
    """The figures and tables, without plots."""
    span = words.seconds((report["until"] - report["since"]) / 1000)
    lines = [
        "# TRISHULA report",
        "",
        f"{words.instant(report['since'])} to {words.instant(report['until'])} ({span}); asked of node "
        f"{_escaped(str(report['node']))}, made {words.instant(report['made_at'])}",
        "",
        *(f"> {_escaped(one)}" for one in words.caveats(report)),
        *_table(("figure", "value"), words.verdict(report)),
    ]
    for title, heads, rows in words.tables(report):
        lines += ["", f"## {title}", "", *(_table(heads, rows) if rows else ["none"])]
    return "\n".join(lines) + "\n"


def _table(heads: tuple[str, ...], rows: list[tuple[str, str]] | list[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return lines + [f"| {' | '.join(map(_escaped, row))} |" for row in rows]


def _escaped(text: str) -> str:
    return text.translate(_MARKS)


def _number_columns(rows: list[tuple[str, ...]]) -> set[int]:
    """The columns in which there are figures alone."""
    return {
        column
        for column in range(len(rows[0]) if rows else 0)
        if all(row[column][:1].isdigit() or row[column] in ("–", "") for row in rows if column < len(row))
        and not any("UTC" in row[column] for row in rows if column < len(row))
    }
