"""``trishula token grant``: what an agent may send, call, serve and hear, for ever or until an instant."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from trishula.cli.state import json_option
from trishula.contract.addresses import CAPABILITY_RULE
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import author
from trishula_router.agents.file import AgentsFileError
from trishula_router.agents.grants import ACTS, TimedGrant
from trishula_router.agents.text import ANYBODY, AgentEntry, grant_rule, is_servable
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    agents_to_change,
    check_agents_file,
    existing_state_dir,
    speaks_json,
)
from trishula_router.commands.token_reach import peers_told, say_peers, wait_for_sharing, wait_option
from trishula_router.commands.token_words import (
    STATE_HELP,
    check_reason,
    instant_s,
    no_agent,
    reason_option,
    shown_here,
)

__all__ = ["check_capabilities", "grant_command", "grants_told", "timed_told", "with_more"]

_OPTIONS = {
    "send": ("AGENT", 'To whom the agent may send: an agent, "broadcast", "capability:NAME", or "*".'),
    "call": ("PROCEDURE", 'What the agent may call live: an agent, agent.procedure, or "*".'),
    "serve": ("CAPABILITY", 'A capability that the agent may announce, or "*".'),
    "subscribe": ("TOPIC", 'Whose topics the agent may hear: an agent, agent.topic, or "*".'),
}


def check_capabilities(option: str, capabilities: tuple[str, ...]) -> None:
    for one in capabilities:
        if not is_servable(one):
            raise CommandFailed(
                f'{option} is "{one}"; it must be "*" or the name of a capability: {CAPABILITY_RULE}', Exit.USAGE
            )


def with_more(serve: tuple[str, ...] | None, more: tuple[str, ...]) -> tuple[str, ...] | None:
    """What an agent may serve, and more; nothing changes if that is nothing."""
    return tuple(dict.fromkeys((*(serve or ()), *more))) if more else serve


def _grant_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for act in reversed(ACTS):
        metavar, words = _OPTIONS[act]
        taken = f'What --{act} gave, taken away; "*": all of it.'
        command = click.option(f"--no-{act}", f"no_{act}", metavar=metavar, multiple=True, help=taken)(command)
        command = click.option(f"--{act}", act, metavar=metavar, multiple=True, help=words)(command)
    return command


@click.command("grant")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@_grant_options
@click.option(
    "--until",
    metavar="WHEN",
    help='When what is granted now ends by itself: a span from now such as "2h", or a date (default: never).',
)
@reason_option
@wait_option
@json_option
@click.pass_context
def grant_command(
    ctx: click.Context,
    /,
    name: str,
    state: Path | None,
    until: str | None,
    reason: str | None,
    wait_s: float,
    **asked: tuple[str, ...],
) -> None:
    """Change what the agent NAME may do: to whom it may send, what it may call, serve and hear.

    The options may be repeated; what takes away is done first. A node that runs heeds it within a second, on open
    connections too. Who is granted a capability attaches anew to announce it (it is refused as a whole otherwise), and
    to whom it is withdrawn no further message goes; who may hear fewer topics than before loses its session, and joins
    anew.

    With --until the grant ends by itself. It is then in the file with its end and its --reason, and token list and node
    status show both. With --json: an object with agent, agents_file, send, call, serve, subscribe, and timed: a list of
    objects with act, grant, until (seconds since the epoch) and reason; and, where linked nodes share their files of
    agents, peers: a list of objects with node, reached and sentence. There the command waits until those that can be
    reached have it too.

    \b
    Examples:
      trishula token grant agni --serve host --serve deploy
      trishula token grant agni --no-serve "*" --serve host      host, and nothing else
      trishula token grant guest --no-send "*" --send dc
      trishula token grant agni --call rushabdev.restart --until 2h --reason "the move"
    """
    now_s = time.time()
    who = author(now_s, check_reason(reason))
    until_s = instant_s(until, "--until", now_s, sign=1)
    if until_s is not None and until_s <= now_s:
        raise click.UsageError(f"--until is {until!r}, which is over; it must be an instant to come")
    _check(name, asked, until_s)
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        check_agents_file(state_dir, path)
        if not path.exists():
            raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
        with agents_to_change(state_dir, path, who) as agents:
            record = agents.get(name)
            if record is None:
                raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
            for act in ACTS:
                record = _changed(record, act, asked[act], asked[f"no_{act}"], until_s, reason, now_s)
            agents[name] = record
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if speaks_json(ctx):
        shared = peers_told(wait_for_sharing(state_dir, path, wait_s))
        click.echo(json.dumps({"agent": name, "agents_file": str(path), **grants_told(record), **shared}))
        return
    for act in ACTS:
        if asked[act] or asked[f"no_{act}"]:
            lasting = ", ".join(record.lasting(act)) or "nothing"
            click.echo(f"{name} may {act} {lasting}, in {path}", err=True)
    for line in timed_told(record, now_s):
        click.echo(f"{name} {line}", err=True)
    say_peers(wait_for_sharing(state_dir, path, wait_s))


def _check(name: str, asked: dict[str, tuple[str, ...]], until_s: float | None) -> None:
    if not any(asked.values()):
        options = ", ".join(f"--{act} {_OPTIONS[act][0]}" for act in ACTS)
        raise CommandFailed(f"say what {name} may do, or no more: {options}, --no-serve CAPABILITY, …", Exit.USAGE)
    if until_s is not None and not any(asked[act] for act in ACTS):
        raise click.UsageError("--until is the end of what is granted, and nothing is: add --send, --call or another")
    for act in ACTS:
        for option in (act, f"no_{act}"):
            for one in asked[option]:
                if (rule := grant_rule(act, one)) is not None:
                    raise CommandFailed(f'--{option.replace("_", "-")} is "{one}"; it must be {rule}', Exit.USAGE)


def _changed(
    record: AgentEntry,
    act: str,
    more: tuple[str, ...],
    less: tuple[str, ...],
    until_s: float | None,
    reason: str | None,
    now_s: float,
) -> AgentEntry:
    if not more and not less:
        return record
    # Granted anew, a grant holds as it is granted now.
    gone = {*less, *more}
    lasting = () if ANYBODY in less else tuple(one for one in record.lasting(act) if one not in less)
    timed = tuple(
        one
        for one in record.timed
        if not one.is_over(now_s) and (one.act != act or (ANYBODY not in less and one.grant not in gone))
    )
    if until_s is None:
        lasting = tuple(dict.fromkeys((*lasting, *more)))
    else:
        lasting = tuple(one for one in lasting if one not in more)
        timed += tuple(TimedGrant(act, one, until_s, reason) for one in dict.fromkeys(more))
    changes: dict[str, Any] = {act: lasting, "timed": timed}
    return dataclasses.replace(record, **changes)


def grants_told(record: AgentEntry) -> dict[str, Any]:
    """The grants of an agent, for ``--json``."""
    return {
        **{act: list(record.lasting(act)) for act in ACTS},
        "serve": None if record.serve is None else list(record.serve),
        "timed": [dataclasses.asdict(one) for one in record.timed],
    }


def timed_told(record: AgentEntry, now_s: float) -> Iterable[str]:
    """The grants that end or have a reason, a line each."""
    for one in record.timed:
        end = "" if one.until is None else f" until {shown_here(one.until)}"
        over = " (over)" if one.is_over(now_s) else ""
        yield f"may {one.act} {one.grant}{end}{over}" + ("" if one.reason is None else f": {one.reason}")
