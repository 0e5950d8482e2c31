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

from trishula.homes import expanded
from trishula_router.alerts.roads import Roads
from trishula_router.archiving.archiver import InThread
from trishula_router.attachments.files import DIRECTORY, AttachmentFiles
from trishula_router.cells.acceptance import Acceptance
from trishula_router.cells.directories import Directories
from trishula_router.cells.directory_road import DirectoryRoad
from trishula_router.cells.exchange import Ends
from trishula_router.cells.others import Others
from trishula_router.cells.redis_directory_road import RedisDirectoryRoad
from trishula_router.cells.redis_live_road import RedisLiveRoad
from trishula_router.cells.redis_road import RedisRoad
from trishula_router.cells.service import Cells, Parts
from trishula_router.cells.topics import LiveEnds, Topics
from trishula_router.mirroring.mirror import mirrors_of
from trishula_router.mirroring.target import OwnThread
from trishula_router.node import Node
from trishula_router.proxy_workers.workers import ProxyWorkers
from trishula_router.settings.node_key import KeyUnusable, read_signing_key
from trishula_router.store.sqlite.objectives_file import ObjectivesFile

__all__ = ["equip", "join_cells", "join_directories", "join_live_topics"]

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
    if config.cells.name:
        ends = Ends(
            RedisRoad(config.cells, config.node, config.state_dir),
            RedisRoad(config.cells, config.node, config.state_dir),
            OwnThread("cells-write", call_in_reactor),
            OwnThread("cells-read", call_in_reactor),
        )
        join_cells(node, ends)
        live_ends = LiveEnds(
            RedisLiveRoad(config.cells, config.state_dir),
            RedisLiveRoad(config.cells, config.state_dir),
            OwnThread("cells-say", call_in_reactor),
            OwnThread("cells-hear", call_in_reactor),
        )
        join_live_topics(node, live_ends)
        road = RedisDirectoryRoad(config.cells, config.state_dir)
        join_directories(node, road, OwnThread("cells-directory", call_in_reactor))
    node.crossbar_dir = crossbar_dir
    node.archiver.in_thread = _in_thread
    node.attachments.disk.in_thread = _in_thread
    node.attachments.disk.files = AttachmentFiles(config.state_dir / DIRECTORY)
    try:
        node.archiver.segments.key = read_signing_key(crossbar_dir)
    except KeyUnusable as error:
        log.warn("what goes into the archive is chained, and not signed: {why}", why=str(error))


def join_cells(node: Node, ends: Ends) -> None:
    """Have a node forward to other cells, and take what they send.

    Args:
        node: before its start.
        ends: of the road that joins them.
    """
    options = node.config.cells
    acceptance = Acceptance(
        node.store,
        node.mailroom,
        node.room,
        node.intake.recipients,
        node.replies,
        node.conversations,
        node.config.limits,
        ids_since=lambda at: node.timekeeper.earlier(at - node.config.retention.ids_ms),
        now=node.now,
    )
    node.cells = Cells(
        options.name,
        node.config.state_dir / expanded(options.key_file),
        Parts(
            node.config.node,
            node.store,
            node.mailroom,
            node.delivery,
            node.settlement,
            node.endings,
            node.consumers,
            node.peering,
            node.neighbourhood,
            node.outlet,
        ),
        acceptance,
        ends,
        epoch=f"{node.config.node}:{node.started_at:x}:{round(node.random() * 2**32):x}",
        refused=node.refusals.refused,
        close_session=node.close_session,
        clock=node.clock,
        now=node.now,
        random=node.random,
        late_s=options.late_s,
    )
    node.outlet.heard, node.audit.remark = node.cells.heard, node.cells.remark


def join_live_topics(node: Node, ends: LiveEnds) -> None:
    """Have the agents' topics of a node that is joined with other cells heard there, and theirs heard here.

    Args:
        node: before its start.
        ends: of the road that carries live events.
    """
    cells = node.cells
    assert cells is not None

    def may_publish(agent: str, topic: str) -> bool:
        who = {"authid": agent, "authrole": node.principals.role_of(agent)}
        return node.authorizer.decide(who, topic, "publish", {}) is None

    cells.topics = Topics(
        cells.cell,
        cells.epoch,
        ends,
        cells.sealed,
        may_publish=may_publish,
        not_believed=cells.exchange.not_believed,
        clock=node.clock,
        random=node.random,
    )


def join_directories(node: Node, road: DirectoryRoad, in_thread: InThread) -> None:
    """Have a node that is joined with other cells tell them who is there, and hear it of them.

    Args:
        node: before its start.
        road: that carries directories.
        in_thread: has what blocks done.
    """
    cells = node.cells
    assert cells is not None
    cells.directories = Directories(
        cells.cell,
        road,
        in_thread,
        cells.sealed,
        Others(cells.cell, lambda agent: node.principals.get(agent) is not None),
        own=node.neighbourhood.linked_entries,
        leads=cells.leads,
        not_believed=cells.exchange.not_believed,
        where=cells.exchange.where,
        clock=node.clock,
        now=node.now,
        random=node.random,
    )
    node.neighbourhood.beyond = cells.directories


def _in_thread(work: Callable[[], _T]) -> Deferred[_T]:
    return deferToThread(work)
