"""``trishula files``: messages as files, the form of TRISHULA v1."""

from __future__ import annotations

import click

from trishula.cli.files_bridge import bridge
from trishula.cli.files_import import history, import_
from trishula.cli.files_keys import key, trust
from trishula.cli.usage import Group

__all__ = ["files"]


@click.group(cls=Group)
def files() -> None:
    """Carry messages as files, as TRISHULA v1 does."""


files.add_command(bridge)
files.add_command(history)
files.add_command(import_)
files.add_command(key)
files.add_command(trust)
