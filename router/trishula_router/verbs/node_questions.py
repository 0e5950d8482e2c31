"""What operators ask a node about itself: how it is, what waits in its mailboxes, and what is in one of them.

These are procedures like those of :mod:`.procedures`, kept apart because none of them changes anything in the mail; one
sends a test to whoever is told of alerts, one declares planned maintenance, and one archives old records.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import msgspec

from trishula.contract import uris
from trishula.contract.addresses import Address
from trishula.contract.texts import one_line, show_value
from trishula.errors import ArgumentInvalid
from trishula_router.agents.callers import Caller, Verb
from trishula_router.verbs import arguments
from trishula_router.verbs.archive_options import ArchiveOptions
from trishula_router.verbs.objective_options import MaintenanceOptions, ObjectivesOptions

if TYPE_CHECKING:
    # Its type alone, as in procedures.
    from trishula_router.node import Node

__all__ = ["NodeQuestions"]


class NodeQuestions:
    """The procedures ``node.*`` of one node, ``admin.maintenance`` and ``admin.archive``.

    Args:
        node: whose services they ask.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def by_uri(self) -> dict[str, Verb]:
        """Every one of them, by its URI."""
        return {
            uris.NODE_STATUS: self._node_status,
            uris.NODE_READY: self._ready,
            uris.NODE_MAILBOXES: self._mailboxes,
            uris.NODE_PEEK: self._peek,
            uris.NODE_ALERTS: self._alerts,
            uris.NODE_OBJECTIVES: self._objectives,
            uris.ADMIN_MAINTENANCE: self._maintenance,
            uris.ADMIN_ARCHIVE: self._archive,
            uris.NODE_ALERT_TEST: self._alert_test,
        }

    async def _ready(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "ready", 0, 0)
        return dict(self._node.ready())

    async def _mailboxes(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        (raw,) = arguments.read_positional(args, "mailboxes", 0, 1)
        options = arguments.read(arguments.MailboxesOptions, raw, "options")
        agent = None if options.agent is None else _address(options.agent, "options.agent")
        return await self._node.backlogs.page(agent, options.limit)

    async def _alerts(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "alerts", 0, 0)
        return await self._node.notifier.told()

    async def _objectives(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "objectives", 0, 1)
        options = arguments.read(ObjectivesOptions, raw, "options")
        windows = None if options.windows is None else tuple(dict.fromkeys(options.windows))
        told = await self._node.recorder.told(windows, options.since, options.until, options.step_s)
        return {**told, **self._node.canary_rounds.told()}

    async def _maintenance(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        word, raw = arguments.read_positional(args, "maintenance", 1, 2)
        if word not in ("start", "end"):
            raise ArgumentInvalid(f'act is {show_value(word)}; it must be "start" or "end"')
        options = arguments.read(MaintenanceOptions, raw, "options")
        recorder = self._node.recorder
        if word == "start":
            declared = recorder.start_maintenance(options.for_s, one_line(options.reason), caller.agent)
            return {"node": self._node.config.node, "maintenance": msgspec.structs.asdict(declared)}
        ended = recorder.end_maintenance()
        told = None if ended is None else msgspec.structs.asdict(ended)
        return {"node": self._node.config.node, "maintenance": told}

    async def _archive(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        (raw,) = arguments.read_positional(args, "archive", 0, 1)
        options = arguments.read(ArchiveOptions, raw, "options")
        older_than_ms = None if options.older_than_s is None else round(options.older_than_s * 1000)
        archiver = self._node.archiver
        done = await (archiver.plan(older_than_ms) if options.dry_run else archiver.archive(older_than_ms))
        return {"node": self._node.config.node, **msgspec.structs.asdict(done)}

    async def _alert_test(self, caller: Caller, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        arguments.read_positional(args, "alert_test", 0, 0)
        return await self._node.notifier.test()

    async def _peek(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        address, raw = arguments.read_positional(args, "peek", 1, 2)
        options = arguments.read(arguments.NodePeekOptions, raw, "options")
        checked = _address(address, "address")
        page = await self._node.peeking.page(checked, options.after, options.max)
        pending, in_flight = self._node.mailroom.counts(checked)
        store = self._node.store
        return {
            **page,
            "node": self._node.config.node,
            "epoch": store.epoch,
            "high_water": store.high_water,
            "pending": pending,
            "in_flight": in_flight,
        }

    async def _node_status(self, caller: Caller, args: tuple[Any, ...]) -> dict[str, Any]:
        arguments.read_positional(args, "status", 0, 0)
        pending, in_flight = self._node.mailroom.totals()
        entries = self._node.neighbourhood.entries()
        store = self._node.store.condition()
        return {
            "node": self._node.config.node,
            "version": self._node.version,
            "pid": os.getpid(),
            "started_at": self._node.started_at,
            "epoch": self._node.store.epoch,
            "high_water": self._node.store.high_water,
            "agents": len(entries),
            "present": sum(entry["presence"] != "offline" for entry in entries),
            "pending": pending,
            "in_flight": in_flight,
            "connections": {**self._node.connections(), "refused_joins": self._node.refused_joins.count},
            "proxy_workers": dict(self._node.proxy_workers()),
            "refused": {**self._node.quotas.told(), **self._node.room.told()},
            "store_bytes": store.size_bytes,
            "store": msgspec.structs.asdict(store),
            "archive": self._node.archiver.told(),
            "mirrors": [mirror.told() for mirror in self._node.mirrors],
            "cells": None if self._node.cells is None else self._node.cells.told(),
            "attachments": self._node.attachments.told(),
            "fallback": self._node.fallback.mode.told(),
            "agents_file_fault": self._node.principals.fault,
            "serve_unwritten": list(self._node.principals.unwritten),
            "timed_grants": [
                {"agent": agent, **dataclasses.asdict(grant)} for agent, grant in self._node.principals.timed
            ],
            "clock_gap_ms": self._node.timekeeper.gap_ms,
            "agents_digest": self._node.principals.digest,
            "agents_shared": self._node.config.agents.shared,
            "peers": [{**peer, "link": self._node.links.told(peer["node"])} for peer in self._node.peering.told()],
        }


def _address(raw: object, path: str) -> str:
    """The address of a mailbox: an agent's, an instance's or a capability's."""
    try:
        return str(Address.parse(raw))
    except ValueError as error:
        raise ArgumentInvalid(
            f"{path} is {show_value(raw)}; it must be an agent, agent/instance or capability:NAME, and {error}"
        ) from None
