"""``trishula attachment``: fetch the file that is attached to a message, and show how far a file is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trishula.cli.state import State, json_option
from trishula.cli.values import DURATION
from trishula.cli.words import plain
from trishula.contract.units import show_bytes

__all__ = ["attachment", "bar"]


@contextmanager
def bar(state: State, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for a person; yields what tells it how many bytes there are, of how many."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = state.console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=state.json or not console.is_terminal) as shown:
        task = shown.add_task(plain(what), total=None)
        yield lambda done, size: shown.update(task, completed=done, total=size)


@click.group()
def attachment() -> None:
    """Files that are attached to messages; ``trishula send --attach FILE`` sends one."""


@attachment.command()
@click.argument("message_id", metavar="ID")
@click.option("--from", "sender", metavar="AGENT", help="Who sent the message; you if it is left out.")
@click.option(
    "--to",
    "to",
    metavar="PATH",
    type=click.Path(path_type=Path),
    default=Path(),
    help="A file, or a directory; the current one if it is left out.",
)
@click.option("--replace", is_flag=True, help="Replace a file that is there.")
@click.option("--timeout", type=DURATION, default="60s", show_default=True, help="How long nothing may get on.")
@json_option
@click.pass_obj
def save(state: State, message_id: str, sender: str | None, to: Path, replace: bool, timeout: float) -> None:
    """Fetch the file that is attached to the message ID, and check it by its digest.

    You may fetch it if you sent the message or got it, or are an operator, and as long as the node keeps the message.
    In a directory it gets a safe name, which is made of what its sender called it. What broke off is gone on with.

    \b
    Examples:
      trishula attachment save 12.9f3ac1 --from dc
      trishula attachment save 12.9f3ac1 --from dc --to build.tar --replace
    """
    with state.bus() as bus, bar(state, "fetching") as progress:
        path = bus.save_attachment(
            message_id, to, sender=sender, replace=replace, timeout=timeout, on_progress=progress
        )
    told = {"id": message_id, "path": str(path), "size_bytes": path.stat().st_size}
    state.show(told, lambda: f"{plain(str(path))}  {show_bytes(path.stat().st_size)}")
