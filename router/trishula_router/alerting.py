"""How a node's notifier (:mod:`trishula_router.alerts`) learns how the node is."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from trishula_router.alerts.certificate_end import CertificateEnd
from trishula_router.alerts.conditions import Facts
from trishula_router.alerts.notifier import Notifier
from trishula_router.realm import OPERATOR_ROLE
from trishula_router.services import Services
from trishula_router.settings.alerts import AlertOptions

__all__ = ["facts_of", "notifier_of"]

#: So many of the deepest mailboxes are looked at, and so many dead letters are counted.
_MAILBOXES, _DEAD_LETTERS = 50, 1000


def notifier_of(services: Services) -> Notifier:
    """The notifier of a node; of one that has no way to send, nobody is told."""
    config, send = services.config, services.send_alert
    # Where "trishula node start" writes it.
    ends_at = CertificateEnd(config.state_dir / "crossbar" / "config.json", services.now)
    return Notifier(
        config.node,
        config.alerts if send is not None else AlertOptions(),
        lambda: facts_of(services, ends_at),
        send or _send_nothing,
        clock=services.clock,
        now=services.now,
        random=services.random,
    )


def _send_nothing(road: str, alert: object) -> Deferred[str]:
    raise RuntimeError(f"there is no road {road}")


async def facts_of(services: Services, certificate_ends_at: Callable[[], int | None]) -> Facts:
    """What is known of the node now."""
    condition = services.store.condition()
    most = services.config.alerts.dead_letters
    names = services.principals.names()
    return Facts(
        ready=services.ready(),
        store_fault=condition.fault or condition.shortage,
        peers=services.peering.told(),
        clock_gap_ms=services.timekeeper.gap_ms,
        agents=services.neighbourhood.entries(),
        operators=frozenset(name for name in names if services.role_of(name) == OPERATOR_ROLE),
        mailboxes=await services.backlogs.page(None, _MAILBOXES),
        dead_letters=len(await services.store.dead_letters(0, max(most, _DEAD_LETTERS), None)) if most else 0,
        certificate_ends_at=certificate_ends_at(),
    )
