"""``trishula init``: what it makes is good as it is, a further run changes nothing, wrong words are sentences."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from trishula import settings
from trishula.exit_codes import Exit
from trishula.files.mail_folder import MailFolder
from trishula_router.agents.file import read_agents
from trishula_router.agents.tokens import digest_of
from trishula_router.cluster.authority import SHARED_NAME, issue, new_authority
from trishula_router.cluster.plan import PlanFault, parse_machine, parse_plan, plan_of
from trishula_router.commands import init, node
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import listener_of, options_of
from trishula_router.settings.node_key import read_public_key

COMMANDS = click.Group("commands", commands=[init, node])
CLUSTER = ("--cluster", "agni=203.0.113.5", "rushabdev=bus.rushabdev.net:9000", "--agents", "dc,agni")
NODES = ("agni", "rushabdev")
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(COMMANDS, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster; nothing may be changed in it."""
    directory = tmp_path_factory.mktemp("init") / "bus"
    done = run("init", directory, *CLUSTER)
    assert done.exit_code == 0, done.output
    yield directory


def all_files(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_what_is_made_for_a_cluster_passes_the_check(shared: Path) -> None:
    done = run("node", "check", *(shared / "nodes" / name / "node.json" for name in NODES))
    assert (done.exit_code, done.output.count(": good\n")) == (0, 2), done.output


@pytest.mark.parametrize(
    "asked",
    [
        (),
        ("--cluster", "agni=127.0.0.1:8801", "rushabdev=127.0.0.1:8802", "--tls", "off"),
        ("--cluster", "agni=10.0.0.5", "b=10.0.0.6", "c=10.0.0.7", "--tls", "off", "--behind-nginx"),
        ("--cluster", "agni=::1", "--cluster", "rushabdev=localhost"),
        ("--cluster", "agni=[2001:db8::5]:9000", "rushabdev=2001:db8::6"),
    ],
)
def test_so_does_what_is_made_otherwise(tmp_path: Path, asked: tuple[str, ...]) -> None:
    done = run("init", tmp_path / "bus", *asked)
    assert done.exit_code == 0, done.output
    configs = sorted((tmp_path / "bus" / "nodes").glob("*/node.json"))
    checked = run("node", "check", *configs)
    assert checked.exit_code == 0, checked.output
    links = [realm.get("rlinks", []) for one in configs for realm in read_config_file(one)["workers"][0]["realms"]]
    # Each node has a link to each that stands before it.
    assert sorted(len(made) for made in links) == list(range(len(configs)))


def test_proxy_workers_are_an_option_of_each_node_and_stay_as_many(tmp_path: Path) -> None:
    bus = tmp_path / "bus"
    made = run("init", bus, "--cluster", "agni=10.0.0.5", "rushabdev=10.0.0.6", "--proxies", "2")
    assert made.exit_code == 0, made.output
    configs = sorted((bus / "nodes").glob("*/node.json"))
    assert [options_of(read_config_file(one))["proxy_workers"] for one in configs] == [2, 2]
    checked = run("node", "check", *configs)
    assert checked.exit_code == 0, checked.output
    again = run("init", bus, "--agents", "scout", "--proxies", "2")
    assert again.exit_code == 0, again.output
    others = run("init", bus, "--proxies", "3")
    assert others.exit_code == Exit.USAGE and "--proxies would change it: edit its files" in others.output


def test_without_proxy_workers_a_release_that_has_none_reads_what_is_made(tmp_path: Path) -> None:
    assert run("init", tmp_path / "bus", "--proxies", "0").exit_code == 0
    assert "proxy_workers" not in (tmp_path / "bus" / "bus.json").read_text()
    (config,) = (tmp_path / "bus" / "nodes").glob("*/node.json")
    assert "proxy_workers" not in options_of(read_config_file(config))


@pytest.mark.parametrize("number", ["-1", "65", "two", "1.5"])
def test_another_number_of_proxy_workers_is_told_in_a_sentence(tmp_path: Path, number: str) -> None:
    done = run("init", tmp_path / "bus", "--proxies", number)
    assert done.exit_code == Exit.USAGE and "--proxies" in done.output and number in done.output
    assert not (tmp_path / "bus").exists()


def test_each_knows_the_other_by_its_key_and_one_makes_the_link(shared: Path) -> None:
    configs = {name: read_config_file(shared / "nodes" / name / "node.json") for name in NODES}
    for name, other in (NODES, NODES[::-1]):
        principals = listener_of(configs[name])["paths"]["peer"]["auth"]["cryptosign"]["principals"]
        assert principals[other]["authorized_keys"] == [read_public_key(shared / "nodes" / other / "state/crossbar")]
        assert options_of(configs[name])["peers"] == [other]
    realms = {name: configs[name]["workers"][0]["realms"][0] for name in NODES}
    assert "rlinks" not in realms["agni"]
    transport = realms["rushabdev"]["rlinks"][0]["transport"]
    assert transport["url"] == "wss://203.0.113.5:8765/peer"
    assert transport["endpoint"]["tls"] == {"hostname": "203.0.113.5", "ca_certificates": ["tls/ca.crt"]}
    # nginx beside it, and that of the other whose backup it is, may say for whom they ask; nobody else.
    assert options_of(configs["rushabdev"])["proxies"] == ["127.0.0.1", "::1", "203.0.113.5"]
    assert "trusted_network" not in options_of(configs["agni"])


def test_secrets_are_their_owners_alone(shared: Path) -> None:
    modes = {path: mode for path, (_, mode) in all_files(shared).items()}
    for path, mode in modes.items():
        is_secret = path.endswith((".key", ".token", ".priv", "agents.json"))
        assert not is_secret or mode == 0o600, path
    assert sum(path.endswith((".key", ".token", ".priv")) for path in modes) == 3 + 3 + 2
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    assert all(stat.S_IMODE((shared / "nodes" / name / "state").stat().st_mode) == 0o700 for name in NODES)


def test_each_agent_has_a_profile_with_which_it_is_let_in_at_each_node(shared: Path) -> None:
    agents = [read_agents(shared / "nodes" / name / "state" / "agents.json") for name in NODES]
    assert agents[0] == agents[1]
    assert {name: record.operator for name, record in agents[0].items()} == {
        "dc": False,
        "agni": False,
        "operator": True,
    }
    for name, record in agents[0].items():
        found = settings.load(profile=str(shared / "agents" / name / f"{name}.toml"), environ={}, home=Path("/nowhere"))
        assert found.agent == name
        assert found.urls == ("wss://203.0.113.5:8765/ws", "wss://bus.rushabdev.net:9000/ws")
        assert [digest_of(found.token)] == [token.sha256 for token in record.tokens]
        assert found.ca_file == shared / "agents" / name / "ca.crt"


def folder_of(directory: Path, agent: str) -> MailFolder:
    """The agent's folder, as its profile says once the line is not a comment any more."""
    profile = directory / "agents" / agent / f"{agent}.toml"
    profile.write_text(profile.read_text().replace("# files = ", "files = "))
    found = settings.load(profile=str(profile), environ={})
    assert found.files is not None
    seconds = itertools.count().__next__
    folder = MailFolder(found.files, agent, found.token, seconds=lambda: float(seconds()))
    folder.prepare()
    return folder


def say(one: MailFolder, other: MailFolder, sender: str, to: str, message_id: str) -> set[str]:
    """One writes a file to the other, which is carried there; the ids that the other takes."""
    message = {"type": "STATUS", "id": message_id, "to": to, "payload": None, "timestamp": 1000}
    assert one.write(msgspec.msgpack.encode(message), 1, 1000)
    (file,) = (one.directory / "outbox").iterdir()
    for earlier in (other.directory / "inbox").iterdir():
        earlier.unlink()
    file.rename(other.directory / "inbox" / file.name)
    return {arrived.message.id for _ in range(9) for arrived in other.read((), 1000)}


def test_agents_take_each_other_s_files_without_a_word_also_those_that_come_later(tmp_path: Path) -> None:
    bus = tmp_path / "bus"
    assert run("init", bus, "--agents", "dc,agni").exit_code == 0
    dc, agni = folder_of(bus, "dc"), folder_of(bus, "agni")
    assert say(dc, agni, "dc", "agni", "one") == {"one"}
    # Its directory is on its own machine now, and its token with it.
    (bus / "agents" / "dc").rename(tmp_path / "dc")
    done = run("init", bus, "--agents", "scout")
    assert done.exit_code == 0 and "made agents/agni/files/keys.json" in done.output
    scout = folder_of(bus, "scout")
    assert say(scout, agni, "scout", "agni", "two") == {"two"}
    dc = MailFolder(
        tmp_path / "dc" / "files", "dc", (tmp_path / "dc" / "dc.token").read_text().strip(), seconds=lambda: 0
    )
    assert say(dc, scout, "dc", "scout", "three") == {"three"}
    assert run("init", bus).output.count("keys.json") == 0


def test_a_file_of_keys_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    bus = tmp_path / "bus"
    assert run("init", bus).exit_code == 0
    (bus / "agents" / "dc" / "files" / "keys.json").write_text("{")
    done = run("init", bus)
    assert done.exit_code == Exit.CONFIG and "is no JSON" in done.output and "Traceback" not in done.output


def verify(shared: Path, name: str, host: str, now: datetime | None = None) -> None:
    """As a client does it."""
    authority = x509.load_pem_x509_certificate((shared / "ca" / "ca.crt").read_bytes())
    own = x509.load_pem_x509_certificate((shared / "nodes" / name / "tls" / "node.crt").read_bytes())
    builder = PolicyBuilder().store(Store([authority]))
    builder = builder.time(datetime.now(UTC) if now is None else now)
    try:
        subject: x509.IPAddress | x509.DNSName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    builder.build_server_verifier(subject).verify(own, [])


def test_certificates_are_for_their_hosts_and_no_others_and_not_for_ever(shared: Path) -> None:
    for host in ("203.0.113.5", "localhost", "127.0.0.1", SHARED_NAME):
        verify(shared, "agni", host)
    verify(shared, "rushabdev", "bus.rushabdev.net")
    for host in ("203.0.113.6", "bus.rushabdev.net"):
        with pytest.raises(VerificationError):
            verify(shared, "agni", host)
    verify(shared, "agni", "localhost", datetime.now(UTC) + timedelta(days=820))
    with pytest.raises(VerificationError):
        verify(shared, "agni", "localhost", datetime.now(UTC) + timedelta(days=830))


def test_an_authority_signs_nothing_but_nodes() -> None:
    authority = new_authority("test", NOW)
    read = x509.load_pem_x509_certificate(authority.certificate.encode())
    assert read.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert read.not_valid_after_utc == NOW + timedelta(days=3650)
    pair = issue(authority, "agni", ["localhost"], NOW)
    again = issue(authority, "agni", ["localhost"], NOW, key=pair.key)
    assert again.key == pair.key and again.certificate != pair.certificate
    issued = x509.load_pem_x509_certificate(pair.certificate.encode())
    assert issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(ValueError, match="PEM"):
        issue(authority, "agni", ["localhost"], NOW, key="no key")


def test_a_further_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER).exit_code == 0
    (directory / "nodes/agni/nginx/trishula.conf").write_text("# edited\n")
    (directory / "nodes/rushabdev/node.json").unlink()
    before = all_files(directory)
    done = run("init", directory, *CLUSTER)
    assert done.exit_code == 0, done.output
    after = all_files(directory)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {"nodes/rushabdev/node.json"}
    assert f"{directory} is there: " in done.stdout
    assert "  made nodes/rushabdev/node.json\n" in done.stdout
    assert run("node", "check", *sorted(directory.glob("nodes/*/node.json"))).exit_code == 0


