"""``make demo-cluster``: two linked nodes, three agents, and the preferred node killed while they work.

Nothing here is staged: the nodes are started as anybody would start them, the agents by ``trishula agent run``, the
node is killed with ``kill -9``, and every figure is measured. What the agents asked, were answered and ran is judged by
the drill's checker, with the stores of both nodes. It ends with another exit code than 0 if anything was lost or ran
twice.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.demo import (
    AGENTS,
    OPERATOR,
    Agents,
    collect,
    console,
    report_table,
    see_settled,
    sent_by_dc,
    step,
    wait_until_joined,
)
from deploy.demo_agents import NAMES
from rich.console import RenderableType
from rich.table import Table

import trishula
from trishula.contract import uris
from trishula.contract.units import show_duration
from trishula.tools.temporary_node import ToolFailed, command, surroundings_of
from trishula_drill.autopsy import autopsies
from trishula_drill.checker import Verdict, check
from trishula_drill.command import ending_in_order
from trishula_drill.figures import longest_pause_ms
from trishula_drill.history import Event, Handled, Receipted, Sent, read_all
from trishula_drill.linked import LinkedNodes, ask_status, make_tokens
from trishula_drill.proxy import free_port

PRIMARY, FAILOVER = NODES = ("agni", "rushabdev")
#: The two servers prefer the node on their own machine, the laptop the primary.
PREFERRED = {"dc": NODES, "agni": NODES, "rushabdev": NODES[::-1]}
FAILBACK_S = 2.0
#: A busy machine takes its time.
_TIMEOUT_S = 60.0
_LOOK_S = 0.05
#: Around a kill: the last answer before it, and all that is affected by it.
_BEFORE_S, _AFTER_S = 0.5, 1.5
_CALL = "under-way"


class Stage:
    """The nodes, the agents, and what they wrote down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.history = directory / "history"
        self.history.mkdir()
        self.nodes = LinkedNodes(directory, {name: free_port() for name in NODES})
        self.tokens = make_tokens(self.nodes.states.values(), NAMES, OPERATOR, AGENTS)
        self.agents = Agents(directory, self.nodes.check)

    @property
    def url(self) -> str:
        """Where scripts find the bus."""
        return self.nodes.url(NODES)

    def start_nodes(self) -> None:
        """Start both, and see them linked."""
        for name in NODES:
            self.nodes.spawn(name)
        self.nodes.wait_ready()
        self.wait("the nodes are linked", lambda: not self.nodes.out_of_step(self.tokens[OPERATOR]))

    def start_agents(self) -> None:
        """Start the three."""
        for name in NAMES:
            self.agents.start(
                name,
                self.tokens[name],
                self.nodes.url(PREFERRED[name]),
                target=f"{Path(__file__).with_name('demo_agents.py')}:{name}",
                more={"DEMO_HISTORY": str(self.history), "TRISHULA_FAILBACK": f"{FAILBACK_S:g}s"},
            )

    def events(self) -> list[Event]:
        """What the agents wrote down so far."""
        return read_all(sorted(self.history.glob("*.jsonl")))

    def answers(self) -> list[Receipted]:
        """Their answers, in the order of time."""
        return [event for event in self.events() if isinstance(event, Receipted)]

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Wait for something.

        Raises:
            ToolFailed: it doesn't come, or a process ended by itself.
        """
        until_s = time.monotonic() + _TIMEOUT_S
        while not done():
            self.agents.check()
            if time.monotonic() > until_s:
                raise ToolFailed(f"{what}: not within {_TIMEOUT_S:g} s")
            time.sleep(_LOOK_S)

    def wait_answered(self) -> list[Sent]:
        """Wait until all that was asked by now is answered; what that is."""
        asked = [event for event in self.events() if isinstance(event, Sent)]
        ids = {event.id for event in asked}
        with contextlib.suppress(ToolFailed):
            # What is lost is shown.
            self.wait("every call is answered", lambda: ids <= {answer.id for answer in self.answers()})
        return asked

    def flow(self) -> None:
        """Wait until each agent gets answers."""
        before = Counter(answer.who for answer in self.answers())
        self.wait(
            "answers for each agent",
            lambda: all(count > before[name] + 5 for name, count in self._counts().items()),
        )

    def _counts(self) -> dict[str, int]:
        counts = Counter(answer.who for answer in self.answers())
        return {name: counts[name] for name in NAMES}


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage that leaves neither a process nor a file."""
    directory = Path(tempfile.mkdtemp(prefix="trishula-demo-"))
    made: Stage | None = None
    try:
        made = Stage(directory)
        with made.agents:
            yield made
    finally:
        if made is not None:
            made.nodes.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Call(threading.Thread):
    """A script's call of agni's ``host_report`` that is under way while the node goes."""

    def __init__(self, operator: trishula.Bus) -> None:
        super().__init__(daemon=True)
        self.took_s = 0.0
        self.error: trishula.TrishulaError | None = None
        self._operator = operator

    def run(self) -> None:
        begin_s = time.monotonic()
        try:
            self._operator.call_with("agni", "host_report", id=_CALL, timeout=_TIMEOUT_S)
        except trishula.TrishulaError as error:
            self.error = error
        self.took_s = time.monotonic() - begin_s

    def end(self) -> None:
        """Wait for it.

        Raises:
            ToolFailed: it has no result.
        """
        self.join()
        if self.error is not None:
            raise ToolFailed(f"the call that was under way ended with an error: {self.error.sentence}")


