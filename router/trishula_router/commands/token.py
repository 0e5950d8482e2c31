"""``trishula token``: who may join the node.

The commands change ``agents.json`` in the state directory and nothing else, so that they work before the node is
started as well as while it runs: the node notices the change by itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from trishula.cli.exits import Exit
from trishula.cli.state import json_option
from trishula.names import AGENT_RULE, is_agent_name
from trishula.units import parse_duration_s
from trishula_router.agents_file import KEPT_FILE, AgentRecord, AgentsFileError, read_agents, update_agents
from trishula_router.commands.state import (
    CommandFailed,
    agents_file_of,
    default_state_dir,
    open_state_dir,
    speaks_json,
)
from trishula_router.tokens import MAX_VALID, TokenRecord, digest_of, new_token, with_new_token

__all__ = ["token"]

_STATE_HELP = "The node's state directory (default: $TRISHULA_STATE, else ~/.local/state/trishula)."


@click.group()
def token() -> None:
    """Make and list the tokens with which agents join a node."""


@token.command("new")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=_STATE_HELP)
@click.option("--operator/--no-operator", default=None, help="Whether the agent may ask about everybody's messages.")
@click.option("--expires-in", metavar="SPAN", help='How long the token is valid, such as "30d" (default: for ever).')
@json_option
@click.pass_context
def new_command(
    ctx: click.Context, name: str, state: Path | None, operator: bool | None, expires_in: str | None
) -> None:
    """Make a token for the agent NAME, and register the agent if it is new.

    The token is shown once; the node keeps its hash. An agent has at most two valid tokens, so that a new one can be
    handed out before the old one goes: a third ends the oldest. With --json: an object with agent and token.
    """
    if not is_agent_name(name):
        raise CommandFailed(f'"{name}" is no agent\'s name: that is {AGENT_RULE}', Exit.USAGE)
    now_s = time.time()
    expires_at: float | None = None
    if expires_in is not None:
        try:
            expires_at = now_s + parse_duration_s(expires_in)
        except ValueError as error:
            raise CommandFailed(f'--expires-in is "{expires_in}"; {error}', Exit.USAGE) from None
        if expires_at <= now_s:
            raise CommandFailed(f'--expires-in is "{expires_in}"; it must be longer than nothing', Exit.USAGE)
    state_dir = open_state_dir(state or default_state_dir(os.environ))
    made = new_token(name, secrets.token_urlsafe)
    try:
        with update_agents(agents_file_of(state_dir), state_dir / KEPT_FILE) as agents:
            record = agents.get(name, AgentRecord())
            is_new = name not in agents
            kept, ended = with_new_token(record.tokens, TokenRecord(digest_of(made), now_s, None, expires_at), now_s)
            agents[name] = dataclasses.replace(
                record, tokens=kept, operator=record.operator if operator is None else operator
            )
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if ended:
        click.echo(
            f"{name} had {MAX_VALID} valid tokens; the oldest one is not valid any more, and whoever uses it can't "
            "join again",
            err=True,
        )
    if speaks_json(ctx):
        click.echo(json.dumps({"agent": name, "token": made}))
        return
    click.echo(made)
    click.echo(
        f"{'registered the new agent ' + name if is_new else 'a further token of ' + name}; "
        f"it is shown only now. Use it with: export TRISHULA_TOKEN={name}.…",
        err=True,
    )


@token.command("list")
@click.option("--state", type=click.Path(path_type=Path), help=_STATE_HELP)
@json_option
@click.pass_context
def list_command(ctx: click.Context, state: Path | None) -> None:
    """List the agents that may join the node, with their grants and their tokens' ages (never the tokens)."""
    state_dir = (state or default_state_dir(os.environ)).absolute()
    path = agents_file_of(state_dir)
    try:
        agents = read_agents(path)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    now_s = time.time()
    rows = [
        {
            "agent": name,
            "operator": record.operator,
            "send": list(record.send),
            "call": list(record.call),
            "tokens": [_describe(item, now_s) for item in record.tokens],
        }
        for name, record in sorted(agents.items())
    ]
    if speaks_json(ctx):
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo(f"no agents in {path}; make one with: trishula token new NAME", err=True)
    for name, record in sorted(agents.items()):
        role = "operator" if record.operator else "agent"
        click.echo(f"{name}  {role}  may send to {_join(record.send)}; may call {_join(record.call)}")
        for item in record.tokens:
            fact = _describe(item, now_s)
            until = f", until {fact['expires_at']}" if fact["expires_at"] else ""
            click.echo(f"  {fact['id']}  {fact['state']}  made {fact['created_at']}{until}")


def _describe(record: TokenRecord, now_s: float) -> dict[str, str | None]:
    state = "expired" if record.is_over(now_s) else "not yet valid" if record.is_early(now_s) else "valid"
    return {
        # Enough of the hash to tell tokens apart, and to name one.
        "id": record.sha256[:8],
        "state": state,
        "created_at": _show(record.created_at),
        "not_before": _show(record.not_before),
        "expires_at": _show(record.expires_at),
    }


def _show(instant_s: float | None) -> str | None:
    return None if instant_s is None else datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _join(grants: tuple[str, ...]) -> str:
    return ", ".join(grants) or "nobody"
