"""The options of the procedures about work leases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import msgspec

from trishula.contract.texts import LINE, LINE_RULE
from trishula_router.verbs.arguments import Options

__all__ = ["ClaimOptions", "ForceOptions", "ListOptions", "ReleaseOptions", "RenewOptions"]

_LONGEST_TTL_S = 30 * 86_400
_TTL = Annotated[float, msgspec.Meta(ge=1, le=_LONGEST_TTL_S)]
_Use = Annotated[str, msgspec.Meta(max_length=100, pattern=LINE)]
_USE_RULE = f"a string of at most 100 characters, {LINE_RULE}: which of several uses of a lease by one agent"
_TTL_RULE = f"a number of seconds from 1 to {_LONGEST_TTL_S}"


class ClaimOptions(Options, frozen=True, kw_only=True):
    """``lease.claim``; see :class:`trishula_router.leases.work_leases.Claim`."""

    shared: bool = False
    note: Annotated[str, msgspec.Meta(max_length=200, pattern=LINE)] = ""
    ttl_s: _TTL = 120.0
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    queue: bool = False
    sure: bool = False
    take_over: bool = False
    use: _Use = ""
    RULES: ClassVar[Mapping[str, str]] = {
        "shared": "true or false: whether others may share it",
        "note": f"a string of at most 200 characters, {LINE_RULE}: what for",
        "ttl_s": _TTL_RULE + ": for how long it stays when its holder is gone",
        "wait_s": "a number of seconds from 0 to 60: how long to wait for its turn",
        "queue": "true or false: whether the claim waits on afterwards",
        "sure": "true or false: whether a provisional lease is none",
        "take_over": "true or false: whether to end leases whose node can't be reached",
        "use": _USE_RULE,
    }


class RenewOptions(Options, frozen=True, kw_only=True):
    """``lease.renew``."""

    ttl_s: _TTL | None = None
    use: _Use = ""
    RULES: ClassVar[Mapping[str, str]] = {"ttl_s": _TTL_RULE + ", instead of what it was", "use": _USE_RULE}


class ReleaseOptions(Options, frozen=True, kw_only=True):
    """``lease.release``."""

    use: _Use = ""
    RULES: ClassVar[Mapping[str, str]] = {"use": _USE_RULE}


class ListOptions(Options, frozen=True, kw_only=True):
    """``lease.list``."""

    scope: str | None = None
    mine: bool = False
    RULES: ClassVar[Mapping[str, str]] = {
        "scope": "a scope: only what overlaps with it",
        "mine": "true or false: only what the caller has or waits for",
    }


class ForceOptions(Options, frozen=True, kw_only=True):
    """``admin.lease_release``."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=400, pattern=LINE)]
    RULES: ClassVar[Mapping[str, str]] = {"reason": f"a string of 1 to 400 characters, {LINE_RULE}"}
