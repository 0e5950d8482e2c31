"""``trishula token``: who may join the node.

But for ``key``, which is for an agent's machine, the commands change ``agents.json`` in the state directory and nothing
else, so that they work before the node is started as well as while it runs: it notices the change by itself. Each
command is in a module of its own.
"""

from __future__ import annotations

import click

from trishula.cli.usage import Group
from trishula_router.commands.state_dir import keep_files_private
from trishula_router.commands.token_grants import grant_command
from trishula_router.commands.token_key import key_command
from trishula_router.commands.token_list import list_command
from trishula_router.commands.token_new import new_command
from trishula_router.commands.token_revoke import revoke_command
from trishula_router.commands.token_rotate import rotate_command

__all__ = ["token"]


@click.group(cls=Group)
@click.pass_context
def token(ctx: click.Context) -> None:
    """Make, list, replace and end the tokens and keys with which agents join a node."""
    keep_files_private(ctx)


token.add_command(new_command)
token.add_command(key_command)
token.add_command(grant_command)
token.add_command(list_command)
token.add_command(rotate_command)
token.add_command(revoke_command)
