"""Every metric that a node has: its name, its kind, its labels, and what it says.

Names are Prometheus' own form: one prefix, base units (seconds, bytes), ``_total`` for what only grows. No label has
more values than a configuration or this code names: agents are bounded by :data:`MOST_AGENTS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["FAMILIES", "MOST_AGENTS", "OF_CAPABILITIES", "OF_OTHERS", "Family", "Kind"]

#: So many agents have series of their own: the first of all that are registered, by their names, so that a series
#: doesn't come and go with how deep a mailbox is. No agent's name has parentheses.
MOST_AGENTS = 100
OF_CAPABILITIES, OF_OTHERS = "(capabilities)", "(other)"

#: ``gauge``, ``counter`` or ``histogram``, as Prometheus has them.
Kind = str


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: as it is scraped; of a histogram without ``_bucket``, ``_sum`` and ``_count``.
        kind: what it is.
        labels: their names.
        help: one sentence, and what more is to be known.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which its samples are scraped."""
        if self.kind != "histogram":
            return (self.name,)
        return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")


def _all() -> Iterator[Family]:
    # -- the node
    yield Family("trishula_node_info", "gauge", "Always 1; what runs.", ("node", "version"))
    yield Family("trishula_node_start_time_seconds", "gauge", "When the node started, in seconds since the epoch.")
    yield Family(
        "trishula_node_ready", "gauge", "1 if the node can serve, 0 if it can't: what /ready answers with 200 and 503."
    )
    yield Family("trishula_node_check_ok", "gauge", "Of each check of /ready, 1 if all is well, else 0.", ("check",))
    yield Family(
        "trishula_fallback",
        "gauge",
        "0 while the bus is live, 1 in fallback with messages taken all the same, 2 in fallback with none taken.",
    )
    yield Family(
        "trishula_loop_lag_seconds",
        "histogram",
        "By how much a timer that is due four times a second came too late: how busy the event loop is.",
    )
    yield Family(
        "trishula_clock_gap_seconds",
        "gauge",
        "By how much the machine's clock is ahead of the node's own, which follows only after a minute.",
    )
    yield Family(
        "trishula_certificate_expiry_time_seconds",
        "gauge",
        "When the certificate ends that the node shows to agents, in seconds since the epoch; nothing without TLS.",
    )
    yield Family("trishula_agents_file_ok", "gauge", "1 if the file of agents could be read when it changed, else 0.")
    # -- canaries
    yield Family(
        "trishula_canaries_total",
        "counter",
        "Canaries of agents of this node, by the road they took (live, link to an agent of a linked node, or files "
        "between folders) and by outcome (answered, lost).",
        ("road", "outcome"),
    )
    yield Family(
        "trishula_canary_one_way_seconds",
        "histogram",
        "How long canaries took from one agent to another, the commit of the sender's node included.",
        ("road",),
    )
    # -- messages
    yield Family(
        "trishula_message_accept_duration_seconds",
        "histogram",
        "From when the node takes a message up to its receipt, copies and all; of each message that was stored, or was "
        "there already.",
    )
    yield Family(
        "trishula_message_delivery_delay_seconds",
        "histogram",
        "From when a message was accepted to when it first went out to its agent, which may be away meanwhile.",
    )
    yield Family(
        "trishula_message_done_delay_seconds",
        "histogram",
        "From when a message was accepted to when it was done: end to end.",
    )
    yield Family(
        "trishula_message_surfaced_delay_seconds",
        "histogram",
        "From when a message was accepted to when it was first put into a model's context: time to context.",
    )
    yield Family(
        "trishula_messages_unread",
        "gauge",
        "Messages that an agent has and its model has not read within delivery.surface_within; 0 without that option.",
    )
    yield Family(
        "trishula_conversations_quarantined", "gauge", "Conversations that were stopped because they had no end."
    )
    yield Family(
        "trishula_signatures_refused_total",
        "counter",
        "Messages that their receivers refused because no good signature of the sender was there.",
    )
    yield Family("trishula_messages_duplicate_total", "counter", "Messages that were sent again under their id.")
    yield Family("trishula_messages_redelivered_total", "counter", "Messages that went out again.")
    yield Family(
        "trishula_messages_settled_total",
        "counter",
        "Messages that this node brought to their end: done, dead, expired or cancelled.",
        ("state",),
    )
    yield Family("trishula_messages_refused_total", "counter", "Messages that were refused, by the error.", ("error",))
    yield Family(
        "trishula_receipts_total",
        "counter",
        "Receipts of stored messages, by how many copies.",
        ("copies",),
    )
    # -- mailboxes
    for name, text in (
        ("trishula_mailbox_waiting_messages", "Messages that wait"),
        ("trishula_mailbox_in_flight_messages", "Messages that are out at this node and not acknowledged"),
        ("trishula_mailbox_bytes", "How large the messages are that wait or are out"),
    ):
        yield Family(
            name,
            "gauge",
            f"{text}, of each agent with its instances. Agents beyond the first {MOST_AGENTS} by name are together "
            f'agent="{OF_OTHERS}", all capabilities agent="{OF_CAPABILITIES}".',
            ("agent",),
        )
    yield Family(
        "trishula_mailbox_oldest_age_seconds",
        "gauge",
        "How long ago the oldest message was accepted that waits or is out; 0 if there is none.",
        ("agent",),
    )
    yield Family(
        "trishula_mailbox_consumed",
        "gauge",
        "1 if some session takes the agent's messages, at this node or at one in reach, else 0.",
        ("agent",),
    )
    yield Family("trishula_deepest_mailbox_messages", "gauge", "How many messages the deepest mailbox has, whosever.")
    yield Family("trishula_mailboxes", "gauge", "Mailboxes that have something open.")
    yield Family("trishula_mailbox_full_messages", "gauge", "How many messages one mailbox may have.")
    # -- agents
    yield Family("trishula_agents_registered", "gauge", "Agents that are registered.")
    yield Family("trishula_agents_present", "gauge", "Agents that are present, at this node or at one in reach.")
    yield Family("trishula_agent_present", "gauge", "1 if the agent is present, else 0.", ("agent",))
    yield Family(
        "trishula_agent_away_seconds",
        "gauge",
        "For how long the agent has been away, 0 while it is present; nothing of an agent that was never seen, "
        "nor of operators and observers, who come and go.",
        ("agent",),
    )
    # -- sessions and calls
    yield Family("trishula_sessions", "gauge", "Connections that have joined, those of links included.")
    yield Family("trishula_proxy_workers", "gauge", "Proxy workers that run; nothing where there are to be none.")
    yield Family("trishula_strangers", "gauge", "Connections that have not joined.")
    yield Family("trishula_strangers_ended_total", "counter", "Connections that were ended because they did not join.")
    yield Family(
        "trishula_joins_refused_total", "counter", "Joins that were refused: wrong tokens or keys, too many sessions."
    )
    yield Family("trishula_slow_readers_ended_total", "counter", "Connections ended because they read too slowly.")
    yield Family("trishula_outgoing_queue_bytes", "gauge", "What waits in memory for connections to take it.")
    yield Family(
        "trishula_call_duration_seconds",
        "histogram",
        "How long calls of the node's procedures took; a fetch waits for messages as long as its caller says.",
        ("procedure",),
    )
    yield Family("trishula_calls_refused_total", "counter", "Calls that ended with an error, by the error.", ("error",))
    yield Family(
        "trishula_denials_total",
        "counter",
        "What clients were denied that tells of a wrong-doer or a faulty program, by the error.",
        ("error",),
    )
    yield Family(
        "trishula_quota_refusals_total", "counter", "What was refused because one agent had enough.", ("quota",)
    )
    # -- the store
    yield Family(
        "trishula_store_commit_duration_seconds", "histogram", "How long commits of the store took, fsync included."
    )
    yield Family("trishula_store_commit_records", "histogram", "How many records of the journal shared one commit.")
    yield Family("trishula_store_bytes", "gauge", "What the store's files take.")
    yield Family("trishula_store_used_bytes", "gauge", "What of the store's file is in use, when last measured.")
    yield Family("trishula_store_limit_bytes", "gauge", "What the store may take (limits.store).")
    yield Family("trishula_disk_free_bytes", "gauge", "What is left on the store's disk.")
    yield Family("trishula_store_ok", "gauge", "1 if the store takes messages, 0 if it is full or out of use.")
    yield Family("trishula_journal_records", "gauge", "The position of the newest record of the node's own journal.")
    yield Family(
        "trishula_journal_base", "gauge", "Up to this position the journal's records are in the archive alone."
    )
    yield Family(
        "trishula_archive_ok", "gauge", "Whether the node can move old records into its archive (1) or not (0)."
    )
    yield Family("trishula_archive_bytes", "gauge", "What the node's archive takes on its disk.")
    # -- mirrors
    for name, kind, text in (
        ("trishula_mirror_lag_records", "gauge", "Records of the node's own journal that a mirror lacks."),
        ("trishula_mirror_lag_seconds", "gauge", "How old the oldest record is that a mirror lacks; 0 if it has all."),
        ("trishula_mirror_errors_total", "counter", "How often what a mirror is written to did not take it."),
    ):
        yield Family(name, kind, f"{text} By target: redis, file.", ("target",))
    # -- cells
    for name, kind, text in (
        ("trishula_cells_waiting_messages", "gauge", "Messages that are not known to have reached their cells."),
        ("trishula_cells_waiting_seconds", "gauge", "For how long the first of those has waited; 0 if there is none."),
        ("trishula_cells_out_messages", "gauge", "Messages that are at other cells and have not ended."),
        ("trishula_cells_resent_total", "counter", "How often a message was sent to its cell again."),
        ("trishula_cells_accepted_total", "counter", "Messages that other cells sent and this one accepted."),
        ("trishula_cells_refused_entries_total", "counter", "Entries and homes in Redis that no cell has sealed."),
        ("trishula_cells_errors_total", "counter", "How often Redis did not do what cells asked of it."),
        ("trishula_cells_canary_seconds", "gauge", "How old the newest entry for itself is that the cell read back."),
        ("trishula_cells_up", "gauge", "Whether Redis does what cells ask of it: 1 or 0."),
        ("trishula_cells_silent", "gauge", "Other cells of which nothing was heard for 30 s."),
        ("trishula_cells_events_sent_total", "counter", "Events of agents' topics that other cells were told of."),
        ("trishula_cells_events_heard_total", "counter", "Events of agents' topics that came from other cells."),
        (
            "trishula_cells_events_dropped_total",
            "counter",
            "Events of agents' topics that other cells were not told of.",
        ),
    ):
        yield Family(name, kind, text)
    # -- peers
    yield Family("trishula_peer_info", "gauge", "Always 1; which version a peer says it runs.", ("peer", "version"))
    yield Family("trishula_peer_up", "gauge", "1 if the peer is in reach, else 0.", ("peer",))
    yield Family(
        "trishula_peer_replication_ok", "gauge", "0 if something makes replication with a peer impossible.", ("peer",)
    )
    yield Family(
        "trishula_peer_lag_records",
        "gauge",
        "Records of this node's journal that the peer lacks.",
        ("peer",),
    )
    yield Family(
        "trishula_peer_lag_seconds",
        "gauge",
        "How long ago the peer had all records of this node's journal; counted from the start if it never had, since.",
        ("peer",),
    )
    yield Family(
        "trishula_peer_to_copy_records", "gauge", "Records that the peer has and this node lacks so far.", ("peer",)
    )
    yield Family(
        "trishula_peer_clock_ahead_seconds", "gauge", "By how much the peer's clock is ahead of this node's.", ("peer",)
    )
    yield Family(
        "trishula_link_events_total",
        "counter",
        "What became of links: up (each but the first is a reconnect), down, refused, replaced, proven.",
        ("peer", "event"),
    )
    yield Family("trishula_copies_available", "gauge", "On how many nodes a message can be confirmed now.")


#: By name.
FAMILIES = {family.name: family for family in _all()}
