"""``trishula audit export``: a run of a node's journal as a file, for somebody who has no access to the node.

The node hands out pages of records, each with its signature of the last one; here they are put together. The writer
follows the chain as it writes, so a node that handed out what doesn't fit is found out at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.audit_selection import pages_of_selection, runs_of
from trishula.cli.evidence import progress_of
from trishula.cli.known import ask_journal, ask_newer
from trishula.cli.newest import PAGE, end_of, newest
from trishula.cli.state import State, json_option
from trishula.cli.values import instant_ms
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.message import MAIL_TYPES
from trishula.errors import NodeFailed
from trishula.evidence.bodies import ACCEPTED, stated_sum
from trishula.evidence.lines import Foot, Head, NoBody
from trishula.evidence.writing import ChainBroken, SegmentWriter, new_segment

if TYPE_CHECKING:
    from trishula.sync import Bus

__all__ = ["export"]

_ASK_S = 60.0


@click.command()
@click.option("--since", metavar="WHEN", help='Not before: "10m" for ten minutes ago, or 2026-11-23T00:00:00.')
@click.option("--until", metavar="WHEN", help="Not after; as --since.")
@click.option("--node", metavar="NAME", help="The journal of another node, from its copy here.")
@click.option("--agent", metavar="NAME", help="Only records of this agent, and of messages it sent or got.")
@click.option("--with", "peer", metavar="NAME", help="Only what is between --agent and this agent, or concerns it.")
@click.option("--id", "message_id", metavar="ID", help="Only records of this message.")
@click.option("--type", "message_type", type=click.Choice(MAIL_TYPES), help="Only of messages of this type.")
@click.option("--kind", "kinds", metavar="KIND", multiple=True, help="Only records of this kind. May be repeated.")
@click.option("--bodies", is_flag=True, help="With the messages themselves, as far as the node still has them.")
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to make, such as audit.jsonl.gz; it must not be there yet.",
)
@json_option
@click.pass_obj
def export(
    state: State,
    since: str | None,
    until: str | None,
    node: str | None,
    agent: str | None,
    peer: str | None,
    message_id: str | None,
    message_type: str | None,
    kinds: tuple[str, ...],
    bodies: bool,
    out: Path,
) -> None:
    """Write all records of a time into a file that anybody can check, without a node.

    `trishula audit verify FILE` checks it. The node signs what it hands out. Without --bodies no message is in it, only
    what happened to it and the checksum of what it was.

    With --agent, --with, --id, --type or --kind the other records are left out. What is there is proven all the same;
    that nothing else fits is your word, which the check says, too.

    \b
    Examples:
      trishula audit export --since 7d --out week.jsonl.gz
      trishula audit export --since 2026-11-01 --until 2026-12-01 --bodies --out november.jsonl.gz
      trishula audit export --since 7d --agent agni --with dc --out between.jsonl.gz
    """
    now_ms = int(time.time() * 1000)
    span = {"since": instant_ms(since, "--since", now_ms), "until": instant_ms(until, "--until", now_ms), "node": node}
    asked = {key: value for key, value in span.items() if value is not None}
    if out.exists():
        raise click.UsageError(f"--out {str(out)!r} is there already; name another file, or remove it")
    if not out.absolute().parent.is_dir():
        raise click.UsageError(f"--out {str(out)!r}: there is no folder {out.absolute().parent}")
    with state.bus() as bus:
        first, last = _range(bus, asked, node)
        if first > last:
            raise click.ClickException("no record was written in that time, so there is nothing to export")
        options: dict[str, Any] = {"bodies": True} if bodies else {}
        if node is not None:
            options["node"] = node

        def ask(after: int, limit: int = PAGE) -> dict[str, Any]:
            question = {**options, "after": after, "limit": min(limit, last - after)}
            answer: dict[str, Any] = ask_newer(bus, uris.AUDIT_RECORDS, question, timeout_s=_ASK_S)
            return answer

        only = {
            key: value
            for key, value in {
                "agent": agent,
                "with": peer,
                "id": message_id,
                "type": message_type,
                "kinds": list(kinds) or None,
            }.items()
            if value is not None
        }
        runs = _selected(bus, {**asked, **only}, first, last) if only else None
        with progress_of(state, out.name) as progress:
            try:
                head, foot = _export(ask, first, last, out, now_ms, progress, runs, bodies=bodies)
            except OSError as error:
                raise click.ClickException(f"{out} can't be written: {error.strerror}") from None
    told = {
        "file": str(out),
        "node": head.node,
        "journal": head.origin,
        "key": head.key,
        "records": foot.count,
        "left_out": foot.last - head.first + 1 - foot.count,
        "first": head.first,
        "last": foot.last,
        "first_at": foot.first_at,
        "last_at": foot.last_at,
        "bytes": out.stat().st_size,
    }
    state.show(told, lambda: _in_words(told))
    if not head.key:
        state.note("the node has no key, so nothing in the file is signed", style="yellow")


def _in_words(told: dict[str, Any]) -> str:
    left_out = f", {told['left_out']} others left out" if told["left_out"] else ""
    return (
        f"{told['records']} records of the journal of {plain(told['journal'])} ({told['first']} to {told['last']}, "
        f"{local_time(told['first_at'])} to {local_time(told['last_at'])}{left_out}) are in {plain(told['file'])}\n"
        f"signed by the node {plain(told['node'])}; give its public key by another road: {told['key']}"
    )


def _range(bus: Bus, asked: dict[str, Any], node: str | None) -> tuple[int, int]:
    """The first and the last record of a time; the first is behind the last if there is none."""

    def ask(options: dict[str, Any]) -> dict[str, Any]:
        return ask_journal(bus, options, _ASK_S)

    end = end_of(ask, node) if node is not None else int(bus.request(uris.NODE_STATUS)["high_water"])
    if "since" not in asked and "until" not in asked:
        return 1, end
    first, after, more = 0, 0, True
    while more and not first:
        told = ask({**asked, "after": after, "limit": 1})
        first = int(told["records"][0]["seq"]) if told["records"] else 0
        before, after = after, int(told.get("after", 0))
        more = bool(told["more"]) and after > before
    found = newest(ask, asked, 1, end).records
    return (first, int(found[-1]["seq"])) if first and found else (1, 0)


def _selected(bus: Bus, asked: dict[str, Any], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The records that fit, as runs; the first of them has been asked for.

    Raises:
        click.ClickException: none fits, or some of those to be searched are in the archive alone.
        KeyUnknown: the node is of an earlier release, and can't search by that.
    """

    def ask(options: dict[str, Any]) -> dict[str, Any]:
        answer = ask_journal(bus, options, _ASK_S)
        if faults := answer.get("archive_faults"):
            raise click.ClickException(
                f"{plain(faults[0])}; put the segment back, or export what is behind it (--since)"
            )
        if (archived_to := int(answer.get("archived_to", 0))) >= first:
            raise click.ClickException(
                f"the records up to {archived_to} are in the node's archive alone, where a selection can't be made; "
                "export the whole time, or begin behind them (--since)"
            )
        return answer

    runs = runs_of(ask, asked, first, last)
    begun = next(runs, None)
    if begun is None:
        raise click.ClickException("no record of that time fits, so there is nothing to export")
    return chain([begun], runs)


