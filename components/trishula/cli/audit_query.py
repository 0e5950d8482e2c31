"""``trishula audit query``: records of a node's journal that fit a question."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from trishula.cli.audit_output import FORMATS, printer
from trishula.cli.known import require_agent
from trishula.cli.newest import PAGE, Ask, Found, end_of, newest, newest_of_all
from trishula.cli.state import State, json_option
from trishula.cli.values import instant_ms
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.contract.message import MAIL_TYPES
from trishula.errors import KeyUnknown

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["query"]

#: How many records are printed unless the command line says otherwise.
_LAST = 100
_FOLLOW_EVERY_S = 1.0
#: How long a node may take for one answer, out of its archive too.
_ASK_S = 60.0
#: As --node.
_ALL_NODES = "*"
#: What nodes of the release before can't be asked for: the key of the question → the option.
_NEWER = {
    "with": "--with",
    "type": "--type",
    "outcome": "--outcome",
    "procedure": "--procedure",
    "subject": "--subject",
    "kinds": "more than one --kind",
}


class _Questions:
    """Asks a node.

    Attributes:
        bodies_gone: how often a node said of a message that its body is gone, so that nobody knows what it was about.
        archived_to: up to this record the node's journal is in its archive alone, and is not searched.
        archived_of: the same of other nodes, if the question is to all of them.
        archive_faults: what of the archive could not be read, a sentence each.
    """

    def __init__(self, bus: Bus, *, archive: bool) -> None:
        self._bus = bus
        self._archive = archive
        self.archive_faults: dict[str, None] = {}
        self.bodies_gone = self.archived_to = 0
        self.archived_of: dict[str, int] = {}

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The node's answer.

        Raises:
            KeyUnknown: the node is of an earlier release, and can't search by that.
        """
        try:
            asked = {**question, "archive": True} if self._archive and question.get("node") != _ALL_NODES else question
            told = cast("dict[str, Any]", self._bus.request(uris.AUDIT_QUERY, asked, timeout=_ASK_S))
        except KeyUnknown as error:
            if self._archive:
                # A node of an earlier release searches what is in its store, and says so.
                self._archive = False
                return self.ask(question)
            newer = [option for key, option in _NEWER.items() if key in question]
            if not newer:
                raise
            status = self._bus.request(uris.NODE_STATUS)
            raise KeyUnknown(
                f"the node {plain(status.get('node'))} runs version {plain(status.get('version'))}, which can't search "
                f"by {' and '.join(newer)} yet; update it, or leave that out"
            ) from error
        self.bodies_gone += int(told.get("bodies_gone", 0))
        self.archived_to = max(self.archived_to, int(told.get("archived_to", 0)))
        self.archived_of |= told.get("archived_of", {})
        self.archive_faults |= dict.fromkeys(map(str, told.get("archive_faults", ())))
        return told


