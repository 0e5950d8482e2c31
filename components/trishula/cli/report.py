"""``trishula report``: what happened on the bus in a span of time, as one page, Markdown, JSON or a picture."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from trishula.cli.known import ask_each_node
from trishula.cli.state import State, json_option
from trishula.cli.values import instant_ms
from trishula.cli.words import as_json
from trishula.contract import uris
from trishula.errors import TrishulaError

if TYPE_CHECKING:
    from trishula.reports.summary import Report

__all__ = ["report"]

_PERIODS = {"daily": "1d", "weekly": "7d", "monthly": "30d", "quarterly": "91d"}
_FORMS = (".html", ".md", ".json", ".png")
_PLOTTED = (".html", ".png")
#: A page of records of a large store.
_ASK_S = 120.0
_WEEK_S, _SHORT_STEP_S, _DAY_MS = 7 * 86_400, 300, 86_400_000


@click.command()
@click.option("--since", metavar="WHEN", help='From when on: "7d" for seven days ago, or 2026-11-23T00:00:00.')
@click.option("--until", metavar="WHEN", help="Until when (now); as --since.")
@click.option("--period", type=click.Choice(list(_PERIODS)), help="In place of --since: the last 1, 7, 30 or 91 days.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it; the name ends in .html, .md, .json or .png. Without it: Markdown to standard output.",
)
@json_option
@click.pass_obj
def report(state: State, since: str | None, until: str | None, period: str | None, out: Path | None) -> None:
    """Report on a span of time, as a page, Markdown, JSON or a picture.

    It tells availability, latency, messages by pair, reconnects, failovers, incidents and capacity.

    It is made from the journals that the node holds, its own and the copies of its peers', with an operator's or an
    observer's token. When nodes were down is asked of every node that the URL or the profile names. Plots (.html, .png)
    need Matplotlib: pip install 'trishula-bus[report]'.

    \b
    Examples:
      trishula report --since 24h
      trishula report --period weekly --out week.html
      trishula report --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --json
    """
    if since is not None and period is not None:
        raise click.UsageError("--since and --period both say from when on; give one of them")
    form = ".json" if state.json and out is None else ".md" if out is None else out.suffix.lower()
    if form not in _FORMS:
        raise click.UsageError(f"--out is {str(out)!r}; its name must end in .html, .md, .json or .png")
    if form in _PLOTTED:
        _require_plots()
    if out is not None and not os.access(out.parent, os.W_OK):
        # Told before minutes of reading.
        raise click.UsageError(f"--out is {str(out)!r}, and its folder is not there or can't be written to")
    now_ms = int(time.time() * 1000)
    begin = instant_ms(since or _PERIODS[period or "weekly"], "--since", now_ms)
    end = now_ms if until is None else instant_ms(until, "--until", now_ms)
    assert begin is not None and end is not None
    if begin >= end:
        raise click.UsageError("--since is not before --until, so there is nothing to report on")
    found = _made(state, begin, end, now_ms)
    written = _in_form(found, form)
    if out is None:
        click.echo(written.decode(), nl=False)
        return
    _write(out, written)
    if state.json:
        state.line({"out": str(out), "bytes": len(written)})
    else:
        state.note(f"wrote {out}")


def _made(state: State, begin: int, end: int, now_ms: int) -> Report:
    from trishula.reports.reading import last_records, records_since
    from trishula.reports.summary import Summary
    from trishula.watching.availability import told_time
    from trishula.watching.canary_roads import canary_roads
    from trishula.watching.totals import Totals

    missing: list[dict[str, Any]] = []
    # What each knows of its time; the window is for nodes that don't say yet since when. Of a short span the series is
    # of minutes: of the hour in which it begins, a part is in it.
    step_s = _SHORT_STEP_S if end - begin <= _DAY_MS else _WEEK_S
    question = {"windows": ["30d"], "since": begin, "until": end, "step_s": step_s}
    answers, _ = ask_each_node(state, uris.NODE_OBJECTIVES, question)
    counted = Totals.sum(Totals.of_map(one) for answer in answers.values() for one in answer.get("series", ()))
    with state.bus(looks_only=True) as bus:
        status = bus.request(uris.NODE_STATUS)

        def ask(question: dict[str, Any]) -> dict[str, Any]:
            return cast("dict[str, Any]", bus.request(uris.AUDIT_QUERY, question, timeout=_ASK_S))

        ahead_ms = {peer["node"]: int(peer.get("clock_ahead_ms") or 0) for peer in status.get("peers", ())}
        times = {node: told_time(answer, ahead_ms.get(node, 0)) for node, answer in answers.items()}
        summary = Summary(begin, end, times)
        console = state.console(stderr=True)
        with console.status("reading the journals") as shown:
            for count, record in enumerate(records_since(ask, status, begin, missing), 1):
                summary.add(record)
                if count % 10_000 == 0:
                    shown.update(f"reading the journals: {count:,} records")
        # Of the store as it is when all is read.
        status = bus.request(uris.NODE_STATUS)
        not_asked = {str(peer["node"]) for peer in status.get("peers", ())} - set(answers)
        for record in last_records(ask, status, not_asked):
            summary.add_last(record)
        found = summary.report(status, now_ms, missing)
    return {**found, "canaries": [road.as_map() for road in canary_roads(counted)]}


def _in_form(found: Report, form: str) -> bytes:
    if form == ".json":
        return f"{as_json(found)}\n".encode()
    if form == ".md":
        from trishula.reports.page import as_markdown

        return as_markdown(found).encode()
    from trishula.reports.plots import as_png, as_svgs

    if form == ".png":
        return as_png(found)
    from trishula.reports.page import as_html

    return as_html(found, as_svgs(found)).encode()


def _require_plots() -> None:
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise TrishulaError(
            f"a page or a picture needs {error.name}, which is not installed: pip install 'trishula-bus[report]'; or "
            "write .md or .json"
        ) from None


def _write(out: Path, written: bytes) -> None:
    """Whole or not at all: a reader never finds half of a page."""
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        try:
            beside.write_bytes(written)
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out is {str(out)!r}, which can't be written: {error.strerror}") from None
