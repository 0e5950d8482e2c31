"""``trishula audit mirror``: a node's journal, record by record, into a file that a collector reads.

It is a client like any other, and not in the node: whatever the collector's disk does, the node accepts messages as
before. It asks for a page when the one before is on disk, so it holds one page, however far it is behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.known import ask_newer
from trishula.cli.newest import PAGE
from trishula.cli.state import State, json_option
from trishula.cli.words import as_json, plain
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, NodeFailed, TrishulaError
from trishula.evidence.chain import digest_of
from trishula.evidence.mirror_file import MirrorFile, Place, PositionUnreadable

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["lines_of_page", "mirror"]

_ASK_S = 60.0
#: How often it looks for new records once it has all.
_LOOK_EVERY_S = 1.0
#: How long it waits after a fault.
_RETRY_S = 5.0


@click.command()
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to: lines of JSON at its end. FILE.position beside it says how far it is.",
)
@click.option("--node", metavar="NAME", help="The journal of another node, from its copy here.")
@click.option("--once", is_flag=True, help="End when all records are there, and not wait for more.")
@json_option
@click.pass_obj
def mirror(state: State, out: Path, node: str | None, once: bool) -> None:
    """Write each record of a node's journal into a file, for a log collector.

    A line of JSON each; it takes an operator's token.

    It goes on where it was, after whatever end: each record is there at least once, in order, and its "seq" and
    "digest" tell those that are there twice. Without --once it stays, waits for a node that is away and for room on the
    disk, and says so. It ends where a record doesn't follow those before it.

    Rename or remove FILE at any time (logrotate needs neither "copytruncate" nor a signal): it goes
    on in a new one.

    \b
    Examples:
      trishula audit mirror --out /var/log/trishula/audit.jsonl
      trishula audit mirror --out audit.jsonl --once
    """
    if not out.absolute().parent.is_dir():
        raise click.UsageError(f"--out {str(out)!r}: there is no folder {out.absolute().parent}")
    try:
        file = MirrorFile(out.absolute())
    except (PositionUnreadable, OSError) as error:
        raise click.UsageError(str(error)) from None
    said: str | None = None
    while True:
        try:
            with state.bus() as bus:
                _follow(bus, file, node, once, lambda sentence: state.note(sentence, style="yellow"))
            _tell(state, out, file.place)
            return
        except (TrishulaError, OSError) as error:
            if once or (isinstance(error, TrishulaError) and not error.temporary):
                if isinstance(error, OSError):
                    raise click.ClickException(f"{out} can't be written: {error.strerror}") from None
                raise
            sentence = f"{out} can't be written: {error.strerror}" if isinstance(error, OSError) else error.sentence
        if sentence != said:
            behind = 0 if file.place is None else file.place.sequence
            state.note(f"{plain(sentence)}; it goes on behind record {behind} when it can", style="yellow")
            said = sentence
        file.close()
        time.sleep(_RETRY_S)


def _tell(state: State, out: Path, place: Place | None) -> None:
    told = {"file": str(out), "last": 0 if place is None else place.sequence, "epoch": place and place.epoch}
    state.show(told, lambda: f"{plain(str(out))} has all records up to {told['last']}")


def _follow(bus: Bus, file: MirrorFile, node: str | None, once: bool, say: Callable[[str], None]) -> None:
    """Write what there is; returns at the end with ``once``, else never."""
    while True:
        page = _next_page(bus, file, node, say)
        place = file.place
        if page["records"]:
            try:
                lines, place = lines_of_page(page, None if place is None else place.digest)
            except NodeFailed as error:
                # It stays so however often it is asked: somebody has to look.
                raise click.ClickException(error.sentence) from None
            file.write(lines, place)
        if place is None or place.sequence >= int(page["high_water"]):
            if once:
                return
            time.sleep(_LOOK_EVERY_S)


def _next_page(bus: Bus, file: MirrorFile, node: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    options: dict[str, Any] = {"limit": PAGE} | ({} if node is None else {"node": node})
    place = file.place
    try:
        page: dict[str, Any] = ask_newer(
            bus, uris.AUDIT_RECORDS, {**options, "after": 0 if place is None else place.sequence}, timeout_s=_ASK_S
        )
    except ArgumentInvalid:
        # The journal is shorter than what is mirrored of it.
        page = ask_newer(bus, uris.AUDIT_RECORDS, {**options, "after": 0}, timeout_s=_ASK_S)
        if place is None or page["epoch"] == place.epoch:
            raise
    if place is not None and page["epoch"] != place.epoch:
        say(
            f"the node {plain(page['node'])} has another journal now (its store is new, or was put back): all of it "
            "follows"
        )
        file.place = None
        page = ask_newer(bus, uris.AUDIT_RECORDS, {**options, "after": 0}, timeout_s=_ASK_S)
    return page


def lines_of_page(page: dict[str, Any], digest: str | None) -> tuple[bytes, Place]:
    """The records of a page as lines, and the place behind them.

    Args:
        page: as ``trishula.audit.records`` answers.
        digest: of the last record that is mirrored, hexadecimal; ``None`` if this is the first page.

    Raises:
        NodeFailed: it doesn't follow that record, or is no chain.
    """
    before = str(page["previous"])
    if digest is not None and before != digest:
        raise NodeFailed(
            "the node's journal doesn't go on from what is mirrored of it; compare the two, and remove the position "
            "file to mirror it anew"
        )
    lines: list[str] = []
    sequence = 0
    for sequence, at, kind, facts, stated in page["records"]:
        if digest_of(bytes.fromhex(before), sequence, at, kind, facts.encode()).hex() != stated:
            raise NodeFailed(f"record {sequence} doesn't match its digest; nothing behind it is mirrored")
        before = stated
        record = {"node": page["origin"], "epoch": page["epoch"], "seq": sequence, "at": at, "kind": kind}
        # Facts have an "epoch" and a "digest" of their own.
        lines.append(as_json({**record, "facts": json.loads(facts), "digest": stated}))
    text = "".join(f"{line}\n" for line in lines)
    return text.encode("utf-8", "backslashreplace"), Place(str(page["epoch"]), sequence, before)
