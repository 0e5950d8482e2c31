"""Pages of mail: as many messages as fit into one result, each in its frame, those of low priority as a digest."""

from __future__ import annotations

from collections.abc import Sequence

from trishula.front_door.desk import InHand
from trishula.front_door.framing import NOTE, digested, framed
from trishula.front_door.turns import LOW

__all__ = ["paged"]

#: How many characters of a result one message gets.
_MESSAGE_LETTERS = 6_000


def paged(waiting: Sequence[InHand], letters: int) -> tuple[list[str], list[InHand]]:
    """The parts of a page, and which messages are on it.

    Args:
        waiting: what is to be shown, the most urgent first; at least the first one is.
        letters: how many characters there is room for.
    """
    pages, shown, left = [NOTE], list[InHand](), letters
    is_digest = False
    for item in waiting:
        if item.message.priority >= LOW:
            page = digested(item.message)
        else:
            page = framed(item.message, item.attempt, letters=min(_MESSAGE_LETTERS, letters // 2))
        if shown and len(page) > left:
            break
        if item.message.priority >= LOW and not is_digest:
            is_digest = True
            pages.append("--- of low priority, only their first words (read shows one whole) ---")
        left -= len(page)
        pages.append(page)
        shown.append(item)
    return pages, shown
