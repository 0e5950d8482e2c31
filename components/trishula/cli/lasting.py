"""Commands that stay: which errors they outlast, and which end them."""

from __future__ import annotations

from trishula.errors import BusUnreachable, OutcomeUnknown, TrishulaError

__all__ = ["may_pass"]


def may_pass(error: TrishulaError) -> bool:
    """Whether patience may mend it; a token that was revoked, for one, stays so, and a command that waits says it."""
    return error.temporary or isinstance(error, BusUnreachable | OutcomeUnknown)
