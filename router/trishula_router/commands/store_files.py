"""``trishula node verify``, ``backup``, ``restore``, ``reseed``, ``compact``: how a node's store is kept.

They open the store's file themselves, so they need no token and no network, and ``verify`` and ``backup`` work beside a
running node as well as without one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.state import State, json_option
from trishula.cli.words import plain
from trishula.contract.units import show_bytes
from trishula.exit_codes import Exit
from trishula_router.commands.state_dir import (
    CommandFailed,
    default_state_dir,
    existing_state_dir,
    hold_state_dir,
    open_state_dir,
    peers_of,
)

if TYPE_CHECKING:
    from trishula_router.attachments.backup import Checked
    from trishula_router.store.interface import Verification
    from trishula_router.store.sqlite.check import Progress

__all__ = ["backup", "compact", "faults_of_store", "reseed", "restore", "store_of", "verify"]

_STATE_OPTION = click.option("--state", type=click.Path(path_type=Path), help="The node's state directory.")

#: A damaged page of a large store may hit thousands of messages; --json has them all.
_SHOWN = 50


@click.command()
@_STATE_OPTION
@click.option("--no-attachments", is_flag=True, help="Leave out the files that are attached to messages.")
@json_option
@click.pass_obj
def verify(shell: State, state: Path | None, no_attachments: bool) -> None:
    """Check a node's store, and name what is damaged.

    It checks the journal's chain, every message and body against its record, the file's structure, and the files that
    are attached to messages by their SHA-256. It reads all of them itself, also while the node runs. It names each
    record and message that is damaged, by number and id, and each attachment that is damaged or missing, and ends with
    0 only if there is none.

    \b
    Examples:
      trishula node verify
      trishula node verify --state /var/lib/trishula --json
    """
    from trishula_router.attachments.backup import check
    from trishula_router.attachments.files import DIRECTORY
    from trishula_router.store.sqlite.files import verify_file

    file, attachments = store_of(state), None
    with faults_of_store(), _progress(shell, "checking") as progress:
        verification = verify_file(file, progress)
        if not no_attachments:
            attachments = _looked_at(verification, lambda: check(file, file.parent / DIRECTORY))
    _tell(shell, verification, {"file": str(file)}, f"{file}: ", attachments=attachments)


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_STATE_OPTION
@click.option("--no-attachments", is_flag=True, help="Leave out the files that are attached to messages.")
@json_option
@click.pass_obj
def backup(shell: State, file: Path, state: Path | None, no_attachments: bool) -> None:
    """Copy a node's store into FILE, also while the node runs, and check the copy.

    FILE is the store of one instant, in one SQLite file, and is never written over. The files that are attached to its
    messages are copied into the directory FILE.attachments. The agents and their tokens are not in it: agents.json in
    the state directory is small text, to be copied beside it. If the store is damaged, FILE has the same damage, and
    the command ends with 1 and names it; an attachment that is damaged or missing is named, and not copied.

    \b
    Examples:
      trishula node backup /backup/trishula-$(date +%F).sqlite
      trishula node backup today.sqlite --state /var/lib/trishula --json
    """
    from trishula_router.attachments.backup import directory_of
    from trishula_router.attachments.files import DIRECTORY
    from trishula_router.store.sqlite.files import back_up

    source, attachments = store_of(state), None
    with faults_of_store(), _progress(shell, "copying") as progress:
        verification = back_up(source, file, progress)
        if not no_attachments:
            directories = source.parent / DIRECTORY, directory_of(file)
            attachments = _looked_at(verification, lambda: _copy(file, *directories))
    size = file.stat().st_size
    facts = {"file": str(file), "bytes": size}
    _tell(shell, verification, facts, f"{file} ({show_bytes(size)}): ", attachments=attachments)


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_STATE_OPTION
@click.option("--damaged", is_flag=True, help="Also if the backup is damaged: what is whole in it is used.")
@json_option
@click.pass_obj
def restore(shell: State, file: Path, state: Path | None, damaged: bool) -> None:
    """Put the backup FILE in the place of a node's store; the node must be stopped.

    Attachments are put back from the directory FILE.attachments, if it is there; what is there of others stays. The
    store that was there is kept beside it under a dated name. The restored store gets a new epoch. Messages that
    were settled after the backup was made are open again and are delivered again; agents that ran since then remember
    their ids and only acknowledge them.

    \b
    Examples:
      trishula node restore /backup/trishula-2026-11-23.sqlite
      trishula node restore today.sqlite --state /var/lib/trishula --json
    """
    from trishula_router.attachments.backup import check, directory_of
    from trishula_router.attachments.files import DIRECTORY
    from trishula_router.store.sqlite.connection import FILE_NAME
    from trishula_router.store.sqlite.files import restore as put_in_place

    if not file.exists():
        raise click.UsageError(f"there is no backup {file}")
    state_dir = open_state_dir(state or default_state_dir(os.environ))
    stamp = datetime.now(UTC)
    holding = hold_state_dir(state_dir, "trishula node restore", with_store=True)
    with holding, faults_of_store(), _progress(shell, "restoring") as progress:
        verification, kept = put_in_place(
            file,
            state_dir,
            new_epoch=lambda: os.urandom(8).hex(),
            at=time.time_ns() // 1_000_000,
            kept_as=f"node.sqlite.replaced-{stamp:%Y%m%dT%H%M%S.%fZ}",
            allow_damage=damaged,
            progress=progress,
        )
        here, beside, store = state_dir / DIRECTORY, directory_of(file), state_dir / FILE_NAME
        has_attachments = beside.is_dir()
        if has_attachments:
            _looked_at(verification, lambda: _copy(store, beside, here))
        attachments = _looked_at(verification, lambda: check(store, here))
    facts: dict[str, Any] = {"state": str(state_dir), "file": str(file), "kept": None if kept is None else str(kept)}
    before = f"{state_dir} has the store of {file} now: "
    if attachments is not None and not has_attachments:
        facts["attachments_missing"] = len(attachments.missing)
        if attachments.missing and not shell.json:
            count = len(attachments.missing)
            click.echo(f"there is no directory {beside}, and {count} attachments that messages name are not here")
        attachments = None
    _tell(shell, verification, facts, before, failing=not damaged, attachments=attachments)
    if kept is not None and not shell.json:
        click.echo(f"the store that was there is {kept}; delete it when you don't need it any more")


@click.command()
@_STATE_OPTION
@json_option
@click.pass_obj
def reseed(shell: State, state: Path | None) -> None:
    """Have a node's store built anew by its peers; the node must be stopped.

    For a store that was lost or is damaged beyond use. What is left of it is kept beside it under a dated name. At its
    next start the node begins an empty store, with a new epoch, and its peers send it all that they hold: their
    journals, and what they had copied of its own. It serves from the first moment; `trishula node status` says how much
    is still to be copied.

    \b
    Examples:
      trishula node reseed
      trishula node reseed --state /var/lib/trishula --json
    """
    from trishula_router.store.sqlite.files import set_aside

    state_dir = open_state_dir(existing_state_dir(state))
    peers = peers_of(state_dir)
    if peers == []:
        raise CommandFailed(
            f"the node of {state_dir} has no peers, so nobody could build its store anew; put a backup in place with: "
            "trishula node restore FILE"
        )
    stamp = datetime.now(UTC)
    with hold_state_dir(state_dir, "trishula node reseed", with_store=True), faults_of_store():
        kept = set_aside(state_dir, f"node.sqlite.replaced-{stamp:%Y%m%dT%H%M%S.%fZ}")
    if shell.json:
        shell.line({"state": str(state_dir), "kept": None if kept is None else str(kept), "peers": peers})
        return
    who = ", ".join(peers) if peers else "its peers"
    click.echo(f"{state_dir} has no store now; start the node, and {who} will send it what they hold")
    if kept is not None:
        click.echo(f"the store that was there is {kept}; delete it when you don't need it any more")


@click.command()
@_STATE_OPTION
@json_option
@click.pass_obj
def compact(shell: State, state: Path | None) -> None:
    """Write a node's store anew, without its free pages; the node must be stopped.

    It is needed once, for a store that an earlier release made: from then on the file gets smaller by itself while the
    node runs. The new file is written beside the old one and checked before it takes its place, so the disk needs room
    for as much as the store has in use. Messages and the journal stay as they are.

    \b
    Examples:
      trishula node compact
      trishula node compact --state /var/lib/trishula --json
    """
    from trishula_router.store.sqlite.compacting import compact as write_anew

    state_dir = store_of(state).parent
    holding = hold_state_dir(state_dir, "trishula node compact", with_store=True)
    with holding, faults_of_store(), _progress(shell, "compacting") as progress:
        verification, before, after = write_anew(state_dir, progress)
    facts = {"state": str(state_dir), "bytes_before": before, "bytes": after}
    took = f"{show_bytes(before)}, and takes {show_bytes(after)} now"
    _tell(shell, verification, facts, f"{state_dir}: the store took {took}: ")


def _looked_at(verification: Verification, look: Callable[[], Checked]) -> Checked | None:
    """What is found of attachments; ``None`` if the store is so damaged that it doesn't tell which there are."""
    from trishula_router.store.interface import StoreError

    try:
        return look()
    except StoreError:
        if verification.damages:
            return None
        raise


