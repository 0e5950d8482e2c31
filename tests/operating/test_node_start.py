"""``trishula node start`` as a process: ready line, signals, kill -9 of each process, and each way not to start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.node import NodeDied, NodeProcess, environment, is_alive
from trishula.exit_codes import Exit
from trishula_router.settings.check import read_config_file
from trishula_router.settings.crossbar_config import options_of, render_config
from trishula_router.store.sqlite.holding import Hold

pytestmark = pytest.mark.node

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "single.json"


@pytest.fixture
def node(tmp_path: Path) -> NodeProcess:
    return NodeProcess(tmp_path / "state")


def gone_within(processes: list[psutil.Process], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def start_in_vain(*arguments: str) -> tuple[int, str]:
    """The exit code, and what it said."""
    command = [sys.executable, "-m", "trishula_router", "node", "start", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60.0)
    assert done.stdout == ""
    return done.returncode, done.stderr.strip()


def changed_config(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = read_config_file(SHIPPED)
    change(config["workers"][0])
    path = tmp_path / "changed.json"
    path.write_text(render_config(config))
    return path


# -- the good life -----------------------------------------------------------------------------------------------------


def test_the_first_line_is_the_address_and_sigterm_ends_all_in_order(node: NodeProcess) -> None:
    url = node.start()
    assert url == f"ws://127.0.0.1:{node.port}/ws"
    family = node.processes()
    assert len(family) == 3
    assert {process.pid for process in family} > {node.process.pid, node.worker_pid()}
    status = json.loads(node.command("node", "status", "--state", str(node.state_dir)))
    assert (status["running"], status["url"], status["pid"]) == (True, url, node.worker_pid())
    assert node.stop() == 0
    assert not any(is_alive(process) for process in family)
    assert not (node.state_dir / "node.json").exists()
    with pytest.raises(NodeDied, match="ended with 6"):
        node.command("node", "status", "--state", str(node.state_dir))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_as_well(node: NodeProcess, number: signal.Signals) -> None:
    node.start()
    process, family = node.process, node.processes()
    process.send_signal(number)
    assert process.communicate(timeout=15.0) == ("", "")
    assert process.returncode == 0
    assert gone_within(family, 1.0)


def test_under_nohup_the_end_of_the_terminal_does_not_end_it(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "state", within=["nohup"])
    node.start()
    process, family = node.process, node.processes()
    process.send_signal(signal.SIGHUP)
    # It looks for signals ten times a second, and this takes longer.
    status = json.loads(node.command("node", "status", "--state", str(node.state_dir)))
    assert (status["running"], process.poll()) == (True, None)
    assert all(is_alive(member) for member in family)
    process.terminate()
    assert process.wait(15.0) == 0
    assert gone_within(family, 1.0)


def test_a_signal_while_it_starts_ends_it_too(node: NodeProcess) -> None:
    process = node.spawn()
    deadline = time.monotonic() + 20.0
    while len(psutil.Process(process.pid).children(recursive=True)) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(15.0) == 0
    assert process.communicate()[0] in ("", f"{node.url}\n")
    assert gone_within(family, 1.0)


def test_with_json_the_first_line_is_an_object(tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [
        *(sys.executable, "-m", "trishula_router", "node", "start"),
        *("--json", "--port", "0", "--state", str(state)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        process.terminate()
        assert process.stdout.read() == ""
    assert (said["state"], said["pid"]) == (str(state), process.pid)
    assert said["url"].startswith("ws://127.0.0.1:")


#: Runs a command in a terminal of its own, and copies to its output what the command shows there.
IN_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_in_a_terminal_nothing_comes_before_the_first_line(tmp_path: Path) -> None:
    """Crossbar's import writes an empty line to the terminal, wherever its output goes."""
    state = tmp_path / "state"

    def command(*arguments: str) -> list[str]:
        in_a_terminal = [sys.executable, "-c", IN_A_TERMINAL, sys.executable, "-m", "trishula_router", "node"]
        return [*in_a_terminal, *arguments, "--state", str(state)]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            timeout=60,
        )
        return done.stdout

    assert run("keys").startswith("a new pair of keys was made: ")
    with subprocess.Popen(
        command("start", "--json", "--port", "0"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            os.kill(json.loads(first)["pid"], signal.SIGTERM)
            assert process.stdout.read() == ""
        finally:
            # The end of its terminal ends the node as well.
            process.kill()


def test_status_asks_the_node_with_an_operators_token_and_says_less_without(node: NodeProcess) -> None:
    node.token("boss", operator=True)
    node.token("agni")

    def status(*arguments: str, **more: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "trishula_router", "node", "status", "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(**more), timeout=60.0)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    with node:
        here = ("--state", str(node.state_dir))
        plainly, errors = status(*here)
        assert (plainly["url"], plainly["pid"], errors) == (node.url, node.worker_pid(), "")
        assert "pending" not in plainly
        asked, errors = status(*here, TRISHULA_TOKEN=node.tokens["boss"])
        assert (asked["url"], asked["agents"], asked["pending"], errors) == (node.url, 2, 0, "")
        refused, errors = status(*here, TRISHULA_TOKEN=node.tokens["agni"])
        assert "pending" not in refused
        assert errors.startswith("the node says no more than this: ")
        elsewhere, errors = status(
            TRISHULA_TOKEN=node.tokens["boss"],
            TRISHULA_URL=node.url,
            TRISHULA_STATE=str(node.state_dir.parent / "nothing"),
        )
        assert (elsewhere["epoch"], "state" in elsewhere, errors) == (asked["epoch"], False, "")


def test_the_log_is_quiet_and_the_files_are_private(node: NodeProcess) -> None:
    node.token("agni")
    with node:
        assert len(node.log().splitlines()) <= 2
        assert node.state_dir.stat().st_mode & 0o777 == 0o700
        for name in ("agents.json", "node.log", "node.lock", "crossbar/key.priv"):
            assert (node.state_dir / name).stat().st_mode & 0o077 == 0, name


def test_crossbar_check_accepts_the_shipped_configuration_and_the_effective_one(node: NodeProcess) -> None:
    with node:
        for path in (SHIPPED, node.state_dir / "crossbar" / "config.json"):
            done = subprocess.run(
                [
                    *(sys.executable, "-c", "import crossbar; crossbar.run()", "check"),
                    *("--cbdir", str(path.parent), "--config", path.name),
                ],
                capture_output=True,
                text=True,
                env=environment(),
                timeout=60.0,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Ok, node configuration looks good!" in done.stdout


# -- kill -9 -----------------------------------------------------------------------------------------------------------


def test_kill_9_of_node_start_ends_controller_and_worker_and_it_starts_again(node: NodeProcess) -> None:
    node.start()
    family = node.processes()
    os.kill(node.process.pid, signal.SIGKILL)
    assert gone_within(family, 2.0)
    node.kill()
    assert node.restart().startswith("ws://")
    assert node.stop() == 0


def test_kill_9_of_a_starting_node_leaves_nothing_either(node: NodeProcess) -> None:
    process = node.spawn()
    deadline = time.monotonic() + 20.0
    while len(family := psutil.Process(process.pid).children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert gone_within(family, 2.0)


@pytest.mark.parametrize("which", ["controller", "worker"])
def test_when_a_part_is_killed_the_rest_ends_with_a_sentence(node: NodeProcess, which: str) -> None:
    node.start()
    process, family = node.process, node.processes()
    worker = node.worker_pid()
    controller = next(item.pid for item in family if item.pid not in (worker, process.pid))
    os.kill(worker if which == "worker" else controller, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=15.0)
    assert (stdout, process.returncode) == ("", Exit.FAILED)
    assert stderr.startswith("Error: the node ended by itself: ")
    assert stderr.endswith(f"; the log {node.state_dir}/node.log has the rest\n")
    assert gone_within(family, 1.0)


def test_the_helper_kills_all_at_once_and_restarts(node: NodeProcess) -> None:
    first = node.start()
    family = node.processes()
    node.kill()
    assert not any(is_alive(process) for process in family)
    assert node.url == ""
    port = int(first.rpartition(":")[2].partition("/")[0])
    assert node.restart(port=port) == first
    assert node.stop() == 0


# -- ways not to start -------------------------------------------------------------------------------------------------


def test_two_nodes_on_one_state_directory_are_refused(node: NodeProcess) -> None:
    with node:
        code, said = start_in_vain("--state", str(node.state_dir), "--port", "0")
        assert code == Exit.FAILED
        who = rf"process {node.process.pid}, started by trishula node start, since \S+ \S+ UTC"
        assert re.fullmatch(
            rf"Error: a node already runs on the state directory {node.state_dir} \({who}\); stop it, or name another "
            "with --state",
            said,
        )
        assert all(is_alive(process) for process in node.processes())


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert start_in_vain("--state", str(tmp_path / "state"), "--port", str(port)) == (
            Exit.FAILED,
            f"Error: port {port} of 127.0.0.1 is in use; stop what uses it, name another with --port, "
            "or take a free one with --port 0",
        )


def test_a_configuration_with_faults_starts_nothing(tmp_path: Path) -> None:
    def change(worker: dict[str, Any]) -> None:
        worker["transports"][0]["type"] = "universal"
        worker["components"][0]["extra"]["delivery"]["window"] = 0

    config = changed_config(tmp_path, change)
    code, said = start_in_vain("--state", str(tmp_path / "state"), "--config", str(config))
    assert code == Exit.CONFIG
    assert said.splitlines()[0] == (
        "Error: workers[0].components[0].extra.delivery.window is 0; it must be a whole number from 1 to 65536"
    )
    assert said.splitlines()[1].startswith('workers[0].transports[0].type is "universal"; it must be "web": ')
    assert not (tmp_path / "state").exists()


def test_what_ends_crossbar_at_its_start_is_quoted(tmp_path: Path) -> None:
    """Our check can't know every component that an operator adds."""

    def change(worker: dict[str, Any]) -> None:
        more = {"type": "class", "classname": "no.such.Component", "realm": "trishula", "role": "node"}
        worker["components"].append(more)

    config = changed_config(tmp_path, change)
    code, said = start_in_vain("--state", str(tmp_path / "state"), "--config", str(config), "--port", "0")
    assert code == Exit.FAILED
    assert said == (
        "Error: the node ended while it started: Failed to import class 'no.such.Component': "
        f"builtins.ModuleNotFoundError: No module named 'no'; the log {tmp_path}/state/node.log has the rest"
    )


def test_what_makes_the_node_itself_give_up_is_told_in_its_words(node: NodeProcess) -> None:
    """Its file says it, and is gone then; nobody looks for it in the log."""
    process = node.spawn()
    deadline = time.monotonic() + 60.0
    # Once there is a controller, the command has looked at the store, and let go of it; the worker takes seconds yet.
    while not psutil.Process(process.pid).children():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    hold = Hold(node.state_dir, "a test")
    try:
        stdout, stderr = process.communicate(timeout=60.0)
    finally:
        hold.release()
    assert (stdout, process.returncode) == ("", Exit.FAILED)
    who = rf"process {os.getpid()}, started by a test, since \S+ \S+ UTC"
    assert re.fullmatch(
        rf"Error: the node ended while it started: a node already runs on the state directory {node.state_dir} "
        rf"\({who}\); stop it, or name another with --state; the log {node.state_dir}/node.log has the rest\n",
        stderr,
    )
    assert not (node.state_dir / "node.failure").exists()


def test_an_agents_file_that_others_can_read_is_refused(node: NodeProcess) -> None:
    node.token("agni")
    path = node.state_dir / "agents.json"
    path.chmod(0o644)
    assert start_in_vain("--state", str(node.state_dir), "--port", "0") == (
        Exit.CONFIG,
        f"Error: the file of agents {path} has mode 0644, so that others on this machine can read or change it; "
        f"run: chmod 600 {path}",
    )


def test_an_agents_file_that_broke_while_the_node_was_down_locks_nobody_out(node: NodeProcess) -> None:
    token = node.token("boss", operator=True)
    with node:
        pass
    path = node.state_dir / "agents.json"
    good, broken = path.read_text(), path.read_text().replace("{", "", 1)
    path.write_text(broken)
    node.start()
    said = f"the file of agents {path} is not JSON: "
    holds = f"; the node goes on with the copy of the last good one, {node.state_dir}/agents.json.good of "
    asked = subprocess.run(
        [*(sys.executable, "-m", "trishula_router", "node", "status", "--json"), "--state", str(node.state_dir)],
        capture_output=True,
        text=True,
        env=environment(TRISHULA_TOKEN=token),
        timeout=60.0,
    )
    assert asked.returncode == 0 and asked.stderr == "", "the token is still good"
    fault = str(json.loads(asked.stdout)["agents_file_fault"])
    assert fault.startswith(said) and holds in fault
    assert fault in node.wait_log(said)
    process = node.process
    process.terminate()
    assert process.communicate(timeout=15.0)[1] == f"trishula: {fault}\n"
    node.kill()
    path.write_text(good)
    node.start()
    assert node.stop() == 0
    assert said not in node.log().rpartition("Received SIGTERM")[2]


def test_a_store_of_a_newer_release_is_refused_in_one_sentence(node: NodeProcess) -> None:
    with node:
        pass
    file = node.state_dir / "node.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    code, said = start_in_vain("--state", str(node.state_dir), "--port", "0")
    assert code == Exit.FAILED
    assert "9999" in said and str(file) in said and len(said.splitlines()) == 1
    file.write_bytes(b"this is no database at all" * 1000)
    code, said = start_in_vain("--state", str(node.state_dir), "--port", "0")
    assert code == Exit.FAILED
    assert str(file) in said and len(said.splitlines()) == 1


def test_a_state_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert start_in_vain("--state", str(tmp_path / "state"), "--port", "0") == (
        Exit.CONFIG,
        f"Error: the state directory {tmp_path}/state is a file; name a directory with --state",
    )


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    config = read_config_file(SHIPPED)
    options_of(config)["trusted_network"] = "the network of this test"
    path = tmp_path / "node.json"
    path.write_text(render_config(config))
    arguments = ("--config", str(path), "--state", str(tmp_path / "state"), "--port", "0", "--listen", "192.0.2.1")
    code, said = start_in_vain(*arguments)
    assert code == Exit.FAILED
    assert said == (
        "Error: the node can't listen on 192.0.2.1: Cannot assign requested address; name another with --listen"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "node.example"])
def test_a_node_without_tls_listens_on_loopback_alone_unless_the_network_is_trusted(
    tmp_path: Path, address: str
) -> None:
    code, said = start_in_vain("--state", str(tmp_path / "state"), "--port", "0", "--listen", address)
    assert code == Exit.CONFIG
    assert said.startswith(f"Error: the node must not listen on {address}: without TLS others can read and change")
    assert '"trusted_network": "why' in said and len(said.splitlines()) == 1
