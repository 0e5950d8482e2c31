"""``trishula token revoke``: end tokens at once, and with them the sessions that joined with them."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
import msgspec

from trishula.cli.state import json_option
from trishula.cli.values import Duration
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import author
from trishula_router.agents.changes import Revoked, short_id
from trishula_router.agents.file import AgentEntry, AgentsFileError
from trishula_router.agents.tokens import TokenEntry
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    agents_to_change,
    check_agents_file,
    existing_state_dir,
    speaks_json,
)
from trishula_router.commands.token_reach import PeerTold, wait_for_peers
from trishula_router.commands.token_words import (
    STATE_HELP,
    check_reason,
    instant_s,
    no_agent,
    shown_here,
)
from trishula_router.store.revoked import EVERY_AGENT

__all__ = ["revoke_command"]

_PREFIX = re.compile(r"[0-9a-f]{4,64}\Z")


@click.command("revoke")
@click.argument("name", required=False)
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@click.option(
    "--token",
    "prefix",
    metavar="PREFIX",
    help="The token whose hash begins so, as trishula token list shows it (four digits or more).",
)
@click.option(
    "--before",
    metavar="WHEN",
    help='All that were made before then: a date, or a span ago such as "2h"; without NAME those of every agent.',
)
@click.option("--all", "every", is_flag=True, help="All of the agent's tokens.")
@click.option("--reason", metavar="TEXT", required=True, help="Why, in one line, for the node's journal.")
@click.option("--dry-run", is_flag=True, help="Say what would end, and change nothing.")
@click.option(
    "--wait",
    "wait_s",
    type=Duration(),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for linked nodes to heed it.",
)
@json_option
@click.pass_context
def revoke_command(
    ctx: click.Context,
    name: str | None,
    state: Path | None,
    prefix: str | None,
    before: str | None,
    every: bool,
    reason: str,
    dry_run: bool,
    wait_s: float,
) -> None:
    """End tokens of the agent NAME: one, those made before an instant, or all.

    Nobody joins with such a token any more, and on a node that runs the sessions that joined with it end within a
    second. The agent stays registered, with its grants and its mail.

    Linked nodes heed it too, whatever their own files of agents say, now or later; --before and --all reach there also
    tokens that this node doesn't know. The command waits until all that can be reached do, and ends with 6 and a
    sentence if one has not been: it heeds it when it comes back, before it lets anybody in. Nothing takes a revocation
    back: who shall join again gets a new token.

    With --json: an object with agents_file, dry_run, revoked: a list of objects with agent, id, created_at (seconds
    since the epoch) and left, the number of valid tokens that the agent still has, and peers: a list of objects with
    node, reached and sentence.

    \b
    Examples:
      trishula token revoke agni --token 9f86d081 --reason "a laptop was lost"
      trishula token revoke agni --all --reason "agni is retired" --dry-run
      trishula token revoke --before 2026-11-01 --reason "a backup was stolen"
    """
    now_s = time.time()
    is_meant, before_s = _which(name, prefix, before, every, now_s)
    # Without a limit those go that are in this file; else also others', up to now: a token of later is not meant.
    before_ms = None if before_s is None else round(1000 * min(before_s, now_s)) + 1
    who = author(now_s, check_reason(reason), Revoked(EVERY_AGENT if name is None else name, before_ms))
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        check_agents_file(state_dir, path)
        if name is not None and not path.exists():
            raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
        with agents_to_change(state_dir, path, who, dry_run=dry_run) as agents:
            if name is not None and name not in agents:
                raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
            ended = {
                agent: meant
                for agent, record in sorted(agents.items())
                if name in (None, agent) and (meant := [one for one in record.tokens if is_meant(one)])
            }
            if prefix is not None and name is not None:
                _check_prefix(name, prefix, agents[name], ended.get(name, []))
            for agent, meant in ended.items():
                kept = tuple(one for one in agents[agent].tokens if one not in meant)
                agents[agent] = dataclasses.replace(agents[agent], tokens=kept)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    peers = [] if dry_run else wait_for_peers(state_dir, path, wait_s)
    if speaks_json(ctx):
        told = {"revoked": _told(ended, agents, now_s), "peers": [msgspec.structs.asdict(one) for one in peers]}
        click.echo(json.dumps({"agents_file": str(path), "dry_run": dry_run, **told}))
    else:
        _say(ended, agents, name, path, now_s, peers, dry_run=dry_run)
    if not all(one.reached for one in peers):
        ctx.exit(int(Exit.UNREACHABLE))


def _say(
    ended: Mapping[str, list[TokenEntry]],
    agents: Mapping[str, AgentEntry],
    name: str | None,
    path: Path,
    now_s: float,
    peers: Iterable[PeerTold],
    *,
    dry_run: bool,
) -> None:
    for line in _lines(ended, agents, now_s, "would end" if dry_run else "ended"):
        click.echo(line, err=True)
    if not ended:
        whose = "no agent has such a token" if name is None else f"{name} has no such token"
        click.echo(f"{whose} in {path}: nothing {'would end' if dry_run else 'ended'}", err=True)
    for one in peers:
        click.echo(one.sentence, err=True)


def _which(
    name: str | None, prefix: str | None, before: str | None, every: bool, now_s: float
) -> tuple[Callable[[TokenEntry], bool], float | None]:
    """Whether a token is meant; and, if all are that were made before an instant, that instant.

    Raises:
        click.UsageError: the command line doesn't say which are, or says it twice.
    """
    if (prefix is not None) + (before is not None) + every != 1:
        raise click.UsageError("say which tokens shall end: one of --token PREFIX, --before WHEN and --all")
    if name is None and before is None:
        raise click.UsageError("say whose tokens shall end: trishula token revoke NAME; --before alone goes without")
    if before is not None:
        limit_s = instant_s(before, "--before", now_s, sign=-1)
        return lambda token: limit_s is not None and token.created_at < limit_s, limit_s
    if prefix is None:
        return lambda token: True, now_s
    wanted = prefix.lower()
    if _PREFIX.match(wanted) is None:
        # A token that was pasted here is not shown.
        raise click.UsageError("--token must be the first 4 to 64 hexadecimal digits that trishula token list shows")
    return lambda token: token.sha256.startswith(wanted), None


def _check_prefix(name: str, prefix: str, record: AgentEntry, found: list[TokenEntry]) -> None:
    """Refuse a prefix that means no token, or more than one.

    Raises:
        CommandFailed: it does.
    """
    there = ", ".join(short_id(one) for one in record.tokens) or "none"
    if not found:
        raise CommandFailed(f"no token of {name} begins with {prefix}; there are {there}", Exit.NOT_FOUND)
    if len(found) > 1:
        raise CommandFailed(f"{len(found)} tokens of {name} begin with {prefix}; give more digits", Exit.USAGE)


def _left(record: AgentEntry, ended: Iterable[TokenEntry], now_s: float) -> int:
    return sum(one not in ended and not one.is_over(now_s) for one in record.tokens)


def _told(
    ended: Mapping[str, list[TokenEntry]], agents: Mapping[str, AgentEntry], now_s: float
) -> list[dict[str, object]]:
    return [
        {
            "agent": agent,
            "id": short_id(one),
            "created_at": one.created_at,
            "left": _left(agents[agent], meant, now_s),
        }
        for agent, meant in ended.items()
        for one in meant
    ]


def _lines(
    ended: Mapping[str, list[TokenEntry]], agents: Mapping[str, AgentEntry], now_s: float, done: str
) -> Iterable[str]:
    for agent, meant in ended.items():
        left = _left(agents[agent], meant, now_s)
        for one in meant:
            yield (
                f"{agent}: the token {short_id(one)} made {shown_here(one.created_at)} {done}, and the sessions that "
                "joined with it"
            )
        if not left:
            yield f"{agent} has no valid token then; make one with: trishula token new {agent}"
