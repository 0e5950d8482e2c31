"""The agents dc, agni and rushabdev: what they do to the machine they run on, and together on a real node."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import io
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from rich.console import Console
from twisted.internet.defer import Deferred

from tests.support.certificates import make_certificate
from tests.support.node import NodeProcess
from tests.support.reactor import on_reactor
from trishula.agent import Agent
from trishula.agents import agni, dc, rushabdev
from trishula.agents.agni import check_certificate, check_service
from trishula.agents.host_report import host_report
from trishula.agents.rushabdev import DEFAULT_CHECKS, Check, load_checks, run_check
from trishula.agents.targets import Targets, load_targets
from trishula.client import Client
from trishula.contract import uris
from trishula.errors import ArgumentInvalid, TrishulaError
from trishula.runtime.pending import run_handler
from trishula.settings import Settings, SettingsInvalid

# -- the host ----------------------------------------------------------------------------------------------------------


def test_the_report_is_of_this_host_now() -> None:
    before_ms = int(time.time() * 1000)
    report = host_report()
    assert report["host"] == socket.gethostname()
    assert before_ms <= report["taken_at"] <= int(time.time() * 1000)
    assert report["memory"]["total_bytes"] == psutil.virtual_memory().total
    assert abs(report["uptime_s"] - (time.time() - psutil.boot_time())) < 5
    assert 0 <= report["cpu"]["percent"] <= 100
    assert report["cpu"]["cores"] == psutil.cpu_count()


def test_the_report_of_a_disk_that_is_mounted_and_of_no_other_path(tmp_path: Path) -> None:
    for disk in ("/", *(one.mountpoint for one in psutil.disk_partitions())):
        assert host_report(disk=disk)["disk"]["path"] == disk
    for path in (str(tmp_path), str(tmp_path / "absent"), "/root/.ssh", "", "/\0", "/.."):
        with pytest.raises(ArgumentInvalid, match="it must be where a disk of this host is mounted: /"):
            host_report(disk=path)


# -- agni --------------------------------------------------------------------------------------------------------------


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """An HTTP or HTTPS server; its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = False
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_that_answers() -> None:
    with serving() as port:
        tcp = check_service(f"tcp://127.0.0.1:{port}")
        page = check_service(f"http://127.0.0.1:{port}/page?x=1")
        broken = check_service(f"http://127.0.0.1:{port}/broken")
    assert (tcp["ok"], tcp["detail"]) == (True, "it accepts connections")
    assert (page["ok"], page["status"], page["body_bytes"]) == (True, 200, 4)
    assert (broken["ok"], broken["detail"]) == (False, "HTTP 503 Service Unavailable")


