"""``trishula node keys``: what the operators of a node's peers must be given."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from trishula.cli.state import json_option
from trishula.contract import uris
from trishula.exit_codes import Exit
from trishula_router.commands.start import load_config
from trishula_router.commands.state_dir import (
    CommandFailed,
    default_state_dir,
    open_state_dir,
    require_crossbar,
    speaks_json,
)
from trishula_router.realm import LINK_ROLE
from trishula_router.settings.crossbar_config import options_of
from trishula_router.settings.faults import ConfigError
from trishula_router.settings.node_key import KeyUnusable, public_key_of
from trishula_router.settings.options import parse_options

__all__ = ["keys"]


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The node's configuration: Crossbar's JSON (default: the shipped single.json).",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="The node's state directory (default: as for `trishula node start`).",
)
@json_option
@click.pass_context
def keys(ctx: click.Context, config: Path | None, state: Path | None) -> None:
    """Print the node's public key and what its peers' configurations need of it; make the key if there is none yet.

    The key pair is Crossbar's: crossbar/key.priv (mode 0600) and crossbar/key.pub in the state directory. With --json:
    an object with node, public_key, file and principal.
    """
    require_crossbar()
    raw, base = load_config(config)
    try:
        options = parse_options(options_of(raw), base=base, path="extra")
    except (LookupError, ConfigError) as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if state is None:
        state = default_state_dir(os.environ) if config is None else options.state_dir
    crossbar_dir = open_state_dir(state) / "crossbar"
    try:
        key = public_key_of(crossbar_dir)
    except KeyUnusable as error:
        raise CommandFailed(str(error)) from None
    principal = {options.node: {"realm": uris.REALM, "role": LINK_ROLE, "authorized_keys": [key]}}
    if speaks_json(ctx):
        known = {"node": options.node, "public_key": key, "file": str(crossbar_dir / "key.pub"), "principal": principal}
        click.echo(json.dumps(known))
        return
    click.echo(f"the public key of {options.node}: {key}")
    click.echo("in the configuration of each peer, in the path peer, below auth.cryptosign.principals:")
    click.echo(f"    {json.dumps(principal)[1:-1]}")