def test_a_further_agent_is_let_in_at_each_node_and_the_others_stay(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER).exit_code == 0
    before = all_files(directory)
    # An agent's token that was moved to its machine is no reason to make another.
    (directory / "agents/agni/agni.token").unlink()
    done = run("init", directory, "--agents", "scout")
    assert done.exit_code == 0, done.output
    # One is enough: it tells the other.
    assert done.stdout.count(":trishula/state/agents.json") == 1
    after = all_files(directory)
    changed = {path for path in before if path in after and after[path] != before[path]}
    keys = {f"agents/{name}/files/keys.json" for name in ("dc", "agni", "operator")}
    assert changed == {"bus.json", *(f"nodes/{name}/state/agents.json" for name in NODES), *keys}
    new = ("scout.toml", "scout.token", "ca.crt", "files/keys.json")
    assert set(after) - set(before) == {f"agents/scout/{name}" for name in new}
    assert not (directory / "agents/agni/agni.token").exists()
    for name in NODES:
        agents = read_agents(directory / "nodes" / name / "state" / "agents.json")
        assert set(agents) == {"dc", "agni", "operator", "scout"}
    assert json.loads((directory / "bus.json").read_text())["agents"] == ["dc", "agni", "scout"]


def test_new_certificates_are_made_when_they_are_asked_for_with_the_keys_of_before(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER).exit_code == 0
    before = all_files(directory)
    done = run("init", directory, "--renew", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    after = all_files(directory)
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {f"nodes/{name}/tls/node.crt" for name in NODES} == set(told["made"])
    assert [step["commands"][0].split()[0] for step in told["steps"]] == ["scp", "scp"]
    verify(directory, "agni", "203.0.113.5")
    (directory / "ca/ca.key").unlink()
    refused = run("init", directory, "--renew")
    assert refused.exit_code == Exit.CONFIG
    assert "ca/ca.key is gone, and a certificate for agni is to be issued: put it back for that" in refused.output
    # Nothing else needs it: it may be kept where no server is.
    assert run("init", directory, "--agents", "scout").exit_code == 0


@pytest.mark.parametrize(
    ("gone", "what"),
    [
        ("nodes/agni/state/crossbar/key.pub", "another key of agni"),
        ("nodes/agni/tls/node.key", "another TLS key of agni"),
        ("ca/ca.crt", "another authority of agni"),
    ],
)
def test_a_key_that_is_gone_is_not_made_anew(tmp_path: Path, gone: str, what: str) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER).exit_code == 0
    (directory / gone).unlink()
    before = all_files(directory)
    done = run("init", directory)
    assert done.exit_code == Exit.CONFIG
    assert f"{gone} is gone, and {what} would not fit what is on the machines" in done.output
    assert all_files(directory) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "agni"], "there must be a host|NAME=HOST"),
        (["--cluster", "Agni=10.0.0.5"], "the node's name in 'Agni=10.0.0.5' must be a lower-case letter"),
        (["--cluster", "agni=10.0.0.5", "agni=10.0.0.6"], "two nodes have the name agni; each must have its own"),
        (
            ["--cluster", "agni=10.0.0.5", "b=10.0.0.5"],
            "agni and b can't both listen on 10.0.0.5:8765; give one of them another port: b=10.0.0.5:8766",
        ),
        (["--cluster", "agni=10.0.0.5:99999"], "the port in 'agni=10.0.0.5:99999' must be from 1 to 65535"),
        (["--cluster", "agni=10.0.0.5:"], "the port in"),
        (["--cluster", "agni=agni.example"], "the host in 'agni=agni.example' is made up, for examples"),
        (["--cluster", "agni=my_host"], "the host in 'agni=my_host' must be a host's name"),
        (["--cluster", "agni=10.0.0"], "the host in 'agni=10.0.0' must be a host's name"),
        (["--cluster", "agni=0.0.0.0"], "must be the address under which others reach the machine"),
        (["--cluster", "agni=0::0"], "must be the address under which others reach the machine"),
        # It would stand in commands to be copied, and in nginx's site.
        (["--cluster", "agni=fe80::1%$(reboot)"], "the host in 'agni=fe80::1%$(reboot)' must be a host's name"),
        (["--cluster", "agni=10.0.0.5:00000180000"], "the port in 'agni=10.0.0.5:00000180000' must be from 1 to 65535"),
        (
            ["--cluster", "agni=localhost", "rushabdev=10.0.0.6"],
            "agni is on localhost, which rushabdev (10.0.0.6) can't reach: name the address under which it is reached",
        ),
        (["--http-port", "8443"], "nginx can't listen on port 8443 of 127.0.0.1 for both http and https"),
        (
            ["--cluster", "agni=127.0.0.1", "b=127.0.0.1:8444", "--behind-nginx"],
            "nginx and the node b can't both listen on 127.0.0.1:8444; give one of them another port",
        ),
        (["--cluster", "agni=10.0.0.5", "--agents", "dc,Bob"], "'Bob' is no agent's name"),
        (["--agents", "operator"], "operator is the operator's name; name the operator otherwise with --operator"),
        (["other"], "there must be one directory"),
        (["--renew"], "--renew needs a directory that trishula init has made"),
    ],
)
def test_a_wrong_word_is_a_sentence_and_nothing_is_made(tmp_path: Path, words: list[str], said: str) -> None:
    done = run("init", tmp_path / "bus", *words)
    assert done.exit_code == Exit.USAGE
    assert any(part in done.output for part in said.split("|")), done.output
    assert not (tmp_path / "bus").exists()


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "notes").chmod(0o644)
    done = run("init", tmp_path)
    assert (done.exit_code, all_files(tmp_path)) == (Exit.CONFIG, {"notes": (b"mine", 0o644)})
    assert f"{tmp_path} is not empty, and has no bus.json of an earlier trishula init" in done.output
    file = run("init", tmp_path / "notes")
    assert file.exit_code == Exit.CONFIG
    assert f"{tmp_path / 'notes'} can't be used: Not a directory" in file.output
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert "can't be written: Permission denied" in run("init", tmp_path / "bus").output


