"""``trishula token grant``: which capabilities an agent may announce."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.contract.addresses import CAPABILITY_RULE
from trishula.exit_codes import Exit
from trishula_router.agents.change_notes import author
from trishula_router.agents.file import AgentsFileError
from trishula_router.agents.text import ANYBODY, is_servable
from trishula_router.commands.state_dir import (
    CommandFailed,
    agents_file_of,
    agents_to_change,
    existing_state_dir,
    speaks_json,
)
from trishula_router.commands.token_words import STATE_HELP, check_reason, no_agent, reason_option

__all__ = ["check_capabilities", "grant_command", "with_more"]


def check_capabilities(option: str, capabilities: tuple[str, ...]) -> None:
    for one in capabilities:
        if not is_servable(one):
            raise CommandFailed(
                f'{option} is "{one}"; it must be "*" or the name of a capability: {CAPABILITY_RULE}', Exit.USAGE
            )


def with_more(serve: tuple[str, ...] | None, more: tuple[str, ...]) -> tuple[str, ...] | None:
    """What an agent may serve, and more; nothing changes if that is nothing."""
    return tuple(dict.fromkeys((*(serve or ()), *more))) if more else serve


@click.command("grant")
@click.argument("name")
@click.option("--state", type=click.Path(path_type=Path), help=STATE_HELP)
@click.option("--serve", metavar="CAPABILITY", multiple=True, help='A capability that the agent may announce, or "*".')
@click.option(
    "--no-serve",
    "withdrawn",
    metavar="CAPABILITY",
    multiple=True,
    help='A capability that the agent may announce no more; "*": it may announce none.',
)
@reason_option
@json_option
@click.pass_context
def grant_command(
    ctx: click.Context,
    name: str,
    state: Path | None,
    serve: tuple[str, ...],
    withdrawn: tuple[str, ...],
    reason: str | None,
) -> None:
    """Change which capabilities the agent NAME may announce, and so be handed messages to.

    Both options may be repeated; --no-serve is done first. A node that runs heeds it within a second: who is granted a
    capability attaches anew to announce it (it is refused as a whole otherwise), and to whom it is withdrawn no further
    message goes. With --json: an object with agent, agents_file and serve.

    \b
    Examples:
      trishula token grant agni --serve host --serve deploy
      trishula token grant agni --no-serve "*" --serve host      host, and nothing else
    """
    who = author(time.time(), check_reason(reason))
    check_capabilities("--serve", serve)
    check_capabilities("--no-serve", withdrawn)
    if not serve and not withdrawn:
        raise CommandFailed(f"say what {name} may serve: --serve CAPABILITY, --no-serve CAPABILITY", Exit.USAGE)
    state_dir = existing_state_dir(state)
    path = agents_file_of(state_dir)
    try:
        if not path.exists():
            raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
        with agents_to_change(state_dir, path, who) as agents:
            record = agents.get(name)
            if record is None:
                raise CommandFailed(no_agent(name, path), Exit.NOT_FOUND)
            kept = () if ANYBODY in withdrawn else tuple(one for one in record.serve or () if one not in withdrawn)
            granted = with_more(kept, serve) or ()
            agents[name] = dataclasses.replace(record, serve=granted)
    except AgentsFileError as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if speaks_json(ctx):
        click.echo(json.dumps({"agent": name, "agents_file": str(path), "serve": list(granted)}))
        return
    click.echo(f"{name} may serve {', '.join(granted) or 'nothing'}, in {path}", err=True)
