"""Proxy workers: who comes by them is who it would be without, and gets nothing more by what it says to them.

What a node bounds and tells is held to it by the tests of others too, which run here against a node with proxy workers
(the imports); the whole of the wire contract is in ``test_proxied_contract.py``.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration import test_strangers as strangers
from tests.integration.test_strangers import (  # noqa: F401
    half_a_hello,
    half_a_request,
    no_authenticate,
    no_hello,
    test_a_client_that_watches_the_node_may_stay_while_it_pings,
    test_a_stranger_has_little_to_say,
    test_bytes_that_lead_nowhere_win_no_time,
)
from tests.support.certificates import make_certificate
from tests.support.keys import Pair, add_key
from tests.support.node import NodeDied, NodeProcess, environment, is_alive
from tests.support.proxied import AtTheSocket, proxied_config, proxy_processes, socket_of
from tests.support.raw import RawClient
from tests.support.sessions import raw_session as session
from trishula.contract import uris
from trishula.contract.key_challenge import BINDING

pytestmark = pytest.mark.node

GENEROUS_S = 20.0
NOBODY = 65_534
LINE = b'["127.0.0.7", 4711, null, 1]\n'


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    directory = tmp_path_factory.mktemp("proxied")
    limits = {"handshake": "1s", "strangers": 20, "connection_queue": "4 MiB"}
    node = NodeProcess(directory / "state", config=proxied_config(directory / "node.json", 2, limits=limits))
    for name in ("dc", "slow"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def eventually(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def status(node: NodeProcess) -> dict[str, Any]:
    with session(node, "boss") as boss:
        answer: dict[str, Any] = boss.call(uris.NODE_STATUS)
        return answer


# -- who somebody is ---------------------------------------------------------------------------------------------------


def joined_from(node: NodeProcess, client: RawClient) -> str:
    """From where the journal says that a session joined."""
    with session(node, "boss") as boss:
        while True:
            page = boss.call(uris.AUDIT_QUERY, {"agent": "dc", "kind": "joined", "limit": 1000})
            for record in page["records"]:
                if record["session"] == client.session:
                    return str(record["address"])


def test_a_client_counts_by_its_own_address_whatever_it_says_of_it(node: NodeProcess) -> None:
    with session(node, "dc", source="127.0.0.5", headers=["X-Forwarded-For: 8.8.8.8"]) as client:
        assert joined_from(node, client) == "127.0.0.5"


def test_what_only_a_proxy_worker_says_is_no_request_of_a_client(node: NodeProcess) -> None:
    with RawClient(node.url) as client:
        client.socket.sendall(LINE + client.request())
        assert client.socket.recv(65536).startswith(b"HTTP/1.1 400")


CLAIMS = [
    {"authid": "boss", "authrole": "operator"},
    {"authid": "dc", "authrole": "operator"},
    {"authid": "dc", "authrole": "rlink"},
    {"authid": "dc", "authrole": "node"},
]
#: What Crossbar's own proxies say, and its router believes.
PROXIED = {"proxy_realm": uris.REALM, "proxy_authid": "boss", "proxy_authrole": "operator", "proxy_authmethod": "x"}


def hello(client: RawClient, claim: dict[str, Any], *methods: str) -> list[Any]:
    roles: dict[str, Any] = {role: {} for role in ("caller", "callee", "publisher", "subscriber")}
    client.send([1, uris.REALM, {"roles": roles, "authmethods": list(methods), "authextra": PROXIED, **claim}])
    return client.receive()


@pytest.mark.parametrize("where", ["port", "socket"])
@pytest.mark.parametrize("method", ["anonymous-proxy", "anonymous", "cryptosign-proxy", "trusted"])
def test_nobody_is_somebody_by_saying_so(node: NodeProcess, where: str, method: str) -> None:
    for claim in CLAIMS:
        with RawClient(node.url) if where == "port" else AtTheSocket(node, LINE) as client:
            client.open()
            assert hello(client, claim, method)[0] == 3


@pytest.mark.parametrize("where", ["port", "socket"])
def test_a_token_makes_its_agent_and_nobody_else(node: NodeProcess, where: str) -> None:
    for claim in CLAIMS:
        with RawClient(node.url) if where == "port" else AtTheSocket(node, LINE) as client:
            client.open()
            if hello(client, claim, "ticket")[0] == 4:
                client.send([5, node.tokens["dc"], {}])
                answer = client.receive()
                is_agent = answer[0] == 2 and (answer[2]["authid"], answer[2]["authrole"]) == ("dc", "agent")
                assert answer[0] == 3 if claim["authid"] == "boss" else is_agent, answer


def test_a_caller_is_told_as_who_it_is(node: NodeProcess) -> None:
    with session(node, "dc") as client:
        client.send([48, 77, {"forward_for": [{"session": 1, "authid": "boss", "authrole": "operator"}]}, "x", []])
        answer = client.receive()
        # ERROR of the call, or the end of a session that forges.
        assert answer[0] in (3, 6, 8), answer


# -- the socket --------------------------------------------------------------------------------------------------------

KNOCK = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


def test_no_other_user_of_the_machine_gets_to_the_socket(node: NodeProcess) -> None:
    directory = socket_of(node).parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700 and directory.stat().st_uid == os.geteuid()
    command = ["/usr/bin/env", "python3", "-c", KNOCK]
    assert subprocess.run([*command, str(socket_of(node))], capture_output=True, timeout=60).returncode == 0
    if os.geteuid():
        pytest.skip("who isn't root can't be another user")
    # That it is the directory, and none above it, that keeps them out.
    above = [directory.parent, *directory.parent.parents]
    modes = [(one, stat.S_IMODE(one.stat().st_mode)) for one in above]
    try:
        for one, mode in modes:
            if not mode & 0o001:
                one.chmod(mode | 0o011)
        done = subprocess.run(
            [*command, str(socket_of(node))], capture_output=True, text=True, user=NOBODY, cwd="/", timeout=60
        )
    finally:
        for one, mode in modes:
            if not mode & 0o001:
                one.chmod(mode)
    assert "PermissionError" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "line",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"{}\n", b'["nobody", 1, null, 1]\n', b'["::1", 1, "00", 1]\n', b"x" * 300],
)
def test_who_is_not_introduced_is_not_let_in(node: NodeProcess, line: bytes) -> None:
    with AtTheSocket(node, line) as client:
        assert client.is_closed_within(GENEROUS_S)


# -- strangers ---------------------------------------------------------------------------------------------------------


def test_who_says_nothing_is_closed_before_the_router_worker_hears_of_it(node: NodeProcess) -> None:
    before = status(node)["connections"]["ended_strangers"]
    with RawClient(node.url) as client:
        assert client.is_closed_within(GENEROUS_S)
    assert status(node)["connections"]["ended_strangers"] == before


@pytest.mark.parametrize("begin", [half_a_request, no_hello, half_a_hello, no_authenticate])
def test_who_does_not_join_is_closed_in_time(node: NodeProcess, begin: Any) -> None:
    strangers.test_who_does_not_join_is_closed_in_time(node, begin)


def test_no_more_are_silent_than_may_be(node: NodeProcess) -> None:
    silent = [RawClient(node.url) for _ in range(100)]
    try:
        # Twenty in each proxy worker; nobody else waits for the others.
        with session(node, "dc") as client:
            client.subscribe(uris.topic_of("dc", "news"))
        eventually(lambda: sum(one.is_closed_within(0.01) for one in silent) >= 60, "they are still there")
    finally:
        for one in silent:
            one.socket.close()


# -- their lives -------------------------------------------------------------------------------------------------------


def test_sessions_are_counted_as_ever(node: NodeProcess) -> None:
    with session(node, "dc"), session(node, "dc"), session(node, "boss") as boss:

        def there() -> bool:
            told = boss.call(uris.NODE_STATUS)
            return (told["connections"]["joined"], told["proxy_workers"]) == (3, {"wanted": 2, "running": 2})

        eventually(there, "other counts are told")


def test_the_doctor_finds_nothing_wrong_with_what_runs(node: NodeProcess) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trishula.cli.main", "doctor", "--state", str(node.state_dir), "--json"],
        capture_output=True,
        text=True,
        env=environment(TRISHULA_URL=node.url, TRISHULA_TOKEN=node.tokens["boss"]),
        timeout=120.0,
    )
    found = json.loads(done.stdout)
    assert [one for one in found if one["level"] == "fault"] == [] and len(found) > 5


def test_one_that_ends_is_replaced_and_nobody_is_turned_away(node: NodeProcess) -> None:
    before = proxy_processes(node)
    assert len(before) == 2
    before[0].kill()
    # By the same port meanwhile: of twenty some come to the socket of the one that is gone.
    for _ in range(20):
        with session(node, "dc"):
            pass
    eventually(lambda: len(proxy_processes(node)) == 2 and before[0] not in proxy_processes(node), "none replaced it")
    node.wait_log("proxy worker")
    assert is_alive(before[1])


def test_they_go_where_their_router_worker_goes(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, 30.0)
    pair = Pair(bytes([5]) * 32)
    with NodeProcess(tmp_path / "s", config=proxied_config(tmp_path / "node.json", 1, certificate)) as node:
        add_key(node, "dc", pair)
        key_is_bound_to_tls(node, pair, certificate)
        new_certificate_is_shown(node, certificate, tmp_path)
        (worker,) = proxy_processes(node)
        psutil.Process(node.worker_pid()).kill()
        eventually(lambda: not is_alive(worker), "it is still there")


def over_tls(node: NodeProcess, certificate: Path) -> tuple[ssl.SSLSocket, RawClient]:
    client = RawClient(node.url)
    context = ssl.create_default_context(cafile=str(certificate))
    wrapped = context.wrap_socket(client.socket, server_hostname="localhost")
    client.socket = wrapped
    return wrapped, client


def key_is_bound_to_tls(node: NodeProcess, pair: Pair, certificate: Path) -> None:
    """The node's word for the TLS channel is that of the client: the proxy worker has passed it on."""
    channel, client = over_tls(node, certificate)
    with client:
        client.open()
        extra = {"pubkey": pair.public, "channel_binding": BINDING}
        challenge = hello(client, {"authid": "dc", "authextra": extra}, "cryptosign")
        assert challenge[0] == 4 and challenge[2]["channel_binding"] == BINDING, challenge
        assert channel.version() == "TLSv1.3"


def new_certificate_is_shown(node: NodeProcess, certificate: Path, folder: Path) -> None:
    """A certificate that is replaced is shown at once."""
    new = make_certificate(folder, 31.0)
    certificate.write_bytes(new.read_bytes())
    shown = ssl.get_server_certificate(("127.0.0.1", node.port))
    assert shown.strip() in new.read_text()
    node.wait_log("was replaced")


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_directory_that_others_can_look_into_ends_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "proxy").symlink_to(tmp_path)
    with pytest.raises(NodeDied, match="no link: the proxy workers reach the node by a socket in it"):
        NodeProcess(state, config=proxied_config(tmp_path / "node.json", 1)).start()
