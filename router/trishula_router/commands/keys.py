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
    """Print the node's public key, for its peers' configurations.

    A node has one key for good. If there is none yet in the state directory that you name, by --state, --config or
    TRISHULA_STATE, the pair is made there, and that is said: Crossbar's crossbar/key.priv (mode 0600) and
    crossbar/key.pub. With --json: an object with node, public_key, file and principal.

    \b
    Examples:
      trishula node keys --config primary.json
      trishula node keys --state /var/lib/trishula --json
    """
    require_crossbar()
    raw, base = load_config(config)
    try:
        options = parse_options(options_of(raw), base=base, path="extra")
    except (LookupError, ConfigError) as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    is_named = state is not None or config is not None or bool(os.environ.get("TRISHULA_STATE"))
    if state is None:
        state = default_state_dir(os.environ) if config is None else options.state_dir
    crossbar_dir = state.absolute() / "crossbar"
    is_new = not (crossbar_dir / "key.priv").exists()
    if is_new and not is_named:
        # Nobody would look for it there, and another one would be made where the node runs.
        raise CommandFailed(
            f"the node has no key yet in {state}, where a node that is given nothing keeps its state; to have one made "
            "there, or elsewhere, name the directory with --state, or the node's configuration with --config",
            Exit.CONFIG,
        )
    open_state_dir(state)
    try:
        key = public_key_of(crossbar_dir)
    except KeyUnusable as error:
        raise CommandFailed(str(error), Exit.CONFIG) from None
    if is_new:
        click.echo(f"a new pair of keys was made: key.priv and key.pub in {crossbar_dir}", err=True)
    principal = {options.node: {"realm": uris.REALM, "role": LINK_ROLE, "authorized_keys": [key]}}
    if speaks_json(ctx):
        known = {"node": options.node, "public_key": key, "file": str(crossbar_dir / "key.pub"), "principal": principal}
        click.echo(json.dumps(known))
        return
    click.echo(f"the public key of {options.node}: {key}")
    click.echo("in the configuration of each peer, in the path peer, below auth.cryptosign.principals:")
    click.echo(f"    {json.dumps(principal)[1:-1]}")
