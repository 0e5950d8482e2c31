"""The options of what operators ask and say about objectives; see :mod:`.arguments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from trishula.contract.texts import LINE
from trishula.watching.objectives import WINDOWS_S
from trishula_router.objectives.maintenance import LONGEST_S
from trishula_router.verbs.arguments import Options

__all__ = ["MaintenanceOptions", "ObjectivesOptions"]

_Instant = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_INSTANT_RULE = f"an integer count of milliseconds from 0 to {2**53 - 1}"
_WEEK_S = 7 * 86_400


class ObjectivesOptions(Options, frozen=True, kw_only=True):
    """``node.objectives``."""

    windows: Annotated[list[Literal["5m", "1h", "24h", "7d", "30d"]], msgspec.Meta(max_length=5)] | None = None
    since: _Instant | None = None
    until: _Instant | None = None
    step_s: Annotated[int, msgspec.Meta(ge=60, le=_WEEK_S)] = 60
    RULES: ClassVar[Mapping[str, str]] = {
        "windows": f"a list of at most 5 of {', '.join(WINDOWS_S)}",
        "since": _INSTANT_RULE,
        "until": _INSTANT_RULE,
        "step_s": f"an integer count of seconds from 60 to {_WEEK_S}",
    }


class MaintenanceOptions(Options, frozen=True, kw_only=True):
    """``admin.maintenance``."""

    for_s: Annotated[float, msgspec.Meta(ge=1, le=LONGEST_S)] = 1800.0
    reason: Annotated[str, msgspec.Meta(max_length=200, pattern=LINE)] = ""
    RULES: ClassVar[Mapping[str, str]] = {
        "for_s": f"a number of seconds from 1 to {LONGEST_S:.0f}",
        "reason": "one line of at most 200 characters: why",
    }
