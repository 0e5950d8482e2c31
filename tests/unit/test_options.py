"""The options of a node: defaults, units, and every fault at once with its exact sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deploy.docs.from_code.options import all_options, table

from trishula.runtime.backoff import Backoff
from trishula_router.settings.faults import MISSING, WHOLE, ConfigError, Fault
from trishula_router.settings.limits import Limits
from trishula_router.settings.options import (
    AgentsPolicy,
    DeliveryPolicy,
    NodeConfig,
    PresencePolicy,
    RetentionPolicy,
    parse_options,
)

BASE = Path("/srv/trishula")


def parse(extra: dict[str, object]) -> NodeConfig:
    return parse_options(extra, base=BASE, path="extra")


def days(count: float) -> int:
    return round(count * 86_400_000)


def sentences(extra: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_options(extra, base=BASE, path="extra")  # type: ignore[arg-type]
    assert str(caught.value) == "\n".join(fault.sentence for fault in caught.value.faults)
    return [fault.sentence for fault in caught.value.faults]


def test_the_state_alone_is_enough_and_the_rest_has_defaults() -> None:
    assert parse({"state": "data"}) == NodeConfig(
        node="single",
        state_dir=Path("/srv/trishula/data"),
        agents_file=Path("/srv/trishula/data/agents.json"),
        limits=Limits(2**20, 100_000, 256 * 2**20, 8 * 2**30, 1024, 30_000.0, 60_000, 10.0, 100, 1000.0, 5000, 100),
        delivery=DeliveryPolicy(64, 60.0, 5, Backoff(1.0, 2.0, 300.0), 7 * 86_400_000, 300.0),
        presence=PresencePolicy(10.0, 30.0),
    )


def test_the_shipped_configuration_writes_the_defaults_down() -> None:
    """An operator sees in the file what holds."""
    root = Path(__file__).resolve().parents[2]
    extra = json.loads((root / "config" / "single.json").read_text())["workers"][0]["components"][0]["extra"]
    assert parse(extra) == parse({"state": extra["state"]})
    defaults = {option.key: option.default for option in all_options()}
    for key, values in extra.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            assert defaults[f"{key}.{name}"] == value


def test_each_option_is_in_the_reference_with_its_default() -> None:
    known: set[str] = set()
    sections = (
        "limits",
        "delivery",
        "presence",
        "retention",
        "alerts",
        "objectives",
        "agents",
        "mirror",
        "attachments",
        "cells",
    )
    for section in (None, *sections):
        wrong: dict[str, object] = {"no_such": 1} if section is None else {section: {"no_such": 1}}
        sentence = next(said for said in sentences({"state": "s", **wrong}) if "no_such" in said)
        keys = sentence.partition("the known keys are ")[2].split(", ")
        known |= {key if section is None else f"{section}.{key}" for key in keys}
    known -= set(sections)
    assert {option.key for option in all_options()} == known
    flat = " ".join(table().split())
    for option in all_options():
        assert option.meaning
        assert f"* - ``{option.key}`` - " in flat
    assert (
        "* - ``limits.payload`` - ``1 MiB`` - The largest payload of one message, as JSON. *From 1 KiB to 8 MiB.*"
        in flat
    )
    assert "* - ``state`` - (required) - " in flat


def test_every_option_can_be_set() -> None:
    assert parse(
        {
            "node": "agni",
            "state": "/var/lib/trishula",
            "agents_file": "/etc/trishula/agents.json",
            "limits": {
                "payload": "64 KiB",
                "mailbox_messages": 10,
                "mailbox": "1 MiB",
                "store": "2 GiB",
                "batch_messages": 8,
                "rate": "600/m",
                "burst": 20,
                "broadcast_rate": "1/m",
                "broadcast_burst": 3,
                "broadcast_deliveries": "30/s",
                "broadcast_at_once": 60,
                "connections": 4,
                "ttl": "2d",
            },
            "delivery": {
                "window": 8,
                "lease": "500ms",
                "max_attempts": 1,
                "backoff_first": "10ms",
                "backoff_cap": "20ms",
                "default_ttl": "90s",
                "instance_grace": "0s",
            },
            "presence": {"heartbeat": "1s", "stale_after": "3s"},
            "retention": {"bodies": "1d", "dead": "2d", "ids": "3d"},
            "peers": ["rushabdev", "dc"],
            "proxies": ["127.0.0.1", "10.0.0.0/8"],
            "agents": {"shared": True},
        }
    ) == NodeConfig(
        node="agni",
        state_dir=Path("/var/lib/trishula"),
        agents_file=Path("/etc/trishula/agents.json"),
        limits=Limits(65_536, 10, 2**20, 2 * 2**30, 8, 10.0, 20, 1 / 60, 3, 30.0, 60, 4, ttl_ms=days(2)),
        delivery=DeliveryPolicy(8, 0.5, 1, Backoff(0.01, 2.0, 0.02), 90_000, 0.0),
        presence=PresencePolicy(1.0, 3.0),
        retention=RetentionPolicy(86_400_000, 2 * 86_400_000, 3 * 86_400_000),
        peers=("rushabdev", "dc"),
        proxies=("127.0.0.1", "10.0.0.0/8"),
        agents=AgentsPolicy(shared=True),
    )


def test_ids_are_known_at_least_as_long_as_a_message_is_tried() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"state": "s", "delivery": {"default_ttl": "60d"}, "retention": {"ids": "59d"}})
    assert [fault.sentence for fault in caught.value.faults] == [
        'extra.retention.ids is "59d"; it must be at least as long as delivery.default_ttl'
    ]
    # Of a config of before nobody could have said so.
    assert parse({"state": "s", "delivery": {"default_ttl": "60d"}}).retention.ids_ms == 60 * 86_400_000
    assert parse({"state": "s"}).retention.ids_ms == 30 * 86_400_000


@pytest.mark.parametrize(
    ("default_ttl", "ids", "ttl_days", "ids_days"),
    [
        (None, None, 30, 30),
        # Of configs that were written before there was a limits.ttl: what they say goes on to hold.
        ("60d", None, 60, 60),
        (None, "10d", 10, 10),
        (None, "90d", 30, 90),
    ],
)
def test_a_config_without_a_ttl_has_one_that_fits_its_other_spans(
    default_ttl: str | None, ids: str | None, ttl_days: int, ids_days: int
) -> None:
    delivery = {} if default_ttl is None else {"default_ttl": default_ttl}
    retention = {} if ids is None else {"ids": ids}
    config = parse({"state": "s", "delivery": delivery, "retention": retention})
    assert (config.limits.ttl_ms, config.retention.ids_ms) == (days(ttl_days), days(ids_days))


def test_an_id_is_known_for_as_long_as_a_message_may_live() -> None:
    config = parse({"state": "s", "limits": {"ttl": "90d"}})
    assert (config.limits.ttl_ms, config.retention.ids_ms) == (days(90), days(90))


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"limits": {"ttl": "6d"}}, 'extra.limits.ttl is "6d"; it must be at least as long as delivery.default_ttl'),
        (
            {"limits": {"ttl": "31d"}, "retention": {"ids": "30d"}},
            'extra.limits.ttl is "31d"; it must be at most as long as retention.ids',
        ),
        ({"limits": {"ttl": "4000d"}}, 'extra.limits.ttl is "4000d"; it must be from 1s to 3650d'),
    ],
)
def test_a_ttl_that_fits_no_other_span(extra: dict[str, object], sentence: str) -> None:
    assert sentences({"state": "s", **extra}) == [sentence]


@pytest.mark.parametrize(
    ("peers", "sentence"),
    [
        ("rushabdev", 'extra.peers is "rushabdev"; it must be a list'),
        (["b", "B"], 'extra.peers[1] is "B"; it must be a lower-case letter, then up to 62 of a-z, 0-9 and _'),
        (["b", "b"], 'extra.peers[1] is "b"; it must not be there twice'),
        (["b", "agni"], "extra.peers[1] is \"agni\"; it must be another node's name than this one's own"),
    ],
)
def test_peers_are_names_of_other_nodes(peers: object, sentence: str) -> None:
    assert sentences({"state": "s", "node": "agni", "peers": peers}) == [sentence]


def test_proxies_are_addresses() -> None:
    assert sentences({"state": "s", "proxies": ["localhost", "10.0.0.1/8"]}) == [
        'extra.proxies[0] is "localhost"; it must be an IP address or a network of them, such as "127.0.0.1" or '
        '"10.0.0.0/8"',
        'extra.proxies[1] is "10.0.0.1/8"; it must be an IP address or a network of them, such as "127.0.0.1" or '
        '"10.0.0.0/8"',
    ]


def test_all_faults_are_told_at_once_in_the_order_of_the_options() -> None:
    assert sentences(
        {
            "node": "AGNI",
            "limits": {"payload": 1048576, "mailbox_messages": 0, "mailbox": "12 parsecs", "paylaod": "1 MiB"},
            "delivery": {"window": True, "lease": "60", "max_attempts": 2.5, "backoff_first": "2h"},
            "presence": [],
            "colour": "blue",
        }
    ) == [
        'extra.node is "AGNI"; it must be a lower-case letter, then up to 62 of a-z, 0-9 and _',
        "extra.state is missing; it must be the path of the directory that holds the node's data",
        'extra.limits.payload is 1048576; it must be a size with its unit, such as "64 KiB", "1 MiB" or "2 GiB"',
        "extra.limits.mailbox_messages is 0; it must be a whole number from 1 to 10000000",
        'extra.limits.mailbox is "12 parsecs"; it must be a size with its unit, such as "64 KiB", "1 MiB" or "2 GiB"',
        'extra.limits.paylaod is "1 MiB"; it is an unknown key; the known keys are payload, mailbox_messages, mailbox, '
        "store, batch_messages, rate, burst, broadcast_rate, broadcast_burst, broadcast_deliveries, broadcast_at_once, "
        "connections, connection_queue, agent_queue, queues, strangers, strangers_per_address, handshake, "
        "subscriptions, registrations, calls, call_wait, instances, fetches, retained, "
        "retained_bytes, ttl, "
        "mailbox_share, store_share, urgent_room, open_messages, open_capabilities, conversation_hops, "
        "conversation_within, hourly_messages, hourly_bytes",
        "extra.delivery.window is true; it must be a whole number from 1 to 65536",
        'extra.delivery.lease is "60"; it must be a duration with its unit, such as "250ms", "30s", "5m", "2h" or "7d"',
        "extra.delivery.max_attempts is 2.5; it must be a whole number from 1 to 1000",
        'extra.delivery.backoff_first is "2h"; it must be from 1ms to 1h',
        "extra.presence is []; it must be a map",
        'extra.colour is "blue"; it is an unknown key; the known keys are node, state, agents_file, limits, delivery, '
        "presence, retention, peers, trusted_network, proxies, alerts, objectives, agents, mirror, attachments, "
        "proxy_workers, cells",
    ]


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (
            {"state": "s", "limits": {"payload": "2 MiB", "mailbox": "1 MiB"}},
            'extra.limits.mailbox is "1 MiB"; it must be at least as large as limits.payload',
        ),
        (
            {"state": "s", "limits": {"store": "128 MiB"}},
            'extra.limits.store is "128 MiB"; it must be at least as large as limits.mailbox',
        ),
        (
            {"state": "s", "limits": {"rate": "2000000/s"}},
            'extra.limits.rate is "2000000/s"; it must be from 1/h to 1000000/s',
        ),
        (
            {"state": "s", "limits": {"rate": 100}},
            'extra.limits.rate is 100; it must be a rate with its unit, such as "50/s", "600/m" or "100/h"',
        ),
        (
            {"state": "s", "limits": {"rate": "100/s", "burst": 9}},
            "extra.limits.burst is 9; it must be at least a tenth of limits.rate",
        ),
        (
            {"state": "s", "limits": {"broadcast_rate": "2000/s"}},
            "extra.limits.broadcast_burst is 100; it must be at least a tenth of limits.broadcast_rate",
        ),
        (
            {"state": "s", "limits": {"broadcast_deliveries": "10000/s", "broadcast_at_once": 999}},
            "extra.limits.broadcast_at_once is 999; it must be at least a tenth of limits.broadcast_deliveries",
        ),
        (
            {"state": "s", "limits": {"payload": "4 MiB", "connection_queue": "7 MiB"}},
            'extra.limits.connection_queue is "7 MiB"; it must be at least twice limits.payload: who is sent the '
            "largest message would be ended for it",
        ),
        (
            {"state": "s", "limits": {"handshake": "10ms"}},
            'extra.limits.handshake is "10ms"; it must be from 100ms to 10m',
        ),
        (
            {"state": "s", "limits": {"connections": 0}},
            "extra.limits.connections is 0; it must be a whole number from 1 to 65536",
        ),
        (
            {"state": "s", "limits": {"payload": "9 MiB"}},
            'extra.limits.payload is "9 MiB"; it must be from 1 KiB to 8 MiB',
        ),
        (
            {"state": "s", "delivery": {"backoff_first": "10m"}},
            'extra.delivery.backoff_cap is "5m"; it must be at least delivery.backoff_first',
        ),
        (
            {"state": "s", "presence": {"heartbeat": "30s"}},
            'extra.presence.stale_after is "30s"; it must be longer than presence.heartbeat, best 3 times as long',
        ),
        ({"state": ""}, 'extra.state is ""; it must be the path of the directory that holds the node\'s data'),
        (
            {"state": None},
            "extra.state is null; it must be the path of the directory that holds the node's data",
        ),
        (
            {"state": "~nobody_at_all/s"},
            'extra.state is "~nobody_at_all/s"; it must not begin with a home directory that is unknown here; give an '
            "absolute path",
        ),
    ],
)
def test_each_rule_has_its_sentence(extra: dict[str, object], sentence: str) -> None:
    assert sentences(extra) == [sentence]


def test_options_that_are_no_map_are_one_fault_and_a_missing_state() -> None:
    assert sentences("state") == [
        'extra is "state"; it must be a map',
        "extra.state is missing; it must be the path of the directory that holds the node's data",
    ]


def test_a_long_or_strange_value_is_shown_short_and_on_one_line() -> None:
    assert Fault("x", "a\n" * 100, "it must be short").sentence == 'x is "' + "a\\n" * 25 + "a...; it must be short"
    assert Fault("x", {1}, "it must be JSON").sentence == "x is {1}; it must be JSON"
    assert Fault("x", MISSING, "it must be there").sentence == "x is missing; it must be there"
    assert Fault("x", WHOLE, "it must be all right").sentence == "x: it must be all right"
