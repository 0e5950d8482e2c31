"""What links nodes, in one file and in several: the made ones are good; each way to spoil them has its sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trishula.exit_codes import Exit
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import TokenEntry
from trishula_router.commands import node
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


def share(config: Json, *, shared: bool = True) -> None:
    options_of(config)["agents"] = {"shared": shared}


@pytest.mark.parametrize("lacks", ["agni", "rushabdev"])
def test_agents_are_shared_by_both_or_by_none(pair: dict[str, Json], tmp_path: Path, lacks: str) -> None:
    shares = "rushabdev" if lacks == "agni" else "agni"
    share(pair[lacks], shared=False)
    share(pair[shares])
    (told,) = both(pair, tmp_path)
    assert told.startswith(
        f"{lacks}: extra.agents.shared is false; it must be true, as in {tmp_path}/{shares}.json, or false in both: "
    )
    share(pair[lacks])
    assert both(pair, tmp_path) == []


def test_who_is_not_linked_may_share_with_others(configs: dict[str, Json], tmp_path: Path) -> None:
    share(configs["agni"])
    share(configs["rushabdev"], shared=False)
    for name in ("agni", "rushabdev"):
        options_of(configs[name])["peers"] = ["dc"]
    assert not [told for told in both(configs, tmp_path) if "shared" in told]


def told_between(pair: dict[str, Json], tmp_path: Path) -> list[str]:
    """What `node check` says of two files, each in a directory of its own."""
    paths = []
    for name, config in pair.items():
        share(config, shared=options_of(config).get("agents", {}).get("shared", False))
        (tmp_path / name).mkdir(exist_ok=True)
        paths.append(tmp_path / name / "node.json")
        paths[-1].write_text(json.dumps(config))
    done = CliRunner().invoke(node, ["check", *map(str, paths)])
    assert done.exit_code == (0 if done.stdout.count(": good\n") == 2 else Exit.CONFIG)
    return [line for line in done.stdout.splitlines() if not line.endswith(": good")]


def write_agents(file: Path, **agents: AgentEntry) -> None:
    with update_agents(file) as there:
        there.clear()
        there.update(agents)


def test_files_of_agents_that_are_not_shared_say_the_same(pair: dict[str, Json], tmp_path: Path) -> None:
    first, second = (tmp_path / name / "trishula-state" / "agents.json" for name in pair)
    tokens = TokenEntry("a" * 64, 1.0), TokenEntry("b" * 64, 2.0)
    dc, scout = AgentEntry(serve=(), tokens=tokens), AgentEntry(serve=())
    assert told_between(pair, tmp_path) == []
    write_agents(first, dc=dc, scout=scout)
    # That of the other may be on its machine alone.
    assert told_between(pair, tmp_path) == []
    write_agents(second, scout=scout, dc=AgentEntry(serve=(), tokens=tokens[::-1]))
    assert told_between(pair, tmp_path) == []
    write_agents(second, scout=AgentEntry(serve=(), operator=True), helper=scout)
    assert told_between(pair, tmp_path) == [
        f"{tmp_path}/rushabdev/node.json: {second}: it must say the same as {first}, for these nodes don't share them, "
        "and it says something else of dc, helper, scout: copy the right one to the other (trishula token list tells "
        'what each says), or have both share them: "agents": {"shared": true} in extra'
    ]
    second.chmod(0o644)
    (told,) = told_between(pair, tmp_path)
    assert "it can't be compared with that of agni" in told and "chmod 600" in told
    for config in pair.values():
        share(config)
    assert told_between(pair, tmp_path) == []
