"""A message as people see it in a terminal: one line of facts, its subject, its payload.

All of it is somebody else's text, so control characters are made visible (:mod:`trishula.cli.words`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trishula.cli.words import local_time, paragraphs, plain
from trishula.contract.encrypted import encrypted_for
from trishula.contract.message import Message

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["text_of"]


def text_of(message: Message, attempts: int, *, is_out: bool = False, most_letters: int | None = None) -> Text:
    """A message with its payload.

    Args:
        message: what to show.
        attempts: how often it was delivered.
        is_out: whether it is delivered and not acknowledged.
        most_letters: the payload on one line, and no more of it than that; ``None``: all of it.
    """
    from rich.text import Text

    text = Text()
    text.append(f"{local_time(message.accepted_at)}  ", style="dim")
    text.append(f"{message.type:<9} ", style="bold red" if message.type == "ERROR" else "bold")
    text.append(f"{plain(message.sender or '?')}", style="cyan")
    text.append(f"  {plain(message.id)}", style="dim")
    notes: list[Any] = []
    if message.priority != 3:
        notes.append(f"priority {message.priority}")
    if message.procedure is not None:
        notes.append(message.procedure)
    if message.reply_to is not None:
        notes.append(f"answers {message.reply_to}")
    if is_out:
        notes.append("delivered and not acknowledged")
    if message.signed_by is not None:
        notes.append("signed, and encrypted on its way" if message.encrypted else "signed")
    if attempts > 1:
        notes.append(f"attempt {attempts}")
    if notes:
        text.append(f"  ({plain(', '.join(notes))})", style="dim")
    if message.subject is not None:
        text.append(f"\n  {plain(message.subject)}", style="bold")
    if (reader := encrypted_for(message.payload)) is not None:
        text.append(f"\n  encrypted for {plain(reader)}", style="dim")
    elif message.payload is not None and most_letters is None:
        text.append(f"\n  {paragraphs(message.payload, '  ')}")
    elif message.payload is not None:
        line = plain(message.payload)
        more = len(line) - (most_letters or 0)
        text.append(f"\n  {line}" if more <= 0 else f"\n  {line[:most_letters]} … ({more} letters more)")
    return text
