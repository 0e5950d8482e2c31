"""Where a transport listens: each thing that `trishula node start` can't listen on is a fault, with its key path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Issuer, make_certificate
from trishula_router.settings.certificates import name_for
from trishula_router.settings.check_endpoints import OPEN_RULE, check_endpoint, is_loopback, port_of
from trishula_router.settings.faults import MISSING

ENVIRON = {"PORT": "4711", "WORD": "http", "ZERO": "0", "LONG": "9" * 5000, "ARABIC": "٣"}
PORT_RULE = 'it must be a port from 1 to 65535, or an environment variable that holds one, such as "$PORT"'


def sentences(endpoint: object, base: Path = Path("/nowhere"), *, for_agents: bool = True) -> list[str]:
    found = check_endpoint(endpoint, "endpoint", base=base, environ=ENVIRON, for_agents=for_agents)
    return [fault.sentence for fault in found]


@pytest.mark.parametrize("more", [{}, {"interface": ""}, {"interface": "::1", "version": 6}, {"shared": True}])
@pytest.mark.parametrize("port", [1, 65535, "$PORT"])
def test_what_can_be_listened_on_is_good(more: dict[str, Any], port: int | str) -> None:
    assert sentences({"type": "tcp", "port": port, "backlog": 1, "user_timeout": 0, **more}) == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1.2.3", " 127.0.0.1 ", "::1", "[::1]", "localhost", "LOCALHOST")),
        *((host, False) for host in ("", "0.0.0.0", "::", "10.0.0.1", "node.example", "127.1", "::ffff:127.0.0.1")),
        *((host, False) for host in (None, MISSING, 1, "localhost.example", "2130706433")),
    ],
)
def test_what_is_this_machine_alone(host: object, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("more", [{}, {"interface": ""}, {"interface": "0.0.0.0"}, {"interface": "10.0.0.1"}])
def test_what_is_open_beyond_this_machine_has_tls_or_is_on_a_trusted_network(more: dict[str, Any]) -> None:
    endpoint = {"type": "tcp", "port": 8765, **more}
    ways = {"base": Path("/nowhere"), "environ": ENVIRON, "for_agents": True}
    (fault,) = check_endpoint(endpoint, "endpoint", trusted=False, **ways)  # type: ignore[arg-type]
    assert fault.path == "endpoint.interface"
    assert fault.rule == f"it must be an address of loopback, such as 127.0.0.1: {OPEN_RULE}"
    assert list(check_endpoint(endpoint, "endpoint", trusted=True, **ways)) == []  # type: ignore[arg-type]
    here = {**endpoint, "interface": "::1"}
    assert list(check_endpoint(here, "endpoint", trusted=False, **ways)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("port", "said"),
    [
        (0, "is 0; "),
        (65536, "is 65536; "),
        (True, "is true; "),
        (8765.0, "is 8765.0; "),
        ("8765", 'is "8765"; '),
        ("$", 'is "$"; '),
        ("$PORT ", 'is "$PORT "; '),
        (MISSING, "is missing; "),
    ],
)
def test_what_is_no_port(port: object, said: str) -> None:
    endpoint = {"type": "tcp"} if port is MISSING else {"type": "tcp", "port": port}
    assert sentences(endpoint) == [f"endpoint.port {said}{PORT_RULE}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OTHER", "OTHER is not set here"),
        ("WORD", "WORD is 'http'"),
        ("ZERO", "ZERO is '0'"),
        ("LONG", f"LONG is '{'9' * 40}'"),
        ("ARABIC", "ARABIC is '٣'"),
    ],
)
def test_a_variable_without_a_port(name: str, said: str) -> None:
    assert port_of(f"${name}", ENVIRON) == f"{PORT_RULE}, and {said}"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ([], ["endpoint is []; it must be a map"]),
        (
            {"type": "unix", "path": "node.sock"},
            ['endpoint.type is "unix"; it must be "tcp": clients and peers reach a node at a host and a port'],
        ),
        ({}, ['endpoint.type is missing; it must be "tcp": clients and peers reach a node at a host and a port']),
        (
            {"type": "tcp", "portrange": [8000, 8010]},
            [
                "endpoint.portrange is [8000, 8010]; it must go: clients must know the port; name one in port, or take "
                "a free one with --port 0",
                f"endpoint.port is missing; {PORT_RULE}",
            ],
        ),
        (
            {"type": "tcp", "port": 1, "prot": 2},
            [
                "endpoint.prot is 2; it is an unknown key; the known keys are type, version, port, portrange, shared, "
                "interface, backlog, tls, user_timeout"
            ],
        ),
        (
            {
                "type": "tcp",
                "port": 1,
                "version": 5,
                "interface": 7,
                "shared": 1,
                "backlog": 0,
                "user_timeout": -1,
            },
            [
                "endpoint.version is 5; it must be 4 or 6",
                "endpoint.interface is 7; it must be an address of this machine, or empty for all of them",
                "endpoint.shared is 1; it must be true or false",
                "endpoint.backlog is 0; it must be a whole number from 1 to 65535",
                "endpoint.user_timeout is -1; it must be a whole number from 0 to 65535",
            ],
        ),
        (
            {"type": "tcp", "port": 1, "version": 6, "tls": 7},
            [
                "endpoint.tls is 7; it must be a map",
                "endpoint.version: it must go: Crossbar has no TLS with it; an interface that is an IPv6 address is "
                "enough",
            ],
        ),
    ],
)
def test_what_cannot_be_listened_on_is_a_fault(endpoint: object, said: list[str]) -> None:
    assert sentences(endpoint) == said


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a chain, and what people put in their place."""
    folder = tmp_path_factory.mktemp("tls")
    root = Issuer("root")
    middle = root.issuer("middle")
    leaf = middle.leaf("localhost")
    leaf.write(folder / "node.crt", folder / "node.key")
    middle.write(folder / "middle.crt")
    root.write(folder / "root.crt")
    root.leaf("localhost").write(folder / "other.crt", folder / "other.key")
    root.leaf("localhost", rsa_bits=1024).write(folder / "short.crt", folder / "short.key")
    leaf.write(folder / "unused.crt", folder / "encrypted.key", passphrase=b"secret")
    (folder / "fullchain.pem").write_bytes((folder / "node.crt").read_bytes() + (folder / "middle.crt").read_bytes())
    (folder / "empty").write_bytes(b"")
    (folder / "bytes").write_bytes(b"-----BEGIN CERTIFICATE-----\n\xff\xff\n-----END CERTIFICATE-----\n")
    return folder


