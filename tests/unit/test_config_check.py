"""The check of a node's configuration: the shipped one is good; each way to break a promise has its sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trishula_router.settings.check import check_config, check_with_crossbar, read_config_file
from trishula_router.settings.faults import ConfigError

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
BASE = Path("/srv")
WORKER = "workers[0]"
COMPONENT = f"{WORKER}.components[0]"
REALM = f"{WORKER}.realms[0]"
TRANSPORT = f"{WORKER}.transports[0]"

Json = dict[str, Any]


@pytest.fixture
def config() -> Json:
    return read_config_file(SHIPPED)


def sentences(config: object) -> list[str]:
    return [fault.sentence for fault in check_config(config, base=BASE)]


def at(config: Json, path: str) -> Any:
    """What stands at a key path such as ``workers[0].realms[0]``."""
    found: Any = config
    for part in path.replace("[", ".").replace("]", "").split("."):
        found = found[int(part)] if part.isdigit() else found[part]
    return found


def put(path: str, key: str, value: object) -> Callable[[Json], None]:
    def change(config: Json) -> None:
        at(config, path)[key] = value

    return change


def drop(path: str, key: str) -> Callable[[Json], None]:
    def change(config: Json) -> None:
        del at(config, path)[key]

    return change


@pytest.mark.parametrize("path", sorted(SHIPPED.parent.glob("*.json")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_good_but_for_what_only_its_operator_knows(path: Path) -> None:
    told = [fault.sentence for fault in check_config(read_config_file(path), base=path.parent)]
    key = "paths.peer.auth.cryptosign.principals"
    link = f"{REALM}.rlinks[0].transport"
    assert (
        told
        == {
            "single.json": [],
            "primary.json": [
                f"{TRANSPORT}.{key}.rushabdev.authorized_keys[0]: the shipped placeholder must go: run "
                "`trishula node keys` on rushabdev"
            ],
            "failover.json": [
                f'{link}.url is "ws://agni.example:8765/peer"; it must be the peer\'s address, ws://HOST:PORT/peer or '
                "wss://HOST/peer",
                f'{link}.endpoint.host is "agni.example"; it must be the name or address of the peer\'s machine',
                f"{TRANSPORT}.{key}.agni.authorized_keys[0]: the shipped placeholder must go: run "
                "`trishula node keys` on agni",
            ],
        }[path.name]
    )
    assert check_with_crossbar(read_config_file(path)) == ()


def test_the_shipped_configuration_listens_on_loopback_alone(config: Json) -> None:
    assert at(config, f"{TRANSPORT}.endpoint")["interface"] == "127.0.0.1"


def test_the_check_changes_nothing(config: Json) -> None:
    before = copy.deepcopy(config)
    check_config(config, base=BASE)
    check_with_crossbar(config)
    assert config == before


ONE_FAULT: list[tuple[str, Callable[[Json], None], str]] = [
    (
        "universal",
        put(TRANSPORT, "type", "universal"),
        f'{TRANSPORT}.type is "universal"; it must be "web": universal leaves Nagle\'s algorithm on, and small events '
        "then take 22.8 ms one way",
    ),
    (
        "rawsocket",
        put(TRANSPORT, "type", "rawsocket"),
        f'{TRANSPORT}.type is "rawsocket"; it must be "web": only the options of a web transport\'s WebSocket path '
        "are checked",
    ),
    ("id of worker", put(WORKER, "id", "R1"), f'{WORKER}.id is "R1"; {{id}}'),
    ("id of realm", put(REALM, "id", "r"), f'{REALM}.id is "r"; {{id}}'),
    ("id of role", put(f"{REALM}.roles[1]", "id", 7), f"{REALM}.roles[1].id is 7; {{id}}"),
    ("id of component", put(COMPONENT, "id", "a-b"), f'{COMPONENT}.id is "a-b"; {{id}}'),
    ("id of transport", put(TRANSPORT, "id", "x" * 65), f'{TRANSPORT}.id is "{"x" * 65}"; {{id}}'),
    ("component's type", put(COMPONENT, "type", "function"), f'{COMPONENT}.type is "function"; it must be "class"'),
    ("component's realm", put(COMPONENT, "realm", "realm1"), f'{COMPONENT}.realm is "realm1"; it must be "trishula"'),
    ("component's role", drop(COMPONENT, "role"), f'{COMPONENT}.role is missing; it must be "node"'),
    ("no options", drop(COMPONENT, "extra"), f"{COMPONENT}.extra is missing; it must be the map of our options"),
    (
        "an option",
        put(f"{COMPONENT}.extra.limits", "payload", "1 GB"),
        f'{COMPONENT}.extra.limits.payload is "1 GB"; it must be from 1 KiB to 8 MiB',
    ),
    (
        "authorizer",
        put(f"{REALM}.roles[0]", "authorizer", "com.example.authorize"),
        f'{REALM}.roles[0].authorizer is "com.example.authorize"; it must be "trishula.internal.authorize"',
    ),
    (
        "cache",
        put(f"{REALM}.roles[1]", "cache", True),
        f"{REALM}.roles[1].cache is true; it must go: each action is asked of the authorizer",
    ),
    (
        "node's permissions",
        put(f"{REALM}.roles[2].permissions[0].allow", "publish", False),
        f'{REALM}.roles[2].permissions: it must allow call, register, publish and subscribe for uri "", match "prefix"',
    ),
    (
        "a role of its own",
        lambda config: at(config, f"{REALM}.roles").append({"name": "office", "permissions": []}),
        f'{REALM}.roles[3].name is "office"; it must be "agent", "operator" or "node": nothing gives a session another '
        "role",
    ),
    (
        "a role twice",
        lambda config: at(config, f"{REALM}.roles").append({**at(config, f"{REALM}.roles[0]"), "id": "role_agent_2"}),
        f'{REALM}.roles: exactly one of them must have the name "agent"',
    ),
    (
        "a role too few",
        lambda config: at(config, f"{REALM}.roles").pop(1),
        f'{REALM}.roles: exactly one of them must have the name "operator"',
    ),
    (
        "anonymous",
        put(f"{TRANSPORT}.paths.ws.auth", "anonymous", {"type": "static", "role": "agent"}),
        f"{TRANSPORT}.paths.ws.auth.anonymous: it must go: agents join with tickets or keys alone",
    ),
    (
        "no auth",
        drop(f"{TRANSPORT}.paths.ws", "auth"),
        f"{TRANSPORT}.paths.ws.auth is missing; it must be a map",
    ),
    (
        "static tickets",
        put(f"{TRANSPORT}.paths.ws.auth.ticket", "type", "static"),
        f'{TRANSPORT}.paths.ws.auth.ticket.type is "static"; it must be "dynamic"',
    ),
    (
        "authenticator",
        drop(f"{TRANSPORT}.paths.ws.auth.ticket", "authenticator"),
        f'{TRANSPORT}.paths.ws.auth.ticket.authenticator is missing; it must be "trishula.internal.authenticate"',
    ),
    (
        "a second door without auth",
        put(f"{TRANSPORT}.paths", "open", {"type": "websocket", "options": {}}),
        f"{TRANSPORT}.paths.open.auth is missing; it must be a map",
    ),
    (
        "a bridge that publishes",
        put(f"{TRANSPORT}.paths", "rest", {"type": "publisher", "realm": "trishula", "role": "node"}),
        f'{TRANSPORT}.paths.rest.type is "publisher"; it must not be a way past the tickets of the agents',
    ),
    (
        "nodeinfo",
        put(f"{TRANSPORT}.paths", "/", {"type": "nodeinfo"}),
        f'{TRANSPORT}.paths./.type is "nodeinfo"; it must be another kind, such as "static": nodeinfo answers 200 to '
        "WebSocket upgrades on any path",
    ),
    (
        "no door",
        drop(f"{TRANSPORT}.paths", "ws"),
        f'{WORKER}.transports: one of them must have the path "ws" of type "websocket"',
    ),
    (
        "no pings",
        drop(f"{TRANSPORT}.paths.ws.options", "auto_ping_interval"),
        f"{TRANSPORT}.paths.ws.options.auto_ping_interval is missing; it must be from 100 to 60000 ms: a frozen peer "
        "is noticed by pings",
    ),
    (
        "pings in seconds",
        put(f"{TRANSPORT}.paths.ws.options", "auto_ping_timeout", 2),
        f"{TRANSPORT}.paths.ws.options.auto_ping_timeout is 2; it must be from 100 to 60000 ms: a frozen peer is "
        "noticed by pings",
    ),
    (
        "Nagle",
        put(f"{TRANSPORT}.paths.ws.options", "tcp_nodelay", False),
        f"{TRANSPORT}.paths.ws.options.tcp_nodelay is false; it must be true: small messages must not wait",
    ),
    (
        "another compression",
        put(f"{TRANSPORT}.paths.ws.options", "compression", {"brotli": {}}),
        f'{TRANSPORT}.paths.ws.options.compression is {{"brotli": {{}}}}; it must be {{"deflate": {{…}}}}, with '
        "max_window_bits, request_max_window_bits, memory_level",
    ),
    (
        "a compressor as large as zlib's own",
        put(
            f"{TRANSPORT}.paths.ws.options",
            "compression",
            {"deflate": {"max_window_bits": 15, "request_max_window_bits": 12, "memory_level": 5}},
        ),
        f"{TRANSPORT}.paths.ws.options.compression.deflate.max_window_bits is 15; it must be from 9 to 12: each "
        "connection takes memory for it, a stranger's too",
    ),
    (
        "a compressor whose memory nobody bounds",
        put(
            f"{TRANSPORT}.paths.ws.options",
            "compression",
            {"deflate": {"max_window_bits": 12, "request_max_window_bits": 12}},
        ),
        f"{TRANSPORT}.paths.ws.options.compression.deflate.memory_level is missing; it must be from 1 to 5: each "
        "connection takes memory for it, a stranger's too",
    ),
    (
        "a key of the compression that is none",
        put(
            f"{TRANSPORT}.paths.ws.options",
            "compression",
            {
                "deflate": {
                    "max_window_bits": 12,
                    "request_max_window_bits": 12,
                    "memory_level": 5,
                    "level": 9,
                }
            },
        ),
        f"{TRANSPORT}.paths.ws.options.compression.deflate.level is 9; it must be one of max_window_bits, "
        "request_max_window_bits, memory_level, no_context_takeover, request_no_context_takeover",
    ),
    (
        "a message too large for the transport",
        put(f"{TRANSPORT}.paths.ws.options", "max_message_size", 1_000_000),
        f"{TRANSPORT}.paths.ws.options.max_message_size is 1000000; it must be at least 1114112: limits.payload and "
        "the envelope around it",
    ),
    (
        "a serializer without bounds",
        put(f"{TRANSPORT}.paths.ws", "serializers", ["msgpack", "ubjson"]),
        f'{TRANSPORT}.paths.ws.serializers is ["msgpack", "ubjson"]; it must be a list of some of "msgpack", "json", '
        '"cbor": what they say is bounded',
    ),
    (
        "no realm of ours",
        put(REALM, "name", "realm1"),
        f'{WORKER}.realms: one of them must have the name "trishula"',
    ),
    (
        "no component of ours",
        put(COMPONENT, "classname", "example.Component"),
        'workers: one worker of type "router" must embed the component "trishula_router.edge.NodeSession"',
    ),
    ("no workers", drop("workers[0]", "realms"), f"{WORKER}.realms is missing; it must be a list"),
]
ID_RULE = "it must be a lower-case letter, then 2 to 63 of a-z, 0-9 and _"


@pytest.mark.parametrize(("change", "sentence"), [case[1:] for case in ONE_FAULT], ids=[case[0] for case in ONE_FAULT])
def test_each_broken_promise_has_its_sentence(config: Json, change: Callable[[Json], None], sentence: str) -> None:
    change(config)
    expected = sentence.replace("{id}", ID_RULE)
    found = sentences(config)
    assert expected in found
    # A fault of one thing is told once; only what hangs on it is told as well.
    hangs_on_it = (f'{WORKER}.transports: one of them must have the path "ws"', f"{WORKER}.realms: one of them")
    assert [item for item in found if item != expected and not item.startswith(hangs_on_it)] == [] or (
        expected.startswith(f"{TRANSPORT}.paths.open") and len(found) == 5
    )


def test_two_nodes_in_one_configuration_are_refused(config: Json) -> None:
    config["workers"].append({**copy.deepcopy(config["workers"][0]), "id": "second_router"})
    at(config, f"{WORKER}.components").append({**copy.deepcopy(at(config, COMPONENT)), "id": "second_node"})
    assert sentences(config) == [
        f'{WORKER}.components[1]: only one component may be "trishula_router.edge.NodeSession"',
        'workers[1]: only one worker may embed the component "trishula_router.edge.NodeSession"',
    ]


def more(path: str, change: Callable[[Json], object] | None = None) -> Callable[[Json], None]:
    """Another one of what stands at the path's list, with another id, changed."""

    def add(config: Json) -> None:
        items = at(config, path.rpartition("[")[0])
        item = copy.deepcopy(at(config, path))
        item["id"] += "_2"
        if change is not None:
            change(item)
        items.append(item)

    return add