def test_a_service_that_does_not() -> None:
    with socket.socket() as taken, socket.create_server(("127.0.0.1", 0)) as silent:
        taken.bind(("127.0.0.1", 0))
        refused = check_service(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        late = check_service(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.1)
    assert (refused["ok"], refused["detail"]) == (False, "Connection refused")
    assert (late["ok"], late["detail"]) == (False, "no answer within 0.1 s")


@pytest.mark.parametrize("target", ["localhost:80", "ftp://a/", "tcp://a", "tcp://a:99999", "http://"])
def test_what_is_no_service(target: str) -> None:
    with pytest.raises(ArgumentInvalid, match="it must be tcp://HOST:PORT"):
        check_service(target)


NOT_LISTED = "this agent asks only its own machine and hosts that its operator has listed"
#: What stands for somewhere else, or might.
ELSEWHERE = [
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "tcp://example.org:22",
    "https://[2001:db8::7]/",
    "http://localhost@10.0.0.1/",
    "http://localhost:80@10.0.0.1/",
    "http://localhost.10.0.0.1.nip.io/",
    "http://127.0.0.1.example.org/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://[::ffff:10.0.0.1]/",
    "http://167772161/",
    "http://0x0a.1/",
    "http://\uff4cocalhost/",
    "tcp://HOST:22",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_no_host_is_asked_but_those_of_the_list(target: str) -> None:
    with pytest.raises(ArgumentInvalid, match=NOT_LISTED):
        check_service(target, timeout_s=0.01)
    host = urlsplit(target).hostname
    with pytest.raises(ArgumentInvalid, match=NOT_LISTED):
        check_certificate(str(host), timeout_s=0.01)


@pytest.mark.parametrize(
    ("host", "port", "may"),
    [
        ("localhost", 1, True),
        ("LOCALHOST.", 1, True),
        ("127.8.9.1", 1, True),
        ("::1", 1, True),
        ("agni.example", 1, True),
        ("AGNI.example", 2, True),
        ("sub.agni.example", 1, False),
        ("db.internal", 5432, True),
        ("db.internal", 5433, False),
        ("10.1.200.3", 9, True),
        ("10.2.0.1", 9, False),
        ("2001:db8::7", 443, True),
        ("2001:db8::7", 80, False),
        ("192.0.2.1", 8, True),
        ("192.0.2.1", 9, False),
    ],
)
def test_the_list_of_targets(host: str, port: int, may: bool) -> None:
    targets = Targets(
        ["agni.example", "DB.internal:5432", "10.1.0.0/16", "[2001:db8::7]:443", "192.0.2.1:8"], "the file"
    )
    if may:
        targets.check(host, port)
        return
    with pytest.raises(ArgumentInvalid) as caught:
        targets.check(host, port)
    assert caught.value.sentence.endswith(f'the operator can add "{host}:{port}" to the file')


def test_the_list_of_targets_is_read(tmp_path: Path) -> None:
    with pytest.raises(ArgumentInvalid):
        load_targets({}, tmp_path).check("agni.example", 1)
    path = tmp_path / ".config" / "trishula" / "agni.toml"
    path.parent.mkdir(parents=True)
    path.write_text('targets = ["agni.example"]')
    for targets in (load_targets({}, tmp_path), load_targets({"TRISHULA_TARGETS": str(path)}, tmp_path / "elsewhere")):
        targets.check("agni.example", 1)
        targets.check("localhost", 1)
    with pytest.raises(SettingsInvalid, match=r"^TRISHULA_TARGETS names .*, and there is no such file$"):
        load_targets({"TRISHULA_TARGETS": str(tmp_path / "absent")}, tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hosts = 1", "{path} has the unknown key 'hosts'; it holds targets, a list"),
        ('targets = "a"', "{path}: targets must be a list of strings; it must be a host, "),
        ("targets = [1]", "{path}: targets must be a list of strings; it must be a host, "),
        ('targets = ["http://a/"]', "{path}: 'http://a/' is no target; it must be a host, "),
        ('targets = ["a:b"]', "{path}: 'a:b' is no target; it must be a host, "),
        ('targets = [""]', "{path}: '' is no target; it must be a host, "),
        ("targets = [", "the targets in {path} can't be read: "),
    ],
)
def test_faults_in_the_list_of_targets(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_targets({"TRISHULA_TARGETS": str(path)}, tmp_path)
    assert caught.value.sentence.startswith(sentence.format(path=path))


def test_time_limits_are_bounded() -> None:
    with pytest.raises(ArgumentInvalid, match="timeout_s is 0; it must be over 0 and at most 60 seconds"):
        check_service("tcp://127.0.0.1:1", timeout_s=0)
    with pytest.raises(ArgumentInvalid, match="port is 0; it must be from 1 to 65535"):
        check_certificate("127.0.0.1", 0)


def certificate_of(path: Path) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with serving(context) as port:
        return check_certificate("localhost", port)


def test_a_certificate_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_certificate(tmp_path, 90.5)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    found = certificate_of(path)
    assert (found["ok"], found["trusted"], found["days_left"]) == (True, True, 90)
    assert found["detail"] == "it is good for 90 days"
    assert found["subject"] == "CN=localhost"
    assert abs(found["not_after"] / 1000 - (time.time() + 90.5 * 86400)) < 60


def test_a_certificate_that_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_certificate(tmp_path, 5.5)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    found = certificate_of(path)
    assert (found["ok"], found["detail"]) == (False, "it ends in 5 days")


def test_a_certificate_that_nobody_trusts_is_reported_all_the_same(tmp_path: Path) -> None:
    found = certificate_of(make_certificate(tmp_path, 90.5))
    assert (found["ok"], found["trusted"], found["days_left"]) == (False, False, 90)
    assert found["detail"] == "it is not trusted here: self-signed certificate"


def test_a_certificate_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_certificate(tmp_path, -2.5)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    found = certificate_of(path)
    assert (found["ok"], found["days_left"]) == (False, -3)
    assert found["detail"] == "it is not trusted here: certificate has expired"


def test_a_server_without_a_certificate() -> None:
    with serving() as port:
        found = check_certificate("127.0.0.1", port, timeout_s=5.0)
    assert found["ok"] is False
    assert found["detail"]


# -- rushabdev ---------------------------------------------------------------------------------------------------------


def python(code: str, timeout_s: float = 20.0) -> Check:
    return Check("test", (sys.executable, "-c", code), timeout_s)


@on_reactor
async def test_a_check_that_passes_and_one_that_fails() -> None:
    good = await run_handler(run_check(python("print('fine')")))
    bad = await run_handler(run_check(python("import sys; print('broken', file=sys.stderr); sys.exit(3)")))
    assert (good["ok"], good["exit_code"], good["output"]) == (True, 0, "fine\n")
    assert (bad["ok"], bad["exit_code"], bad["output"]) == (False, 3, "broken\n")
    assert bad["detail"] == "it exited with 3"


@on_reactor
async def test_no_shell_sees_a_check() -> None:
    found = await run_handler(run_check(Check("test", ("echo", "$HOME;", "ls", "|", "cat"))))
    assert found["output"] == "$HOME; ls | cat\n"


@on_reactor
async def test_a_check_gets_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISHULA_TOKEN", "rushabdev.secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = await run_handler(run_check(python("import os; print(sorted(os.environ))")))
    assert "PATH" in found["output"]
    assert "TRISHULA_TOKEN" not in found["output"]
    assert "AWS_SECRET_ACCESS_KEY" not in found["output"]


@on_reactor
async def test_a_check_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "print('waiting', flush=True)\n"
        "time.sleep(600)\n"
    )
    found = await run_handler(run_check(python(code, timeout_s=1.5)))
    assert (found["ok"], found["timed_out"], found["exit_code"]) == (False, True, None)
    assert found["detail"] == "it was killed: it ran longer than 1.5 s"
    assert found["output"] == "waiting\n"
    child = int(mark.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        os.kill(child, 9)
        pytest.fail("the check's child still runs")


@on_reactor
async def test_what_a_check_prints_is_bounded() -> None:
    found = await run_handler(run_check(python("print('x' * 200_000)"), output_limit_bytes=1000))
    assert found["ok"]
    assert len(found["output"]) == 1000
    assert found["truncated_bytes"] == 199_001


@on_reactor
async def test_a_check_whose_program_is_not_there() -> None:
    found = await run_handler(run_check(Check("test", ("/no/such/program",))))
    assert (found["ok"], found["detail"]) == (False, "/no/such/program can't be started: No such file or directory")


def test_the_list_of_checks(tmp_path: Path) -> None:
    assert load_checks({}, tmp_path) == DEFAULT_CHECKS
    path = tmp_path / ".config" / "trishula" / "rushabdev.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[checks.one]\ncommand = ["true"]\ntimeout = "5s"\n[checks.two]\ncommand = ["df", "-h"]\n')
    expected = {"one": Check("one", ("true",), 5.0), "two": Check("two", ("df", "-h"), 30.0)}
    assert load_checks({}, tmp_path) == expected
    assert load_checks({"TRISHULA_CHECKS": str(path)}, tmp_path / "elsewhere") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("check = 1", "{path} has the unknown key 'check'; it holds [checks.NAME] tables"),
        ("checks = 1", "{path}: checks must be [checks.NAME] tables"),
        ("[checks]\na = 1", "{path}: checks.a must be a table with command and timeout"),
        ('[checks.a]\ncommand = "rm -rf"', "{path}: checks.a.command must be a list of strings, the program first"),
        ("[checks.a]\ncommand = []", "{path}: checks.a.command must be a list of strings, the program first"),
        (
            '[checks.a]\ncommand = ["true"]\nshell = true',
            "{path}: checks.a has the unknown key 'shell'; the known keys are command, timeout",
        ),
        (
            '[checks.a]\ncommand = ["true"]\ntimeout = "0s"',
            "{path}: checks.a.timeout is '0s'; it must be longer than nothing",
        ),
    ],
)
def test_faults_in_the_list_of_checks(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "checks.toml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as caught:
        load_checks({"TRISHULA_CHECKS": str(path)}, tmp_path)
    assert caught.value.sentence == sentence.format(path=path)


def test_a_list_of_checks_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"^TRISHULA_CHECKS names .*, and there is no such file$"):
        load_checks({"TRISHULA_CHECKS": str(tmp_path / "absent")}, tmp_path)


