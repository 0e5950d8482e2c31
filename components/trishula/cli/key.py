"""``trishula key``: an agent's own key, and the keys of others that count here."""

from __future__ import annotations

from pathlib import Path

import click

from trishula.cli.state import State, json_option
from trishula.cli.usage import Group

__all__ = ["key"]


@click.group(cls=Group)
def key() -> None:
    """Make the key by which an agent proves itself, and show it.

    The file is the agent's secret, and stays on its machine. The public key, which "new" and "show" print, is for
    others: they write it down as this agent's.
    """


@key.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def new(state: State, file: Path) -> None:
    """Make a key in FILE, for its owner alone; a file that is there is not replaced.

    \b
    Examples:
      trishula key new ~/.config/trishula/agni.key
    """
    from trishula.key_file import new_key_file

    try:
        public = new_key_file(file).public
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    state.show({"file": str(file), "key": public}, lambda: public)


@key.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_obj
def show(state: State, file: Path) -> None:
    """Print the public key of FILE; it is no secret.

    \b
    Examples:
      trishula key show ~/.config/trishula/agni.key
    """
    from trishula.key_file import read_key_file

    try:
        public = read_key_file(file).public
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    state.show({"file": str(file), "key": public}, lambda: public)
