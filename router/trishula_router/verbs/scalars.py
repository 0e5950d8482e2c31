"""Types that options of several procedures share, each with its rule in words."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["INSTANT_RULE", "POSITION_RULE", "TEXT", "Instant", "Position", "Text"]

_MAX_MS = 2**53 - 1

Instant = Annotated[int, msgspec.Meta(ge=0, le=_MAX_MS)]
INSTANT_RULE = f"an integer count of milliseconds from 0 to {_MAX_MS}"
# See the rule of a message's subject: a lone surrogate can't be written, and U+0000 first stands for binary data.
TEXT = r"^(?!\x00)[^\ud800-\udfff]*\Z"
Text = Annotated[str, msgspec.Meta(pattern=TEXT)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
POSITION_RULE = "a position: an integer from 0 to 9223372036854775807"
