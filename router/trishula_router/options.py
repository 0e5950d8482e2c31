"""The options of a node, as values: what an operator may write into the ``extra`` of our component, and its defaults.

The node's configuration is Crossbar's own JSON; ours are the options of one component in it::

    {"type": "class", "classname": "trishula_router.edge.NodeSession", "realm": "trishula", "role": "node",
     "extra": {"node": "single", "state": "../state", "limits": {"payload": "1 MiB"}}}

:func:`parse_options` turns that ``extra`` into a :class:`NodeConfig` or raises :class:`ConfigError` with *every* fault
at once: an operator who mends a config should not meet its faults one by one. Spans are written with their unit
(``"60s"``), sizes too (``"1 MiB"``); an unknown key is a fault, because a misspelt limit that is ignored in silence is
a limit that isn't there. The JSON file around the options is checked by :mod:`trishula_router.config_check`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from trishula.backoff import Backoff
from trishula.homes import expanded
from trishula.names import AGENT_RULE, is_agent_name
from trishula.units import parse_bytes, parse_duration_s, parse_rate_per_s

__all__ = [
    "MISSING",
    "TWICE",
    "WHOLE",
    "ConfigError",
    "DeliveryPolicy",
    "Fault",
    "Limits",
    "NodeConfig",
    "PresencePolicy",
    "RetentionPolicy",
    "parse_options",
    "show_value",
]


_N = TypeVar("_N", int, float)


class _Mark:
    """The type of :data:`MISSING` and :data:`WHOLE`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


#: The value of a key that isn't there; ``null`` is a value.
MISSING: Final = _Mark("MISSING")
#: The value of a fault that concerns all below the path: showing it would tell nothing.
WHOLE: Final = _Mark("WHOLE")