def _copy(store: Path, source: Path, target: Path) -> Checked:
    from trishula_router.attachments.backup import copy_into

    try:
        return copy_into(store, source, target)
    except OSError as error:
        raise CommandFailed(
            f"attachments can't be copied from {source} to {target}: {error.strerror or error}; the store itself is in "
            "its place"
        ) from None


def store_of(state: Path | None) -> Path:
    """The store of a state directory; see :func:`.state_dir.existing_state_dir`."""
    from trishula_router.store.sqlite.connection import FILE_NAME

    file = existing_state_dir(state) / FILE_NAME
    if not file.exists():
        raise CommandFailed(
            f"there is no store {file}: no node has run on that state directory; name a node's with --state",
            Exit.CONFIG,
        )
    return file


@contextlib.contextmanager
def faults_of_store() -> Iterator[None]:
    """Have what is wrong with a store end the command with its sentence."""
    from trishula_router.store.interface import StoreError

    try:
        yield
    except StoreError as error:
        raise CommandFailed(str(error)) from None


@contextlib.contextmanager
def _progress(shell: State, what: str) -> Iterator[Progress]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    console = shell.console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task(what, total=1.0)
        yield lambda done: shown.update(task, completed=done)


def _tell(
    shell: State,
    verification: Verification,
    facts: dict[str, Any],
    before: str,
    *,
    failing: bool = True,
    attachments: Checked | None = None,
) -> None:
    """Print what a verification found; end with :attr:`Exit.FAILED` if that is damage."""
    from trishula_router.mail.audit import told_verification

    told = {**facts, **told_verification(verification)}
    faults = () if attachments is None else attachments.faults
    if attachments is not None:
        told["attachments"] = attachments.told()
    if shell.json:
        shell.line(told)
    elif told["ok"]:
        click.echo(f"{before}{verification.records} records and {verification.bodies} bodies, all as they were written")
    else:
        count = len(verification.damages)
        click.echo(f"{before}{count} damaged, of {verification.records} records and {verification.bodies} bodies")
        for damage in verification.damages[:_SHOWN]:
            click.echo(f"  {plain(damage.what)}")
        if count > _SHOWN:
            click.echo(f"  and {count - _SHOWN} more; --json has them all")
        click.echo("what is not named is whole; a backup may have what is: trishula node restore FILE")
    if attachments is not None and not shell.json:
        if attachments.files:
            click.echo(f"{attachments.files} attachments ({show_bytes(attachments.size_bytes)}), as they were sent")
        for sentence in faults[:_SHOWN]:
            click.echo(f"  {plain(sentence)}")
        if len(faults) > _SHOWN:
            click.echo(f"  and {len(faults) - _SHOWN} more; --json has them all")
    if (failing and not told["ok"]) or faults:
        raise click.exceptions.Exit(int(Exit.FAILED))
