"""``trishula token rotate``: a new token or key for an agent, and until when its old ones hold beside it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.cli.values import Duration
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import author
from trishula_router.agents.changes import short_id
from trishula_router.agents.file import AgentsFileError
from trishula_router.agents.tokens import MAX_VALID, TokenEntry, rotated
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    agents_to_change,
    check_agents_file,
    existing_state_dir,
    shares_agents,
    speaks_json,
)
from trishula_router.commands.token_entry import made_entry, public_key_option, refuse_known_key, takes_no_keys
from trishula_router.commands.token_file import TokenFile, write_option
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
    elsewhere,
    expires_option,
    no_agent,
    reason_option,
    shown_here,
)

__all__ = ["rotate_command"]


@click.command("rotate")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@click.option(
    "--overlap",
    "overlap_s",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="DURATION",
    help='How long the old token holds beside the new one; "0s" ends it now.',
)
@expires_option
@public_key_option
@write_option
@reason_option
@wait_option
@click.option("--dry-run", is_flag=True, help="Say what would end, and when, and change nothing.")
@json_option
@click.pass_context
def rotate_command(
    ctx: click.Context,
    name: str,
    state: Path | None,
    overlap_s: float,
    expires_in_s: float | None,
    public_key: str | None,
    token_file: Path | None,
    reason: str | None,
    wait_s: float,
    dry_run: bool,
) -> None:
    """Make a new token for the agent NAME, and have its old one end after a while.

    Both hold for --overlap, in which the agent is to get the new one; an agent that runs with a token_file reads that
    again when its session ends, and needs no restart. An agent that has two valid tokens already is refused unless
    --overlap is 0s, which ends both: of three the oldest would end before its time. With --json: an object with agent,
    agents_file, dry_run, ends: a list of objects with id and at (seconds since the epoch), and token, or token_file, or
    public_key (none of them with --dry-run); and, where linked nodes share their files of agents, peers: a list of
    objects with node, reached and sentence. There the command waits until those that can be reached have it too.

    With --public-key the agent's new one is the key that trishula token key made on its machine, and no token is made.

    \b
    Examples:
      trishula token rotate agni --write agni.token
      trishula token rotate agni --overlap 1d --expires-in 90d
      trishula token rotate dc --public-key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
      trishula token rotate agni --overlap 0s --reason "the old one was in a log"
    """
    now_s = time.time()
    who = author(now_s, check_reason(reason))
    check_span("--overlap", overlap_s)
    check_span("--expires-in", expires_in_s)
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    revocations = revocations_of(state_dir)
    # Also where a revocation came from a node whose clock is ahead.
    made_s = max(now_s, revocations.good_from_s(name))
    expires_s = None if expires_in_s is None else now_s + expires_in_s
    made, new = made_entry(name, public_key, token_file, made_s, None, expires_s)
    with TokenFile(None if dry_run else token_file) as file:
        try:
            check_agents_file(state_dir, path)
            if not path.exists():
                raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
            with agents_to_change(state_dir, path, who, dry_run=dry_run) as agents:
                refuse_known_key(agents, new, revocations)
                record = agents.get(name)
                if record is None:
                    raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
                kept = tuple(one for one in record.tokens if revocations.of(name, one) is None)
                old = [one for one in kept if not one.is_over(now_s)]
                if len(old) >= MAX_VALID and overlap_s > 0.0:
                    raise CommandFailed(_too_many(name, old))
                tokens = rotated(kept, new, now_s, overlap_s)
                agents[name] = dataclasses.replace(record, tokens=tokens)
                kinds = {short_id(one): one.kind for one in record.tokens}
                ends = {short_id(one): now_s for one in old} | {
                    short_id(one): one.expires_at for one in tokens if one is not new and one.expires_at is not None
                }
                if made is not None:
                    file.write(made)
        except AgentsFileError as error:
            raise CommandFailed(str(error), Exit.CONFIG) from None
        file.put_in_place()
    if speaks_json(ctx):
        shared = {} if dry_run else peers_told(wait_for_sharing(state_dir, path, wait_s))
        where = {"token": made} if token_file is None else {"token_file": str(token_file)}
        where = {} if dry_run else where if made is not None else {"public_key": public_key}
        told = [{"id": token, "at": at} for token, at in ends.items()]
        click.echo(
            json.dumps({"agent": name, "agents_file": str(path), "dry_run": dry_run, "ends": told, **where, **shared})
        )
        return
    if not dry_run and token_file is None and made is not None:
        click.echo(made)
    for token, at in ends.items():
        when = "at once" if at <= now_s else f"at {shown_here(at)}"
        verb = "would end" if dry_run else "ends"
        click.echo(
            f"the {kinds[token]} {token} of {name} {verb} {when}, and the sessions that joined with it", err=True
        )
    if not ends:
        click.echo(f"{name} has no valid token of before, so none ends", err=True)
    if not dry_run:
        stands = "It stands above, and is shown this one time" if token_file is None else f"It is in {token_file}"
        if made is None:
            stands = f"It is its key {short_id(new)}"
        click.echo(f"the agent {name} has a new {new.kind} in {path}. {stands}", err=True)
        if (warning := takes_no_keys(state_dir)) is not None:
            click.echo(warning, err=True)
        there = f"the new {new.kind} is unknown there, and the old one holds there, until you copy {path}"
        if shares_agents(state_dir):
            say_peers(wait_for_sharing(state_dir, path, wait_s))
        elif (sentence := elsewhere(state_dir, there)) is not None:
            click.echo(sentence, err=True)


def _too_many(name: str, old: list[TokenEntry]) -> str:
    there = ", ".join(
        f"{short_id(one)} ({'for ever' if one.expires_at is None else f'until {shown_here(one.expires_at)}'})"
        for one in old
    )
    return (
        f"{name} has {len(old)} valid tokens, {there}, and no room for a third: wait until one ends, end one with "
        f"trishula token revoke {name} --token {short_id(old[0])}, or end both now with --overlap 0s"
    )
