"""What the facts of all records are."""

from __future__ import annotations

import msgspec

__all__ = ["Facts"]


class Facts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a record tells, besides its instant and its kind. A field at its default is not written."""
