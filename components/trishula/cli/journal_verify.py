"""``trishula journal verify``: the archives of a node's journals, checked from their files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from trishula.cli.evidence import KEYS, Keys, as_told, check_with_progress, in_words, read_keys
from trishula.cli.state import State, json_option
from trishula.evidence.archive import Archive, Segment, join_of, name_faults, segment_of
from trishula.evidence.findings import Checked
from trishula.exit_codes import Exit

__all__ = ["verify"]

#: Where a state directory has the node's public key, and its archives.
_KEY_FILE = Path("crossbar", "key.pub")
_ARCHIVES = "archive"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH...")
@KEYS
@json_option
@click.pass_obj
@click.pass_context
def verify(ctx: click.Context, state: State, paths: tuple[Path, ...], keys: tuple[str, ...]) -> None:
    """Check archives without a node: each segment, and how each joins on to the one before.

    PATH is a node's state directory, a folder of an archive, or a segment. Of a state directory the node's own key is
    taken, unless --key names others. What is still in the store `trishula node verify` checks.

    \b
    Examples:
      trishula journal verify ~/.local/state/trishula
      trishula journal verify /backup/archive --key agni=9f3c…
    """
    given = read_keys(keys)
    runs = [run for path in paths for run in _runs_of(path, given if keys else _own_key(path) or given)]
    if not any(segments for segments, _ in runs):
        raise click.ClickException(f"there is no segment of an archive in {', '.join(map(str, paths))}")
    checks: list[tuple[Path, Checked]] = []
    for segments, known in runs:
        before: Checked | None = None
        for segment in segments:
            checked = check_with_progress(state, segment.path, known)
            checked = checked.and_of([*join_of(before, checked), *name_faults(segment, checked)])
            before = checked
            checks.append((segment.path, checked))
            if not state.json:
                state.print(in_words(segment.path, checked))
    is_ok = all(checked.ok for _, checked in checks)
    if state.json:
        state.line({"ok": is_ok, "segments": [as_told(file, checked) for file, checked in checks]})
    if not is_ok:
        ctx.exit(Exit.FAILED)


def _own_key(path: Path) -> Keys | None:
    return read_keys([str(path / _KEY_FILE)]) if (path / _KEY_FILE).is_file() else None


def _runs_of(path: Path, keys: Keys) -> Iterator[tuple[list[Segment], Keys]]:
    """The segments of each journal below a path, in order; a file is one by itself, whatever its name is."""
    if path.is_file():
        yield [segment_of(path)], keys
        return
    top = path / _ARCHIVES if (path / _ARCHIVES).is_dir() else path
    for folder in (top, *sorted(below for below in top.rglob("*") if below.is_dir())):
        yield Archive(folder).segments(), keys
