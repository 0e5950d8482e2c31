"""``trishula files import|history``: what agents of v1 said to each other before there was a bus."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.files_names import names_option
from trishula.cli.state import State, json_option
from trishula.cli.values import instant_ms
from trishula.cli.words import NOTHING, local_time, plain
from trishula.homes import home_directory, state_directory

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trishula.files.history import History, Line
    from trishula.files.importing import Importing
    from trishula.files.names import Names
    from trishula.files.tree import Found

__all__ = ["history", "import_"]

#: Messages that are written to the disk together, and the bytes of their files.
_AT_ONCE, _BYTES_AT_ONCE = 500, 8 * 1024 * 1024
_FILE = "v1-history.jsonl"

_into_option = click.option(
    "--into", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    help=f"The history (default: {_FILE} in $TRISHULA_AGENT_STATE, else in ~/.local/state/trishula).",
)  # fmt: skip


@click.command("import")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False, exists=True))
@_into_option
@names_option
@click.option("--dry-run", is_flag=True, help="Say what would become of each file, and write nothing.")
@json_option
@click.pass_obj
def import_(state: State, directory: Path, into: Path | None, names: Names, dry_run: bool) -> None:
    """Take the messages of a TRISHULA v1 archive, the files below DIR, into a history.

    A history is a file that "trishula files history" shows. Nothing of it is sent: its messages come to no mailbox,
    and no node knows them. Nothing in DIR is changed. Again, it adds what is new. Each file is counted as imported,
    known from before, a copy of another one, or odd; every odd file is named with its reason.

    \b
    Examples:
      trishula files import ~/trishula-v1 --dry-run
      trishula files import ~/trishula-v1
      trishula files import /srv/agni --into agni.jsonl --name mac=dc --name box=agni
    """
    from trishula.errors import FolderUnusable
    from trishula.files.history import History, read_history
    from trishula.files.importing import Importing
    from trishula.files.seen import Seen
    from trishula.files.tree import walk

    path = into or _usual_file()
    if path.resolve().is_relative_to(directory.resolve()):
        raise click.UsageError(
            f"--into is {str(path)!r}, below {directory}: a history must lie outside of what it's of"
        )
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    by = f"{_user()}@{socket.gethostname()}"
    try:
        with Seen() as seen:
            work = Importing(seen, names, at, by)
            if dry_run:
                for line in read_history(path):
                    seen.put(line.key, line.digest)
                for found in walk(directory):
                    work.judge(found)
            else:
                with History(path, seen.put) as kept:
                    _take(work, walk(directory), kept)
    except OSError as error:
        raise FolderUnusable(f"{directory} can't be listed: {error.strerror}") from None
    show = "trishula files history" if into is None else f"trishula files history --into {shlex.quote(str(path))}"
    state.show(_told(work, directory, path, dry_run), lambda: _report(work, path, show, dry_run))


def _take(work: Importing, files: Iterable[Found], kept: History) -> None:
    """Put into a history what it gets of these files, a few megabytes at a time."""
    lines: list[Line] = []
    size_bytes = 0
    for found in files:
        line = work.judge(found)
        if line is not None:
            lines.append(line)
            size_bytes += len(found.data)
        if len(lines) >= _AT_ONCE or size_bytes >= _BYTES_AT_ONCE:
            kept.add(lines)
            lines, size_bytes = [], 0
    kept.add(lines)


def _told(work: Importing, directory: Path, path: Path, dry_run: bool) -> dict[str, Any]:
    return {
        "directory": str(directory),
        "history": str(path),
        "dry_run": dry_run,
        "files": work.files,
        **{outcome.value: count for outcome, count in work.counts.items()},
        "odd_files": [{"file": one.file, "why": one.why} for one in work.odd],
        "noted_files": [{"file": one.file, "why": one.why} for one in work.noted],
    }


def _report(work: Importing, path: Path, show: str, dry_run: bool) -> RenderableType:
    # Late, because rich takes its time.
    from rich.console import Group
    from rich.text import Text

    from trishula.cli.tables import Table
    from trishula.files.importing import ImportOutcome

    counts = work.counts
    sums = (
        f"{work.files} files: {counts[ImportOutcome.IMPORTED]} imported, {counts[ImportOutcome.KNOWN]} known from "
        f"before, {counts[ImportOutcome.COPY]} copies, {counts[ImportOutcome.ODD]} odd"
    )
    if dry_run:
        end = f"This was a dry run: nothing is written to {path}."
    elif counts[ImportOutcome.IMPORTED]:
        end = f"The history is {path}; show it with: {show}"
    else:
        end = f"Nothing was added to {path}."
    parts: list[RenderableType] = [Text(sums)]
    for title, files in (("odd", work.odd), ("taken, but", work.noted)):
        if files:
            table = Table("FILE", f"WHY ({title})")
            for one in files:
                table.add_row(plain(one.file), plain(one.why))
            parts.append(table)
    return Group(*parts, Text(end))


@click.command()
@_into_option
@click.option("--from", "sender", metavar="AGENT", help="Only what this agent sent.")
@click.option("--to", "recipient", metavar="AGENT", help="Only what was sent to this agent.")
@click.option("--since", metavar="WHEN", help="Only messages of that time on: a span (30d), or a date.")
@click.option("--until", metavar="WHEN", help="Only messages before that time.")
@click.option("--id", "message_id", metavar="ID", help="Only the messages of this id, each as a whole.")
@json_option
@click.pass_obj
def history(
    state: State,
    into: Path | None,
    sender: str | None,
    recipient: str | None,
    since: str | None,
    until: str | None,
    message_id: str | None,
) -> None:
    """Show the messages that "trishula files import" took in, in the order of their own times.

    With --json: a line of JSON for each message, in the order in which they were imported.

    \b
    Examples:
      trishula files history --from dc --since 2026-02-01
      trishula files history --id 20260210T000200Z_mac_agni_agent_redesign
    """
    from trishula.files.history import read_history

    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    first, end = instant_ms(since, "--since", now_ms), instant_ms(until, "--until", now_ms)
    path = into or _usual_file()
    if not path.exists():
        raise click.UsageError(f"there is no history {path}; make one with: trishula files import DIR --into {path}")

    def chosen() -> Iterator[Line]:
        for line in read_history(path):
            message, at = line.message, line.message.get("timestamp")
            if (
                sender in (None, message["from"])
                and recipient in (None, message["to"])
                and message_id in (None, message["id"])
                and (first is None or (at is not None and at >= first))
                and (end is None or (at is not None and at < end))
            ):
                yield line

    if state.json:
        for line in chosen():
            state.line(json.loads(line.encode()))
        return
    lines = sorted(chosen(), key=lambda line: line.message.get("timestamp") or 0)
    if message_id is not None:
        for line in lines:
            state.print(_whole(line))
    else:
        state.print(_listed(lines))
    if not lines:
        state.note("no such message")


def _listed(lines: list[Line]) -> RenderableType:
    from trishula.cli.tables import Table

    table = Table("TIME", "FROM", "TO", "TYPE", "ID", "SUBJECT", below=("ID", "SUBJECT"))
    for line in lines:
        message = line.message
        table.add_row(
            _time(message),
            *(plain(message[key]) for key in ("from", "to", "type", "id")),
            plain(message.get("subject") or ""),
        )
    return table


def _whole(line: Line) -> RenderableType:
    from trishula.cli.tables import Fields

    message = line.message
    return Fields(
        [
            ("message", plain(f"{message['type']} {message['id']}")),
            ("from, to", plain(f"{message['from']} → {message['to']}")),
            ("time", f"{_time(message)} (its sender's)"),
            ("subject", plain(message.get("subject") or NOTHING)),
            ("payload", plain(message.get("payload"))),
            ("imported", plain(f"{line.imported_at} by {line.imported_by}, of {line.file}; it came over no bus")),
            *(("note", plain(note)) for note in line.notes),
        ]
    )


def _time(message: Any) -> str:
    at = message.get("timestamp")
    return NOTHING if at is None else local_time(at)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user id without a name, as in containers.
        return str(os.getuid())


def _usual_file() -> Path:
    try:
        directory, _ = state_directory(None, os.environ, home_directory())
    except ValueError as error:
        raise click.UsageError(f"TRISHULA_AGENT_STATE can't be used: {error}") from None
    if directory is None:
        raise click.UsageError("there is no home directory here, where the history would be; name it with --into FILE")
    return directory / _FILE
