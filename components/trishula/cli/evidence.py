"""Evidence on the command line: which keys an operator trusts, and what a check comes to, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trishula.cli.words import local_time, plain
from trishula.evidence.checking import check_file
from trishula.evidence.findings import Checked
from trishula.evidence.lines import Head
from trishula.evidence.signing import is_public_key
from trishula.evidence.unpacking import Unpacker
from trishula.named_files import open_file, open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from trishula.cli.state import State

__all__ = ["KEYS", "Keys", "as_told", "check_with_progress", "in_words", "progress_of", "read_keys"]

_TAG = "public-key-ed25519"
#: No file with a key is larger.
_MOST_KEY_BYTES = 1024 * 1024

#: ``--key``, the same on each command that checks files.
KEYS = click.option(
    "--key",
    "keys",
    metavar="[NODE=]KEY",
    multiple=True,
    help="The public key of the node that signed, as `trishula node keys` prints it there, or a file with it, such as "
    "its key.pub. May be repeated.",
)


class Keys:
    """The public keys that an operator gave.

    Args:
        given: (node, key) each; ``None`` is any node.
    """

    def __init__(self, given: Sequence[tuple[str | None, str]]) -> None:
        self._given = given

    def of(self, node: str) -> list[str]:
        """Those that are a node's."""
        return [key for whose, key in self._given if whose in (None, node)]

    def is_about(self, node: str) -> bool:
        """Whether there are none at all, or one of this node."""
        return not self._given or bool(self.of(node))


def read_keys(texts: Iterable[str]) -> Keys:
    """What ``--key`` says.

    Raises:
        click.UsageError: it says no key, and no file with one.
    """
    return Keys([_read_key(text) for text in texts])


def _read_key(text: str) -> tuple[str | None, str]:
    node, is_named, value = text.rpartition("=")
    if is_public_key(value):
        return (node if is_named else None), value
    path = Path(value)
    try:
        with open_stream(path) as file:
            lines = file.read(_MOST_KEY_BYTES).decode().splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise click.UsageError(
            f"--key {text!r}: {value!r} is no public key (64 hexadecimal digits, as `trishula node keys` prints them), "
            f"and no file with one ({why})"
        ) from None
    for line in lines:
        tag, has_tag, rest = line.partition(":")
        found = rest.strip() if has_tag and tag == _TAG else line.strip()
        if is_public_key(found):
            return (node if is_named else None), found
    raise click.UsageError(f"--key {text!r}: there is no public key in the file {path}")


@contextmanager
def progress_of(state: State, what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error for people at a terminal; what is called with how far it is, from 0 to 1."""
    from rich.progress import Progress

    console = state.console(stderr=True)
    with Progress(console=console, transient=True, disable=state.json or not console.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda part: bar.update(task, completed=part)


def check_with_progress(state: State, path: Path, keys: Keys) -> Checked:
    """Check a file by those of the keys that are its node's.

    Raises:
        click.UsageError: keys are given, and none of the file's node; or the file can't be read.
    """
    try:
        with open_file(path) as file:
            head = _head_of(Unpacker(file))
        node = "" if head is None else head.node
        if head is not None and not keys.is_about(node):
            raise click.UsageError(f"{path} is signed by the node {plain(node)}, and no --key is of that node")
        with progress_of(state, path.name) as progress:
            return check_file(path, keys.of(node), progress)
    except OSError as error:
        raise click.UsageError(f"{path} can't be read: {error.strerror}") from None


def _head_of(unpacker: Unpacker) -> Head | None:
    from trishula.evidence.lines import read_line

    first = next(unpacker.lines(), [b""])[0]
    line = read_line(first)
    return line if isinstance(line, Head) else None


def as_told(path: Path, checked: Checked) -> dict[str, Any]:
    """A check's outcome for programs."""
    head = checked.head
    return {
        "file": str(path),
        "ok": checked.ok,
        "node": head and head.node,
        "journal": head and head.origin,
        "epoch": head and head.epoch,
        "kind": head and head.kind,
        "records": checked.records,
        "first": checked.first,
        "last": checked.last,
        "first_at": checked.first_at,
        "last_at": checked.last_at,
        "left_out": checked.omitted,
        "bodies": checked.bodies,
        "redacted": checked.redacted,
        "proven": [list(run) for run in checked.proven],
        "key": checked.key,
        "key_is_known": checked.key_is_known,
        "findings": [msgspec.structs.asdict(finding) for finding in checked.findings],
        "further": checked.further,
    }


def in_words(path: Path, checked: Checked) -> Text:
    """The same for people."""
    from rich.text import Text

    if checked.ok:
        text = Text(_what_is_there(checked) + ", all as they were written", style="green")
    else:
        count = len(checked.findings) + checked.further
        text = Text(f"{path.name} is not as it was written", style="bold red")
        for finding in checked.findings:
            text.append(f"\n  {plain(finding.sentence)}", style="none")
        if checked.further:
            text.append(f"\n  and {checked.further} more; {count} in all", style="none")
    if checked.head is not None:
        text.append(f"\n{_what_is_proven(checked)}", style="none")
    return text


def _what_is_there(checked: Checked) -> str:
    head = checked.head
    assert head is not None
    if checked.first is None:
        return f"no records of the journal of {plain(head.origin)}"
    span = f"{checked.first} to {checked.last}, {local_time(checked.first_at)} to {local_time(checked.last_at)}"
    beside = [
        f"{count} {what}"
        for count, what in (
            (checked.omitted, "records left out"),
            (checked.bodies, "bodies of messages"),
            (checked.redacted, "bodies redacted"),
        )
        if count
    ]
    return f"{checked.records} records of the journal of {plain(head.origin)} ({'; '.join([span, *beside])})"


def _what_is_proven(checked: Checked) -> str:
    said = _what_is_signed(checked)
    if checked.omitted:
        said += (
            f"\nnot proven: which of the {checked.omitted} records that are left out belong here; that is the word of "
            "whoever made the file"
        )
    return said


def _what_is_signed(checked: Checked) -> str:
    assert checked.head is not None
    if not checked.head.key:
        return "nothing is signed: the records fit each other, and anybody may have made them"
    if not checked.proven:
        return "proven by signatures: nothing"
    runs = ", ".join(f"{first} to {last}" if first != last else str(first) for first, last in checked.proven)
    said = f"proven by signatures of the node {plain(checked.head.node)}: records {runs}"
    if checked.key_is_known:
        return said
    return (
        f"{said}, if its key is {checked.key}: that is what the file says; compare it with what `trishula node keys` "
        "prints at that node, or give it with --key"
    )