@click.command()
@click.option(
    "--agent", metavar="NAME", help="Only records of this agent, and of what became of messages it sent or got."
)
@click.option("--with", "peer", metavar="NAME", help="Only what is between --agent and this agent, or concerns it.")
@click.option("--id", "message_id", metavar="ID", help="Only records of this message.")
@click.option("--type", "message_type", type=click.Choice(MAIL_TYPES), help="Only of messages of this type.")
@click.option(
    "--outcome",
    type=click.Choice(("done", "dead", "expired", "cancelled", "refused")),
    help="Only of messages that ended so, or (refused) of what was refused.",
)
@click.option("--procedure", metavar="NAME", help="Only of commands to run this; of messages whose bodies are kept.")
@click.option(
    "--subject", metavar="TEXT", help="Only of messages with this in their subject; of those whose bodies are kept."
)
@click.option(
    "--kind",
    "kinds",
    metavar="KIND",
    multiple=True,
    help="Only records of this kind: accepted, delivered, surfaced, done, joined, refused … May be repeated.",
)
@click.option("--since", metavar="WHEN", help='Not before: "10m" for ten minutes ago, or 2026-11-23T00:00:00.')
@click.option("--until", metavar="WHEN", help="Not after; as --since.")
@click.option("--node", metavar="NAME", help='Of another node, from its copy here; "*": of all nodes, by time.')
@click.option("--last", type=click.IntRange(1), help=f"Only the newest so many (default {_LAST}).")
@click.option("--all", "all_of_them", is_flag=True, help="All that fit, from the oldest on; printed while it is read.")
@click.option("--after", type=click.IntRange(0), help="Only records behind this number, from the oldest on.")
@click.option(
    "--limit", type=click.IntRange(1), help=f"At most so many records, from the oldest on (with --after: {_LAST})."
)
@click.option("--live", is_flag=True, help="Only what is in the node's store: its archive is not searched.")
@click.option("--follow", "-f", is_flag=True, help="Stay, and print records as they are written, until Ctrl-C.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Lines for people (table), one JSON document (as --json), a line of JSON for each record, or CSV.",
)
@json_option
@click.pass_obj
def query(
    state: State,
    agent: str | None,
    peer: str | None,
    message_id: str | None,
    message_type: str | None,
    outcome: str | None,
    procedure: str | None,
    subject: str | None,
    kinds: tuple[str, ...],
    since: str | None,
    until: str | None,
    node: str | None,
    last: int | None,
    all_of_them: bool,
    after: int | None,
    limit: int | None,
    live: bool,
    follow: bool,
    form: str | None,
) -> None:
    """Print the newest records of the journal, the newest one last.

    --after N goes through the journal from record N on instead, page by page, and --all prints everything that fits.
    With --follow and --json each record is a line of its own.

    Where its store doesn't have enough of them, the node searches its archive too, some hundred thousand records a
    second; --since narrows that, and --live leaves it out.

    \b
    Examples:
      trishula audit query --last 20
      trishula audit query --agent agni --with dc --since 10m
      trishula audit query --outcome dead --kind accepted --type COMMAND
      trishula audit query --all --since 7d --format csv > week.csv
      trishula audit query --node '*' --since 10m
    """
    now_ms = int(time.time() * 1000)
    given = {
        "agent": agent,
        "with": peer,
        "id": message_id,
        "type": message_type,
        "outcome": outcome,
        "procedure": procedure,
        "subject": subject or None,
        "kind": kinds[0] if len(kinds) == 1 else None,
        "kinds": list(kinds) if len(kinds) > 1 else None,
        "since": instant_ms(since, "--since", now_ms),
        "until": instant_ms(until, "--until", now_ms),
        "node": node,
    }
    options = {key: value for key, value in given.items() if value is not None}
    from_oldest = after is not None or limit is not None
    form = _form_of(state, form, all_of_them=all_of_them, follow=follow)
    if last is not None and (from_oldest or follow or all_of_them):
        raise click.UsageError(
            "--last tells of the newest records, --after, --limit, --all and --follow of those that follow"
        )
    if all_of_them and (limit is not None or follow):
        raise click.UsageError("--all has neither a --limit nor an end to --follow")
    if node == _ALL_NODES and (follow or after is not None or max(limit or 0, last or 0) > PAGE):
        raise click.UsageError(
            f"--node '*' prints at most {PAGE} records by time, and neither follows nor goes on behind a number: "
            "narrow it by --since and --until, or take --all, which prints one node's records after the other's"
        )
    with state.bus(looks_only=True) as bus:
        questions = _Questions(bus, archive=not live)
        ask = questions.ask
        if follow:
            _follow(printer(state, form), ask, options, _start_of(bus, after, since))
        if all_of_them:
            found = _all(bus, printer(state, form, with_node=node == _ALL_NODES), ask, options, after or 0)
        elif node == _ALL_NODES:
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
            for name in (agent, peer):
                _refuse_a_slip(bus, name, after if node is None else None)
    if form == "json":
        value: dict[str, Any] = {"records": found.records, "more": found.more}
        value |= {"missing": found.missing} if node == _ALL_NODES else {"after": found.after}
        value |= {"bodies_gone": questions.bodies_gone} if questions.bodies_gone else {}
        value |= {"archived_to": questions.archived_to} if questions.archived_to else {}
        value |= {"archived_of": questions.archived_of} if questions.archived_of else {}
        value |= {"archive_faults": list(questions.archive_faults)} if questions.archive_faults else {}
        state.line(value)
    elif not all_of_them:
        show = printer(state, form, with_node=node == _ALL_NODES)
        for record in found.records:
            show(record)
    _tell_more(state, found, from_oldest=from_oldest and node != _ALL_NODES)
    _tell_missing(state, found.missing)
    if questions.archived_to:
        state.note(
            f"the node's records up to {questions.archived_to} are in its archive alone and were not searched"
            f"{_why_not(options, live=live)}",
            style="yellow",
        )
    for name, last in questions.archived_of.items():
        state.note(
            f"the records of {plain(name)} up to {last} are in its archive alone and were not searched", style="yellow"
        )
    for sentence in questions.archive_faults:
        state.note(plain(sentence), style="yellow")
    if questions.bodies_gone:
        state.note(
            "the bodies of some messages are deleted: nobody knows what they were about, and they are left out",
            style="yellow",
        )


