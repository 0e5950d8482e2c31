"""``trishula journal``: how large the journals and stores of the nodes are, how long they last, and their archives."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trishula.cli.journal_verify import verify
from trishula.cli.known import ask_newer
from trishula.cli.state import State, json_option
from trishula.cli.usage import Group
from trishula.cli.values import Duration
from trishula.cli.words import NOTHING, local_time, plain
from trishula.contract import uris
from trishula.contract.units import show_bytes, show_duration
from trishula.errors import MessageUnknown, TrishulaError

if TYPE_CHECKING:
    from trishula.cli.tables import Table

__all__ = ["journal"]

_DAY_H = 24
#: The check of a node's readiness that has the figures of its store.
_CHECK = "disk"
#: How long a node may take for one segment.
_ARCHIVE_S = 600.0
_IMPORT = "import"


class _Journal(Group):
    """The group, with the command that needs what runs a node, where that is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """By name, as everywhere."""
        return sorted([*super().list_commands(ctx), *([_IMPORT] if self.get_command(ctx, _IMPORT) else [])])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import is found where the command `node` is."""
        if cmd_name != _IMPORT:
            return super().get_command(ctx, cmd_name)
        for point in importlib.metadata.entry_points(group="trishula.commands", name="node"):
            # Where only an agent is installed, what it needs may be missing.
            with contextlib.suppress(ImportError):
                found = getattr(importlib.import_module(point.module), "journal_import", None)
                return found if isinstance(found, click.Command) else None
        return None


@click.group(cls=_Journal)
def journal() -> None:
    """Look after the journals of the nodes: all that happened to messages and sessions."""


journal.add_command(verify)


@journal.command()
@json_option
@click.pass_obj
def status(state: State) -> None:
    """Show how full the store of each node is, and when it will be full (operators, observers).

    The forecast is the node's own: a straight line through the room that its store had in the last hours, half an hour
    at least and six at most. There is none before that, nor while the store doesn't grow.

    \b
    Examples:
      trishula journal status
      trishula journal status --json
    """
    told: dict[str, dict[str, Any]] = {}
    faults: dict[str, TrishulaError] = {}
    for url, one in state.each_node():
        try:
            with one.bus(looks_only=True) as bus:
                found = _figures(bus.request(uris.NODE_STATUS), ask_newer(bus, uris.NODE_READY))
            told[str(found["node"])] = found
        except TrishulaError as error:
            faults[url] = error
    if not told:
        raise next(iter(faults.values()))
    not_reached = {url: one.sentence for url, one in faults.items()}
    state.show({"nodes": list(told.values()), "not_reached": not_reached}, lambda: _table(told))
    for name, node in told.items():
        for sentence in (*_about_file(node), *_about_archive(node)):
            state.note(f"{plain(name)}: {plain(sentence)}")
        if node["reason"]:
            state.note(f"{plain(name)}: {plain(node['reason'])}", "yellow")
    for url, sentence in not_reached.items():
        state.note(f"{plain(url)} is not among them: {plain(sentence)}", "yellow")


@journal.command()
@click.option(
    "--older-than",
    "older_than_s",
    type=Duration(least_s=10.0, most_s=3650 * 86_400.0),
    help="Archive records that are older than this, such as 7d (default: the node's retention.records).",
)
@click.option("--dry-run", is_flag=True, help="Only say which records it would archive next.")
@json_option
@click.pass_obj
def archive(state: State, older_than_s: float | None, dry_run: bool) -> None:
    """Move old records out of the store of a node into its archive, at once (operators).

    A node does so by itself, when records are older than retention.records or its store is fuller than retention.early.
    The segments are in archive/ of its state directory: gzip, a line of JSON for each record, signed by the node.

    \b
    Examples:
      trishula journal archive --dry-run
      trishula journal archive --older-than 7d
    """
    options: dict[str, Any] = {} if older_than_s is None else {"older_than_s": older_than_s}
    with state.bus() as bus:
        if dry_run:
            done = [ask_newer(bus, uris.ADMIN_ARCHIVE, {**options, "dry_run": True}, timeout_s=_ARCHIVE_S)]
        else:
            done = []
            while not done or done[-1]["records"]:
                done.append(ask_newer(bus, uris.ADMIN_ARCHIVE, options, timeout_s=_ARCHIVE_S))
    state.show(
        [one for one in done if one["records"]], lambda: "\n".join(_said(one, dry_run) for one in done[:-1] or done)
    )


def _said(one: dict[str, Any], dry_run: bool) -> str:
    node = plain(one["node"])
    if not one["records"]:
        return f"{node}: no record is so old"
    which = f"records {one['first']} to {one['last']}"
    times = f"{local_time(one['first_at'], 'seconds')} to {local_time(one['last_at'], 'seconds')}"
    if dry_run:
        return f"{node}: {which} ({times}) would go into the next segment"
    return f"{node}: {which} ({times}) are in {plain(one['file'])}, and no more in the store"


@journal.command()
@click.argument("message_id", metavar="ID")
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@json_option
@click.pass_obj
def find(state: State, message_id: str, folder: Path) -> None:
    """Find the records of message ID in an archive: a FOLDER with segments, on this machine.

    It reads the segments from the oldest on, without a node. The archive of a node is archive/EPOCH in its state
    directory.

    \b
    Examples:
      trishula journal find 7d1f0c.1 /var/lib/trishula/archive/8c1f5a90b2d4e6f7
    """
    from trishula.evidence.archive import SegmentDamaged
    from trishula.evidence.finding import find_message

    try:
        found = [msgspec.structs.asdict(one) for one in find_message(folder, message_id)]
    except (SegmentDamaged, OSError) as error:
        raise click.ClickException(str(error)) from None
    if not found:
        raise MessageUnknown(
            f"no segment in {folder} has a record of a message {message_id}; check the id and the folder"
        )
    state.show(found, lambda: _found_table(found))


def _found_table(found: list[dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Time", "Record", "What", "Details", "Segment")
    for one in found:
        facts = {
            key: value for key, value in one["facts"].items() if key not in ("messages", "bodies", "sha256", "digest")
        }
        told = " ".join(f"{key}={value}" for key, value in facts.items())
        table.add_row(
            local_time(one["at"]), str(one["sequence"]), plain(one["kind"]), plain(told), plain(one["segment"])
        )
    return table


def _figures(status: dict[str, Any], ready: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of one node's store; figures that the node doesn't know are ``None``."""
    store = status["store"]
    check: dict[str, Any] = next((one for one in ready["checks"] if one["check"] == _CHECK), {})
    used, room = store["used_bytes"], store.get("room_bytes")
    growth_per_h = check.get("growth_bytes_per_h")
    return {
        "node": status["node"],
        "records": status["high_water"],
        "used_bytes": used,
        # What is on the disk, and what of it is free pages: a node of an earlier release knows no such.
        "size_bytes": store.get("size_bytes"),
        "unused_bytes": store.get("unused_bytes"),
        "can_shrink": store.get("can_shrink"),
        "limit_bytes": store.get("limit_bytes"),
        "room_bytes": room,
        # A node of an earlier release tells both figures, and not their ratio.
        "full": None if room is None else round(used / max(1, used + max(0, room)), 3),
        "growth_bytes_per_day": None if growth_per_h is None else growth_per_h * _DAY_H,
        "full_in_h": check.get("full_in_h"),
        "reason": check.get("reason", ""),
        # A node of an earlier release has no archive.
        "archive": status.get("archive"),
    }


