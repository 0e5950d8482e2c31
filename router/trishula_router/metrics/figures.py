"""Reads a node: what its services know and have counted, as samples. What is in mailboxes is in :mod:`.mailboxes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trishula.contract import uris
from trishula_router.histogram import Histogram
from trishula_router.store.messages import State

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["Sample", "of_certificate", "read"]

#: A metric's name, the values of its labels in their order, and its value.
Sample = tuple[str, tuple[str, ...], float | Histogram]

#: Of an error's URI what stands in a label.
_ERRORS = f"{uris.PREFIX}error."


def read(node: Node) -> Iterator[Sample]:
    """Everything but what is in mailboxes."""
    yield from _of_node(node)
    yield from _of_messages(node)
    yield from _of_sessions(node)
    yield from _of_store(node)
    yield from _of_mirrors(node)
    yield from _of_cells(node)
    yield from _of_peers(node)
    yield from _of_canaries(node)


def _of_node(node: Node) -> Iterator[Sample]:
    yield "trishula_node_info", (node.config.node, node.version), 1
    yield "trishula_node_start_time_seconds", (), node.started_at / 1000
    told = node.ready()
    yield "trishula_node_ready", (), told["ready"]
    for check in told["checks"]:
        yield "trishula_node_check_ok", (check["check"],), check["ok"]
    mode = node.fallback.mode
    yield "trishula_fallback", (), 0 if mode.facts.mode == "live" else 2 if mode.refuses else 1
    yield "trishula_loop_lag_seconds", (), node.measures.loop_lag.times
    yield "trishula_clock_gap_seconds", (), node.timekeeper.gap_ms / 1000
    yield "trishula_agents_file_ok", (), node.principals.fault is None


def _of_messages(node: Node) -> Iterator[Sample]:
    yield "trishula_message_accept_duration_seconds", (), node.intake.waits
    yield "trishula_message_delivery_delay_seconds", (), node.delivery.lender.waits
    yield "trishula_message_done_delay_seconds", (), node.settlement.lifetimes
    yield "trishula_message_surfaced_delay_seconds", (), node.surfacing.delays
    yield "trishula_messages_unread", (), sum(node.surfacing.unread().values())
    yield "trishula_conversations_quarantined", (), len(node.conversations.told())
    yield "trishula_signatures_refused_total", (), node.settlement.signatures_refused
    yield "trishula_messages_duplicate_total", (), node.intake.duplicates
    yield "trishula_messages_redelivered_total", (), node.delivery.lender.repeated
    for state in State:
        if state is not State.OPEN:
            yield "trishula_messages_settled_total", (state.name.lower(),), node.settlement.settled[state]
    for error, count in node.intake.receipts.refused.items():
        yield "trishula_messages_refused_total", (_short(error),), count
    for copies, count in node.intake.receipts.copies_told.items():
        yield "trishula_receipts_total", (str(copies),), count
    yield "trishula_copies_available", (), node.peering.copies.available()


def _of_sessions(node: Node) -> Iterator[Sample]:
    there = node.connections()
    for name, key in (
        ("trishula_sessions", "joined"),
        ("trishula_strangers", "strangers"),
        ("trishula_strangers_ended_total", "ended_strangers"),
        ("trishula_slow_readers_ended_total", "ended_slow_readers"),
        ("trishula_outgoing_queue_bytes", "queued_bytes"),
    ):
        # Without Crossbar as it is expected to be, nobody counts connections.
        if key in there:
            yield name, (), there[key]
    if workers := node.proxy_workers():
        yield "trishula_proxy_workers", (), workers["running"]
    yield "trishula_joins_refused_total", (), node.refused_joins.count
    calls = node.measures.calls
    for uri, times in calls.times.items():
        yield "trishula_call_duration_seconds", (uri.removeprefix(uris.PREFIX),), times
    for error, count in calls.refused.items():
        yield "trishula_calls_refused_total", (_short(error),), count
    for error, count in node.refusals.counts.items():
        yield "trishula_denials_total", (_short(error),), count
    for quota, count in {**node.quotas.told(), **node.room.told()}.items():
        yield "trishula_quota_refusals_total", (quota,), count


def _of_store(node: Node) -> Iterator[Sample]:
    condition = node.store.condition()
    yield "trishula_store_commit_duration_seconds", (), node.store.commits.times
    yield "trishula_store_commit_records", (), node.store.commits.records
    yield "trishula_store_bytes", (), condition.size_bytes
    yield "trishula_store_used_bytes", (), condition.used_bytes
    if condition.limit_bytes is not None:
        yield "trishula_store_limit_bytes", (), condition.limit_bytes
    if condition.free_bytes is not None:
        yield "trishula_disk_free_bytes", (), condition.free_bytes
    yield "trishula_store_ok", (), condition.shortage is None and condition.fault is None
    yield "trishula_journal_records", (), node.store.high_water
    yield "trishula_journal_base", (), node.store.base().sequence
    yield "trishula_archive_ok", (), node.archiver.fault is None
    yield "trishula_archive_bytes", (), node.archiver.told()["bytes"]


def _of_mirrors(node: Node) -> Iterator[Sample]:
    for mirror in node.mirrors:
        lag, name = mirror.lag(), mirror.target.name
        yield "trishula_mirror_lag_records", (name,), lag.records
        yield "trishula_mirror_lag_seconds", (name,), lag.s
        yield "trishula_mirror_errors_total", (name,), mirror.errors


def _of_cells(node: Node) -> Iterator[Sample]:
    if node.cells is None:
        return
    told = node.cells.told()
    yield "trishula_cells_waiting_messages", (), told["waiting_messages"]
    yield "trishula_cells_waiting_seconds", (), told["waiting_s"]
    yield "trishula_cells_out_messages", (), told["out_messages"]
    yield "trishula_cells_resent_total", (), told["resent"]
    yield "trishula_cells_accepted_total", (), told["accepted"]
    yield "trishula_cells_refused_entries_total", (), told["refused_entries"]
    yield "trishula_cells_errors_total", (), told["errors"]
    if told["canary_s"] is not None:
        yield "trishula_cells_canary_seconds", (), told["canary_s"]
    yield "trishula_cells_up", (), told["fault"] is None
    if (others := told["others"]) is not None:
        yield "trishula_cells_silent", (), others["silent"]
    if (topics := told["topics"]) is not None:
        yield "trishula_cells_events_sent_total", (), topics["sent"]
        yield "trishula_cells_events_heard_total", (), topics["heard"]
        yield "trishula_cells_events_dropped_total", (), topics["dropped"]


def _of_peers(node: Node) -> Iterator[Sample]:
    for peer in node.peering.told():
        name = peer["node"]
        if peer["version"] is not None:
            yield "trishula_peer_info", (name, peer["version"]), 1
        yield "trishula_peer_up", (name,), peer["state"] == "up"
        yield "trishula_peer_replication_ok", (name,), peer["fault"] is None
        yield "trishula_peer_lag_records", (name,), peer["lag_records"]
        lag_s = peer["lag_s"]
        if lag_s is None:
            # It has lacked something for as long as this node can tell; without a figure no alert could fire.
            lag_s = max(0.0, (node.now() - node.started_at) / 1000)
        yield "trishula_peer_lag_seconds", (name,), lag_s
        yield "trishula_peer_to_copy_records", (name,), peer["to_copy_records"]
        if peer["clock_ahead_ms"] is not None:
            yield "trishula_peer_clock_ahead_seconds", (name,), peer["clock_ahead_ms"] / 1000
    for (name, event), count in node.links.counts.items():
        yield "trishula_link_events_total", (name, event), count


def _of_canaries(node: Node) -> Iterator[Sample]:
    for road, tally in {**node.canaries.roads, **node.file_canaries.roads}.items():
        yield "trishula_canaries_total", (road, "answered"), tally.answered
        yield "trishula_canaries_total", (road, "lost"), tally.lost
        yield "trishula_canary_one_way_seconds", (road,), tally.times


def of_certificate(ends_at: int | None) -> Iterator[Sample]:
    """When the node's certificate ends, from ms; nothing of a node that shows none."""
    if ends_at is not None:
        yield "trishula_certificate_expiry_time_seconds", (), ends_at / 1000


def _short(error: str) -> str:
    return error.removeprefix(_ERRORS)