def same_id(path: str) -> Callable[[Json], None]:
    return more(path, lambda item: item.update(id=item["id"].removesuffix("_2")))


def pages(endpoint: Json) -> Callable[[Json], None]:
    """A transport for pages alone."""
    page = {"type": "static", "directory": "."}
    return more(TRANSPORT, lambda item: item.update(endpoint=endpoint, paths={"/": page}))


OTHER = f"{WORKER}.transports[1]"
OPTIONS = f"{WORKER}.options"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (same_id(TRANSPORT), f'{OTHER}.id is "trishula_web"; it must not be there twice, and {TRANSPORT} has it'),
        (
            same_id(REALM),
            f'{WORKER}.realms[1].id is "trishula_realm"; it must not be there twice, and {REALM} has it',
        ),
        (
            put(f"{REALM}.roles[1]", "id", "role_agent"),
            f'{REALM}.roles[1].id is "role_agent"; it must not be there twice, and {REALM}.roles[0] has it',
        ),
        (
            lambda config: config["workers"].append({"type": "container", "id": "trishula_router"}),
            'workers[1].id is "trishula_router"; it must not be there twice, and workers[0] has it',
        ),
        (more(TRANSPORT), f"{OTHER}.endpoint.port is 8765; it must be another port than that of {TRANSPORT}"),
        (
            pages({"type": "tcp", "port": 8765}),
            f"{OTHER}.endpoint.port is 8765; it must be another port than that of {TRANSPORT}",
        ),
        (
            pages({"type": "tcp", "port": 8766, "tls": {"key": "no.key", "certificate": "no.crt"}}),
            f'{OTHER}.endpoint.tls.certificate is "no.crt"; it must be a file that can be read, relative to this file: '
            "No such file or directory",
        ),
        (
            pages({"type": "unix", "path": "/no/such/place/node.sock"}),
            f'{OTHER}.endpoint.path is "/no/such/place/node.sock"; it must be in a directory that is there',
        ),
        (
            put(OPTIONS, "python", "/no/python"),
            f'{OPTIONS}.python is "/no/python"; it must be the absolute path of a program that can be run',
        ),
        (
            put(OPTIONS, "cpu_affinity", [100_000]),
            f"{OPTIONS}.cpu_affinity is [100000]; it must name CPUs of this machine, from 0 to ",
        ),
        (
            put(f"{TRANSPORT}.paths./", "package", "no_such.package"),
            f'{TRANSPORT}.paths./.package is "no_such.package"; it must be a Python package that is installed here',
        ),
    ],
)
def test_what_would_end_the_node_when_it_starts_is_a_fault(
    config: Json, change: Callable[[Json], object], sentence: str
) -> None:
    change(config)
    assert [found for found in sentences(config) if found.startswith(sentence)] != []
    assert check_with_crossbar(config) == (), "Crossbar's own check lets it pass"


