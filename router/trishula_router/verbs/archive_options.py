"""The options of what operators say about the archive of a journal; see :mod:`.arguments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from trishula_router.verbs.arguments import Options

__all__ = ["ArchiveOptions"]

_LEAST_S, _MOST_S = 10, 3650 * 86_400


class ArchiveOptions(Options, frozen=True, kw_only=True):
    """``admin.archive``."""

    older_than_s: Annotated[float, msgspec.Meta(ge=_LEAST_S, le=_MOST_S)] | None = None
    dry_run: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "older_than_s": f"a number of seconds from {_LEAST_S} to {_MOST_S}",
        "dry_run": "true (only say what it would do) or false",
    }