def _export(
    ask: Callable[..., dict[str, Any]],
    first: int,
    last: int,
    out: Path,
    now_ms: int,
    progress: Callable[[float], None],
    runs: Iterator[tuple[int, int]] | None,
    *,
    bodies: bool,
) -> tuple[Head, Foot]:
    """Put a file together of pages: of all, or of ``runs`` of records.

    Raises:
        NodeFailed: what the node hands out is no chain.
        OSError: the file can't be written.
    """
    page = ask(first - 1, PAGE if runs is None else 1)
    head = Head(
        kind="export",
        node=str(page["node"]),
        origin=str(page["origin"]),
        epoch=str(page["epoch"]),
        first=first,
        previous=str(page["previous"]),
        made_at=now_ms,
        key=str(page["key"]),
        bodies=bodies,
    )
    try:
        with new_segment(out.absolute().parent, out.name, head) as writer:
            beside = _Bodies() if bodies else None

            def add(page: dict[str, Any]) -> None:
                if (page["node"], page["origin"], page["epoch"]) != (head.node, head.origin, head.epoch):
                    raise NodeFailed(
                        "while it was exported the node's store was put back from a backup; export it again"
                    )
                _add(writer, page, beside)
                progress((writer.sequence - first + 1) / (last - first + 1))

            if runs is not None:
                return head, writer.finish(pages_of_selection(ask, runs, last, writer, add))
            while True:
                add(page)
                if writer.sequence >= last:
                    break
                if head.key:
                    writer.checkpoint(str(page["signature"]))
                page = ask(writer.sequence)
                if not page["records"]:
                    raise NodeFailed(f"the node has no record behind {writer.sequence} any more; export it again")
            return head, writer.finish(str(page["signature"]))
    except ChainBroken as error:
        raise NodeFailed(f"{error}: what the node {plain(head.node)} hands out is no chain") from None


def _add(writer: SegmentWriter, page: dict[str, Any], beside: _Bodies | None) -> None:
    if beside is not None:
        beside.take(page.get("bodies", ()))
    for sequence, at, kind, facts, digest in page["records"]:
        body = beside.of(sequence, facts) if beside is not None and kind == ACCEPTED else None
        writer.add(sequence, at, kind, facts.encode(), bytes.fromhex(digest), body)


class _Bodies:
    """The bodies of a page, by what the facts of records state of them."""

    def __init__(self) -> None:
        self._by_sum: dict[str, bytes] = {}
        self._last: str | None = None

    def take(self, texts: list[str]) -> None:
        """Those of the next page."""
        bodies = [text.encode() for text in texts]
        self._by_sum = {hashlib.sha256(body).hexdigest(): body for body in bodies}

    def of(self, sequence: int, facts: str) -> bytes | NoBody | None:
        """What stands beside an accepted record; ``None`` if it has the body of the one before."""
        stated = stated_sum(facts)
        if stated is None or stated == self._last:
            return None
        body = self._by_sum.get(stated)
        if body is None:
            return NoBody(sequence, "deleted")
        self._last = stated
        return body
