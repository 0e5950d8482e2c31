"""``trishula token list``: who may join the node, with what grants and which tokens."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.exit_codes import Exit
from trishula_router.agents.file import AgentsFileError, read_agents
from trishula_router.agents.text import ANYBODY
from trishula_router.agents.token_uses import Use
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    check_agents_file,
    existing_state_dir,
    speaks_json,
)
from trishula_router.commands.token_grants import grants_told, timed_told
from trishula_router.commands.token_reach import revocations_of, uses_of
from trishula_router.commands.token_words import STATE_HELP, describe, shown, shown_here

__all__ = ["list_command"]


@click.command("list")
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@json_option
@click.pass_context
def list_command(ctx: click.Context, state: Path | None) -> None:
    """List who may join the node, with grants, and the ages and uses of tokens.

    The tokens themselves are nowhere: the node keeps their hashes, and the public halves of keys. Each is named by the
    first digits of its hash, which trishula token revoke takes, and comes with when it was used last here, to a minute,
    and from what kind of place. One that was revoked at a linked node is "revoked", whatever this node's file says.

    \b
    Examples:
      trishula token list
      trishula token list --state /var/lib/trishula --json
    """
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        check_agents_file(state_dir, path)
        agents = read_agents(path)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    now_s = time.time()
    revocations, uses = revocations_of(state_dir), uses_of(state_dir)
    rows = [
        {
            "agent": name,
            "operator": record.operator,
            "observer": record.observer,
            **grants_told(record),
            "tokens": [
                {**describe(item, now_s, revocations.of(name, item)), **_use_told(uses.get(item.sha256))}
                for item in record.tokens
            ],
        }
        for name, record in sorted(agents.items())
    ]
    if speaks_json(ctx):
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo(f"no agents in {path}; make one with: trishula token new NAME", err=True)
    for name, record in sorted(agents.items()):
        role = "operator" if record.operator else "observer" if record.observer else "agent"
        serves = "what no other is granted (its record is of an earlier release: trishula token grant)"
        if record.serve is not None:
            serves = ", ".join(record.serve) or "nothing"
        hears = "" if record.subscribe == (ANYBODY,) else f"; may hear the topics of {_join(record.subscribe)}"
        may = f"may send to {_join(record.send)}; may call {_join(record.call)}; may serve {serves}{hears}"
        click.echo(f"{name}  {role}  {may}")
        for line in timed_told(record, now_s):
            click.echo(f"  {line}")
        for item in record.tokens:
            revoked = revocations.of(name, item)
            fact = describe(item, now_s, revoked)
            until = "" if item.expires_at is None else f", until {shown_here(item.expires_at)}"
            since = "" if item.not_before is None else f", from {shown_here(item.not_before)}"
            use = uses.get(item.sha256)
            used = ", never used here" if use is None else f", used {shown_here(use.at / 1000)} from {use.place}"
            gone = "" if revoked is None else f", by {revoked.by}{_because(revoked.reason)}"
            made = f"{'made' if item.ed25519 is None else 'a key, added'} {shown_here(item.created_at)}"
            click.echo(f"  {fact['id']}  {fact['state']}  {made}{since}{until}{used}{gone}")


def _use_told(use: Use | None) -> dict[str, str | None]:
    if use is None:
        return {"used_at": None, "used_from": None}
    return {"used_at": shown(use.at / 1000), "used_from": use.place}


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _join(grants: tuple[str, ...]) -> str:
    return ", ".join(grants) or "nobody"