@pytest.mark.parametrize(
    "change",
    [
        more(TRANSPORT, lambda item: item["endpoint"].update(port=8766)),
        more(TRANSPORT, lambda item: item["endpoint"].update(interface="::1")),
        pages({"type": "unix", "path": "pages.sock"}),
        pages({"type": "tcp", "portrange": [9000, 9010]}),
        put(OPTIONS, "cpu_affinity", [0]),
        put(OPTIONS, "python", "/bin/sh"),
        put(OPTIONS, "pythonpath", ["plugins"]),
    ],
)
def test_what_a_node_starts_with_is_good(config: Json, change: Callable[[Json], object]) -> None:
    change(config)
    assert sentences(config) == []


def test_all_faults_are_told_at_once_in_the_order_of_the_file(config: Json) -> None:
    chosen = ("id of realm", "authorizer", "an option", "Nagle", "nodeinfo", "id of transport")
    cases = {name: (change, sentence.replace("{id}", ID_RULE)) for name, change, sentence in ONE_FAULT}
    for name in chosen:
        cases[name][0](config)
    order = ("id of realm", "authorizer", "an option", "id of transport", "nodeinfo", "Nagle")
    assert sentences(config) == [cases[name][1] for name in order]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ([], "the configuration is []; it must be a map"),
        ({"workers": {}}, "workers is {}; it must be a list"),
        ({"workers": ["router"]}, 'workers[0] is "router"; it must be a map'),
        ({}, "workers is missing; it must be a list"),
    ],
)
def test_a_configuration_of_another_shape_is_a_fault_and_no_traceback(config: object, sentence: str) -> None:
    assert sentences(config)[0] == sentence


