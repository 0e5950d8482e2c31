"""``make demo`` and ``make up``: a node, three agents in processes of their own, and what they do together.

Nothing here is staged: the node is started as anybody would start one, the agents by ``trishula agent run``, and every
figure is measured. Every step that fails ends it with one sentence and an exit code other than 0; whatever happens, no
process and no file is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

import trishula
from trishula.cli.words import local_time, plain
from trishula.contract import uris
from trishula.contract.units import show_bytes, show_duration
from trishula.tools.bench import percentile
from trishula.tools.temporary_node import ThrowawayNode, ToolFailed, command, surroundings_of, terminate, undisturbed

#: The sample agents, and what they announce.
AGENTS = {
    "dc": ("coordination",),
    "agni": ("host", "services", "certificates"),
    "rushabdev": ("host", "checks", "uptime"),
}
OTHERS = ("agni", "rushabdev")
OPERATOR = "operator"
#: An agent joins within a second; importing what it needs on a busy machine takes longer.
JOIN_TIMEOUT_S = 30.0
#: Enough for a median that means something, and over in a second.
ROUNDS = 100

# A pipe has no width; 100 keeps every table on one line.
console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done and how long it took, or in which step it failed."""
    begin_s = time.monotonic()
    try:
        yield
    except trishula.TrishulaError as error:
        raise ToolFailed(f"{what}: {error.sentence}") from error
    console.print(f"[green]✓[/green] {what} [dim]({show_duration(time.monotonic() - begin_s)})[/dim]")


