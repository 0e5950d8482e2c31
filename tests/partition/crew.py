"""Clients on three hosts, for one case: they send to each other from all sides while the case cuts, kills and mends.

::

    with Crew(directory, cluster, hosts, seed, tell) as crew:
        crew.flow()                      # every client has got something done since
        hosts.cut("agni", "rushabdev")
        ...
        events = crew.judge()            # all is healed: drained, and checked over both stores

They are the workers of the drills, each a process on its host; the checker is that of the drills.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.cluster import Cluster
from tests.support.namespaces import Hosts
from tests.support.node import environment
from trishula.contract import uris
from trishula_drill.autopsy import autopsies
from trishula_drill.checker import check
from trishula_drill.history import Event, History, Receipted, Sent, read_all
from trishula_drill.processes import ClientProcess
from trishula_drill.stage import OPERATOR
from trishula_drill.worker import Role, Task
from trishula_router.agents.file import AgentEntry, update_agents
from trishula_router.agents.tokens import TokenEntry, digest_of, new_token
from trishula_router.commands.state_dir import agents_file_of
from trishula_router.store.sqlite.connection import FILE_NAME
from trishula_router.store.sqlite.files import back_up

__all__ = ["CAST", "Client", "Crew", "Tell", "first_receipt_s", "register"]

#: Takes what is to stand in a run's summary.
Tell = Callable[[str], None]

_FLOW = 10
_PATIENCE_S = 60.0
_LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Client:
    """Who takes part.

    Attributes:
        host: where it runs.
        nodes: in its order of preference.
    """

    name: str
    role: Role
    host: str
    nodes: tuple[str, ...]


_BOTH = ("agni", "rushabdev")

#: Each server's own agents prefer their own node, and the laptop's the primary one.
CAST = (
    Client("sender_dc", "send", "dc", _BOTH),
    Client("sender_agni", "send", "agni", _BOTH),
    Client("sender_rushabdev", "send", "rushabdev", _BOTH[::-1]),
    Client("agent_dc", "agent", "dc", _BOTH),
    Client("agent_agni", "agent", "agni", _BOTH),
    Client("script_rushabdev", "fetch", "rushabdev", _BOTH[::-1]),
)


def register(cluster: Cluster, names: Iterable[str]) -> None:
    """Register agents, and an operator, at all nodes of a cluster that doesn't run yet."""
    cluster.tokens = {name: new_token(name, secrets.token_urlsafe) for name in (*names, OPERATOR)}
    for node in cluster.nodes.values():
        with update_agents(agents_file_of(node.state_dir)) as agents:
            for name, token in cluster.tokens.items():
                known = TokenEntry(digest_of(token), time.time(), None, None)
                agents[name] = AgentEntry(tokens=(known,), operator=name == OPERATOR)


