"""``trishula token key``: the key of an agent, made on the agent's own machine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.exit_codes import Exit
from trishula.homes import home_directory
from trishula.key_file import new_key_file, read_key_file
from trishula_router.commands.state_dir import CommandFailed, speaks_json

__all__ = ["key_command"]


@click.command("key")
@click.argument("name")
@click.option(
    "--write",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file to make (default: ~/.config/trishula/NAME.key).",
)
@json_option
@click.pass_context
def key_command(ctx: click.Context, name: str, key_file: Path | None) -> None:
    """Make a key for the agent NAME, on the machine where the agent runs.

    With a key no secret travels: the agent signs what the node makes up when it joins. The private half stays in the
    file (mode 0600), which is never overwritten. The public half is printed, and is no secret: whoever keeps the node
    adds it with trishula token new NAME --public-key KEY. The agent joins with it when its profile has agent and
    key_file and no token, or TRISHULA_AGENT and TRISHULA_KEY_FILE are set. The file is that of trishula key new. With
    --json: an object with agent, key_file and public_key.

    \b
    Examples:
      trishula token key dc
      trishula token key dc --write /etc/trishula/dc.key
    """
    if not is_agent_name(name):
        raise CommandFailed(f'"{name}" is no agent\'s name: that is {AGENT_RULE}', Exit.USAGE)
    if key_file is None:
        home = home_directory()
        if home is None:
            raise CommandFailed("there is no home directory for the file of the key: give --write FILE", Exit.USAGE)
        key_file = home / ".config" / "trishula" / f"{name}.key"
    try:
        key_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = new_key_file(key_file)
    except OSError as error:
        raise CommandFailed(f"{key_file.parent} can't be made: {error.strerror}", Exit.CONFIG) from None
    except ValueError as error:
        there = ""
        with contextlib.suppress(ValueError):
            there = f" (its public key is {read_key_file(key_file).public})"
        raise CommandFailed(f"{error}{there}", Exit.CONFIG) from None
    if speaks_json(ctx):
        click.echo(json.dumps({"agent": name, "key_file": str(key_file), "public_key": key.public}))
        return
    click.echo(key.public)
    click.echo(
        f"the private key of {name} is in {key_file}, and its public key stands above. Whoever keeps the node adds it "
        f"there with:\n  trishula token new {name} --public-key {key.public}\nthen {name} joins with: export "
        f"TRISHULA_AGENT={name} TRISHULA_KEY_FILE={key_file}",
        err=True,
    )
