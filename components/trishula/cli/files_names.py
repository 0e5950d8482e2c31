"""The option ``--name``: what agents are called in files of TRISHULA v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trishula.files.names import Names

__all__ = ["names_option"]


def _read(ctx: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> Names:
    # Late, because a wrong command line is told without it.
    from trishula.files.names import Names

    try:
        return Names.parse(pairs) if pairs else Names()
    except ValueError as error:
        raise click.UsageError(f"--name: {error}") from None


names_option = click.option(
    "--name", "names", metavar="THEIRS=AGENT", multiple=True, callback=_read,
    help="What an agent is called in files, and on the bus; any number of times, in place of mac=dc. With mac=mac "
    "every agent has one name.",
)  # fmt: skip