def seen_table(
    title: str, place: Stage, due: Sequence[Sent], at_ns: Mapping[str, int], before: Mapping[str, str]
) -> Table:
    """What each agent saw of what happened.

    Args:
        title: what it was.
        due: what they had asked, and waited for.
        at_ns: when it happened to each.
        before: where each was until then.
    """
    events, now = place.events(), where(place)
    answers = {event.id for event in events if isinstance(event, Receipted)}
    table = Table("Agent", "Was at", "Is at", "Calls", "Answered", "Gap", "Lost", "Twice", title=title)
    table.title_justify = "left"
    table.caption = "Gap: the longest time without an answer; each calls another one every 50 ms"
    table.caption_justify = "left"
    ran = Counter(event.id for event in events if isinstance(event, Handled))
    for name in NAMES:
        asked = [event.id for event in due if event.who == name]
        answered = answers.intersection(asked)
        gap_ms = longest_pause_ms(events, name, at_ns[name] - int(_BEFORE_S * 1e9), at_ns[name] + int(_AFTER_S * 1e9))
        table.add_row(
            name,
            before[name],
            now[name],
            str(len(asked)),
            str(len(answered)),
            f"[bold cyan]{gap_ms:.0f} ms[/bold cyan]",
            _judged(len(asked) - len(answered)),
            _judged(sum(ran[one] > 1 for one in asked)),
        )
    return table


def _judged(count: int) -> str:
    return f"[bold {'red' if count else 'green'}]{count}[/]"


def work(place: Stage, operator: trishula.Bus) -> RenderableType:
    """What the agents do together while all is well; the host reports."""
    before = operator.request(uris.NODE_STATUS)["high_water"]
    with step("dc asks agni and rushabdev for their host reports, by COMMAND"):
        reports: dict[str, Any] = collect(operator)
    with step("dc broadcasts a STATUS with what it found, and both handle it"):
        see_settled(operator, sent_by_dc(operator, before))
    with step("the agents call each other, each twenty times a second"):
        for name in NAMES:
            operator.call(name, "talk", timeout=_TIMEOUT_S)
        place.flow()
    return report_table(reports)


def where(place: Stage, after_ns: int = 0) -> dict[str, str]:
    """At which node each agent had its last answer."""
    at = dict.fromkeys(NAMES, "–")
    at.update((answer.who, answer.node) for answer in place.answers() if answer.at_ns > after_ns)
    return at


def kill_primary(place: Stage, operator: trishula.Bus) -> None:
    """The failover."""
    place.flow()
    before = where(place)
    call = Call(operator)
    with step(f"kill -9 of the node {PRIMARY}, while calls are under way"):
        call.start()
        # It takes a fifth of a second: agni is at it, and its acknowledgement and its answer go to the other node.
        time.sleep(0.1)
        killed_ns = time.monotonic_ns()
        place.nodes.nodes[PRIMARY].kill()
    with step(f"they go on at {FAILOVER}"):
        place.wait(f"all are at {FAILOVER}", lambda: set(where(place, killed_ns).values()) == {FAILOVER})
        time.sleep(max(_AFTER_S - (time.monotonic_ns() - killed_ns) / 1e9, 0.0))
        call.end()
        due = place.wait_answered()
    console.print()
    title = f"What each agent saw when {PRIMARY} was killed"
    console.print(seen_table(title, place, due, dict.fromkeys(NAMES, killed_ns), before))
    console.print(f"A script's call that was under way had its result after {show_duration(call.took_s)}.\n")