def test_wrong_types_anywhere_are_faults_and_never_a_traceback(config: Json) -> None:
    """Each value of the shipped configuration, replaced by each of some wrong ones."""

    def places(value: Any) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, below in items:
            found += [(value, key), *places(below)]
        return found

    count = 0
    wrong: object
    for parent, key in places(config):
        good = parent[key]
        for wrong in (None, 7, "x", [], {}, [[]], {"": {}}):
            parent[key] = wrong
            assert isinstance(sentences(config), list)
            count += 1
        parent[key] = good
    assert count > 500
    assert sentences(config) == []


def test_crossbars_own_fault_is_added(config: Json) -> None:
    at(config, f"{TRANSPORT}.options")["access_log"] = 123456
    assert sentences(config) == []
    (fault,) = check_with_crossbar(config)
    assert fault.sentence.startswith("crossbar check: ") and "access_log" in fault.sentence
    assert "\n" not in fault.sentence


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b'{\n  "version": 2,\n  realms}',
            "it is not JSON: Expecting property name enclosed in double quotes in line 3, column 3",
        ),
        (b"", "it is not JSON: Expecting value in line 1, column 1"),
        (b"\xff", "it is not text in UTF-8"),
        (b"[1]", "it must be a map"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it is not JSON: it has a number of more than 4300 digits"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_file_that_is_no_json_map_says_where(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "node.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_keys_that_stand_twice_and_numbers_that_json_has_not_are_told_with_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    path.write_text('\ufeff{"a": [{"b": 1, "b": 2, "c": NaN}], "d": -Infinity, "a": [{"b": 1, "b": 2, "c": NaN}]}')
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    twice = "it must not stand twice in one map, because only the last of the two would count"
    assert str(caught.value).splitlines() == [
        f"a: {twice}",
        f"a[0].b: {twice}",
        "a[0].c is NaN; it must be a number that JSON has",
        "d is -Infinity; it must be a number that JSON has",
    ]


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config_file(tmp_path / "none.json")
    assert str(caught.value) == f"{tmp_path}/none.json: it can't be read: No such file or directory"


def test_the_shipped_configuration_is_plain_json() -> None:
    assert json.loads(SHIPPED.read_text())["version"] == 2