def _why_not(options: Mapping[str, Any], *, live: bool) -> str:
    """Why an archive was not searched."""
    if live:
        return ", as --live says"
    if options.get("outcome") not in (None, "refused"):
        return ": how messages ended that it tells of, only their own records say (--kind done)"
    if "procedure" in options or "subject" in options:
        return ": it has no bodies"
    return "; see: trishula journal find"


def _form_of(state: State, form: str | None, *, all_of_them: bool, follow: bool) -> str:
    """The form that the command line asks for; with ``json`` errors are JSON too.

    Raises:
        click.UsageError: it asks for two, or for one document that would never be whole.
    """
    if state.json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} are two forms; leave one out")
    state.json = state.json or form == "json"
    if state.json and all_of_them:
        raise click.UsageError("one JSON document of all records may be larger than memory; take --format jsonl")
    if state.json and follow:
        return "jsonl"
    return "json" if state.json else form or "table"


def _all(bus: Bus, show: Callable[[dict[str, Any]], None], ask: Ask, options: Mapping[str, Any], after: int) -> Found:
    """Print all records that fit, page by page; of all nodes, one journal after the other. One of them is returned."""
    nodes = [options.get("node")]
    if nodes == [_ALL_NODES]:
        peers = bus.request(uris.NODE_STATUS).get("peers", ())
        nodes = [None, *(str(peer["node"]) for peer in peers if peer.get("copied"))]
    rest = {key: value for key, value in options.items() if key != "node"}
    found = Found(after=after)
    for node in nodes:
        question = rest if node is None else {**rest, "node": node}
        place, more = after, True
        while more:
            told = ask({**question, "after": place, "limit": PAGE})
            for record in told["records"]:
                show(record)
                found.records = [record]
            found.missing = list(told.get("missing", found.missing))
            place, before = _next(told, place), place
            more = bool(told["more"]) and place > before
    return found


def _follow(show: Callable[[dict[str, Any]], None], ask: Ask, options: dict[str, Any], after: int) -> NoReturn:
    while True:
        told = ask({**options, "after": after, "limit": PAGE})
        for record in told["records"]:
            show(record)
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


def _tell_more(state: State, found: Found, *, from_oldest: bool) -> None:
    if not found.records:
        state.note("no records fit")
    elif found.more and from_oldest:
        state.note(f"there are more: --after {found.after}, or a higher --limit")
    elif found.more:
        state.note("there are earlier ones: a higher --last, or narrow it by --since and --until")


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
