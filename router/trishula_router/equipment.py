"""What a node gets of the machine that it runs on: threads for what blocks, files beside its store, its signing key.

A node in memory, as tests make them, has none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from trishula_router.alerts.roads import Roads
from trishula_router.attachments.files import DIRECTORY, AttachmentFiles
from trishula_router.mirroring.mirror import mirrors_of
from trishula_router.node import Node
from trishula_router.proxy_workers.workers import ProxyWorkers
from trishula_router.settings.node_key import KeyUnusable, read_signing_key
from trishula_router.store.sqlite.objectives_file import ObjectivesFile

__all__ = ["equip"]

log = Logger()

_T = TypeVar("_T")


def equip(node: Node, call_in_reactor: Callable[[Callable[[], None]], None], crossbar_dir: Path) -> None:
    """Give a node what it needs of its machine.

    Args:
        node: before its start.
        call_in_reactor: hands a function over to the reactor's thread.
        crossbar_dir: where Crossbar keeps the node's key.

    Raises:
        ConfigError: the port of the proxy workers can't be had.
        NotPrivate: others could reach the socket of the proxy workers.
    """
    config = node.config
    node.send_alert = Roads(config.alerts, config.state_dir, call_in_reactor).send_in_thread
    node.book_file = ObjectivesFile(config.state_dir, call_in_reactor)
    node.mirrors = mirrors_of(
        config,
        node.store,
        node.archiver.segments.archive,
        call_in_reactor,
        clock=node.clock,
        now=node.now,
        random=node.random,
    )
    if config.proxy_workers:
        workers = ProxyWorkers(config, node.clock)
        workers.begin()
        node.proxy_workers, node.joined_by_proxy = workers.told, workers.joined
    node.crossbar_dir = crossbar_dir
    node.archiver.in_thread = _in_thread
    node.attachments.disk.in_thread = _in_thread
    node.attachments.disk.files = AttachmentFiles(config.state_dir / DIRECTORY)
    try:
        node.archiver.segments.key = read_signing_key(crossbar_dir)
    except KeyUnusable as error:
        log.warn("what goes into the archive is chained, and not signed: {why}", why=str(error))


def _in_thread(work: Callable[[], _T]) -> Deferred[_T]:
    return deferToThread(work)
