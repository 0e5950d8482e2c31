"""How a node's notifier (:mod:`trishula_router.alerts`) learns how the node is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from trishula.errors import StorageFailed, StorageFull
from trishula_router.alerts.conditions import Facts
from trishula_router.alerts.notifier import Notifier
from trishula_router.background import log_fault
from trishula_router.services import Services
from trishula_router.settings.alerts import AlertOptions
from trishula_router.settings.certificate_end import CertificateEnd
from trishula_router.store.interface import Store

__all__ = ["facts_of", "notifier_of"]

log = Logger()

#: So many of the deepest mailboxes are looked at, and so many dead letters are counted.
_MAILBOXES, _DEAD_LETTERS = 50, 1000
#: Under what the store remembers what was told.
_KEY = "alerts"
#: A store that hangs is a thing to be told, and must not keep the node from it.
_READ_S = 5.0


async def notifier_of(services: Services) -> Notifier:
    """The notifier of a node, which knows what the last run told; of one that has no way to send, nobody is told."""
    config, send = services.config, services.send_alert
    # Where "trishula node start" writes it.
    ends_at = CertificateEnd(config.state_dir / "crossbar" / "config.json", services.now)
    notifier = Notifier(
        config.node,
        config.alerts if send is not None else AlertOptions(),
        lambda: facts_of(services, ends_at),
        send or _send_nothing,
        clock=services.clock,
        now=services.now,
        random=services.random,
        keep=lambda text: _keep(services.store, text),
    )
    before = (await services.store.remembered(_KEY)).get(_KEY) if notifier.is_on else None
    if before is not None:
        notifier.recall(before)
    return notifier


def _keep(store: Store, text: str) -> None:
    store.remember({_KEY: text}).addErrback(log_fault, log, "it could not be kept of what somebody was told")


def _send_nothing(road: str, alert: object) -> Deferred[str]:
    raise RuntimeError(f"there is no road {road}")


async def facts_of(services: Services, certificate_ends_at: Callable[[], int | None]) -> Facts:
    """What is known of the node now; of a store that fails, or hangs, it is known without what lies in it."""
    condition = services.store.condition()
    names = services.principals.names()
    reading = Deferred.fromCoroutine(_in_store(services)).addTimeout(
        _READ_S,
        services.clock,  # type: ignore[arg-type]
    )
    try:
        mailboxes, dead_letters = await reading
        is_store_read = True
    except (StorageFailed, StorageFull, TimeoutError):
        mailboxes, dead_letters, is_store_read = [], 0, False
    return Facts(
        ready=services.ready(),
        store_fault=condition.fault or condition.shortage,
        peers=services.peering.told(),
        clock_gap_ms=services.timekeeper.gap_ms,
        agents=services.neighbourhood.entries(),
        visitors=frozenset(name for name in names if services.principals.is_visitor(name)),
        mailboxes=mailboxes,
        dead_letters=dead_letters,
        loops=services.conversations.told(),
        unread=services.surfacing.unread(),
        cells=None if services.cells is None else services.cells.told(),
        cells_late_s=services.config.cells.late_s,
        certificate_ends_at=certificate_ends_at(),
        is_store_read=is_store_read,
    )


async def _in_store(services: Services) -> tuple[list[dict[str, Any]], int]:
    """The deepest mailboxes, and how many dead letters there are."""
    most = services.config.alerts.dead_letters
    mailboxes = await services.backlogs.page(None, _MAILBOXES)
    letters = await services.store.dead_letters(0, max(most, _DEAD_LETTERS), None) if most else []
    return mailboxes, len(letters)
