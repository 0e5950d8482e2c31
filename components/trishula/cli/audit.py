"""``trishula audit``: questions to a node's journal, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trishula.cli.audit_query import query
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.words import plain
from trishula.contract import uris
from trishula.exit_codes import Exit

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["audit"]


@click.group(cls=Group)
def audit() -> None:
    """Ask the journal of a node (operators only)."""


audit.add_command(query)


@audit.command()
@json_option
@click.pass_obj
@click.pass_context
def verify(ctx: click.Context, state: State) -> None:
    """Check the journal's chain and the checksums of all messages.

    It ends with 0 only if everything is as it was written.

    \b
    Examples:
      trishula audit verify
    """
    # It reads the whole store.
    with state.bus() as bus:
        verification = bus.request(uris.AUDIT_VERIFY, timeout=600.0)
    state.show(verification, lambda: _verification_text(verification))
    if not verification["ok"]:
        ctx.exit(Exit.FAILED)


def _verification_text(verification: dict[str, Any]) -> Text:
    from rich.text import Text

    if verification["ok"]:
        return Text(f"{verification['records']} records, all as they were written", style="green")
    text = Text(f"{len(verification['damaged'])} of {verification['records']} records are damaged", style="bold red")
    for damage in verification["damaged"]:
        text.append(f"\n  {damage.get('seq')}: {plain(damage.get('what'))}", style="none")
    return text