def _about_file(node: dict[str, Any]) -> Iterator[str]:
    """What the store's files take on the disk, what of it is free, and whether they get smaller."""
    size_bytes, unused_bytes = node["size_bytes"], node["unused_bytes"]
    if size_bytes is None or unused_bytes is None:
        return
    said = f"its files take {show_bytes(size_bytes)} on the disk, and {show_bytes(unused_bytes)} of that are free"
    if not node["can_shrink"]:
        said += (
            "; made by an earlier release, it fills them and gives none back; to change that, stop the node and run: "
        )
        said += "trishula node compact"
    yield said


def _about_archive(node: dict[str, Any]) -> Iterator[str]:
    """What the archive of a node has, and why it has nothing."""
    archive = node["archive"] or {}
    if archive.get("base"):
        segments = archive["segments"]
        yield (
            f"records up to {archive['base']} are in {segments} archive segment{'s' * (segments != 1)}, "
            f"{show_bytes(archive['bytes'])}"
        )
    for said in (archive.get("holds_back"), archive.get("refusal"), archive.get("fault")):
        # A fault is in the reason of the check already, if the node told it there.
        if said and said != node["reason"]:
            yield said


def _table(told: dict[str, dict[str, Any]]) -> Table:
    from trishula.cli.tables import Table

    table = Table("Node", "Records", "Takes", "Of", "Full", "A day", "Full in")
    for name, one in told.items():
        growth, full_in_h = one["growth_bytes_per_day"], one["full_in_h"]
        table.add_row(
            plain(name),
            str(one["records"]),
            show_bytes(one["used_bytes"]),
            NOTHING if one["limit_bytes"] is None else show_bytes(one["limit_bytes"]),
            NOTHING if one["full"] is None else f"{one['full']:.0%}",
            NOTHING if growth is None else ("-" if growth < 0 else "+") + show_bytes(abs(growth)),
            NOTHING if full_in_h is None else f"about {show_duration(full_in_h * 3600)}",
        )
    return table