# -- together ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("samples") / "state") as node:
        for agent in (agni.agent, dc.agent, rushabdev.agent):
            node.token(agent.name, serve=agent.capabilities)
        yield node


async def sleep(seconds: float) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    waiting: Deferred[None] = deferLater(clock, seconds)
    await waiting


@pytest.mark.node
@on_reactor
async def test_dc_collects_from_both_others_and_tells_everybody(node: NodeProcess) -> None:
    screen = Console(file=io.StringIO(), width=160)
    checks = {"python": python("print('checked')")}
    agents: list[Agent] = [agni.build(), rushabdev.build(checks), dc.build(console=screen)]
    client = Client(Settings((node.url,), "dc", node.tokens["dc"]), instance="test")
    client.attach(lambda deliveries: None)
    try:
        for agent in agents:
            await agent.start(Settings((node.url,), agent.name, node.tokens[agent.name]), timeout=10.0)
        await client.start(timeout=10.0)
        collected = await client.call("dc", "collect", timeout=30.0)
        assert set(collected["reports"]) == {"agni", "rushabdev"}
        assert collected["summary"]["answered"] == ["agni", "rushabdev"]
        for answer in collected["reports"].values():
            assert answer["report"]["host"] == socket.gethostname()
        printed = screen.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
        assert "agni" in printed
        assert "rushabdev" in printed
        assert (await client.call("rushabdev", "run_check", "python"))["output"] == "checked\n"
        assert await client.call("rushabdev", "list_checks") == ["python"]
        assert [one["ok"] for one in await client.call("rushabdev", "run_checks")] == [True]
        with pytest.raises(ArgumentInvalid, match="there is no check 'rm' on the list; there are: python"):
            await client.call("rushabdev", "run_check", "rm")
        uptime = await client.rpc("rushabdev", "uptime")
        assert 0 <= uptime["agent_uptime_s"] <= uptime["host_uptime_s"]
        checked = await client.rpc("agni", "check_services", [f"tcp://127.0.0.1:{node.port}", "tcp://127.0.0.1:1"])
        assert [one["ok"] for one in checked] == [True, False]
        certificates = await client.rpc("agni", "check_certificates", [f"127.0.0.1:{node.port}"], 0.2)
        assert [one["ok"] for one in certificates] == [False]
        for procedure, args in (
            ("check_service", ["tcp://10.255.0.1:22"]),
            ("check_services", [["tcp://127.0.0.1:1", "http://10.255.0.1/"]]),
            ("check_certificate", ["10.255.0.1"]),
            ("check_certificates", [["10.255.0.1:22"]]),
        ):
            with pytest.raises(ArgumentInvalid, match=NOT_LISTED):
                await client.rpc("agni", procedure, *args)
            with pytest.raises(ArgumentInvalid, match=NOT_LISTED):
                await client.call("agni", procedure, *args)
        with pytest.raises(TrishulaError, match="unexpected keyword argument 'targets'"):
            await client.rpc("agni", "check_service", "tcp://10.255.0.1:22", targets=["10.255.0.1"])
        with pytest.raises(ArgumentInvalid, match="it must be where a disk of this host is mounted"):
            await client.rpc("rushabdev", "host_report", "/root")
        with pytest.raises(ArgumentInvalid, match="timeout_s is 1e"):
            await client.rpc("dc", "collect", 1e300)
        assert await client.call("agni", "ping") == "pong"
    finally:
        await client.stop()
        for agent in reversed(agents):
            await agent.stop()


