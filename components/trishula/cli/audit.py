"""``trishula audit``: questions to a node's journal, for operators; and files of it, for whoever gets them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.audit_export import export
from trishula.cli.audit_mirror import mirror
from trishula.cli.audit_query import query
from trishula.cli.audit_redact import redact
from trishula.cli.evidence import KEYS, as_told, check_with_progress, in_words, read_keys
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
    """Ask the journal of a node (operators only), and check what was exported of it (anybody)."""


audit.add_command(query)
audit.add_command(export)
audit.add_command(redact)
audit.add_command(mirror)


@audit.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@KEYS
@json_option
@click.pass_obj
@click.pass_context
def verify(ctx: click.Context, state: State, file: Path | None, keys: tuple[str, ...]) -> None:
    """Check the journal of a node, or, without any node, a FILE that was exported of one.

    Of a node it checks the chain and the checksums of all messages; of a file also who signed it. It ends with 0
    only if everything is as it was written, and, with --key, signed by that node.

    \b
    Examples:
      trishula audit verify
      trishula audit verify week.jsonl.gz --key agni=9f3c…
      trishula audit verify week.jsonl.gz --key agni.pub
    """
    if file is not None:
        checked = check_with_progress(state, file, read_keys(keys))
        state.show(as_told(file, checked), lambda: in_words(file, checked))
        if not checked.ok:
            ctx.exit(Exit.FAILED)
        return
    if keys:
        raise click.UsageError("--key is for a FILE; a node's own journal is checked where it is")
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
