"""How much a node takes, of each thing that somebody could give it too much of: values, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass

from trishula_router.settings.faults import Section

__all__ = ["DEFAULT_TTL", "Limits", "parse_limits"]

#: The longest life of a message, unless a config says otherwise (``limits.ttl``).
DEFAULT_TTL = "30d"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node takes. Each limit has its own error, so that a sender knows which one it met.

    Attributes:
        payload_bytes: the largest payload of one message, as JSON.
        mailbox_messages: how many unsettled messages one mailbox holds.
        mailbox_bytes: how many bytes of payload they have together; at least ``limits.payload``.
        store_bytes: how large the store's file may grow; at least ``limits.mailbox``.
        batch_messages: how many messages travel in one call or event.
        rate_per_s: how many messages a second one agent may send in the long run.
        burst: how many of them at once; at least a tenth of the rate.
        broadcast_rate_per_s: how many broadcasts a second one agent may send in the long run.
        broadcast_burst: how many of them at once; at least a tenth of the rate.
        broadcast_deliveries_per_s: to how many recipients a second, over all broadcasts of one agent.
        broadcast_at_once: to how many at once, at least a tenth of the rate; one broadcast to more is taken after a
            pause, alone.
        connections: how many connections one agent may have at a time.
        connection_queue_bytes: how much waits for one connection that reads slowly; beyond it the connection is ended.
            At least twice ``limits.payload``. A quarter of it is what an agent has unacknowledged at most, but for one
            message more.
        agent_queue_bytes: how much waits for all connections of one agent; beyond it the one with the most is ended.
        queues_bytes: how much waits for all connections of all agents; beyond it the agent with the most loses one.
        strangers: how many connections there may be that have not joined; beyond it the oldest of them goes.
        strangers_per_address: how many of them from one address (IPv6: from one /64); agents that have joined don't
            count.
        handshake_s: how long each step of joining may take: the WebSocket, HELLO, the token.
        subscriptions: how many subscriptions one session has; an agent with all its sessions four times as many.
        registrations: how many procedures one session registers; an agent four times as many.
        calls: for how many answers one session waits; an agent four times as many, and so many may one session owe.
        call_wait_s: how long a call waits for the answer of an agent's procedure; then it ends with
            ``outcome_unknown``, and its callee is interrupted.
        instances: how many instances an agent has; one session speaks for 100 at most.
        fetches: how many fetches of one session wait; an agent's four times as many.
        retained: how many retained events an agent has at the node.
        retained_bytes: how large they are together.
        ttl_ms: the longest ``ttl_ms`` that is taken; at least ``delivery.default_ttl``, at most ``retention.ids``.
            Where it isn't written it follows these two.
        mailbox_share: what part of what others leave of a mailbox one agent may fill: the first a half, the next one a
            half of the rest.
        store_share: the same of the store, by what is unsettled.
        urgent_room: what part of each mailbox, and of what may be unsettled in the store, takes messages of priority 1
            only; it is shared likewise. Of the store's file and its disk the same part, at most 64 MiB, is kept too.
        open_messages: how many messages of one agent may be unsettled, over all mailboxes.
        open_capabilities: to how many capabilities one agent may have messages unsettled.
        conversation_hops: how many answers to answers a conversation may have within ``conversation_within``; 0 for any
            number. One that has more is quarantined.
        conversation_within_s: the span in which they are counted.
        hourly_messages: how many messages one agent may send within an hour; 0 for any number.
        hourly_bytes: how large they may be together; 0 for any size.
    """

    payload_bytes: int
    mailbox_messages: int
    mailbox_bytes: int
    store_bytes: int
    batch_messages: int
    # A little more than a node on two cores does for one agent alone, so that nobody meets it who is answered as fast
    # as the node can; on a larger machine an operator may raise it.
    rate_per_s: float = 30_000.0
    burst: int = 60_000
    # Each is a message to everybody: with few agents the number of broadcasts binds, with more than a hundred that of
    # their deliveries. A node on two cores delivers some ten thousand a second, and others want their part of it.
    broadcast_rate_per_s: float = 10.0
    broadcast_burst: int = 100
    broadcast_deliveries_per_s: float = 1000.0
    broadcast_at_once: int = 5000
    connections: int = 100
    connection_queue_bytes: int = 16 * 1024 * 1024
    agent_queue_bytes: int = 64 * 1024 * 1024
    queues_bytes: int = 96 * 1024 * 1024
    strangers: int = 4096
    strangers_per_address: int = 1024
    handshake_s: float = 5.0
    # Ten times what the largest honest agent was seen with, or more; all of them together take some ten megabytes.
    subscriptions: int = 1000
    registrations: int = 1000
    calls: int = 1000
    # Of a message that is to be worked on for longer a COMMAND keeps its place, and a call does not.
    call_wait_s: float = 3600.0
    instances: int = 5000
    fetches: int = 100
    retained: int = 100
    retained_bytes: int = 1024 * 1024
    ttl_ms: int = 30 * 86_400_000
    mailbox_share: float = 0.5
    store_share: float = 0.25
    urgent_room: float = 0.1
    # The first 2,048 of each mailbox are in memory, some 400 bytes each.
    open_messages: int = 200_000
    open_capabilities: int = 128
    # Models that answer each other at once take some ten seconds a turn, and programs a millisecond; people who wait
    # for either have long had enough.
    conversation_hops: int = 200
    conversation_within_s: float = 3600.0
    hourly_messages: int = 0
    hourly_bytes: int = 0