def test_a_bus_that_was_made_is_not_made_into_another(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER).exit_code == 0
    before = all_files(directory)
    for words in (["--cluster", "agni=10.0.0.9"], ["--tls", "off"], ["--operator", "boss"], ["--behind-nginx"]):
        done = run("init", directory, *words)
        assert done.exit_code == Exit.USAGE
        assert f"{words[0]} would change it: edit its files, or make another directory" in done.output
    (directory / "bus.json").write_text('{"version": 1}')
    assert "bus.json can't be used: it doesn't say what was made here" in run("init", directory).output
    (directory / "bus.json").write_text(before["bus.json"][0].decode().replace('"version": 1', '"version": 2'))
    assert "it is of version 2, and this release reads version 1" in run("init", directory).output
    # A newer release may have more to say in it.
    newer = before["bus.json"][0].decode().replace('"version": 1', '"version": 2, "more": 1')
    (directory / "bus.json").write_text(newer)
    assert "it is of version 2, and this release reads version 1" in run("init", directory).output


def test_the_plan_is_read_as_it_was_written() -> None:
    machines = [parse_machine("agni=[::1]:9000"), parse_machine("b=localhost")]
    plan = plan_of(machines, ["dc"], "boss", tls=True, behind_nginx=True)
    assert parse_plan(plan.render()) == plan
    assert plan.is_local
    assert plan.urls == ("wss://[::1]:8443/ws", "wss://localhost:8443/ws")
    with pytest.raises(PlanFault):
        parse_plan("[]")