class Crew:
    """See the module's docstring.

    Args:
        directory: for histories, the agents' files and copies of the stores.
        cluster: its nodes run, each on the host of its name; the cast is registered.
        seed: of what the clients send.
        tell: takes what is to stand in the run's summary.
        cast: who takes part.
        failback: after what time they go back to the node they prefer.
        rate: messages a second of each sender, about.
    """

    def __init__(
        self,
        directory: Path,
        cluster: Cluster,
        hosts: Hosts,
        seed: int,
        tell: Tell,
        *,
        cast: Sequence[Client] = CAST,
        failback: str = "2s",
        rate: float = 30.0,
    ) -> None:
        self._directory = directory
        self._cluster = cluster
        self._hosts = hosts
        self._tell = tell
        self._histories = directory / "histories"
        self._histories.mkdir(parents=True)
        self._ends = History(self._histories / "ends.jsonl")
        self._ports = {str(node.port): name for name, node in cluster.nodes.items()}
        word = secrets.token_hex(3)
        recipients = tuple(one.name for one in cast if one.role != "send")
        self.clients = {
            one.name: ClientProcess(
                Task(
                    role=one.role,
                    url=",".join(self._url(one.host, node) for node in one.nodes),
                    token=cluster.tokens[one.name],
                    name=one.name,
                    run=f"{word}.{one.name}",
                    directory=str(self._histories),
                    seed=f"{seed}/{one.name}",
                    recipients=recipients,
                    rate=rate,
                    failback=failback,
                    is_eager=False,
                ),
                self._ends,
                hosts[one.host].within,
            )
            for one in cast
        }

    def _url(self, host: str, node: str) -> str:
        at = "127.0.0.1" if host == node else self._hosts[node].address
        return f"ws://{at}:{self._cluster[node].port}/{uris.WEBSOCKET_PATH}"

    def __enter__(self) -> Crew:
        try:
            for client in self.clients.values():
                client.start()
            self.wait("the clients join", lambda: all(client.is_ready for client in self.clients.values()))
            self.flow()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._kill()

    def _kill(self) -> None:
        for client in self.clients.values():
            client.kill()
        self._ends.close()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait(self, what: str, done: Callable[[], bool], timeout_s: float = _PATIENCE_S) -> float:
        """Wait for something; how many seconds it took."""
        began_s = time.monotonic()
        while True:
            for client in self.clients.values():
                client.look()
            if done():
                return time.monotonic() - began_s
            if time.monotonic() - began_s > timeout_s:
                told = "; ".join(
                    f"{name} at {self.node_of(name) or 'no node'}: {client.receipts} receipts, {client.handled} handled"
                    for name, client in self.clients.items()
                )
                raise AssertionError(f"{what}: not within {timeout_s:g} s ({told})")
            time.sleep(_LOOK_S)

    def flow(self, *names: str) -> float:
        """Wait until each of these clients, or each at all, has got something more done."""
        clients = [self.clients[name] for name in names or self.clients]
        for client in clients:
            client.look()
        marks = [client.receipts + client.handled + _FLOW for client in clients]
        return self.wait(
            f"traffic through {', '.join(names) or 'every client'}",
            lambda: all(client.receipts + client.handled >= mark for client, mark in zip(clients, marks, strict=True)),
        )

    def node_of(self, name: str) -> str:
        """The node that a client is joined to; empty if to none."""
        return self._ports.get(self.clients[name].port, "")

    def wait_on(self, node: str, *names: str) -> float:
        """Wait until these clients are joined to a node."""
        return self.wait(f"{', '.join(names)} on {node}", lambda: all(self.node_of(name) == node for name in names))

    def status(self, node: str) -> dict[str, Any]:
        """What a node says of itself to an operator on its own host."""
        return self._statuses(node)[node]

    def _statuses(self, *nodes: str) -> dict[str, dict[str, Any]]:
        asked = {
            node: subprocess.Popen(
                [
                    *self._hosts[node].within,
                    *(sys.executable, "-m", "trishula_router", "node", "status", "--json"),
                    *("--state", str(self._cluster[node].state_dir)),
                ],
                stdout=subprocess.PIPE,
                text=True,
                env=environment(TRISHULA_TOKEN=self._cluster.tokens[OPERATOR]),
            )
            for node in nodes
        }
        # Each of them ends by itself: a node that can't be asked is an answer.
        return {node: json.loads(process.communicate()[0]) for node, process in asked.items()}

    # -- the end -------------------------------------------------------------------------------------------------------

    def judge(self) -> list[Event]:
        """Stop sending, wait until all has come to its end, and check it; all that was seen."""
        senders = [client for client in self.clients.values() if client.role == "send"]
        for sender in senders:
            sender.say("hush")
        self.wait("a receipt for every message", lambda: all(sender.is_quiet for sender in senders))
        marks: dict[str, int] = {}
        self.wait("the nodes hold the same, and all of it has ended", lambda: self._is_over(marks))
        # All at once: each has an orderly end to make.
        for client in self.clients.values():
            client.say("quit")
        for client in self.clients.values():
            client.quit()
        events = read_all(sorted(self._histories.glob("*.jsonl")))
        ids = [event.id for event in events if isinstance(event, Sent)]
        verdict = check(events, *autopsies(self._copies(), ids, marks))
        self._tell(
            f"{verdict.sent} messages, {verdict.receipts} receipts, {verdict.effects} effects, "
            f"{verdict.lost} lost, {verdict.twice} twice"
        )
        assert not verdict.violations, "\n".join(
            f"{violation.kind}: {violation.sentence}" for violation in verdict.violations[:20]
        )
        return events

    def _is_over(self, marks: dict[str, int]) -> bool:
        told = self._statuses(*self._cluster.nodes)
        marks |= {name: int(status["high_water"]) for name, status in told.items()}
        return all(
            not status["pending"] + status["in_flight"]
            and all(peer["state"] == "up" and peer["copied"] >= marks[peer["node"]] for peer in status["peers"])
            for status in told.values()
        )

    def _copies(self) -> Mapping[str, Path]:
        """The stores as they are now; the nodes run on."""
        copies = {}
        for name, node in self._cluster.nodes.items():
            copies[name] = self._directory / f"store-of-{name}"
            os.mkdir(copies[name])
            back_up(node.state_dir / FILE_NAME, copies[name] / FILE_NAME)
        return copies


def first_receipt_s(events: Iterable[Event], since_ns: int, node: str, *senders: str) -> float:
    """How long after an instant the last of these senders had its first receipt of a message that a node accepted."""
    firsts = {
        who: min(event.at_ns for event in got)
        for who in senders
        if (
            got := [
                event
                for event in events
                if isinstance(event, Receipted) and event.who == who and event.node == node and event.at_ns > since_ns
            ]
        )
    }
    assert len(firsts) == len(senders), f"{node} accepted nothing of {set(senders) - firsts.keys()}"
    return (max(firsts.values()) - since_ns) / 1e9