class Agents:
    """The three agents, each ``trishula agent run`` in a process of its own.

    Args:
        directory: where they keep their files and say what they have to say.
        check_bus: raises if a node has ended by itself.
    """

    def __init__(self, directory: Path, check_bus: Callable[[], object]) -> None:
        self._directory = directory
        self._check_bus = check_bus
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, token: str, url: str, *, target: str = "", more: Mapping[str, str] | None = None
    ) -> None:
        """Start one; what it says goes into a file.

        Args:
            target: what to run, unless it is the agent of that name.
            more: put into its environment.
        """
        with self._log(name).open("wb") as log, undisturbed():
            self._processes[name] = subprocess.Popen(
                command("agent", "run", target or name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=surroundings_of(url, token, self._directory / "agents") | dict(more or {}),
                cwd=self._directory,
                # Ctrl-C is for this process, which stops them in order.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise if one of them, or a node, has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                said = self._log(name).read_text(errors="replace").strip().splitlines()
                raise ToolFailed(
                    f"the agent {name} ended with {process.returncode}: {said[-1] if said else 'silently'}"
                )
        self._check_bus()

    def stop(self) -> None:
        """Stop them all; raises if one doesn't end in order."""
        processes, self._processes = self._processes, {}
        stubborn = terminate(processes)
        if stubborn:
            raise ToolFailed(f"{', '.join(stubborn)} had to be killed")
        for name, process in processes.items():
            if process.returncode != 0:
                raise ToolFailed(f"the agent {name} ended with {process.returncode} when it was told to leave")

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, *_: object) -> None:
        terminate(self._processes)

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


def check_node(node: ThrowawayNode) -> None:
    """Raise if the node has ended by itself."""
    if not node.is_running():
        raise ToolFailed("the node ended by itself")


def wait_until_joined(bus: trishula.Bus, agents: Agents) -> None:
    """Until the directory shows all three."""
    until_s = time.monotonic() + JOIN_TIMEOUT_S
    while True:
        agents.check()
        entries = {entry["agent"]: entry for entry in bus.request(uris.DIRECTORY_LIST)}
        # An agent serves once it has attached, which is when its capabilities are known.
        missing = [
            name for name in AGENTS if entries[name]["presence"] == "offline" or not entries[name]["capabilities"]
        ]
        if not missing:
            return
        if time.monotonic() > until_s:
            raise ToolFailed(f"{' and '.join(missing)} did not join within {JOIN_TIMEOUT_S:g} s")
        time.sleep(0.05)


def flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a report, with their paths."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flatten(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, ", ".join(show(path, inner) for inner in value) or "–"
    else:
        yield path, show(path, value)


def show(path: str, value: object) -> str:
    """A figure in the unit that its name gives."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return plain(value)
    if path.endswith("_bytes"):
        return show_bytes(int(value))
    if path.endswith("_s"):
        return show_duration(value)
    if path.endswith("_at"):
        return local_time(value)
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def report_table(reports: dict[str, Any]) -> RenderableType:
    """The reports side by side."""
    table = Table("", *reports, title="Host reports that dc collected", title_justify="left")
    columns = [dict(flatten(report)) for report in reports.values()]
    for key in dict.fromkeys(key for column in columns for key in column):
        table.add_row(key, *[column.get(key, "–") for column in columns])
    return table


def latency_table(rows: list[tuple[str, list[float]]]) -> RenderableType:
    """Median, 99th percentile and maximum of what was measured, in ms."""
    table = Table("Measured", "n", "p50", "p99", "max", title="Latency, durable on one node", title_justify="left")
    for name, samples_ms in rows:
        ordered = sorted(samples_ms)
        figures = [f"{percentile(ordered, share):.2f} ms" for share in (0.5, 0.99, 1.0)]
        table.add_row(name, str(len(ordered)), *figures)
    return table


def timed_ms(rounds: int, work: Any) -> list[float]:
    """How long each of so many calls took."""
    samples = []
    for _ in range(rounds):
        begin_s = time.monotonic()
        work()
        samples.append((time.monotonic() - begin_s) * 1000)
    return samples


def collect(operator: trishula.Bus) -> dict[str, Any]:
    """Let dc ask the others for their host reports; the reports by agent."""
    answers = operator.call("dc", "collect", timeout=30)["reports"]
    reports = {}
    for name in OTHERS:
        answer = answers.get(name, {"error": "dc did not ask it"})
        if "report" not in answer:
            raise ToolFailed(f"{name} gave no report: {answer['error']}")
        reports[name] = answer["report"]
    return reports


def sent_by_dc(operator: trishula.Bus, after: int) -> list[dict[str, Any]]:
    """What the journal has of messages that dc sent, behind a record."""
    told = operator.request(uris.AUDIT_QUERY, {"agent": "dc", "kind": "accepted", "after": after, "limit": 1000})
    return [record for record in told["records"] if record["from"] == "dc"]


def see_settled(operator: trishula.Bus, sent: list[dict[str, Any]]) -> None:
    """Wait until every message to the others is done."""
    until_s = time.monotonic() + 15.0
    for record in sent:
        while record["to"] in OTHERS:
            lives = operator.request(uris.AUDIT_WHY, record["id"])["messages"]
            (state,) = [life["state"] for life in lives if life["to"] == record["to"]]
            if state == "done":
                break
            if time.monotonic() > until_s:
                raise ToolFailed(f"the {record['type']} {record['id']} to {record['to']} is {state} after 15 s")
            time.sleep(0.02)


def work(node: ThrowawayNode, agents: Agents, tokens: dict[str, str], operator: trishula.Bus) -> str:
    """What the agents do together; the id of one of dc's COMMANDs."""
    before = operator.request(uris.NODE_STATUS)["high_water"]
    with step("dc asks agni and rushabdev for their host reports, by COMMAND"):
        reports = collect(operator)
    with step("dc broadcasts a STATUS with what it found, and both handle it"):
        sent = sent_by_dc(operator, before)
        told = {record["to"] for record in sent if record["type"] == "STATUS"}
        if not told.issuperset(OTHERS):
            raise ToolFailed(f"dc's STATUS went to {', '.join(sorted(told)) or 'nobody'}")
        see_settled(operator, sent)
        asked = next(record["id"] for record in sent if record["type"] == "COMMAND" and record["to"] == OTHERS[0])
    with (
        step(f"measure {ROUNDS} messages, calls and live calls from a script of dc's to agni"),
        trishula.connect(node.url, token=tokens["dc"]) as dc,
    ):
        receipts_ms = timed_ms(ROUNDS, lambda: dc.send("agni", type="STATUS", payload={"text": "ping"}))
        calls_ms = timed_ms(ROUNDS, lambda: dc.call("agni", "ping", timeout=10))
        live_ms = timed_ms(ROUNDS, lambda: dc.rpc("agni", "ping", timeout=10))
    agents.check()
    console.print()
    console.print(report_table(reports))
    console.print()
    console.print(
        latency_table(
            [
                ("send a STATUS → receipt (on disk)", receipts_ms),
                ("COMMAND → RESULT (both on disk)", calls_ms),
                ("live RPC → answer (nothing stored)", live_ms),
            ]
        )
    )
    console.print()
    return str(asked)


def tell_why(node: ThrowawayNode, tokens: dict[str, str], message_id: str) -> None:
    """``trishula why`` of a message, as a user would ask."""
    settings = surroundings_of(node.url, tokens[OPERATOR])
    console.print(f"$ trishula why {message_id}")
    sys.stdout.flush()
    done = subprocess.run(command("why", message_id), env=settings, check=False)
    if done.returncode:
        raise ToolFailed(f"trishula why {message_id} ended with {done.returncode}")
    console.print()


def stay(node: ThrowawayNode, agents: Agents, tokens: dict[str, str], message_id: str) -> None:
    """Say what to try, and keep everything running until Ctrl-C."""
    program = Path(sys.executable).with_name("trishula")
    shown = os.path.relpath(program) if program.is_relative_to(Path.cwd()) else str(program)
    console.print(f"The bus is at [bold]{node.url}[/bold] until Ctrl-C. In another terminal, in this directory:\n")
    lines = [
        f"export TRISHULA_URL={node.url}",
        f"export TRISHULA_TOKEN={tokens[OPERATOR]}",
        f"{shown} agents",
        f"{shown} call agni host_report",
        f"{shown} why {message_id}",
    ]
    for line in lines:
        # Never wrapped: it is there to be copied.
        print(f"  {line}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(0.5)
            agents.check()
    console.print("\nstopping …")


def run(port: int, *, forever: bool) -> None:
    """All of it, in order.

    Raises:
        ToolFailed: a step failed.
    """
    begin_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        with step("start a node with a fresh state directory"):
            node = stack.enter_context(ThrowawayNode(port=port, prefix="trishula-demo-"))
        agents = stack.enter_context(Agents(node.directory, lambda: check_node(node)))
        with step("make tokens for dc, agni, rushabdev and an operator"):
            tokens = {name: node.token(name, serve=serve) for name, serve in AGENTS.items()}
            tokens[OPERATOR] = node.token(OPERATOR, operator=True)
        with trishula.connect(node.url, token=tokens[OPERATOR]) as operator:
            with step("start the three agents and see them join"):
                for name in AGENTS:
                    agents.start(name, tokens[name], node.url)
                wait_until_joined(operator, agents)
            message_id = work(node, agents, tokens, operator)
        tell_why(node, tokens, message_id)
        if forever:
            stay(node, agents, tokens, message_id)
        with step("stop the agents and the node"):
            agents.stop()
            stack.close()
    if not forever:
        console.print(f"\n[bold green]The demo passed[/bold green] in {show_duration(time.monotonic() - begin_s)}.")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="the node's port; 0 takes a free one")
    parser.add_argument("--stay", action="store_true", help="keep everything running until Ctrl-C")
    options = parser.parse_args()
    if not 0 <= options.port <= 65535:
        parser.error(f"--port is {options.port}; it must be from 0 to 65535")
    try:
        run(options.port, forever=options.stay)
    except trishula.TrishulaError as error:
        print(f"demo: {error.sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
