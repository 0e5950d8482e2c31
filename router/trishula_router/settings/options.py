"""The options of a node, as values: what an operator may write into the ``extra`` of our component, and its defaults.

The node's configuration is Crossbar's own JSON; ours are the options of one component in it::

    {"type": "class", "classname": "trishula_router.edge.NodeSession", "realm": "trishula", "role": "node",
     "extra": {"node": "single", "state": "../state", "limits": {"payload": "1 MiB"}}}

:func:`parse_options` turns that ``extra`` into a :class:`NodeConfig` or raises
:class:`~trishula_router.settings.faults.ConfigError` with *every* fault at once. Spans are written with their unit
(``"60s"``), sizes too (``"1 MiB"``). The JSON file around the options is checked by
:mod:`trishula_router.settings.check`; ``limits`` are read by :mod:`trishula_router.settings.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trishula.contract.addresses import AGENT_RULE, is_agent_name
from trishula.contract.units import parse_duration_s
from trishula.homes import expanded
from trishula.runtime.backoff import Backoff
from trishula_router.client_ips import PROXY_RULE, is_network
from trishula_router.settings.alerts import AlertOptions, parse_alerts
from trishula_router.settings.attachments import AttachmentOptions, parse_attachments
from trishula_router.settings.cells import CellOptions, parse_cells
from trishula_router.settings.faults import MISSING, Asked, ConfigError, Fault, Section
from trishula_router.settings.limits import DEFAULT_TTL, Limits, parse_limits
from trishula_router.settings.mirror import MirrorOptions, parse_mirror
from trishula_router.settings.objectives import ObjectiveOptions, parse_objectives
from trishula_router.settings.proxy_socket import MOST_PROXY_WORKERS, check_proxy_socket

__all__ = ["AgentsPolicy", "DeliveryPolicy", "NodeConfig", "PresencePolicy", "RetentionPolicy", "parse_options"]


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How hard a node tries to deliver.

    Attributes:
        window: how many deliveries an agent has unacknowledged at most, unless it asks for fewer.
        window_bytes: how large they are together at most, but for the last one: what is pushed to an agent on a slow
            line waits in its connection's queue, and the queue must have room for it.
        lease_s: how long a delivery waits for its ack before it is offered again.
        max_attempts: how often it is offered before it is a dead letter.
        backoff: the pause before each further attempt: ``backoff_first`` before the second one, doubling, and never
            longer than ``backoff_cap``.
        default_ttl_ms: how long a message without ``ttl_ms`` is tried.
        instance_grace_s: how long an instance's mailbox outlives its session.
        surface_within_s: how long a delivered message may be with an agent that has a model, until the model has read
            it; 0 if nobody minds.
    """

    window: int
    lease_s: float
    max_attempts: int
    backoff: Backoff
    default_ttl_ms: int
    instance_grace_s: float
    window_bytes: int = 4 * 1024 * 1024
    surface_within_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PresencePolicy:
    """When an agent counts as there.

    Attributes:
        heartbeat_s: how often an agent beats, unless it says otherwise; less often at a node with very many.
        stale_after_s: after what silence it is called stale.
    """

    heartbeat_s: float
    stale_after_s: float


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long what is kept of settled messages is kept: bodies, ids, and the records in the journal.

    Attributes:
        bodies_ms: how long the payload of a message that is done, expired or cancelled is kept; its records stay.
        dead_ms: the same of dead letters: so long they can be shown and replayed.
        ids_ms: how long after its acceptance a message's id is known, so that another message under it is a repeat, or
            refused; never less than the message's own time to live.
        records_ms: how long a record stays in the store; then it goes into the archive.
        early: from this share of the store on the oldest records go before their time; 1.0 is never.
        archive_ms: how long a segment of the archive is kept; ``None`` is for ever.
    """

    bodies_ms: int = 7 * 86_400_000
    dead_ms: int = 30 * 86_400_000
    ids_ms: int = 30 * 86_400_000
    records_ms: int = 90 * 86_400_000
    early: float = 0.7
    archive_ms: int | None = None


@dataclass(frozen=True, slots=True)
class AgentsPolicy:
    """Who says who may join.

    Attributes:
        shared: whether this node tells its peers what changes in its file of agents, and takes over what theirs say;
            for a pair of nodes both must. A peer then lets in whom it wants, with any grants, here too.
    """

    shared: bool = False


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All options of a node, with the defaults filled in.

    Attributes:
        node: the node's name, as receipts and the directory show it.
        state_dir: the state directory, where the node keeps its store, its keys and its log; relative to the file that
            names it.
        agents_file: the file of agents: who may join, with what token and grants; relative to the state directory.
        peers: the names of the nodes that this one is linked with; none if it is alone.
        trusted_network: the operator's word that nobody else reads or changes what passes between this node and its
            clients and peers, as true or as a sentence that says why: then it may listen beyond loopback, and link by
            ``ws:``, without TLS.
        proxies: the addresses of reverse proxies, such as ``["127.0.0.1"]``, and networks of them (``10.0.0.0/8``):
            theirs alone is the ``X-Forwarded-For`` that is believed, and of that the right-most address that is none of
            them.
        alerts: what is worth an alert, and who is told.
        objectives: what the node promises in figures, and which triggers turn the fallback on.
        agents: whether linked nodes share who may join.
        mirror: where its journal is copied to for collectors.
        attachments: how much is taken of files beside messages.
        proxy_workers: how many processes stand between the port and the router worker, so that TLS has cores of its
            own; 0 for none. On one or two cores they cost more than they give.
        proxy_endpoint: where these listen, as Crossbar's endpoint; ``trishula node start`` puts it in.
        cells: the Redis that joins this node's cell with others.
    """

    node: str
    state_dir: Path
    agents_file: Path
    limits: Limits
    delivery: DeliveryPolicy
    presence: PresencePolicy
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    peers: tuple[str, ...] = ()
    trusted_network: bool = False
    proxies: tuple[str, ...] = ()
    alerts: AlertOptions = field(default_factory=AlertOptions)
    objectives: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    agents: AgentsPolicy = field(default_factory=AgentsPolicy)
    mirror: MirrorOptions = field(default_factory=MirrorOptions)
    attachments: AttachmentOptions = field(default_factory=AttachmentOptions)
    proxy_workers: int = 0
    proxy_endpoint: Mapping[str, Any] | None = None
    cells: CellOptions = field(default_factory=CellOptions)


