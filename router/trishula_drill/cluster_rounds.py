"""What drills of linked nodes do: two nodes, agents on both, messages in all directions.

Before a round strikes, both nodes are there, each sees the other one, and traffic flows. In the drills that measure,
clients rejoin as they do every day, and each has been where it is for so long that its node counts as healthy: what an
agent of a bus that runs for months would see.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from trishula.session.reconnect_policy import HEALTHY_AFTER_S
from trishula_drill.autopsy import autopsies
from trishula_drill.cluster_faults import BUSIEST, LINK, NODES, cluster_schedule
from trishula_drill.faults import Fault, Kind
from trishula_drill.figures import delays_ms, gaps_ms
from trishula_drill.final import Final
from trishula_drill.history import Event, NodeKilled
from trishula_drill.linked import LinkedNodes, ask_status, url_of
from trishula_drill.proxy import Network, Proxy, free_port
from trishula_drill.report import Report
from trishula_drill.stage import DELIVERY, OPERATOR, RETENTION, Stage
from trishula_drill.worker import Role, Task

__all__ = ["ClusterStage"]

_ROLES: dict[str, Role] = {
    "drill_sender_one": "send",
    "drill_sender_two": "send",
    "drill_agent": "agent",
    "drill_agent_two": "agent",
    "drill_script": "fetch",
}
#: Who prefers the second node; in the drill that kills the preferred one, only receivers do.
_ELSEWHERE = ("drill_sender_two", "drill_agent_two")
_MEASURED = ("failover", "rolling-restart")
#: Short, so that clients come back between two rounds.
_FAILBACK = "1s"
_SLACK_S = 0.5


class ClusterStage(Stage):
    """Two linked nodes, and in one drill a network between them and their clients."""

    def __init__(self, directory: Path, network: Network, report: Report, chance: random.Random) -> None:
        super().__init__(directory, _ROLES, network, report)
        ports = {name: free_port() for name in NODES}
        self._proxies: dict[str, Proxy] = {}
        if report.drill == "netsplit":
            # The way to the first node that its peer takes, and the ways to both that the clients take.
            ways = {LINK: ports[NODES[0]], **ports}
            self._proxies = {way: network.proxy(port, chance) for way, port in ways.items()}
        self._nodes = LinkedNodes(
            directory,
            ports,
            options={"delivery": DELIVERY, "retention": RETENTION},
            peer_ports={NODES[0]: self._proxies[LINK].port} if self._proxies else {},
        )
        self._marks: dict[str, int] | None = None

    # -- the nodes -----------------------------------------------------------------------------------------------------

    @property
    def states(self) -> list[Path]:
        return list(self._nodes.states.values())

    def start_nodes(self) -> None:
        for name in NODES:
            self._nodes.spawn(name)
        self._wait_linked()

    def stop_nodes(self) -> None:
        self.wait("each node to hold what the other one has", self._hold_the_same)
        for node in self._nodes.nodes.values():
            node.stop()

    def _hold_the_same(self) -> bool:
        self._marks = self._nodes.durable_everywhere(self.tokens[OPERATOR])
        return self._marks is not None

    def kill_nodes(self) -> None:
        self._nodes.kill()

    def finals(self, ids: Sequence[str]) -> list[Final]:
        return autopsies(self._nodes.states, ids, self._marks or {})

    def open(self) -> int:
        told = [ask_status(port, self.tokens[OPERATOR]) for port in self._nodes.ports.values()]
        return sum(int(status["pending"]) + int(status["in_flight"]) for status in told)

    def _wait_linked(self) -> None:
        self._nodes.wait_ready()
        self.wait(
            "each node sees the other one, which is in step",
            lambda: not self._out_of_step(),
            why=lambda: "; ".join(self._out_of_step()),
        )

    def _out_of_step(self) -> list[str]:
        return self._nodes.out_of_step(self.tokens[OPERATOR])

    # -- a round -------------------------------------------------------------------------------------------------------

    def task(self, task: Task) -> Task:
        is_elsewhere = task.name in _ELSEWHERE and not (self.report.drill == "failover" and task.role == "send")
        order = NODES[::-1] if is_elsewhere else NODES
        return msgspec.structs.replace(
            task,
            url=",".join(url_of(self._proxies[name].port) for name in order)
            if self._proxies
            else self._nodes.url(order),
            failback=_FAILBACK,
            is_eager=self.report.drill not in _MEASURED,
        )

    def faults(self, number: int) -> tuple[Fault, ...]:
        return cluster_schedule(self.report.drill, number, self.report.seed)

    def recover(self) -> None:
        self._wait_linked()
        self.flow()

    def await_round(self) -> None:
        self.recover()
        if self.report.drill in _MEASURED:
            self.wait("each client is where it is for a while", self._have_stayed)

    def _have_stayed(self) -> bool:
        for client in self.clients.values():
            client.look()
        since_s = max(client.joined_at_s for client in self.clients.values())
        return time.monotonic() - since_s > HEALTHY_AFTER_S + _SLACK_S

    def deeds(self, fault: Fault) -> tuple[Callable[[], object], Callable[[], object]]:
        name = self._busiest() if fault.target == BUSIEST else fault.target
        match fault.kind:
            case Kind.KILL_NODE:
                return lambda: self._kill(name), lambda: self._nodes.spawn(name)
            case Kind.RESTART_NODE:
                return self._nodes.nodes[name].stop, lambda: self._nodes.spawn(name)
            case Kind.FREEZE_NODE:
                return self._nodes.nodes[name].freeze, self._nodes.nodes[name].thaw
            case _:
                return self.spoil([self._proxies[name]], fault)

    def _kill(self, name: str) -> None:
        if self.ends is not None:
            self.ends.tell(NodeKilled(time.monotonic_ns(), name))
        self._nodes.nodes[name].kill()

    def _busiest(self) -> str:
        names = {str(port): name for name, port in self._nodes.ports.items()}
        on = Counter(names[client.port] for client in self.clients.values() if client.port in names)
        return max(NODES, key=lambda name: on[name])

    def measure(self, events: Sequence[Event]) -> None:
        if self.report.drill == "failover":
            self.report.gaps_ms += gaps_ms(events)
        if self.report.drill == "rolling-restart":
            self.report.delayed(*delays_ms(events))