def test_what_it_says_fits_a_terminal_and_names_files_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("init", "bus", "--cluster", "agni=10.0.0.5", "rushabdev=10.0.0.6", "--behind-nginx")
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    named = {
        word.partition("=")[2] or word
        for line in done.stdout.splitlines()
        if line.startswith("  ") and "bus/" in line
        for word in shlex.split(line)
        if "bus/" in word
    }
    assert named and all(Path(name).exists() for name in named)
    text = Path("bus/README.txt").read_text()
    assert [line for line in text.splitlines() if len(line) > 120] == []
    assert "{" not in text


def test_a_directory_whose_name_has_spaces_can_be_copied_into_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("init", "my bus", "--cluster", "agni=10.0.0.5")
    told = json.loads(run(*asked, "--json").stdout)["steps"]
    told += json.loads(run("init", "my bus", "--agents", "scout", "--renew", "--json").stdout)["steps"]
    words = [word for step in told for command in step["commands"] for word in shlex.split(command) if "my" in word]
    assert len(words) == 9
    assert all(Path(word.partition("=")[2] or word).exists() for word in words)
    readme = Path("my bus/README.txt").read_text()
    assert "trishula init 'my bus' --agents NAME" in readme and "trishula init 'my bus' --renew" in readme


def test_nginx_s_site_is_asked_beside_one_that_takes_every_name(shared: Path) -> None:
    # Debian's nginx has such a site on port 80: of two that take every name, nginx ignores the second.
    for name, host in (("agni", "203.0.113.5"), ("rushabdev", "bus.rushabdev.net")):
        site = (shared / "nodes" / name / "nginx" / "trishula.conf").read_text()
        assert re.findall(r"^ +server_name (.*);$", site, re.M) == [host, host]