def parse_options(
    extra: Mapping[str, object], *, base: Path, path: str, asked: list[Asked] | None = None
) -> NodeConfig:
    """Read the options of our component.

    Args:
        extra: the component's ``extra``, as JSON gave it.
        base: the directory that a relative ``state`` is relative to: the config file's own.
        path: the key path of ``extra``, for the faults.
        asked: where each option that there is is added, with its default and its rule.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[Fault] = []
    top = Section(extra, path, faults, asked)
    node = top.text("node", "single", AGENT_RULE, is_agent_name)
    state = top.text("state", None, "the path of the directory that holds the node's data", bool)
    agents_file = top.text("agents_file", "agents.json", "the path of the file of agents, relative to the state", bool)
    paths = {"state": _path(top, "state", state), "agents_file": _path(top, "agents_file", agents_file)}
    limits_section = top.section("limits")
    limits = parse_limits(limits_section)
    delivery = _parse_delivery(top.section("delivery"), limits.connection_queue_bytes // 4)
    presence = _parse_presence(top.section("presence"))
    retention_section = top.section("retention")
    retention = _parse_retention(retention_section, delivery.default_ttl_ms / 1000)
    limits, retention = _agree_on_ttl(limits_section, limits, delivery, retention_section, retention)
    peers = top.names("peers", AGENT_RULE, is_agent_name)
    if node in peers:
        top.fault(f"peers[{peers.index(node)}]", node, "it must be another node's name than this one's own")
    trusted = top.word("trusted_network", "true, false, or a sentence that says why the network is to be trusted")
    proxies = top.names("proxies", PROXY_RULE, is_network)
    alerts = parse_alerts(top.section("alerts"))
    objectives = parse_objectives(top.section("objectives"))
    agents_section = top.section("agents")
    agents = AgentsPolicy(agents_section.flag("shared", False))
    agents_section.close()
    mirror = parse_mirror(top.section("mirror"), trusted)
    attachments = parse_attachments(top.section("attachments"))
    proxy_workers, endpoint = top.count("proxy_workers", 0, 0, MOST_PROXY_WORKERS), top.given("proxy_endpoint")
    state_dir = (base / paths["state"]).absolute()
    if proxy_workers and (rule := check_proxy_socket(state_dir)) is not None:
        top.fault("proxy_workers", proxy_workers, rule)
    cells = parse_cells(top.section("cells"), trusted)
    top.close()
    if faults:
        raise ConfigError(tuple(faults))
    agents_path = state_dir / paths["agents_file"]
    return NodeConfig(
        node,
        state_dir,
        agents_path,
        limits,
        delivery,
        presence,
        retention,
        peers,
        trusted,
        proxies,
        alerts,
        objectives,
        agents,
        mirror,
        attachments,
        proxy_workers,
        endpoint if isinstance(endpoint, Mapping) else None,
        cells,
    )


def _path(section: Section, key: str, text: str) -> Path:
    try:
        return expanded(text)
    except ValueError:
        section.fault(key, text, "it must not begin with a home directory that is unknown here; give an absolute path")
        return Path()


def _parse_delivery(section: Section, window_bytes: int) -> DeliveryPolicy:
    window = section.count("window", 64, 1, 65_536)
    lease_s = section.duration_s("lease", "60s", "100ms", "1d")
    max_attempts = section.count("max_attempts", 5, 1, 1000)
    first_s = section.duration_s("backoff_first", "1s", "1ms", "1h")
    cap_s = section.duration_s("backoff_cap", "5m", "1ms", "1d")
    if cap_s < first_s:
        section.fault("backoff_cap", section.shown("backoff_cap", "5m"), "it must be at least delivery.backoff_first")
    ttl_s = section.duration_s("default_ttl", "7d", "1s", "3650d")
    grace_s = section.duration_s("instance_grace", "5m", "0s", "7d")
    surface_s = section.duration_s("surface_within", "0s", "0s", "7d")
    section.close()
    backoff = Backoff(first_s=first_s, factor=2.0, cap_s=cap_s)
    return DeliveryPolicy(window, lease_s, max_attempts, backoff, round(ttl_s * 1000), grace_s, window_bytes, surface_s)


def _parse_presence(section: Section) -> PresencePolicy:
    heartbeat_s = section.duration_s("heartbeat", "10s", "100ms", "1h")
    stale_after_s = section.duration_s("stale_after", "30s", "200ms", "1d")
    if stale_after_s <= heartbeat_s:
        # One late beat would make a healthy agent stale.
        section.fault(
            "stale_after",
            section.shown("stale_after", "30s"),
            "it must be longer than presence.heartbeat, best 3 times as long",
        )
    section.close()
    return PresencePolicy(heartbeat_s, stale_after_s)


def _parse_retention(section: Section, default_ttl_s: float) -> RetentionPolicy:
    bodies_s = section.duration_s("bodies", "7d", "0s", "3650d")
    dead_s = section.duration_s("dead", "30d", "0s", "3650d")
    ids_s = section.duration_s("ids", "30d", "1s", "3650d")
    if ids_s < default_ttl_s:
        if section.shown("ids", MISSING) is not MISSING:
            # A sender may offer a message again as long as it can be delivered, and must find it there.
            section.fault("ids", section.shown("ids", "30d"), "it must be at least as long as delivery.default_ttl")
        ids_s = default_ttl_s
    records_s = section.duration_s("records", "90d", "1s", "3650d")
    early = section.part("early", 0.7, 0.1, 1.0)
    kept = section.text("archive", "keep", _ARCHIVE_RULE, lambda text: _archive_ms(text) != _NO_SPAN)
    section.close()
    return RetentionPolicy(
        round(bodies_s * 1000),
        round(dead_s * 1000),
        round(ids_s * 1000),
        round(records_s * 1000),
        early,
        _archive_ms(kept),
    )


_ARCHIVE_RULE = '"keep" (for ever), "none", or a span such as "3650d"'
_NO_SPAN = -1


def _archive_ms(text: str) -> int | None:
    """How long segments are kept; ``None`` is for ever, and :data:`_NO_SPAN` says that the text tells nothing."""
    if text in ("keep", "none"):
        return None if text == "keep" else 0
    try:
        return round(parse_duration_s(text) * 1000)
    except ValueError:
        return _NO_SPAN


def _agree_on_ttl(
    limits_section: Section,
    limits: Limits,
    delivery: DeliveryPolicy,
    retention_section: Section,
    retention: RetentionPolicy,
) -> tuple[Limits, RetentionPolicy]:
    """Have no message live longer than its id is known, and none by default longer than the longest may.

    A config that says nothing of ``limits.ttl`` was perhaps written before there was one: its other spans hold.
    """
    if limits_section.shown("ttl", MISSING) is MISSING:
        ttl_ms = max(min(limits.ttl_ms, retention.ids_ms), delivery.default_ttl_ms)
        return replace(limits, ttl_ms=ttl_ms), retention
    ttl = limits_section.shown("ttl", DEFAULT_TTL)
    if limits.ttl_ms < delivery.default_ttl_ms:
        limits_section.fault("ttl", ttl, "it must be at least as long as delivery.default_ttl")
    if retention.ids_ms < limits.ttl_ms:
        if retention_section.shown("ids", MISSING) is not MISSING:
            limits_section.fault("ttl", ttl, "it must be at most as long as retention.ids")
        retention = replace(retention, ids_ms=limits.ttl_ms)
    return limits, retention
