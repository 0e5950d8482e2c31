"""Whether a message says some words: the rule by which a node searches, and a client in what it alone can read."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

__all__ = ["says"]


def says(words: Iterable[str], payload: bytes, *, subject: str | None = None, procedure: str | None = None) -> bool:
    """Whether each of the words stands in the subject, the procedure or the payload, in upper or lower case.

    Args:
        words: parts of words, words or phrases.
        payload: as JSON. A text is searched as it reads; of anything else its JSON is.
        subject, procedure: the message's.
    """
    heading = f"{subject or ''}\n{procedure or ''}".casefold()
    is_text = payload.startswith(b'"')
    # Of a structure with a million values no value is looked at by itself: its JSON is one text.
    body = (msgspec.json.decode(payload, type=str) if is_text else payload.decode()).casefold()
    for word in words:
        as_written = word if is_text else msgspec.json.encode(word)[1:-1].decode()
        if word.casefold() not in heading and as_written.casefold() not in body:
            return False
    return True
