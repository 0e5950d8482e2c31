"""``trishula journal import``: segments of an archive are taken back into a node's archive."""

from __future__ import annotations

from pathlib import Path

import click

from trishula.cli.evidence import KEYS, progress_of, read_keys
from trishula.cli.state import State, json_option
from trishula_router.commands.state_dir import CommandFailed, keep_files_private
from trishula_router.commands.store_files import faults_of_store, store_of

__all__ = ["journal_import"]

#: Within the state directory.
_KEY_FILE = Path("crossbar", "key.pub")


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@click.option("--state", "state_dir", type=click.Path(path_type=Path), help="The node's state directory.")
@click.option("--dry-run", is_flag=True, help="Only check, and say what would be imported.")
@KEYS
@json_option
@click.pass_context
def journal_import(
    ctx: click.Context, paths: tuple[Path, ...], state_dir: Path | None, dry_run: bool, keys: tuple[str, ...]
) -> None:
    """Take segments back into a node's archive, from a backup or another disk.

    PATH is a segment, or a folder with some. The node may run. Everything is checked before anything is copied: each
    segment, and that they join on to each other, to those that are there, and to the node's store. A segment of another
    journal, one that differs from one that is there, and a gap are refused. What is there already is left alone, so the
    command may be repeated. From then on `trishula audit query`, `why`, `audit export` and `journal find` read them.

    \b
    Examples:
      trishula journal import /backup/archive/8c1f5a90b2d4e6f7
      trishula journal import /backup/archive --state /var/lib/trishula --dry-run
    """
    from trishula_router.archiving.importing import Importing, ImportRefused
    from trishula_router.archiving.segments import FOLDER
    from trishula_router.store.sqlite.files import begin_of

    shell = ctx.ensure_object(State)
    keep_files_private(ctx)
    file = store_of(state_dir)
    own = file.parent / _KEY_FILE
    given = [*keys, *([str(own)] if own.is_file() else [])]
    # Whose they are says the chain: it ends at this node's store.
    known = {key for text in given for key in read_keys([text]).of(text.rpartition("=")[0])}
    with faults_of_store():
        epoch, base = begin_of(file)
    try:
        with progress_of(shell, "checking") as progress:
            work = Importing.plan(paths, file.parent / FOLDER / epoch, base, known, progress)
    except ImportRefused as error:
        raise CommandFailed(f"{error}; nothing was imported") from None
    except OSError as error:
        raise CommandFailed(f"{error.filename} can't be read: {error.strerror}; nothing was imported") from None
    try:
        if not dry_run:
            work.carry_out()
    except ImportRefused as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(
            f"{error.filename or work.folder} can't be read or written: {error.strerror}; mend that and do it again"
        ) from None
    told = {
        "folder": str(work.folder),
        "imported": [segment.path.name for segment, _ in work.new],
        "records": work.records,
        "known": work.known,
        "dry_run": dry_run,
    }
    if shell.json:
        shell.line(told)
        return
    count = len(work.new)
    would = "would be imported" if dry_run else ("is imported" if count == 1 else "are imported")
    click.echo(f"{work.folder}: {count} segment{'s' * (count != 1)}, {work.records} records, {would}")
    if work.known:
        click.echo(f"{work.known} more {'was' if work.known == 1 else 'were'} there already")
