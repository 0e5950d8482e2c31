"""``trishula audit``: questions to a node's journal, for operators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from trishula.cli.known import require_agent
from trishula.cli.newest import PAGE, Ask, Found, end_of, newest, newest_of_all
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import instant_ms
from trishula.cli.words import facts_of, local_time, plain
from trishula.contract import uris
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from rich.text import Text

    from trishula.sync import Bus

__all__ = ["audit"]

#: How many records are printed unless the command line says otherwise.
_LAST = 100
_FOLLOW_EVERY_S = 1.0
#: What a record has for programs alone.
_NOT_SHOWN = frozenset({"seq", "at", "kind", "sha256", "digest", "position"})
#: As --node.
_ALL_NODES = "*"


@click.group(cls=Group)
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
@click.option("--last", type=click.IntRange(1), help=f"Only the newest so many (default {_LAST}).")
@click.option("--after", type=click.IntRange(0), help="Only records behind this number, from the oldest on.")
@click.option(
    "--limit", type=click.IntRange(1), help=f"At most so many records, from the oldest on (with --after: {_LAST})."
)
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
    last: int | None,
    after: int | None,
    limit: int | None,
    follow: bool,
) -> None:
    """Print the newest records of the journal, the newest one last.

    --after N goes through the journal from record N on instead, page by page. With --follow and --json each record is a
    line of its own.

    \b
    Examples:
      trishula audit query --last 20
      trishula audit query --agent agni --since 10m
      trishula audit query --kind refused --json
      trishula audit query --node '*' --since 10m
    """
    now_ms = int(time.time() * 1000)
    given = {
        "agent": agent,
        "id": message_id,
        "kind": kind,
        "since": instant_ms(since, "--since", now_ms),
        "until": instant_ms(until, "--until", now_ms),
        "node": node,
    }
    options = {key: value for key, value in given.items() if value is not None}
    from_oldest = after is not None or limit is not None
    if last is not None and (from_oldest or follow):
        raise click.UsageError("--last tells of the newest records, --after, --limit and --follow of those that follow")
    if node == _ALL_NODES and (follow or after is not None or max(limit or 0, last or 0) > PAGE):
        raise click.UsageError(
            f"--node '*' prints at most {PAGE} records by time, and neither follows nor goes on behind a number: "
            "narrow it by --since and --until"
        )
    with state.bus(looks_only=True) as bus:

        def ask(question: dict[str, Any]) -> dict[str, Any]:
            return cast("dict[str, Any]", bus.request(uris.AUDIT_QUERY, question))

        if follow:
            _follow(state, ask, options, _start_of(bus, after, since))
        if node == _ALL_NODES:
            if limit is not None:
                told = ask({**options, "limit": limit})
                found = Found(told["records"], told["more"], missing=told["missing"])
            else:
                found = newest_of_all(ask, options, last or _LAST, now_ms)
        elif from_oldest:
            found = _from(ask, options, after or 0, limit or _LAST)
        else:
            end = end_of(ask, node) if node is not None else _newest(bus.request(uris.NODE_STATUS))
            found = newest(ask, options, last or _LAST, end)
        if not found.records:
            _refuse_a_slip(bus, agent, after if node is None else None)
    value: dict[str, Any] = {"records": found.records, "more": found.more}
    value |= {"missing": found.missing} if node == _ALL_NODES else {"after": found.after}
    if state.json:
        state.line(value)
    for record in found.records if not state.json else ():
        state.print(_line(record, with_node=node == _ALL_NODES))
    if not found.records:
        state.note("no records fit")
    elif found.more and from_oldest and node != _ALL_NODES:
        state.note(f"there are more: --after {found.after}, or a higher --limit")
    elif found.more:
        state.note("there are earlier ones: a higher --last, or narrow it by --since and --until")
    _tell_missing(state, found.missing)


def _follow(state: State, ask: Ask, options: dict[str, Any], after: int) -> NoReturn:
    while True:
        told = ask({**options, "after": after, "limit": PAGE})
        for record in told["records"]:
            if state.json:
                state.line(record)
            else:
                state.print(_line(record, with_node=False))
        after = _next(told, after)
        if not told["more"]:
            time.sleep(_FOLLOW_EVERY_S)


def _start_of(bus: Bus, after: int | None, since: str | None) -> int:
    """Behind which record to begin to follow: the newest, unless something earlier is asked for."""
    return _newest(bus.request(uris.NODE_STATUS)) if after is None and since is None else after or 0


def _from(ask: Ask, options: dict[str, Any], after: int, limit: int) -> Found:
    """Records from a number on, oldest first."""
    found = Found(more=True, after=after)
    while found.more and len(found.records) < limit:
        told = ask({**options, "after": found.after, "limit": min(PAGE, limit - len(found.records))})
        found.records += told["records"]
        found.more, found.after = told["more"], _next(told, found.after)
        found.missing = told.get("missing", [])
    return found


def _refuse_a_slip(bus: Bus, agent: str | None, after: int | None) -> None:
    """Nothing fits: because a name or a number is nobody's?

    Raises:
        AgentUnknown: no agent of that name is registered, and none has left a record.
        click.UsageError: there are no records behind that number.
    """
    if agent is not None:
        require_agent(bus, agent)
    if after and after > (end := _newest(bus.request(uris.NODE_STATUS))):
        raise click.UsageError(f"--after is {after}, and the newest record of this node is {end}")


@audit.command()
@json_option
@click.pass_obj
@click.pass_context
def verify(ctx: click.Context, state: State) -> None:
    """Check the journal's chain and the checksums of all messages.

    It ends with 0 only if everything is as it was written.

    \b
    Examples:
      trishula audit verify
    """
    # It reads the whole store.
    with state.bus() as bus:
        verdict = bus.request(uris.AUDIT_VERIFY, timeout=600.0)
    state.show(verdict, lambda: _verdict(verdict))
    if not verdict["ok"]:
        ctx.exit(Exit.FAILED)


def _tell_missing(state: State, missing: list[dict[str, Any]]) -> None:
    for one in missing:
        state.note(f"{plain(one.get('reason'))}: its records after {one.get('held')} are not here", style="yellow")


def _next(told: dict[str, Any], before: int) -> int:
    """Where to go on: the node says how far it looked, which is behind the last record that fitted."""
    if isinstance(told.get("after"), int):
        return int(told["after"])
    return int(told["records"][-1]["seq"]) if told["records"] else before


def _newest(status: dict[str, Any]) -> int:
    return int(status["high_water"])


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


def _verdict(verdict: dict[str, Any]) -> Text:
    from rich.text import Text

    if verdict["ok"]:
        return Text(f"{verdict['records']} records, all as they were written", style="green")
    text = Text(f"{len(verdict['damaged'])} of {verdict['records']} records are damaged", style="bold red")
    for damage in verdict["damaged"]:
        text.append(f"\n  {damage.get('seq')}: {plain(damage.get('what'))}", style="none")
    return text