@pytest.mark.node
@on_reactor
async def test_an_agent_that_does_not_answer_is_part_of_the_result(node: NodeProcess) -> None:
    mute = Agent("agni")

    @mute.procedure(name="host_report")
    async def never() -> None:
        await asyncio.sleep(600)

    coordinator = dc.build(console=Console(file=io.StringIO()))
    try:
        for agent in (mute, coordinator):
            await agent.start(Settings((node.url,), agent.name, node.tokens[agent.name]), timeout=10.0)
        reports = await run_handler(dc.collect_reports(coordinator, "dc", timeout_s=0.5))
        assert set(reports) == {"agni"}
        assert reports["agni"]["error"].startswith("agni did not answer host_report within 0.5 s")
        assert "agni" in dc.summary_of(reports)["silent"]
    finally:
        for agent in (coordinator, mute):
            await agent.stop(grace_s=0.1)


@pytest.mark.node
@on_reactor
async def test_who_asks_for_rounds_at_once_shares_one_that_begins_afterwards(node: NodeProcess) -> None:
    asked: list[None] = []
    may_answer = asyncio.Event()
    mute = Agent("agni")

    @mute.procedure(name="host_report")
    async def report() -> dict[str, Any]:
        asked.append(None)
        await may_answer.wait()
        return {"cpu": "none of the sort"}

    coordinator = dc.build(console=Console(file=io.StringIO()))
    try:
        for agent in (mute, coordinator):
            await agent.start(Settings((node.url,), agent.name, node.tokens[agent.name]), timeout=10.0)
        # The first round is its own, and began too early for those who ask now: they share the second one.
        rounds = [coordinator.rpc("dc", "collect", timeout=30.0) for _ in range(20)]
        while not asked:
            await coordinator.request(uris.DIRECTORY_LIST)
        await coordinator.request(uris.DIRECTORY_LIST)
        # All are with the coordinator.
        may_answer.set()
        summaries = [(await one)["summary"] for one in rounds]
        assert len(asked) == 2
        assert all(summary["answered"] == ["agni"] for summary in summaries)
    finally:
        for agent in (coordinator, mute):
            await agent.stop(grace_s=0.1)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"cpu": []},
        {"cpu": {}, "disk": [], "memory": 1},
        {"disk": {"percent": True}, "memory": {"percent": "99"}},
        {"host": 1, "uptime_s": "x", "cpu": {"percent": None, "cores": 1, "load": 7}, "memory": {}, "disk": {}},
        "text",
        None,
        [1],
    ],
)
def test_a_report_that_is_none_is_shown_as_that_and_hides_no_other(report: Any) -> None:
    reports = {"agni": {"report": report, "took_ms": 1}, "rushabdev": {"report": host_report(), "took_ms": 1}}
    screen = Console(file=io.StringIO(), width=160)
    screen.print(dc.report_table(reports))
    printed = screen.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    assert "its report is not as it should be" in printed
    assert socket.gethostname() in printed
    assert dc.summary_of(reports)["answered"] == ["agni", "rushabdev"]


def test_the_summary_says_what_runs_low() -> None:
    report = {"disk": {"percent": 95.2}, "memory": {"percent": 20.0}}
    assert dc.summary_of({"agni": {"report": report, "took_ms": 1}}) == {
        "answered": ["agni"], "silent": {}, "low": ["agni: disk 95 % used"],
    }  # fmt: skip
