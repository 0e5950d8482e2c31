"""Clients of a node with a private authority's certificate, and behind an HTTP proxy that alone knows its name."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.threads import deferToThread

from tests.support.certificates import Issuer
from tests.support.connect_proxy import ConnectProxy
from tests.support.node import NodeProcess, environment
from tests.support.raw import RawClient
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.client import Client
from trishula.contract import uris
from trishula.contract.message import Message
from trishula.errors import BusUnreachable
from trishula.settings import load

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"
GENEROUS_S = 20.0
HOST = "node.example"
CREDENTIALS = "dc:p%40ss"
PING, PONG = 9, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[NodeProcess]:
    authority = Issuer("the office")
    authority.write(folder / "ca.pem")
    authority.leaf(HOST, "localhost").write(folder / "node.crt", folder / "node.key")
    config = json.loads(SHIPPED.read_text())
    endpoint = config["workers"][0]["transports"][0]["endpoint"]
    endpoint["tls"] = {"key": str(folder / "node.key"), "certificate": str(folder / "node.crt")}
    file = folder / "node.json"
    file.write_text(json.dumps(config))
    node = NodeProcess(folder / "state", config=file)
    for name in ("agni", "dc"):
        node.token(name)
    node.token("boss", operator=True)
    with node:
        yield node


def url_of(node: NodeProcess, host: str = HOST) -> str:
    return f"wss://{host}:{node.port}/ws"


def client_of(node: NodeProcess, host: str = HOST, **given: Any) -> Client:
    environ: dict[str, str] = given.pop("environ", {})
    settings = load(url=url_of(node, host), token=node.tokens["dc"], environ=environ, home=Path("/nowhere"), **given)
    return Client(settings, instance="test")


async def refusal(client: Client) -> str:
    with pytest.raises(BusUnreachable) as raised:
        await client.start(timeout=1.0)
    return str(raised.value).partition("the last attempt: ")[2]


@on_reactor
async def test_a_private_authority_is_trusted_if_it_is_named(node: NodeProcess, folder: Path) -> None:
    begin = f"what answers at {url_of(node, 'localhost')} is not trusted: its certificate is of "
    assert await refusal(client_of(node, "localhost")) == (
        f"{begin}an authority that this system doesn't know; if it is your own, name the file with its certificate as "
        "ca_file, or in TRISHULA_CA_FILE"
    )
    stranger = folder / "stranger.pem"
    Issuer("the office").write(stranger)
    other = client_of(node, "localhost", ca_file=stranger)
    assert await refusal(other) == f"{begin}another authority than those in ca_file {stranger}"
    client = client_of(node, "localhost", ca_file=folder / "ca.pem")
    await client.start(GENEROUS_S)
    await client.stop()
    # It stands in place of the system's authorities, and vouches for no other name.
    other = client_of(node, "127.0.0.1", ca_file=folder / "ca.pem")
    tried = url_of(node, "127.0.0.1")
    assert await refusal(other) == f"what answers at {tried} is not trusted: its certificate is for other hosts"
    gone = folder / "gone.pem"
    gone.write_bytes((folder / "ca.pem").read_bytes())
    client = client_of(node, "localhost", ca_file=gone)
    gone.unlink()
    assert f"ca_file {gone}: " in await refusal(client)


@on_reactor
async def test_a_host_that_no_certificate_can_name_is_told() -> None:
    for host in ("my_node", "a..b"):
        client = Client(
            load(url=f"wss://{host}:1/ws", token="dc.s", environ={}, home=Path("/nowhere")), instance="test"
        )
        assert (await refusal(client)).startswith(f"wss://{host}:1/ws has a host that no certificate can name")


async def serial_shown(node: NodeProcess, folder: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""

    def ask() -> int:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", node.port), GENEROUS_S) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number

    return int(await deferToThread(ask))


@on_reactor
async def test_a_certificate_is_renewed_while_sessions_go_on(node: NodeProcess, folder: Path) -> None:
    authority = Issuer("the office of tomorrow")
    authority.write(folder / "tomorrow.pem")
    before = [(folder / name).read_bytes() for name in ("node.crt", "node.key")]
    heard: list[object] = []
    stays = Agent(
        "agni", url=url_of(node, "localhost"), token=node.tokens["agni"], state=False, ca_file=folder / "ca.pem"
    )

    @stays.on("STATUS")
    def hear(message: Message) -> None:
        heard.append(message.payload)

    def replace(certificate: bytes, key: bytes) -> None:
        for name, content in (("node.crt", certificate), ("node.key", key)):
            (folder / "new").write_bytes(content)
            (folder / "new").replace(folder / name)

    async def send(payload: str, ca_file: Path) -> None:
        client = client_of(node, "localhost", ca_file=ca_file)
        await client.start(GENEROUS_S)
        assert (await client.send("agni", payload=payload)).status == "accepted"
        await client.stop()

    await stays.start(timeout=GENEROUS_S)
    try:
        first = await serial_shown(node, folder)
        leaf = authority.leaf("localhost")
        leaf.write(folder / "leaf.crt", folder / "leaf.key")
        # In between, when only one of them is there, the last good ones hold.
        (folder / "leaf.crt").replace(folder / "node.crt")
        assert await serial_shown(node, folder) == first
        (folder / "leaf.key").replace(folder / "node.key")
        assert await serial_shown(node, folder) == leaf.certificate.serial_number
        await send("renewed", folder / "tomorrow.pem")
        # One that has ended is shown too, since it may be the clock that is wrong; and the client says what it is.
        late = Issuer("node", "localhost", by=authority, days=-1.0)
        pem = late.certificate.public_bytes(Encoding.PEM)
        replace(pem, late.private_pem())
        assert await refusal(client_of(node, "localhost", ca_file=folder / "tomorrow.pem")) == (
            f"what answers at {url_of(node, 'localhost')} is not trusted: its certificate has ended, "
            "and the node needs a new one, or the clock of this machine is wrong"
        )
        replace(*before)
        await send("as before", folder / "ca.pem")
        await deferToThread(wait_until, lambda: heard == ["renewed", "as before"])
        assert len(await joins_of(node, folder)) == 1
        log = node.log()
        assert log.count("was replaced: new connections get it, and sessions go on") >= 3
        assert log.count("was replaced by what can't be used") >= 1
    finally:
        await stays.stop()
        replace(*before)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def joins_of(node: NodeProcess, folder: Path) -> list[int]:
    """The sessions that agni has had."""

    def ask() -> list[int]:
        with RawClient(url_of(node, "127.0.0.1")) as boss:
            boss.socket = ssl.create_default_context(cafile=str(folder / "ca.pem")).wrap_socket(
                boss.socket, server_hostname="localhost"
            )
            boss.open()
            boss.join("boss", node.tokens["boss"])
            page = boss.call(uris.AUDIT_QUERY, {"agent": "agni", "kind": "joined", "limit": 1000})
            return [record["session"] for record in page["records"]]

    return await deferToThread(ask)


def test_a_ping_over_tls_is_answered_within_it(node: NodeProcess, folder: Path) -> None:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with RawClient(url_of(node, "127.0.0.1")) as client:
        client.socket = context.wrap_socket(client.socket, server_hostname=HOST)
        client.open()
        client.join("dc", node.tokens["dc"])
        for number in range(3):
            client.send_frame(PING, f"ping {number}".encode())
            # A pong that is written beneath TLS is an SSLError here.
            while client.socket.recv(1000)[0] & 0x0F != PONG:
                pass


@on_reactor
async def test_an_agent_works_through_a_proxy(node: NodeProcess, folder: Path) -> None:
    with ConnectProxy(HOST, credentials="dc:p@ss") as proxy:
        heard: list[object] = []
        agni = Agent(
            "agni",
            url=url_of(node),
            token=node.tokens["agni"],
            state=False,
            ca_file=folder / "ca.pem",
            proxy=f"http://{CREDENTIALS}@{proxy.address}",
        )
        agni.on("STATUS")(lambda message: heard.append(message.payload))
        await agni.start(timeout=GENEROUS_S)
        try:
            # More than a frame, so that both directions carry something.
            receipt = await agni.send("dc", payload="x" * 200_000)
            assert receipt.status == "accepted"
            assert set(proxy.asked) == {f"{HOST}:{node.port}"}
        finally:
            await agni.stop()


@on_reactor
async def test_a_proxy_that_does_not_let_us_through_says_why(node: NodeProcess, folder: Path) -> None:
    ca_file = folder / "ca.pem"

    async def said(proxy: ConnectProxy, credentials: str = "") -> str:
        return await refusal(client_of(node, ca_file=ca_file, proxy=f"http://{credentials}{proxy.address}"))

    with ConnectProxy("other.example", credentials="dc:p@ss") as proxy:
        begin = f"{url_of(node)} can't be reached: the proxy {proxy.address} "
        assert await said(proxy) == (
            f"{begin}wants a user name and a password: write the proxy as http://USER:PASSWORD@HOST:PORT"
        )
        wrong = await said(proxy, "dc:secret@")
        assert wrong == f"{begin}doesn't take the user name and the password that are written in its URL"
        refused = await said(proxy, f"{CREDENTIALS}@")
        assert refused == f"{begin}opens no tunnel to {HOST}:{node.port}: 403 Not for you"
    assert (await said(proxy)).startswith(f"{begin}can't be reached: Connection was refused by other side")
    for answer in (b"220 mail.example ESMTP\r\n\r\n", b"x" * 20_000):
        with ConnectProxy(says=answer) as proxy:
            assert (await said(proxy)).endswith(f"the proxy {proxy.address} answers with something that is no HTTP")
    with ConnectProxy(says=b"") as proxy:
        assert (await said(proxy)).endswith(f"closed the connection before it opened a tunnel to {HOST}:{node.port}")


ASYNCIO = """
import asyncio, trishula

