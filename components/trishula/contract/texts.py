"""Texts that people and models read: what is one line, and how any value and any exception is shown on one."""

from __future__ import annotations

import math
import re

import msgspec

__all__ = ["LINE", "LINE_RULE", "REASON_LENGTH", "UNSEEN", "is_line", "legible", "one_line", "show_value"]

#: One line of text, as a pattern. Control characters and line breaks of every kind would let a sender forge what stands
#: around the line, wherever a person or a model reads it. A lone surrogate is no text.
LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*\Z"
#: The same in words.
LINE_RULE = "one line without control characters"
#: A sentence for a journal or an error message, no dump.
REASON_LENGTH = 1000

_LINE = re.compile(LINE)
#: What stands between a reader and the line as it is: what is no line, and characters that nobody sees and that turn
#: the order of others around, or hide words from people and not from models.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def is_line(text: object) -> bool:
    """Whether it is a text of one line without control characters."""
    return isinstance(text, str) and _LINE.match(text) is not None


def one_line(text: str) -> str:
    """A text as one line for people: control characters, and others that nobody sees, become their escapes."""
    return UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def legible(text: str) -> str:
    """What a handler's exception says, cut, and with escapes for what can't travel as text.

    Python puts lone surrogates into the names of files that are not UTF-8. A node refuses them, and the sender would
    never be told what went wrong.
    """
    cut = text[:REASON_LENGTH]
    return cut.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")[:REASON_LENGTH]


def show_value(value: object) -> str:
    """A value as an error shows it: short, on one line, whatever it holds."""
    try:
        # What JSON has no word for, msgspec writes as null.
        is_finite = not isinstance(value, float) or math.isfinite(value)
        text = msgspec.json.encode(value).decode() if is_finite else repr(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        try:
            text = ascii(value)
        except (ValueError, RecursionError):
            # Python writes no integer of more than 4,300 digits.
            text = f"a value of type {type(value).__name__}, too large or too deep to be shown"
    return text if len(text) <= 80 else text[:77] + "..."
