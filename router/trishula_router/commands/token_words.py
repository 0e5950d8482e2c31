"""The options that commands of ``trishula token`` have in common, and their words for a token or an agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from trishula.cli.values import Duration
from trishula.cli.words import local_time
from trishula.contract.texts import LINE_RULE, is_line
from trishula.contract.units import parse_duration_s
from trishula_router.agents.changes import short_id
from trishula_router.agents.tokens import TokenEntry
from trishula_router.commands.state_dir import peers_of
from trishula_router.store.revoked import Revocation

__all__ = [
    "STATE_HELP",
    "check_reason",
    "check_span",
    "describe",
    "elsewhere",
    "expires_option",
    "instant_s",
    "no_agent",
    "reason_option",
    "shown",
    "shown_here",
]

STATE_HELP = "The node's state directory (default: $TRISHULA_STATE, else ~/.local/state/trishula)."
#: A hundred years: whoever means longer means for ever.
_MOST_DAYS = 36_500
#: The year 10000, in seconds since the epoch.
_END_OF_TIME_S = 253_402_300_800
#: A sentence for the journal.
_REASON_LETTERS = 300

expires_option = click.option(
    "--expires-in",
    "expires_in_s",
    type=Duration(least_s=0.001),
    metavar="DURATION",
    help='How long the new token is valid, such as "30d" (default: for ever).',
)
reason_option = click.option("--reason", metavar="TEXT", help="Why, in one line, for the node's journal.")


def check_reason(reason: str | None) -> str | None:
    """What ``--reason`` says.

    Raises:
        click.UsageError: it is no sentence for the journal.
    """
    if reason is not None and (not reason.strip() or len(reason) > _REASON_LETTERS or not is_line(reason)):
        raise click.UsageError(f"--reason is {reason!r}; it must have 1 to {_REASON_LETTERS} characters, {LINE_RULE}")
    return reason


def elsewhere(state_dir: Path, what: str) -> str | None:
    """What is to be said of the nodes that this one is linked with; ``None`` if there are none.

    Each node has a file of agents of its own: what is changed in one holds for its own doors alone.
    """
    peers = peers_of(state_dir)
    return f"this node is linked with {', '.join(peers)}: {what}" if peers else None


def check_span(option: str, span_s: float | None) -> None:
    """Refuse a span that no calendar has room for.

    Raises:
        click.UsageError: it is so long.
    """
    if span_s is not None and span_s > _MOST_DAYS * 86_400:
        raise click.UsageError(f"{option} is {span_s / 86_400:.0f}d; it must be at most {_MOST_DAYS}d")


def instant_s(text: str | None, option: str, now_s: float, *, sign: int) -> float | None:
    """Seconds since the epoch of a span such as ``2h``, from now (``sign`` 1) or ago (-1), or of a date.

    Raises:
        click.UsageError: it is neither, or no calendar has that instant.
    """
    if text is None:
        return None
    try:
        instant = now_s + sign * parse_duration_s(text)
    except ValueError:
        try:
            instant = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            instant = -1.0
    if not 0.0 <= instant < _END_OF_TIME_S:
        raise click.UsageError(
            f"{option} is {text!r}; it must be a span such as '10m', '2h' or '1d' ({'ago' if sign < 0 else 'from now'}"
            "), or a date such as 2026-11-23T00:00:00 (here) or 2026-11-23T00:00:00Z"
        )
    return instant


def describe(record: TokenEntry, now_s: float, revoked: Revocation | None = None) -> dict[str, str | None]:
    state = "expired" if record.is_over(now_s) else "not yet valid" if record.is_early(now_s) else "valid"
    if revoked is not None:
        state = "revoked"
    return {
        "id": short_id(record),
        "kind": record.kind,
        "public_key": record.ed25519,
        "state": state,
        "created_at": shown(record.created_at),
        "not_before": shown(record.not_before),
        "expires_at": shown(record.expires_at),
    }


def shown(instant_s: float | None) -> str | None:
    """For programs: UTC, to the second."""
    return None if instant_s is None else datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_here(instant_s: float | None) -> str:
    """For people: as all times are printed."""
    return local_time(None if instant_s is None else instant_s * 1000, "seconds")


def no_agent(name: str, path: Path) -> str:
    return f"there is no agent {name} in {path}; register it with: trishula token new {name}"
