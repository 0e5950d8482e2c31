"""``trishula why``: the life of one message, from its acceptance to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from trishula.cli.archived_lives import add_archived, is_in_archive, read_archive
from trishula.cli.evidence import progress_of
from trishula.cli.state import State, json_option
from trishula.cli.words import facts_of, local_time, plain
from trishula.contract import uris
from trishula.contract.addresses import agent_of, is_nodes_own
from trishula.contract.signed import key_id, read_signature
from trishula.contract.units import show_duration
from trishula.errors import MessageUnknown, TrishulaError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from trishula.sync import Bus

__all__ = ["timeline", "why"]

_COLOURS = {
    "surfaced": "green",
    "done": "green",
    "dead": "red",
    "expired": "red",
    "cancelled": "yellow",
    "returned": "yellow",
    "redacted": "yellow",
}
#: What every record has, or what the heading says already.
_NOT_SHOWN = frozenset(
    {"seq", "at", "kind", "from", "to", "id", "type", "sha256", "digest", "signature", "encrypted", "proof"}
)


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--from", "sender", metavar="ADDRESS", help="Whose message, if several senders used the id.")
@json_option
@click.pass_obj
def why(state: State, message_id: str, sender: str | None) -> None:
    """Tell the life of the message ID: accepted, delivered, done, with times.

    Where the recipient is a model, it tells when the message was put into the model's context, if that was proven.

    You may ask about messages that you sent or received; an operator about all. Where the node's store doesn't know the
    message any more, its archive is read: by the indexes of its segments, those alone that may tell of it.

    \b
    Examples:
      trishula why 7d1f0c.1
      trishula why 7d1f0c.1 --from dc/7f3a --json
    """
    with state.bus(looks_only=True) as bus:
        args = [message_id] if sender is None else [message_id, {"from": sender}]
        try:
            told = bus.request(uris.AUDIT_WHY, *args)
        except MessageUnknown as error:
            told = _in_archive(state, bus, message_id, sender, error)
        else:
            if is_in_archive(told):
                with progress_of(state, "reading the archive") as progress:
                    older = read_archive(bus, message_id, sender, progress) or {"messages": []}
                add_archived(told, older)
                told |= {"archive_faults": older["archive_faults"]} if older.get("archive_faults") else {}
    state.show(told, lambda: timeline(told, _known(state)))


def _in_archive(state: State, bus: Bus, message_id: str, sender: str | None, error: MessageUnknown) -> dict[str, Any]:
    """What the archive tells of a message that the store doesn't know (any more).

    Raises:
        MessageUnknown: it doesn't know it either.
    """
    with progress_of(state, "reading the archive") as progress:
        told = read_archive(bus, message_id, sender, progress)
    if told is None:
        raise error
    if not told["messages"]:
        faults = "".join(f"; {one}" for one in told["archive_faults"])
        raise MessageUnknown(
            f"there is no message {message_id} at this node that you may know of, nor in its archive, which was read "
            f"up to record {told['base']}{faults}; check the id"
        ) from None
    found = {"messages": told["messages"], "missing": []}
    return {**found, "archive_faults": told["archive_faults"]} if told["archive_faults"] else found


def timeline(told: dict[str, Any], known: Callable[[str], Iterable[bytes]] | None = None) -> RenderableType:
    """The lives in an answer of ``audit.why``, one table each.

    Args:
        told: the answer.
        known: the keys of an agent that count here; ``None``: nobody says whose keys count.
    """
    from rich.console import Group
    from rich.text import Text

    from trishula.cli.tables import Table

    parts: list[RenderableType] = []
    for life in told.get("messages", ()):
        state = plain(life.get("state", "?"))
        heading = Text()
        heading.append(plain(life.get("id", "?")), style="bold")
        heading.append(f"  {plain(life.get('type', '?'))} from {plain(life.get('from'))} to {plain(life.get('to'))}: ")
        heading.append(state, style=f"bold {_COLOURS.get(state, 'cyan')}")
        heading.append(f"{_total(life)}, attempts: {life.get('attempts', 0)}", style="dim")
        nodes = {event.get("node") for event in life.get("events", ())}
        # Said once where one node wrote it all.
        without = _NOT_SHOWN | {"node"} if len(nodes) == 1 else _NOT_SHOWN
        table = Table("Time", "After", "What", "Details")
        before: int | None = None
        for event in life.get("events", ()):
            at = _here_at(event)
            span = "" if before is None or at is None else f"+{_span(before, at)}"
            kind = plain(event.get("kind", "?"))
            table.add_row(local_time(at), span, Text(kind, style=_COLOURS.get(kind, "cyan")), facts_of(event, without))
            before = before if at is None else at
        if (verified := _verified(life)) is not None:
            heading.append(f"\n{verified}", style="dim")
        if (signed := _signed(life, known)) is not None:
            heading.append(f"\n{signed}", style="dim")
        if any(event.get("encrypted") for event in life.get("events", ())):
            heading.append(f"\nencrypted for {plain(life.get('to'))}", style="dim")
        if (reached := _reached_model(life)) is not None:
            heading.append(f"\n{reached}", style="dim")
        if (redacted := _redacted(life)) is not None:
            heading.append(f"\n{redacted}", style="yellow")
        if life.get("archived") is not None:
            heading.append(f"\n{plain(life['archived'])}", style="yellow")
        if life.get("warning") is not None:
            heading.append(f"\n{plain(life['warning'])}", style="yellow")
        parts += [heading, table]
    for fault in told.get("archive_faults", ()):
        parts.append(Text(plain(fault), style="yellow"))
    for one in told.get("missing", ()):
        text = f"{plain(one.get('reason'))}: its records after {one.get('held')} are not here"
        parts.append(Text(text, style="yellow"))
    return Group(*parts) if parts else Text("no message")


def _known(state: State) -> Callable[[str], Iterable[bytes]] | None:
    from trishula.known_keys import KnownKeys
    from trishula.settings import SettingsInvalid, load

    try:
        trusted = load(url=state.url, profile=state.profile).keys.trusted_keys
    except TrishulaError:
        # Whoever could ask without has told what there is to tell.
        return None
    return None if trusted is None else KnownKeys(trusted, SettingsInvalid, "trishula key trust").of


def _verified(life: dict[str, Any]) -> str | None:
    """By what the node that accepted it knew its sender; ``None`` if the record of that is not here."""
    event = next((one for one in life.get("events", ()) if one.get("kind") == "accepted"), None)
    if event is None:
        return None
    node, sender = plain(event.get("node") or "the node"), plain(agent_of(str(life.get("from"))))
    if is_nodes_own(str(life.get("id"))):
        return f"said by {node} itself, for {sender}"
    if not event.get("proof"):
        return f"nothing on record says by what {node} verified {sender}: a release before this one accepted it"
    if str(event["proof"]).startswith("cell "):
        return f"{node} has it from the {plain(event['proof'])}, which verified {sender}"
    return f"{node} verified {sender} by its {plain(event['proof'])}"


def _signed(life: dict[str, Any], known: Callable[[str], Iterable[bytes]] | None) -> str | None:
    """By which key a message is signed, and whether that key counts here; ``None`` if it is not signed.

    Only its receiver has looked at the signature: what came of it, the end of the message tells.
    """
    accepted = [event for event in life.get("events", ()) if event.get("kind") == "accepted"]
    signature = read_signature(accepted[0].get("signature")) if accepted else None
    if signature is None:
        return None
    sender = agent_of(str(life.get("from")))
    words = f"signed by the key {signature.key}…"
    if known is None:
        return words
    counts = any(key_id(key.hex()) == signature.key for key in known(sender))
    return f"{words}, {'a' if counts else 'which is no'} key of {plain(sender)} that is trusted here"


def _reached_model(life: dict[str, Any]) -> str | None:
    """When a model first had it in its context; ``None`` if none had, or the node is of a release that doesn't tell."""
    at = life.get("surfaced_at")
    if not isinstance(at, int):
        return None
    events = life.get("events", ())
    mine: dict[str, Any] = next((one for one in events if one.get("kind") == "surfaced" and _here_at(one) == at), {})
    whose = f"{plain(mine['to'])}'s model" if "to" in mine else "a model"
    # By the attempt that it was: it may have been delivered again since.
    delivered = [one for one in events if one.get("kind") == "delivered" and one.get("attempt") == mine.get("attempt")]
    before = _here_at(delivered[-1]) if delivered else None
    after = "" if before is None else f", {_span(before, at)} after it was delivered"
    return f"reached {whose} at {local_time(at)}{after}"


def _redacted(life: dict[str, Any]) -> str | None:
    """Who had its payload deleted, and why; ``None`` if nobody had."""
    event = next((one for one in life.get("events", ()) if one.get("kind") == "redacted"), None)
    if event is None:
        return None
    return (
        f"payload redacted at {local_time(_here_at(event))} by {plain(event.get('by'))} because: "
        f"{plain(event.get('reason'))}"
    )


def _here_at(event: dict[str, Any]) -> int | None:
    """When it was, by the clock of the node that tells it."""
    at, ahead_ms = event.get("at"), event.get("clock_ahead_ms", 0)
    return at - ahead_ms if isinstance(at, int) and isinstance(ahead_ms, int) else None


def _span(first: int, last: int) -> str:
    # Two nodes wrote it, and nobody knows (any more) how their clocks differ; or by less than the way takes.
    return show_duration(max(0, last - first) / 1000) if last - first > -1000 else "? (by another clock)"


def _total(life: dict[str, Any]) -> str:
    first, last = life.get("accepted_at"), life.get("settled_at")
    return f" after {_span(first, last)}" if isinstance(first, int) and isinstance(last, int) else ""
