"""What one look at a bus found: the facts of a frame, as ``trishula top --once --json`` prints them.

=======================  ===========================================================================================
``at``                   the time by the node's clock, in ms since the epoch
``node``, ``version``    the node that was asked
``up_ms``                how long it has been running
``fault``                what is wrong with its store or its agents file; ``null`` if nothing is
``pending, in_flight``   messages that wait, and messages that are being handled, of all mailboxes together
``agents``               ``[{agent, presence, node, clock_skew_ms, waiting, busy_for_ms, doing}…]``: first who is
                         there; ``waiting`` counts all that is not done, ``null`` of a node that tells no mailboxes
``flow``                 ``[{from, to, lately_per_s, per_s}…]``: messages a second in the last ten seconds, and in the
                         last minute; the busiest first
``latency``              ``{messages, p50_ms, p99_ms}`` from acceptance until done, of what was done in the last minute
``passed_over_records``  records of the journals that were not read, because there were too many
``peers``                ``[{node, state, lag_records, to_copy_records, clock_ahead_ms, fault}…]``: other nodes
``mailboxes``            ``[{address, pending, in_flight, oldest_ms, takers}…]``: those with mail, the deepest first;
                         ``null`` of a node that doesn't tell
=======================  ===========================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trishula.watching.flow import Flow

__all__ = ["Facts", "facts_of"]

Facts = dict[str, Any]

_ORDER = {"busy": 0, "online": 1, "stale": 2}
_LAST = len(_ORDER)


def facts_of(
    status: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    boxes: Sequence[Mapping[str, Any]] | None,
    flow: Flow,
    now: int,
) -> Facts:
    """Make the facts of what a node answered; see the module's docstring.

    Args:
        status: ``trishula.node.status``.
        entries: ``trishula.directory.list``.
        boxes: ``trishula.node.mailboxes``; ``None`` of a node that doesn't answer it.
        flow: the traffic.
        now: the time by the node's clock, in ms since the epoch.
    """
    store = status.get("store") or {}
    waiting: Counter[str] = Counter()
    for box in boxes or ():
        waiting[str(box["address"]).partition("/")[0]] += _depth(box)
    agents = [_agent(entry, None if boxes is None else waiting[str(entry.get("agent"))], now) for entry in entries]
    latency = flow.latency(now)
    return {
        "at": now,
        "node": status.get("node"),
        "version": status.get("version"),
        "up_ms": max(0, now - int(status.get("started_at", now))),
        "fault": store.get("fault") or store.get("shortage") or status.get("agents_file_fault"),
        "pending": status.get("pending", 0),
        "in_flight": status.get("in_flight", 0),
        "agents": sorted(
            agents, key=lambda one: (_ORDER.get(one["presence"], _LAST), -(one["waiting"] or 0), one["agent"])
        ),
        "flow": [
            {
                "from": pair.sender,
                "to": pair.recipient,
                "lately_per_s": round(pair.lately_per_s, 2),
                "per_s": round(pair.per_s, 2),
            }
            for pair in flow.pairs(now)
        ],
        "latency": {"messages": latency.messages, "p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms},
        "passed_over_records": flow.passed_over,
        "peers": [_peer(peer) for peer in status.get("peers", ())],
        "mailboxes": None if boxes is None else [_box(box, now) for box in boxes if _depth(box)],
    }


def _agent(entry: Mapping[str, Any], waiting: int | None, now: int) -> Facts:
    is_there = entry.get("presence") in _ORDER
    is_busy = entry.get("presence") == "busy" and entry.get("busy_until") is not None
    doing = entry.get("progress") or (entry.get("reason") if entry.get("presence") == "stale" else None)
    return {
        "agent": str(entry.get("agent")),
        "presence": str(entry.get("presence")),
        "node": entry.get("node"),
        "clock_skew_ms": entry.get("clock_skew_ms") if is_there else None,
        "waiting": waiting,
        "busy_for_ms": max(0, int(entry["busy_until"]) - now) if is_busy else None,
        "doing": doing if is_there else None,
    }


def _peer(peer: Mapping[str, Any]) -> Facts:
    is_up = peer.get("state") == "up"
    trouble = None if is_up else (peer.get("link") or {}).get("trouble")
    told = {key: peer.get(key) for key in ("node", "state", "lag_records", "to_copy_records", "clock_ahead_ms")}
    return {**told, "fault": peer.get("fault") or trouble or peer.get("warning")}


def _box(box: Mapping[str, Any], now: int) -> Facts:
    consumer, oldest_at = box.get("consumer"), box.get("oldest_at")
    takers = [*box.get("able", ()), *(f"some at {node}" for node in box.get("able_at", ()))]
    if consumer:
        takers.append(consumer.get("host") or f"at {consumer.get('node')}")
    return {
        "address": str(box.get("address")),
        "pending": box.get("pending", 0),
        "in_flight": box.get("in_flight", 0),
        "oldest_ms": None if oldest_at is None else max(0, now - int(oldest_at)),
        "takers": takers,
    }


def _depth(box: Mapping[str, Any]) -> int:
    return int(box.get("pending", 0)) + int(box.get("in_flight", 0))