def restart_primary(place: Stage) -> None:
    """The failback."""
    before = where(place)
    with step(f"start {PRIMARY} again; it takes over what it missed"):
        place.nodes.spawn(PRIMARY)
        place.nodes.wait_ready()
        place.wait("the nodes are in step", lambda: not place.nodes.out_of_step(place.tokens[OPERATOR]))
    preferred = {name: order[0] for name, order in PREFERRED.items()}
    with step(f"whoever prefers {PRIMARY} goes back to it"):
        place.wait(f"all are back at {PRIMARY}", lambda: where(place) == preferred)
        time.sleep(_AFTER_S)
        place.flow()
        due = place.wait_answered()
    moved_ns = {
        answer.who: answer.at_ns
        for answer in place.answers()
        if answer.node == FAILOVER and PREFERRED[answer.who][0] == PRIMARY
    }
    # Who stays where it is may notice that the others move.
    at_ns = dict.fromkeys(NAMES, min(moved_ns.values())) | moved_ns
    title = f"What each agent saw of the way back to {PRIMARY}"
    console.print()
    console.print(seen_table(title, place, due, at_ns, before))
    console.print()


def tell_why(place: Stage) -> None:
    """``trishula why`` of the call that was under way."""
    console.print(f"$ trishula why {_CALL}")
    sys.stdout.flush()
    settings = surroundings_of(place.url, place.tokens[OPERATOR])
    done = subprocess.run(command("why", _CALL), env=settings, check=False)
    if done.returncode:
        raise ToolFailed(f"trishula why {_CALL} ended with {done.returncode}")
    console.print()


def end(place: Stage, operator: trishula.Bus) -> dict[str, int]:
    """Let the agents end their calls, and the nodes their copies; how long each node's journal is then."""
    token = place.tokens[OPERATOR]
    for name in NAMES:
        operator.call(name, "hush", timeout=_TIMEOUT_S + 10)
    marks: list[dict[str, int] | None] = [None]

    def are_equal() -> bool:
        if any(ask_status(port, token)["in_flight"] for port in place.nodes.ports.values()):
            return False
        marks[0] = place.nodes.durable_everywhere(token)
        return marks[0] is not None

    place.wait("each node holds what the other one has", are_equal)
    return marks[0] or {}


def judge(place: Stage, marks: dict[str, int]) -> Verdict:
    """The checker's verdict, with the stores of both nodes."""
    events = place.events()
    ids = [event.id for event in events if isinstance(event, Sent)]
    return check(events, *autopsies(place.nodes.states, ids, marks))


def run() -> None:
    """All of it, in order.

    Raises:
        ToolFailed: a step failed, or a promise was broken.
    """
    begin_s = time.monotonic()
    with stage() as place:
        with step(f"start two linked nodes: {PRIMARY}, which the agents prefer, and {FAILOVER}"):
            place.start_nodes()
        with trishula.connect(place.url, token=place.tokens[OPERATOR]) as operator:
            with step("start the agents dc, agni and rushabdev and see them join"):
                place.start_agents()
                wait_until_joined(operator, place.agents)
            reports = work(place, operator)
            console.print()
            console.print(reports)
            console.print()
            kill_primary(place, operator)
            restart_primary(place)
            tell_why(place)
            with step("end the traffic; each node holds what the other one has"):
                marks = end(place, operator)
        with step("stop the agents and the nodes"):
            place.agents.stop()
            for node in place.nodes.nodes.values():
                node.stop()
        verdict = judge(place, marks)
    console.print(
        f"\n{verdict.receipts} calls: lost {_judged(verdict.lost)}, twice {_judged(verdict.twice)}, "
        f"both nodes' journals and copies checked, broken promises: {_judged(len(verdict.violations))}"
    )
    if verdict.violations or verdict.unpromised:
        raise ToolFailed("; ".join(one.sentence for one in verdict.violations[:5]) or "calls without an answer")
    console.print(f"[bold green]The demo passed[/bold green] in {show_duration(time.monotonic() - begin_s)}.")


def main() -> int:
    """The exit code."""
    try:
        with ending_in_order():
            run()
    except trishula.TrishulaError as error:
        print(f"demo: {error.sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