async def main():
    async with trishula.AsyncClient(timeout=10) as bus:
        print((await bus.send("agni", payload=1)).status)

asyncio.run(main())
"""
SCRIPT = """
import trishula

with trishula.connect(timeout=10) as bus:
    print(bus.send("agni", payload=1).status)
"""


@pytest.mark.parametrize(
    ("code", "named_in"), [(ASYNCIO, "HTTPS_PROXY"), (SCRIPT, "TRISHULA_PROXY"), (SCRIPT, "the profile")]
)
def test_programs_find_authority_and_proxy_in_their_surroundings(
    node: NodeProcess, folder: Path, code: str, named_in: str
) -> None:
    with ConnectProxy(HOST) as proxy:
        more = {"TRISHULA_CA_FILE": str(folder / "ca.pem"), "NO_PROXY": "localhost,.internal", named_in: proxy.address}
        if named_in == "the profile":
            profile = folder / "profile.toml"
            profile.write_text(f'ca_file = "ca.pem"\nproxy = "http://{proxy.address}"\n')
            more = {"TRISHULA_PROFILE": str(profile)}
        clean = {name: value for name, value in environment().items() if not name.lower().endswith("_proxy")}
        around = {**clean, "TRISHULA_URL": url_of(node), "TRISHULA_TOKEN": node.tokens["dc"], **more}
        done = subprocess.run([sys.executable, "-c", code], env=around, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("accepted\n", "")
        assert proxy.asked == [f"{HOST}:{node.port}"]