def test_nginx_of_a_server_finds_its_certificates_by_the_commands_that_are_printed(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    told = json.loads(run("init", directory, *CLUSTER, "--behind-nginx", "--json").stdout)["steps"]
    before_agni = [step["commands"] for step in told if step["title"].startswith("nginx before agni")]
    assert [commands[0] for commands in before_agni] == ["mkdir -p /etc/trishula && cp -r trishula/tls /etc/trishula/"]
    site = (directory / "nodes" / "agni" / "nginx" / "trishula.conf").read_text()
    named = re.findall(r"/etc/trishula/(tls/[\w.]+);", site)
    assert len(named) == 3 and all((directory / "nodes" / "agni" / name).exists() for name in named)


def test_the_compose_file_names_files_that_are_there(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    assert run("init", directory, *CLUSTER, "--operator", "boss").exit_code == 0
    there = directory / "nodes" / "agni"
    text = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (there / "docker-compose.yml").read_text())
    files = {str(one["file"]) for one in yaml.safe_load(text)["secrets"].values()}
    # The password of Grafana is made by the commands above it.
    assert len(files) == 4
    assert [file for file in files if not (there / file).exists()] == ["./secrets/grafana_password"]


def test_the_service_s_steps_leave_alone_what_is_not_the_node_s(shared: Path, tmp_path: Path) -> None:
    # In /etc/trishula there are the agents' profiles too, which the user trishula must not have.
    owned = re.findall(r"chown -R trishula: (.*?) &&", (shared / "README.txt").read_text())
    assert [each.split() for each in owned] == [["/etc/trishula/tls", "/var/lib/trishula"]]
    assert run("init", tmp_path / "bus", "--cluster", "agni=10.0.0.5", "--tls", "off").exit_code == 0
    text = (tmp_path / "bus" / "README.txt").read_text()
    assert "cp -r trishula/node.json /etc/trishula/" in text and "chown -R trishula: /var/lib/trishula &&" in text


PAGE = Path(__file__).resolve().parents[2] / "deploy" / "docs" / "howto" / "two-servers.rst"
ON_THE_PAGE = re.findall(r"\$ trishula (init .*)|``trishula (init .*?)``", PAGE.read_text(encoding="utf-8"))


def test_the_commands_on_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [first or second for first, second in ON_THE_PAGE if first or second]
    assert len(commands) >= 4
    for command in commands:
        done = run(*shlex.split(command))
        assert done.exit_code == 0, f"{command}: {done.output}"
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"bus/agents/scout/scout.token", "bus/agents/dc/dc.toml", "bus/ca/ca.key"} <= files
    assert {f"bus/nodes/{name}/nginx/trishula.conf" for name in NODES} <= files
