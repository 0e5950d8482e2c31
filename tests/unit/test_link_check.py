"""What links nodes, in one file and in several: the made ones are good; each way to spoil them has its sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trishula_router.settings.check import check_config, check_with_crossbar, read_config_file
from trishula_router.settings.check_links import ConfigFile, compare
from trishula_router.settings.crossbar_config import listener_of, options_of
from trishula_router.settings.linked_configs import Member, linked_configs

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
MEMBERS = [Member("agni", 8765, "a1" * 32), Member("rushabdev", 8766, "b2" * 32), Member("dc", 8767, "c3" * 32)]
REALM = "workers[0].realms[0]"
PEER = "workers[0].transports[0].paths.peer"
PRINCIPALS = f"{PEER}.auth.cryptosign.principals"

Json = dict[str, Any]


@pytest.fixture
def configs() -> dict[str, Json]:
    return linked_configs(read_config_file(SHIPPED), MEMBERS)


def realm_of(config: Json) -> Json:
    realm: Json = config["workers"][0]["realms"][0]
    return realm


def peer_of(config: Json) -> Json:
    path: Json = listener_of(config)["paths"]["peer"]
    return path


def principals_of(config: Json) -> Json:
    principals: Json = peer_of(config)["auth"]["cryptosign"]["principals"]
    return principals


def link_of(config: Json) -> Json:
    link: Json = realm_of(config)["rlinks"][0]
    return link


def test_linked_configurations_are_good_also_to_crossbar(configs: dict[str, Json], tmp_path: Path) -> None:
    base = read_config_file(SHIPPED)
    for config in configs.values():
        assert check_config(config, base=tmp_path) == ()
        assert check_with_crossbar(config) == ()
    assert compare([ConfigFile(tmp_path / name, config) for name, config in configs.items()]) == {
        tmp_path / name: [] for name in configs
    }
    # The pattern that they were made from stays as it was.
    assert base == read_config_file(SHIPPED)


def test_each_pair_has_one_link_from_the_later_to_the_earlier(configs: dict[str, Json]) -> None:
    links = {name: [link["id"] for link in realm_of(config).get("rlinks", [])] for name, config in configs.items()}
    assert links == {"agni": [], "rushabdev": ["agni"], "dc": ["agni", "rushabdev"]}
    assert {name: options_of(config)["peers"] for name, config in configs.items()} == {
        "agni": ["rushabdev", "dc"],
        "rushabdev": ["agni", "dc"],
        "dc": ["agni", "rushabdev"],
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda config: realm_of(config)["roles"].pop(),
            f'{REALM}.roles: exactly one of them must have the name "rlink"',
        ),
        (
            lambda config: listener_of(config)["paths"].pop("peer"),
            'workers[0].transports: one of them must have the path "peer" of type "websocket", where the peers come in',
        ),
        (
            lambda config: peer_of(config)["auth"].update(ticket={}),
            f"{PEER}.auth.ticket: it must go: peers join with their keys alone",
        ),
        (
            lambda config: peer_of(config).update(serializers=["json"]),
            f'{PEER}.serializers is ["json"]; it must be ["msgpack"]: records of the journal are bytes',
        ),
        (
            lambda config: peer_of(config)["options"].update(max_message_size=4 * 1024 * 1024),
            f"{PEER}.options.max_message_size is 4194304; it must be at least 5308416: limits.payload and a run of "
            "records with it",
        ),
        (
            lambda config: peer_of(config)["auth"]["cryptosign"].update(type="dynamic"),
            f'{PEER}.auth.cryptosign.type is "dynamic"; it must be "static"',
        ),
        (
            lambda config: principals_of(config)["agni"].update(role="node"),
            f'{PRINCIPALS}.agni.role is "node"; it must be "rlink"',
        ),
        (
            lambda config: principals_of(config)["agni"].update(authorized_keys=["0x12"]),
            f'{PRINCIPALS}.agni.authorized_keys[0] is "0x12"; it must be a node\'s public key, 64 hexadecimal digits '
            "in lower case, as `trishula node keys` prints it",
        ),
        (
            lambda config: principals_of(config)["agni"].update(authorized_keys=["c3" * 32]),
            f"{PRINCIPALS}.dc.authorized_keys[0]: it must be another key than {PRINCIPALS}.agni.authorized_keys[0]: a "
            "key is one node's",
        ),
        (
            lambda config: principals_of(config).pop("dc"),
            f"{PRINCIPALS}.dc is missing; it must be there: a peer comes in with its key",
        ),
        (
            lambda config: principals_of(config).update(
                eve=principals_of(config)["dc"] | {"authorized_keys": ["e" * 64]}
            ),
            f"{PRINCIPALS}.eve: eve must be one of our component's extra.peers, or go",
        ),
        (
            lambda config: link_of(config).update(id="eve"),
            f'{REALM}.rlinks[0].id is "eve"; it must be the name of one of our component\'s extra.peers: agni, dc',
        ),
        (
            lambda config: realm_of(config)["rlinks"].append(dict(link_of(config))),
            f'{REALM}.rlinks[1].id is "agni"; it must not be there twice: a second link doubles every event',
        ),
        (
            lambda config: link_of(config).update(forward_local_events=False),
            f"{REALM}.rlinks[0].forward_local_events is false; it must go: a link carries both ways, and what it "
            "carries is fixed",
        ),
        (
            lambda config: link_of(config).update(realm="realm1"),
            f'{REALM}.rlinks[0].realm is "realm1"; it must be "trishula"',
        ),
        (
            lambda config: link_of(config)["transport"].update(url="http://agni/peer"),
            f'{REALM}.rlinks[0].transport.url is "http://agni/peer"; it must be the peer\'s address, '
            "ws://HOST:PORT/peer or wss://HOST/peer",
        ),
        (
            lambda config: link_of(config)["transport"].update(url="wss://agni/peer"),
            f"{REALM}.rlinks[0].transport.endpoint.tls is missing; it must be there exactly if the url begins "
            "with wss:",
        ),
        (
            lambda config: link_of(config)["transport"]["endpoint"].update(host="10.0.0.1"),
            f'{REALM}.rlinks[0].transport.url is "ws://127.0.0.1:8765/peer"; it must begin with wss:, because over ws: '
            "a machine in between reads and changes all that nodes tell each other, whatever they prove; or, if nobody "
            "else is on that network, write so into our component's extra, "
            '"trusted_network": "why it is to be trusted"',
        ),
        (
            lambda config: link_of(config)["transport"]["endpoint"].update(port="8765"),
            f'{REALM}.rlinks[0].transport.endpoint.port is "8765"; it must be a port, from 1 to 65535',
        ),
    ],
)
def test_each_spoilt_link_has_its_sentence(
    configs: dict[str, Json], change: Callable[[Json], object], sentence: str, tmp_path: Path
) -> None:
    change(configs["rushabdev"])
    assert [fault.sentence for fault in check_config(configs["rushabdev"], base=tmp_path)] == [sentence]


@pytest.mark.parametrize("word", [True, "the nodes are on a VPN"])
def test_an_operator_gives_its_word_for_a_network(configs: dict[str, Json], word: object, tmp_path: Path) -> None:
    config = configs["rushabdev"]
    link_of(config)["transport"]["endpoint"]["host"] = "10.0.0.1"
    listener_of(config)["endpoint"]["interface"] = "0.0.0.0"
    options_of(config)["trusted_network"] = word
    assert check_config(config, base=tmp_path) == ()


@pytest.mark.parametrize("word", [1, "", "  ", [], "two\nlines"])
def test_what_is_no_word_is_refused(configs: dict[str, Json], word: object, tmp_path: Path) -> None:
    config = configs["rushabdev"]
    options_of(config)["trusted_network"] = word
    (fault,) = check_config(config, base=tmp_path)
    assert fault.path.endswith("extra.trusted_network")
    assert fault.rule == "it must be true, false, or a sentence that says why the network is to be trusted"


def test_a_node_alone_may_have_no_way_in_for_peers(configs: dict[str, Json], tmp_path: Path) -> None:
    config = configs["agni"]
    del options_of(config)["peers"]
    assert [fault.sentence for fault in check_config(config, base=tmp_path)] == [
        f'{REALM}.roles[3].name is "rlink"; it must be "agent", "operator" or "node": nothing gives a session '
        "another role",
        f"{PEER}: it must go, or our component's extra.peers must name who comes in there",
    ]


def both(configs: dict[str, Json], tmp_path: Path) -> list[str]:
    files = [ConfigFile(tmp_path / f"{name}.json", configs[name]) for name in ("agni", "rushabdev")]
    found = compare(files)
    return [f"{path.stem}: {fault.sentence}" for path, faults in found.items() for fault in faults]


@pytest.fixture
def pair(configs: dict[str, Json]) -> dict[str, Json]:
    return linked_configs(read_config_file(SHIPPED), MEMBERS[:2])


def test_names_must_differ(pair: dict[str, Json], tmp_path: Path) -> None:
    options_of(pair["rushabdev"])["node"] = "agni"
    options_of(pair["rushabdev"])["peers"] = []
    (told,) = both(pair, tmp_path)
    assert told == f'rushabdev: extra.node is "agni"; it must be another name than in {tmp_path}/agni.json'


def test_both_must_name_each_other(pair: dict[str, Json], tmp_path: Path) -> None:
    options_of(pair["agni"])["peers"] = []
    told = both(pair, tmp_path)
    assert "agni: extra.peers is []; it must have rushabdev, which has agni among its own" in told


@pytest.mark.parametrize("links", [0, 2])
def test_a_pair_has_exactly_one_link(pair: dict[str, Json], tmp_path: Path, links: int) -> None:
    if links == 0:
        realm_of(pair["rushabdev"])["rlinks"] = []
    else:
        back = linked_configs(read_config_file(SHIPPED), MEMBERS[1::-1])
        realm_of(pair["agni"])["rlinks"] = realm_of(back["agni"])["rlinks"]
    assert both(pair, tmp_path) == [
        f"rushabdev: rlinks: exactly one of agni and rushabdev must have a link (rlinks) to the other; {links} have"
    ]


def test_a_key_must_be_the_peers_own(pair: dict[str, Json], tmp_path: Path) -> None:
    crossbar = tmp_path / options_of(pair["agni"])["state"] / "crossbar"
    crossbar.mkdir(parents=True)
    (crossbar / "key.pub").write_text(f"Crossbar.io node public key\n\npublic-key-ed25519: {'d4' * 32}\n")
    options_of(pair["rushabdev"])["state"] = "elsewhere"
    (told,) = both(pair, tmp_path)
    assert told.startswith("rushabdev: paths.peer.auth.cryptosign.principals.agni.authorized_keys is [")
    assert told.endswith(f"it must have the key of agni, which is {'d4' * 32}")


def test_two_nodes_have_two_keys(pair: dict[str, Json], tmp_path: Path) -> None:
    principals_of(pair["agni"])["rushabdev"]["authorized_keys"] = ["a1" * 32]
    assert any("keys of their own" in told for told in both(pair, tmp_path))


def test_a_port_on_the_same_machine_is_the_one_that_is_listened_on(pair: dict[str, Json], tmp_path: Path) -> None:
    listener_of(pair["agni"])["endpoint"]["port"] = 9000
    assert both(pair, tmp_path) == [
        "rushabdev: rlinks.agni.transport.endpoint.port is 8765; it must be the port on which agni listens, 9000"
    ]


def test_what_one_accepts_the_other_can_keep(pair: dict[str, Json], tmp_path: Path) -> None:
    options_of(pair["rushabdev"])["limits"]["payload"] = "64 KiB"
    (told,) = both(pair, tmp_path)
    assert told.startswith("rushabdev: extra.limits.payload is 65536; it must be the same as in ")
