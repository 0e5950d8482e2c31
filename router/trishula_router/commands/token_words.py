"""What all commands of ``trishula token`` say of a token or an agent, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from trishula.cli.words import local_time
from trishula_router.agents.tokens import TokenRecord

__all__ = ["STATE_HELP", "describe", "id_of", "no_agent", "shown_here"]

STATE_HELP = "The node's state directory (default: $TRISHULA_STATE, else ~/.local/state/trishula)."


def describe(record: TokenRecord, now_s: float) -> dict[str, str | None]:
    state = "expired" if record.is_over(now_s) else "not yet valid" if record.is_early(now_s) else "valid"
    return {
        "id": id_of(record),
        "state": state,
        "created_at": _show(record.created_at),
        "not_before": _show(record.not_before),
        "expires_at": _show(record.expires_at),
    }


def id_of(record: TokenRecord) -> str:
    """Enough of the hash to tell tokens apart, and to name one."""
    return record.sha256[:8]


def _show(instant_s: float | None) -> str | None:
    return None if instant_s is None else datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_here(instant_s: float | None) -> str:
    """For people: as all times are printed."""
    return local_time(None if instant_s is None else instant_s * 1000, "seconds")


def no_agent(name: str, path: Path) -> str:
    return f"there is no agent {name} in {path}; register it with: trishula token new {name}"
