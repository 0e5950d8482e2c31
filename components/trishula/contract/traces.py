"""The trace that a message belongs to: W3C trace context, as ``traceparent`` carries it.

``00-<trace id, 32 hex digits>-<span id, 16>-<flags, 2>``. What is sent while a message is handled carries on its
trace: the same trace id, and a span id of its own, unless the sender says otherwise. A text that is no trace context is
ignored, as the standard asks: it is stored and delivered like any other field, and nothing carries it on. The
standard's second header, ``tracestate``, has no field in a message and is not carried.
"""

from __future__ import annotations

import re

__all__ = ["child_of", "parts_of", "trace_id_of"]

#: A later version may have more behind the flags, after a dash.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parts_of(traceparent: str | None) -> tuple[str, str, int] | None:
    """Trace id, span id and flags; ``None`` if the text is no trace context."""
    match = None if traceparent is None else _FORM.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return trace_id, span_id, int(flags, 16)


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace's id; ``None`` if the text is no trace context."""
    parts = parts_of(traceparent)
    return None if parts is None else parts[0]


def child_of(traceparent: str | None, span_id: str) -> str | None:
    """The context of what is sent on account of a message; ``None`` if the message has none.

    Args:
        traceparent: of the message.
        span_id: of what is sent, 16 hex digits.
    """
    parts = parts_of(traceparent)
    # Of the flags only "sampled" and "random" are known to version 00, and others are not to be passed on.
    return None if parts is None else f"00-{parts[0]}-{span_id}-{parts[2] & 3:02x}"
