"""What may be said of a message beside its recipient, type and payload: for type checkers, which find a typo."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypedDict

from trishula.errors import TrishulaError

__all__ = ["CallOptions", "SendOptions"]


class _Common(TypedDict, total=False):
    id: str | None
    priority: int
    subject: str | None
    ttl_ms: int | None
    deadline_at: int | None
    traceparent: str | None
    copies: int | None
    encrypt: bool
    on_refused: Callable[[TrishulaError], object] | None


class SendOptions(_Common, total=False):
    """Those of :meth:`trishula.verbs.Verbs.send`, which says what each means."""

    reply_to: str | None
    procedure: str | None
    attachment: str | os.PathLike[str] | None
    on_progress: Callable[[int, int], object] | None


class CallOptions(_Common, total=False):
    """Those of :meth:`trishula.verbs.Verbs.call_with`: those of its COMMAND, and ``on_warning``."""

    on_warning: Callable[[str], object] | None