#: The rule of keys, of which JSON keeps the last in silence.
TWICE = "it must not stand twice in one map, because only the last of the two would count"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a configuration.

    Attributes:
        path: where: the key path, such as ``workers[0].components[0].extra.limits.payload``.
        value: what stands there; :data:`MISSING` if nothing does, :data:`WHOLE` if it is not to be shown.
        rule: what should: a clause that begins with "it must" or "it is".
    """

    path: str
    value: object
    rule: str

    @property
    def sentence(self) -> str:
        """The fault as an operator reads it."""
        # A key of somebody's file may hold anything, and a terminal shows this.
        path = self.path if self.path.isprintable() else ascii(self.path)[1:-1]
        if self.value is MISSING:
            return f"{path} is missing; {self.rule}"
        if self.value is WHOLE:
            return f"{path}: {self.rule}"
        return f"{path} is {show_value(self.value)}; {self.rule}"


class ConfigError(Exception):
    """A configuration that can't be used.

    Attributes:
        faults: all that is wrong with it, in the order of the file.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(fault.sentence for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node takes. Each limit has its own error, so that a sender knows which one it met.

    Attributes:
        payload_bytes: the largest payload of one message, as JSON.
        mailbox_messages: how many unsettled messages one mailbox holds.
        mailbox_bytes: how many bytes of payload one mailbox holds.
        store_bytes: how large the store's file may grow.
        batch_messages: how many messages travel in one call or event.
        rate_per_s: how many messages a second one agent sends in the long run.
        burst: how many of them at once.
        broadcast_rate_per_s: how many broadcasts a second.
        broadcast_burst: how many of them at once.
        broadcast_deliveries_per_s: to how many recipients a second, over all broadcasts of one agent.
        broadcast_at_once: to how many at once; one broadcast to more is taken after a time without any.
        connections: how many sessions one agent has at a time.
        connection_queue_bytes: how much waits for one connection that reads slowly; beyond it the connection is ended.
        strangers: how many connections there are that have not joined.
        handshake_s: how long each step of a join may take.
    """

    payload_bytes: int
    mailbox_messages: int
    mailbox_bytes: int
    store_bytes: int
    batch_messages: int
    # Beyond what a node does on two cores: it bounds an agent that runs wild on a larger machine, and nobody else.
    rate_per_s: float = 50_000.0
    burst: int = 100_000
    # Each is a message to everybody: with few agents the number of broadcasts binds, with more than a hundred that of
    # their deliveries. A node on two cores delivers some ten thousand a second, and others want their part of it.
    broadcast_rate_per_s: float = 10.0
    broadcast_burst: int = 100
    broadcast_deliveries_per_s: float = 1000.0
    broadcast_at_once: int = 5000
    connections: int = 100
    connection_queue_bytes: int = 16 * 1024 * 1024
    strangers: int = 4096
    handshake_s: float = 5.0


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How hard a node tries to deliver.

    Attributes:
        window: how many deliveries an agent has unacknowledged at most, unless it asks for fewer.
        window_bytes: how large they are together at most, but for the last one: what is pushed to an agent on a slow
            line waits in its connection's queue, and the queue must have room for it.
        lease_s: how long a delivery waits for its ack before it is offered again.
        max_attempts: how often it is offered before it goes to the dead letters.
        backoff: the pause before each further attempt.
        default_ttl_ms: how long a message without ``ttl_ms`` is tried.
        instance_grace_s: how long an instance's mailbox outlives its session.
    """

    window: int
    lease_s: float
    max_attempts: int
    backoff: Backoff
    default_ttl_ms: int
    instance_grace_s: float
    window_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PresencePolicy:
    """When an agent counts as there.

    Attributes:
        heartbeat_s: how often an agent beats, unless it says otherwise.
        stale_after_s: how long after its last beat it is called stale.
    """

    heartbeat_s: float
    stale_after_s: float


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long the bodies of settled messages are kept, and their ids known; their records and rows stay.

    Attributes:
        bodies_ms: bodies of those that are done, expired or cancelled.
        dead_ms: of dead letters: so long they can be shown and replayed.
        ids_ms: so long after its acceptance, and until its time to live is over, a message makes another one under its
            id a repeat, or refused.
    """

    bodies_ms: int = 7 * 86_400_000
    dead_ms: int = 30 * 86_400_000
    ids_ms: int = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All options of a node, with the defaults filled in.

    Attributes:
        node: the node's name, as receipts and the directory show it.
        state_dir: where the node keeps its store, its keys and its log.
        agents_file: who may join, with what token and grants.
        peers: the names of the nodes that this one is linked with; none if it is alone.
    """

    node: str
    state_dir: Path
    agents_file: Path
    limits: Limits
    delivery: DeliveryPolicy
    presence: PresencePolicy
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
    peers: tuple[str, ...] = ()


class _Section:
    """One map of options: hands out checked values, collects the faults, and knows which keys nobody asked for."""

    def __init__(self, raw: object, path: str, faults: list[Fault]) -> None:
        if not isinstance(raw, Mapping):
            faults.append(Fault(path, raw, "it must be a map"))
            raw = {}
        self._raw: Mapping[object, object] = raw
        self._path = path
        self._faults = faults
        self._known: list[str] = []

    def section(self, key: str) -> _Section:
        self._known.append(key)
        return _Section(self._raw.get(key, {}), f"{self._path}.{key}", self._faults)

    def text(self, key: str, default: str | None, rule: str, keeps: Callable[[str], bool]) -> str:
        self._known.append(key)
        value = self._raw.get(key, MISSING if default is None else default)
        if isinstance(value, str) and keeps(value):
            return value
        self.fault(key, value, f"it must be {rule}")
        return default or "?"

    def names(self, key: str, rule: str, keeps: Callable[[str], bool]) -> tuple[str, ...]:
        """The texts in a list, each at most once; none by default."""
        self._known.append(key)
        raw = self._raw.get(key, [])
        if not isinstance(raw, list):
            self.fault(key, raw, "it must be a list")
            return ()
        found: list[str] = []
        for index, value in enumerate(raw):
            if not isinstance(value, str) or not keeps(value):
                self.fault(f"{key}[{index}]", value, f"it must be {rule}")
            elif value in found:
                self.fault(f"{key}[{index}]", value, "it must not be there twice")
            else:
                found.append(value)
        return tuple(found)

    def count(self, key: str, default: int, low: int, high: int) -> int:
        self._known.append(key)
        value = self._raw.get(key, default)
        # bool is an int to Python and not to an operator.
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.fault(key, value, f"it must be a whole number from {low} to {high}")
        return default

    def duration_s(self, key: str, default: str, low: str, high: str) -> float:
        def within(seconds: float) -> bool:
            return parse_duration_s(low) <= seconds <= parse_duration_s(high)

        return self._quantity(key, default, parse_duration_s, within, f"it must be from {low} to {high}")

    def size_bytes(self, key: str, default: str, low: str, high: str) -> int:
        def within(count: int) -> bool:
            return parse_bytes(low) <= count <= parse_bytes(high)

        return self._quantity(key, default, parse_bytes, within, f"it must be from {low} to {high}")

    def rate_per_s(self, key: str, default: str) -> float:
        def within(rate: float) -> bool:
            return 1 / 3600 <= rate <= 1_000_000

        return self._quantity(key, default, parse_rate_per_s, within, "it must be from 1/h to 1000000/s")

    def _quantity(
        self, key: str, default: str, parse: Callable[[object], _N], within: Callable[[_N], bool], rule: str
    ) -> _N:
        self._known.append(key)
        value = self._raw.get(key, default)
        try:
            number = parse(value)
        except ValueError as error:
            self.fault(key, value, str(error))
            return parse(default)
        if not within(number):
            self.fault(key, value, rule)
            return parse(default)
        return number

    def shown(self, key: str, default: object) -> object:
        """The value of ``key`` as the file has it, for a fault that concerns two keys."""
        return self._raw.get(key, default)

    def fault(self, key: str, value: object, rule: str) -> None:
        self._faults.append(Fault(f"{self._path}.{key}", value, rule))

    def close(self) -> None:
        """Refuse what was not asked for."""
        for key, value in self._raw.items():
            if key not in self._known:
                self.fault(str(key), value, f"it is an unknown key; the known keys are {', '.join(self._known)}")


def parse_options(extra: Mapping[str, object], *, base: Path, path: str) -> NodeConfig:
    """Read the options of our component.

    Args:
        extra: the component's ``extra``, as JSON gave it.
        base: the directory that a relative ``state`` is relative to: the config file's own.
        path: the key path of ``extra``, for the faults.

    Raises:
        ConfigError: with every fault.
    """
    faults: list[Fault] = []
    top = _Section(extra, path, faults)
    node = top.text("node", "single", AGENT_RULE, is_agent_name)
    state = top.text("state", None, "the path of the directory that holds the node's data", bool)
    agents_file = top.text("agents_file", "agents.json", "the path of the file of agents, relative to the state", bool)
    paths = {"state": _path(top, "state", state), "agents_file": _path(top, "agents_file", agents_file)}
    limits = _parse_limits(top.section("limits"))
    delivery = _parse_delivery(top.section("delivery"), limits.connection_queue_bytes // 4)
    presence = _parse_presence(top.section("presence"))
    retention = _parse_retention(top.section("retention"), delivery.default_ttl_ms / 1000)
    peers = top.names("peers", AGENT_RULE, is_agent_name)
    if node in peers:
        top.fault(f"peers[{peers.index(node)}]", node, "it must be another node's name than this one's own")
    top.close()
    if faults:
        raise ConfigError(tuple(faults))
    state_dir = (base / paths["state"]).absolute()
    agents_path = state_dir / paths["agents_file"]
    return NodeConfig(node, state_dir, agents_path, limits, delivery, presence, retention, peers)


def _path(section: _Section, key: str, text: str) -> Path:
    try:
        return expanded(text)
    except ValueError:
        section.fault(key, text, "it must not begin with a home directory that is unknown here; give an absolute path")
        return Path()


def _parse_limits(section: _Section) -> Limits:
    payload_bytes = section.size_bytes("payload", "1 MiB", "1 KiB", "8 MiB")
    # The ceiling of a payload leaves room for the envelope in the largest message that the shipped transport takes.
    limits = Limits(
        payload_bytes=payload_bytes,
        mailbox_messages=section.count("mailbox_messages", 100_000, 1, 10_000_000),
        mailbox_bytes=section.size_bytes("mailbox", "256 MiB", "1 KiB", "1024 GiB"),
        store_bytes=section.size_bytes("store", "8 GiB", "1 MiB", "16384 GiB"),
        batch_messages=section.count("batch_messages", 1024, 1, 65_536),
        rate_per_s=section.rate_per_s("rate", "50000/s"),
        burst=section.count("burst", 100_000, 1, 10_000_000),
        broadcast_rate_per_s=section.rate_per_s("broadcast_rate", "10/s"),
        broadcast_burst=section.count("broadcast_burst", 100, 1, 10_000_000),
        broadcast_deliveries_per_s=section.rate_per_s("broadcast_deliveries", "1000/s"),
        broadcast_at_once=section.count("broadcast_at_once", 5000, 1, 10_000_000),
        connections=section.count("connections", 100, 1, 65_536),
        connection_queue_bytes=section.size_bytes("connection_queue", "16 MiB", "128 KiB", "16 GiB"),
        strangers=section.count("strangers", 4096, 1, 1_000_000),
        handshake_s=section.duration_s("handshake", "5s", "100ms", "10m"),
    )
    if limits.burst < limits.rate_per_s / 10:
        # After a refusal an agent waits 100 ms; with less it would never reach its rate.
        section.fault("burst", section.shown("burst", 100_000), "it must be at least a tenth of limits.rate")
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
    if limits.mailbox_bytes < limits.payload_bytes:
        section.fault("mailbox", section.shown("mailbox", "256 MiB"), "it must be at least as large as limits.payload")
    if limits.store_bytes < limits.mailbox_bytes:
        section.fault("store", section.shown("store", "8 GiB"), "it must be at least as large as limits.mailbox")
    section.close()
    return limits


def _parse_delivery(section: _Section, window_bytes: int) -> DeliveryPolicy:
    window = section.count("window", 64, 1, 65_536)
    lease_s = section.duration_s("lease", "60s", "100ms", "1d")
    max_attempts = section.count("max_attempts", 5, 1, 1000)
    first_s = section.duration_s("backoff_first", "1s", "1ms", "1h")
    cap_s = section.duration_s("backoff_cap", "5m", "1ms", "1d")
    if cap_s < first_s:
        section.fault("backoff_cap", section.shown("backoff_cap", "5m"), "it must be at least delivery.backoff_first")
    ttl_s = section.duration_s("default_ttl", "7d", "1s", "3650d")
    grace_s = section.duration_s("instance_grace", "5m", "0s", "7d")
    section.close()
    backoff = Backoff(first_s=first_s, factor=2.0, cap_s=cap_s)
    return DeliveryPolicy(window, lease_s, max_attempts, backoff, round(ttl_s * 1000), grace_s, window_bytes)


def _parse_presence(section: _Section) -> PresencePolicy:
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


def _parse_retention(section: _Section, default_ttl_s: float) -> RetentionPolicy:
    bodies_s = section.duration_s("bodies", "7d", "0s", "3650d")
    dead_s = section.duration_s("dead", "30d", "0s", "3650d")
    ids_s = section.duration_s("ids", "30d", "1s", "3650d")
    if ids_s < default_ttl_s:
        if section.shown("ids", MISSING) is not MISSING:
            # A sender may offer a message again as long as it can be delivered, and must find it there.
            section.fault("ids", section.shown("ids", "30d"), "it must be at least as long as delivery.default_ttl")
        ids_s = default_ttl_s
    section.close()
    return RetentionPolicy(round(bodies_s * 1000), round(dead_s * 1000), round(ids_s * 1000))


def show_value(value: object) -> str:
    """A value as a fault shows it: as JSON, short, on one line."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