GOOD = {"key": "node.key", "certificate": "node.crt", "chain_certificates": ["middle.crt"]}
FILE_RULE = "it must be a file that can be read, relative to this file: No such file or directory"


@pytest.mark.parametrize("more", [{}, {"dhparam": "unused.pem", "ciphers": "unused"}])
def test_a_good_certificate_with_its_chain(folder: Path, more: dict[str, Any]) -> None:
    assert sentences({"type": "tcp", "port": 1, "tls": {**GOOD, **more}}, folder) == []


def test_key_and_certificate_may_be_in_one_file(tmp_path: Path) -> None:
    name = make_certificate(tmp_path, 30).name
    assert sentences({"type": "tcp", "port": 1, "tls": {"key": name, "certificate": name}}, tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": MISSING}, ["key is missing; it must be the path of a file, relative to this file"]),
        ({"key": "no.key"}, [f'key is "no.key"; {FILE_RULE}']),
        (
            {"key": "."},
            ['key is "."; it must be a file that can be read, relative to this file: Is a directory'],
        ),
        ({"key": "node.crt"}, ['key is "node.crt"; it must hold a private key in PEM']),
        ({"key": "empty"}, ['key is "empty"; it must hold a private key in PEM']),
        (
            {"key": "encrypted.key"},
            [
                'key is "encrypted.key"; it must not be encrypted: nobody is there to type a passphrase when a node '
                "starts"
            ],
        ),
        ({"certificate": 7}, ["certificate is 7; it must be the path of a file, relative to this file"]),
        ({"certificate": "node.key"}, ['certificate is "node.key"; it must hold a certificate in PEM']),
        ({"certificate": "bytes"}, ['certificate is "bytes"; it must hold a certificate in PEM']),
        (
            {"certificate": "fullchain.pem"},
            [
                'certificate is "fullchain.pem"; it must hold one certificate, for Crossbar reads the first one of a '
                "file; put each of the others into a file of its own, and name those in chain_certificates"
            ],
        ),
        ({"chain_certificates": "middle.crt"}, ['chain_certificates is "middle.crt"; it must be a list of files']),
        ({"chain_certificates": ["middle.crt", "no.crt"]}, [f'chain_certificates[1] is "no.crt"; {FILE_RULE}']),
        (
            {"ca_certificates": ["root.crt"]},
            [
                "ca_certificates: it must go: who starts this node, and asks whether it is well, shows no certificate; "
                "have nginx before it ask agents for theirs (deploy/docs/howto/mutual-tls.rst)"
            ],
        ),
        ({"ciphers": 7}, ["ciphers is 7; it must be a string"]),
        (
            {"keys": "node.key"},
            [
                'keys is "node.key"; it is an unknown key; the known keys are key, certificate, dhparam, '
                "chain_certificates, ca_certificates, ciphers"
            ],
        ),
    ],
)
def test_each_file_that_cannot_be_used_is_named(folder: Path, change: dict[str, Any], said: list[str]) -> None:
    tls = {key: value for key, value in {**GOOD, **change}.items() if value is not MISSING}
    assert sentences({"type": "tcp", "port": 1, "tls": tls}, folder) == [f"endpoint.tls.{one}" for one in said]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"key": "other.key"}, "key values mismatch"),
        ({"key": "short.key", "certificate": "short.crt"}, "too small"),
    ],
)
def test_what_openssl_does_not_take_is_told_in_its_words(folder: Path, change: dict[str, Any], word: str) -> None:
    (said,) = sentences({"type": "tcp", "port": 1, "tls": {**GOOD, **change}}, folder)
    assert said.startswith("endpoint.tls: it must be a key and its certificate that OpenSSL takes, and that says: ")
    assert word in said


