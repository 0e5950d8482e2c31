"""``trishula audit``: questions to a node's journal, for operators."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option, local_time, plain
from trishula.contract import uris
from trishula.contract.units import parse_duration_s
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

__all__ = ["audit"]

#: The node looks through so many at a time; more come page by page.
_PAGE = 1000
_FOLLOW_EVERY_S = 1.0
#: As --node.
_ALL_NODES = "*"


@click.group()
def audit() -> None:
    """Ask the journal of a node (operators only)."""


@audit.command()
@click.option(
    "--agent", metavar="NAME", help="Only records of this agent, and of what became of messages it sent or got."
)
@click.option("--id", "message_id", metavar="ID", help="Only records of this message.")
@click.option("--kind", metavar="KIND", help="Only records of this kind: accepted, delivered, done, joined, refused …")
@click.option("--since", metavar="WHEN", help='Not before: "10m" for ten minutes ago, or 2026-11-23T00:00:00.')
@click.option("--until", metavar="WHEN", help="Not after; as --since.")
@click.option("--node", metavar="NAME", help='Of another node, from its copy here; "*": of all nodes, by time.')
@click.option("--after", type=click.IntRange(0), help="Only records behind this number.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many records.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and print records as they are written, until Ctrl-C.")
@json_option
@click.pass_obj
def query(
    state: State,
    agent: str | None,
    message_id: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
    node: str | None,
    after: int | None,
    limit: int,
    follow: bool,
) -> None:
    """Print records of the journal, oldest first. With --follow and --json each record is a line of its own.

    \b
    Examples:
      trishula audit query --agent agni --since 10m
      trishula audit query --kind refused --json
      trishula audit query --node '*' --since 10m
    """
    now_ms = int(time.time() * 1000)
    given = {
        "agent": agent,
        "id": message_id,
        "kind": kind,
        "since": _instant(since, "--since", now_ms),
        "until": _instant(until, "--until", now_ms),
        "node": node,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if node == _ALL_NODES and (follow or after is not None or limit > _PAGE):
        raise click.UsageError(
            f"--node '*' prints at most {_PAGE} records by time, and neither follows nor goes on behind a number: "
            "narrow it by --since and --until"
        )
    with state.bus() as bus:
        if follow:
            after = _newest(bus.request(uris.NODE_STATUS)) if after is None and since is None else after or 0
            while True:
                told = bus.request(uris.AUDIT_QUERY, {**options, "after": after, "limit": _PAGE})
                for record in told["records"]:
                    if state.json:
                        state.line(record)
                    else:
                        state.console().print(_line(record))
                after = _next(told, after)
                if not told["more"]:
                    time.sleep(_FOLLOW_EVERY_S)
        records: list[dict[str, Any]] = []
        missing: list[dict[str, Any]] = []
        more, place = True, after or 0
        if node == _ALL_NODES:
            told = bus.request(uris.AUDIT_QUERY, {**options, "limit": limit})
            state.show(told, lambda: _table(told["records"]))
            _tell_missing(state, told["missing"])
            return
        while more and len(records) < limit:
            told = bus.request(uris.AUDIT_QUERY, {**options, "after": place, "limit": min(_PAGE, limit - len(records))})
            records += told["records"]
            more, place, missing = told["more"], _next(told, place), told.get("missing", [])
    state.show({"records": records, "more": more, "after": place}, lambda: _table(records))
    if more and not state.json:
        state.console(stderr=True).print(f"there are more: --after {place}, or a higher --limit", style="dim")
    _tell_missing(state, missing)


@audit.command()
@json_option
@click.pass_obj
@click.pass_context
def verify(ctx: click.Context, state: State) -> None:
    """Check the journal's chain and the checksums of all messages.

    It ends with 0 only if everything is as it was written.
    """
    # It reads the whole store.
    with state.bus() as bus:
        verdict = bus.request(uris.AUDIT_VERIFY, timeout_s=600.0)
    state.show(verdict, lambda: _verdict(verdict))
    if not verdict["ok"]:
        ctx.exit(Exit.FAILED)


def _tell_missing(state: State, missing: list[dict[str, Any]]) -> None:
    for one in missing if not state.json else ():
        text = f"{plain(one.get('reason'))}: its records after {one.get('held')} are not here"
        state.console(stderr=True).print(text, style="yellow")


def _next(told: dict[str, Any], before: int) -> int:
    """Where to go on: the node says how far it looked, which is behind the last record that fitted."""
    if isinstance(told.get("after"), int):
        return int(told["after"])
    return int(told["records"][-1]["seq"]) if told["records"] else before


def _newest(status: dict[str, Any]) -> int:
    return int(status["high_water"])


def _instant(text: str | None, option: str, now_ms: int) -> int | None:
    """Milliseconds of ``10m`` (ago) or of a date; a date without a zone is a local one."""
    if text is None:
        return None
    try:
        return now_ms - int(parse_duration_s(text) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(
            f"{option} is {text!r}; it must be a span such as '10m', '2h' or '1d', or a date such as "
            "2026-11-23T00:00:00"
        ) from None


def _details(record: dict[str, Any]) -> str:
    shown = ((key, value) for key, value in record.items() if key not in ("seq", "at", "kind", "sha256"))
    return ", ".join(f"{plain(key)}: {plain(value)}" for key, value in shown)


def _table(records: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("Number", "Time", "Kind", "Details")
    for record in records:
        table.add_row(str(record.get("seq")), local_time(record.get("at")), plain(record.get("kind")), _details(record))
    if not records:
        table.add_row("none", "", "", "")
    return table


def _line(record: dict[str, Any]) -> Text:
    from rich.text import Text

    text = Text(f"{record.get('seq'):>8}  {local_time(record.get('at'))}  ", style="dim")
    text.append(f"{plain(record.get('kind')):<12} ", style="bold")
    text.append(_details(record), style="none")
    return text


def _verdict(verdict: dict[str, Any]) -> Text:
    from rich.text import Text

    if verdict["ok"]:
        return Text(f"{verdict['records']} records, all as they were written", style="green")
    text = Text(f"{len(verdict['damaged'])} of {verdict['records']} records are damaged", style="bold red")
    for damage in verdict["damaged"]:
        text.append(f"\n  {damage.get('seq')}: {plain(damage.get('what'))}", style="none")
    return text
