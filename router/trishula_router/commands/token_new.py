"""``trishula token new``: a token or a key for an agent, which is registered if it is new."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import author
from trishula_router.agents.changes import short_id
from trishula_router.agents.file import AgentEntry, AgentsFileError
from trishula_router.agents.tokens import TokenEntry, with_new_token
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    agents_to_change,
    default_state_dir,
    open_state_dir,
    speaks_json,
)
from trishula_router.commands.token_entry import made_entry, public_key_option, refuse_known_key, takes_no_keys
from trishula_router.commands.token_file import TokenFile, write_option
from trishula_router.commands.token_grants import check_capabilities, with_more
from trishula_router.commands.token_reach import (
    peers_told,
    revocations_of,
    say_peers,
    wait_for_sharing,
    wait_option,
)
from trishula_router.commands.token_words import (
    STATE_HELP,
    check_reason,
    check_span,
    expires_option,
    instant_s,
    reason_option,
    shown_here,
)

__all__ = ["new_command"]


@click.command("new")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@click.option("--operator/--no-operator", default=None, help="Whether the agent may ask about everybody's messages.")
@click.option(
    "--observer/--no-observer",
    default=None,
    help="Whether the agent may ask how everybody's messages stand, without seeing what is in them.",
)
@click.option(
    "--serve",
    metavar="CAPABILITY",
    multiple=True,
    help='What the agent may announce: a capability, or "*"; may be repeated.',
)
@expires_option
@click.option(
    "--not-before",
    metavar="WHEN",
    help='From when on the token is valid: a date, or a span from now such as "2h" (default: at once).',
)
@click.option(
    "--replace",
    is_flag=True,
    help="If the agent has two valid tokens, end the older one, and the sessions that joined with it.",
)
@public_key_option
@write_option
@reason_option
@wait_option
@json_option
@click.pass_context
def new_command(
    ctx: click.Context,
    name: str,
    state: Path | None,
    operator: bool | None,
    observer: bool | None,
    serve: tuple[str, ...],
    expires_in_s: float | None,
    not_before: str | None,
    replace: bool,
    public_key: str | None,
    token_file: Path | None,
    reason: str | None,
    wait_s: float,
) -> None:
    """Make a token for the agent NAME, and register the agent if it is new.

    A new agent may send to and call everybody, and serves no capability but those that --serve names; for an agent that
    is registered, --serve adds to what it may serve (see trishula token grant). A new observer may send to and call
    nobody.

    The token is shown once; the node keeps its hash. An agent has at most two valid tokens, so that a new one can be
    handed out before the old one goes. A third is refused, because the older one would have to end: with --replace it
    does, and with it the sessions that joined with it; to have the old one end by itself, see trishula token rotate.
    --expires-in counts from --not-before, if that is given. With --json: an object with agent, agents_file, and token
    (or token_file, with --write; public_key, with --public-key). Where linked nodes share their files of agents, the
    command waits until those that can be reached have it too, and says so; with --json in peers, a list of objects with
    node, reached and sentence.

    With --public-key no token is made: the agent joins with the key that trishula token key made on its machine. Of
    the two valid tokens each may be a key.

    \b
    Examples:
      trishula token new dc
      trishula token new agni --serve host --expires-in 30d
      trishula token new admin --operator --write admin.token
      trishula token new wallboard --observer
      trishula token new dc --public-key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
      trishula token new guest --not-before 2026-12-01T08:00:00 --expires-in 1d
    """
    if not is_agent_name(name):
        raise CommandFailed(f'"{name}" is no agent\'s name: that is {AGENT_RULE}', Exit.USAGE)
    check_capabilities("--serve", serve)
    now_s = time.time()
    who = author(now_s, check_reason(reason))
    check_span("--expires-in", expires_in_s)
    valid_from = instant_s(not_before, "--not-before", now_s, sign=1)
    expires_at = None if expires_in_s is None else (now_s if valid_from is None else valid_from) + expires_in_s
    state_dir = (state or default_state_dir(os.environ)).absolute()
    warning = _warn_of_a_new_place(state_dir)
    open_state_dir(state_dir)
    path = agents_file_of(state_dir)
    revocations = revocations_of(state_dir)
    # Also where a revocation came from a node whose clock is ahead.
    made_s = max(now_s, revocations.good_from_s(name))
    made, new = made_entry(name, public_key, token_file, made_s, valid_from, expires_at)
    with TokenFile(token_file) as file:
        try:
            with agents_to_change(state_dir, path, who) as agents:
                refuse_known_key(agents, new, revocations)
                fresh = AgentEntry(send=(), call=(), serve=()) if observer else AgentEntry(serve=())
                record = agents.get(name, fresh)
                is_new = name not in agents
                there = [one for one in record.tokens if revocations.of(name, one) is None]
                kept, _ = with_new_token(tuple(there), new, now_s)
                ended = [token for token in there if token not in kept and not token.is_over(now_s)]
                if ended and not replace:
                    raise CommandFailed(_too_many(name, path, tuple(there), now_s))
                agents[name] = dataclasses.replace(
                    record,
                    tokens=kept,
                    operator=record.operator if operator is None else operator,
                    observer=record.observer if observer is None else observer,
                    serve=with_more(record.serve, serve),
                )
                if made is not None:
                    file.write(made)
        except AgentsFileError as error:
            raise CommandFailed(str(error), Exit.CONFIG) from None
        file.put_in_place()
    if warning is not None:
        click.echo(warning, err=True)
    for token in ended:
        click.echo(
            f"the {token.kind} {short_id(token)} of {name} is not valid any more, and the sessions that joined with it "
            "end",
            err=True,
        )
    waiting, dead = _mail_from_before(state_dir, name) if is_new else (0, 0)
    if speaks_json(ctx):
        shared = peers_told(wait_for_sharing(state_dir, path, wait_s))
        where: dict[str, str | int] = {"token_file": str(token_file)} if token_file is not None else {}
        if token_file is None:
            where["public_key" if made is None else "token"] = public_key or made or ""
        if waiting or dead:
            where.update(waiting=waiting, dead=dead)
        click.echo(json.dumps({"agent": name, "agents_file": str(path), **where, **shared}))
        return
    done = f"the agent {name} is registered in {path}" if is_new else f"the agent {name} has a new {new.kind} in {path}"
    if made is None:
        click.echo(f"{done}. It joins with its key {short_id(new)}", err=True)
        if (warning := takes_no_keys(state_dir)) is not None:
            click.echo(warning, err=True)
    elif token_file is None:
        click.echo(made)
        click.echo(
            f"{done}. Its token stands above, and is shown this one time: keep it, and use it with: export "
            f"TRISHULA_TOKEN={name}.…",
            err=True,
        )
    else:
        click.echo(f"{done}. Its token is in {token_file}", err=True)
    if waiting:
        click.echo(
            f"there was an agent {name} before: {waiting} messages to it wait, and whoever joins with this token gets "
            f"them; an operator can end them with: trishula inbox purge {name}",
            err=True,
        )
    if dead:
        click.echo(
            f"there was an agent {name} before: {dead} messages to it are dead letters: trishula dead list --agent "
            f"{name}",
            err=True,
        )
    say_peers(wait_for_sharing(state_dir, path, wait_s))


def _mail_from_before(state_dir: Path, name: str) -> tuple[int, int]:
    """What waits for an agent of that name, and what is dead, from the time when there was one before."""
    # Late: most commands here need no store.
    from trishula_router.store.interface import StoreError
    from trishula_router.store.sqlite.connection import FILE_NAME
    from trishula_router.store.sqlite.files import mail_of

    try:
        return mail_of(state_dir / FILE_NAME, name)
    except StoreError:
        # There is none yet, or its node will say what is wrong with it.
        return 0, 0


def _warn_of_a_new_place(state_dir: Path) -> str | None:
    """What is to be said of a state directory that no node has used: its name may be mistyped."""
    if any((state_dir / sign).exists() for sign in ("node.sqlite", "crossbar/config.json")):
        return None
    made = "" if state_dir.exists() else "which was made now; "
    return (
        f"no node has ever run on the state directory {state_dir}, {made}the token is good for the first that does. If "
        "one runs already, name its directory with --state"
    )


def _too_many(name: str, path: Path, tokens: tuple[TokenEntry, ...], now_s: float) -> str:
    alive = [f"{short_id(token)} made {shown_here(token.created_at)}" for token in tokens if not token.is_over(now_s)]
    return (
        f"{name} has {len(alive)} valid tokens in {path}, {', '.join(alive)}: a further one would end the oldest, and "
        "the sessions that joined with it. Use one of those, or run this again with --replace if that is meant"
    )