def test_peers_may_be_asked_for_certificates(folder: Path) -> None:
    tls = {**GOOD, "ca_certificates": ["root.crt"]}
    assert sentences({"type": "tcp", "port": 1, "tls": tls}, folder, for_agents=False) == []
    tls["ca_certificates"] = ["root.crt", "empty"]
    assert sentences({"type": "tcp", "port": 1, "tls": tls}, folder, for_agents=False) == [
        'endpoint.tls.ca_certificates[1] is "empty"; it must hold a certificate in PEM'
    ]


@pytest.mark.parametrize(
    ("names", "host", "name"),
    [
        (["localhost"], "127.0.0.1", "localhost"),
        (["agni.example", "127.0.0.1"], "127.0.0.1", "127.0.0.1"),
        (["agni.example", "0:0::1"], "::1", "::1"),
        (["*.example", "agni.example"], "10.0.0.5", "agni.example"),
        (["*.example"], "10.0.0.5", "10.0.0.5"),
        (["*.example", "10.0.0.6"], "10.0.0.5", "10.0.0.6"),
        ([], "10.0.0.5", "10.0.0.5"),
    ],
)
def test_the_name_by_which_clients_reach_the_node_is_one_that_the_certificate_has(
    tmp_path: Path, names: list[str], host: str, name: str
) -> None:
    Issuer("root").leaf(*names).write(tmp_path / "node.crt", tmp_path / "node.key")
    assert name_for(tmp_path / "node.crt", host) == name


def test_a_certificate_that_is_gone_names_nothing(tmp_path: Path) -> None:
    assert name_for(tmp_path / "node.crt", "10.0.0.5") == "10.0.0.5"
