"""Reads the mailboxes of a node and who takes from them, as samples: of so many agents by name, the rest together.

What a scrape costs must not grow with what anybody may make: instances and capabilities have no series of their own,
and of the mailboxes beside the agents' own the ages of the deepest :data:`_AGES` alone are looked up.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from trishula.contract.addresses import Address, agent_of, is_capability
from trishula_router.metrics.families import MOST_AGENTS, OF_CAPABILITIES, OF_OTHERS
from trishula_router.metrics.figures import Sample

if TYPE_CHECKING:
    from trishula_router.node import Node

__all__ = ["read", "to_date"]

_AGES = 200


def to_date(node: Node) -> list[str]:
    """The mailboxes of which a scrape wants to know how old their oldest message is."""
    named = set(_named(node))
    boxes = [box for box in node.mailroom.kept_here() if not box.is_empty]
    others = (box for box in boxes if box.address not in named)
    deepest = heapq.nlargest(_AGES, others, key=lambda box: box.open_messages)
    return [box.address for box in (*(box for box in boxes if box.address in named), *deepest)]


def read(node: Node, oldest: Mapping[str, int]) -> Iterator[Sample]:
    """The samples of mailboxes and agents.

    Args:
        node: whose.
        oldest: when the oldest message of a mailbox was accepted, ms; of those of :func:`to_date`.
    """
    named = _named(node)
    known, now = set(named), node.now()
    waiting: Counter[str] = Counter(dict.fromkeys([*named, OF_CAPABILITIES, OF_OTHERS], 0))
    in_flight, sizes, ages = waiting.copy(), waiting.copy(), dict.fromkeys(waiting, 0.0)
    deepest = used = 0
    for box in node.mailroom.kept_here():
        if box.is_empty:
            continue
        label = _label(box.address, known)
        out = len(box.in_flight)
        waiting[label] += box.open_messages - out
        in_flight[label] += out
        sizes[label] += box.open_bytes
        deepest, used = max(deepest, box.open_messages), used + 1
        if box.address in oldest:
            ages[label] = max(ages[label], (now - oldest[box.address]) / 1000)
    for label in waiting:
        yield "trishula_mailbox_waiting_messages", (label,), waiting[label]
        yield "trishula_mailbox_in_flight_messages", (label,), in_flight[label]
        yield "trishula_mailbox_bytes", (label,), sizes[label]
        yield "trishula_mailbox_oldest_age_seconds", (label,), ages[label]
    yield "trishula_deepest_mailbox_messages", (), deepest
    yield "trishula_mailboxes", (), used
    yield "trishula_mailbox_full_messages", (), node.config.limits.mailbox_messages
    yield from _of_agents(node, named, now)


def _of_agents(node: Node, named: tuple[str, ...], now: int) -> Iterator[Sample]:
    entries = {entry["agent"]: entry for entry in node.neighbourhood.entries()}
    yield "trishula_agents_registered", (), len(entries)
    yield "trishula_agents_present", (), sum(entry["presence"] != "offline" for entry in entries.values())
    for name in named:
        is_here = node.consumers.is_consumed(name) or node.delivery.fetches.is_awaited(name)
        is_consumed = is_here or node.neighbourhood.consumer_of(Address(name)) is not None
        yield "trishula_mailbox_consumed", (name,), is_consumed
        entry = entries.get(name)
        if entry is None:
            continue
        is_present = entry["presence"] != "offline"
        yield "trishula_agent_present", (name,), is_present
        seen_at = entry["last_seen_at"]
        if node.principals.is_visitor(name):
            continue
        if is_present:
            yield "trishula_agent_away_seconds", (name,), 0
        elif seen_at is not None:
            yield "trishula_agent_away_seconds", (name,), max(0, now - seen_at) / 1000


def _named(node: Node) -> tuple[str, ...]:
    return node.principals.names()[:MOST_AGENTS]


def _label(address: str, known: set[str]) -> str:
    if is_capability(address):
        return OF_CAPABILITIES
    agent = agent_of(address)
    return agent if agent in known else OF_OTHERS