def parse_limits(section: Section) -> Limits:
    """Read ``limits``; each fault is left with ``section``."""
    payload_bytes = section.size_bytes("payload", "1 MiB", "1 KiB", "8 MiB")
    # The ceiling of a payload leaves room for the envelope in the largest message that the shipped transport takes.
    limits = Limits(
        payload_bytes=payload_bytes,
        mailbox_messages=section.count("mailbox_messages", 100_000, 1, 10_000_000),
        mailbox_bytes=section.size_bytes("mailbox", "256 MiB", "1 KiB", "1024 GiB"),
        store_bytes=section.size_bytes("store", "8 GiB", "1 MiB", "16384 GiB"),
        batch_messages=section.count("batch_messages", 1024, 1, 65_536),
        rate_per_s=section.rate_per_s("rate", "30000/s"),
        burst=section.count("burst", 60_000, 1, 10_000_000),
        broadcast_rate_per_s=section.rate_per_s("broadcast_rate", "10/s"),
        broadcast_burst=section.count("broadcast_burst", 100, 1, 10_000_000),
        broadcast_deliveries_per_s=section.rate_per_s("broadcast_deliveries", "1000/s"),
        broadcast_at_once=section.count("broadcast_at_once", 5000, 1, 10_000_000),
        connections=section.count("connections", 100, 1, 65_536),
        connection_queue_bytes=section.size_bytes("connection_queue", "16 MiB", "128 KiB", "16 GiB"),
        agent_queue_bytes=section.size_bytes("agent_queue", "64 MiB", "128 KiB", "64 GiB"),
        queues_bytes=section.size_bytes("queues", "96 MiB", "128 KiB", "256 GiB"),
        strangers=section.count("strangers", 4096, 1, 1_000_000),
        strangers_per_address=section.count("strangers_per_address", 1024, 1, 1_000_000),
        handshake_s=section.duration_s("handshake", "5s", "100ms", "10m"),
        subscriptions=section.count("subscriptions", 1000, 1, 1_000_000),
        registrations=section.count("registrations", 1000, 1, 1_000_000),
        calls=section.count("calls", 1000, 1, 1_000_000),
        call_wait_s=section.duration_s("call_wait", "1h", "1s", "30d"),
        instances=section.count("instances", 5000, 1, 1_000_000),
        fetches=section.count("fetches", 100, 1, 100_000),
        retained=section.count("retained", 100, 0, 100_000),
        retained_bytes=section.size_bytes("retained_bytes", "1 MiB", "1 KiB", "1 GiB"),
        ttl_ms=round(section.duration_s("ttl", DEFAULT_TTL, "1s", "3650d") * 1000),
        mailbox_share=section.part("mailbox_share", 0.5, 0.01, 1.0),
        store_share=section.part("store_share", 0.25, 0.01, 1.0),
        urgent_room=section.part("urgent_room", 0.1, 0.0, 0.5),
        open_messages=section.count("open_messages", 200_000, 1, 10_000_000),
        open_capabilities=section.count("open_capabilities", 128, 1, 1_000_000),
        conversation_hops=section.count("conversation_hops", 200, 0, 1_000_000),
        conversation_within_s=section.duration_s("conversation_within", "1h", "1s", "30d"),
        hourly_messages=section.count("hourly_messages", 0, 0, 1_000_000_000),
        hourly_bytes=section.size_bytes("hourly_bytes", "0 B", "0 B", "1024 GiB"),
    )
    if limits.burst < limits.rate_per_s / 10:
        # After a refusal an agent waits 100 ms; with less it would never reach its rate.
        section.fault("burst", section.shown("burst", 60_000), "it must be at least a tenth of limits.rate")
    if limits.broadcast_burst < limits.broadcast_rate_per_s / 10:
        section.fault(
            "broadcast_burst",
            section.shown("broadcast_burst", 100),
            "it must be at least a tenth of limits.broadcast_rate",
        )
    if limits.broadcast_at_once < limits.broadcast_deliveries_per_s / 10:
        section.fault(
            "broadcast_at_once",
            section.shown("broadcast_at_once", 5000),
            "it must be at least a tenth of limits.broadcast_deliveries",
        )
    if limits.connection_queue_bytes < 2 * limits.payload_bytes:
        section.fault(
            "connection_queue",
            section.shown("connection_queue", "16 MiB"),
            "it must be at least twice limits.payload: who is sent the largest message would be ended for it",
        )
    if limits.agent_queue_bytes < limits.connection_queue_bytes:
        section.fault(
            "agent_queue", section.shown("agent_queue", "64 MiB"), "it must be at least limits.connection_queue"
        )
    if limits.queues_bytes < limits.agent_queue_bytes:
        section.fault("queues", section.shown("queues", "96 MiB"), "it must be at least limits.agent_queue")
    if limits.mailbox_bytes < limits.payload_bytes:
        section.fault("mailbox", section.shown("mailbox", "256 MiB"), "it must be at least as large as limits.payload")
    if limits.store_bytes < limits.mailbox_bytes:
        section.fault("store", section.shown("store", "8 GiB"), "it must be at least as large as limits.mailbox")
    section.close()
    return limits
