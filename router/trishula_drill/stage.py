"""What all drills have in common: clients, legs and rounds, and the waiting for a bus that has to recover.

A :class:`Stage` starts the clients, has the faults of each round strike, then heals everything: the senders stop when
each of their messages has its receipt, the receivers when the nodes have nothing more for them. Then the nodes are
stopped and their stores examined. What runs behind the clients, one node or several, is a subclass's affair.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from trishula.key_file import read_key_file
from trishula.tools.temporary_node import ToolFailed
from trishula_drill.checker import check
from trishula_drill.faults import Fault
from trishula_drill.final import Final
from trishula_drill.history import Event, History, Sent, read_all
from trishula_drill.linked import make_keys, make_tokens
from trishula_drill.processes import ClientProcess
from trishula_drill.proxy import Network, Proxy, Toxic
from trishula_drill.report import Report
from trishula_drill.worker import Role, Task

__all__ = ["DELIVERY", "OPERATOR", "RETENTION", "Stage"]

#: Underscores make it a name that no team's agents have.
OPERATOR = "drill_operator"
#: A node of a drill is quicker to take back what is not acknowledged, so that a drill ends in time.
DELIVERY = {"lease": "15s", "backoff_first": "200ms", "backoff_cap": "2s"}
#: Whatever the clock says: the checker reads every body.
RETENTION = {"bodies": "365d", "dead": "365d"}
#: Messages that must be handled between two rounds: traffic flows again.
_FLOW = 20
_RECOVERY_S = 60.0
_DRAIN_S = 90.0
_LOOK_S = 0.01
#: A node that answers nothing holds up a look for so long.
_LONGEST_LOOK_S = 10.0

_Deed = Callable[[], object]


class Stage(ABC):
    """The nodes, the network and, during a leg, the clients; use it in a ``with`` block.

    Args:
        directory: of the drill; it goes when the drill ends.
        roles: the clients, and what each does.
        network: where proxies are made.
        report: gets what is found.

    Attributes:
        promises_order: whether messages come in the order of sending.
    """

    promises_order = True

    def __init__(self, directory: Path, roles: Mapping[str, Role], network: Network, report: Report) -> None:
        self.directory = directory
        self.network = network
        self.report = report
        self.clients: dict[str, ClientProcess] = {}
        self.ends: History | None = None
        self.tokens: dict[str, str] = {}
        # Every second client joins with a key in the place of a token, and signs what it sends.
        self._keys: dict[str, Path] = {}
        self._roles = roles
        self._word = secrets.token_hex(3)
        self._legs = 0

    def __enter__(self) -> Stage:
        names = list(self._roles)
        self.tokens = make_tokens(self.states, names[::2], OPERATOR)
        self._keys = make_keys(self.states, names[1::2], self.directory)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Each of them, whatever becomes of the others.
        with contextlib.ExitStack() as stack:
            stack.callback(self.kill_nodes)
            for client in self.clients.values():
                stack.callback(client.drop)

    def secret(self, name: str) -> str:
        """What a client has that nobody else has, as :attr:`.Settings.secret` is."""
        return self.tokens[name] if name in self.tokens else f"{name}.{read_key_file(self._keys[name]).seed().hex()}"

    # -- what differs --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def states(self) -> Sequence[Path]:
        """The state directories of the nodes."""

    @abstractmethod
    def start_nodes(self) -> None:
        """Start them all, and wait until they are ready."""

    @abstractmethod
    def stop_nodes(self) -> None:
        """Stop them all, in order."""

    @abstractmethod
    def kill_nodes(self) -> None:
        """Leave none behind."""

    @abstractmethod
    def finals(self, ids: Sequence[str]) -> list[Final]:
        """What the stores hold of these messages; the nodes are stopped."""

    @abstractmethod
    def task(self, task: Task) -> Task:
        """A client's task, with what is special about it."""

    @abstractmethod
    def faults(self, number: int) -> tuple[Fault, ...]:
        """The faults of a round."""

    @abstractmethod
    def deeds(self, fault: Fault) -> tuple[_Deed, _Deed]:
        """What a fault does at its beginning and at its end."""

    @abstractmethod
    def open(self) -> int:
        """How many messages the nodes have that are not settled."""

    def recover(self) -> None:
        """Wait until the bus has recovered from the round before."""
        self.flow()

    def await_round(self) -> None:
        """Wait until the next round can strike."""
        self.recover()

    def measure(self, events: Sequence[Event]) -> None:  # noqa: B027  # most drills have none
        """Put figures of a leg into the report."""

    # -- a leg ---------------------------------------------------------------------------------------------------------

    @property
    def leg_directory(self) -> Path:
        """Where the clients of this leg have their files."""
        return self.directory / f"leg{self._legs}"

    def leg(self, numbers: Iterable[int], on_progress: Callable[[Report], object]) -> None:
        """Some rounds, and their verdict."""
        self._legs += 1
        directory = self.leg_directory
        directory.mkdir()
        self.ends = ends = History(directory / "ends.jsonl")
        self.start_nodes()
        open_before = self.open()
        self.clients = {name: ClientProcess(self._task(name, directory), ends) for name in self._roles}
        for client in self.clients.values():
            client.start()
        self.wait("the clients join", lambda: all(client.is_ready for client in self.clients.values()))
        for number in numbers:
            self._round(number)
            self.report.rounds += 1
            on_progress(self.report)
        self.recover()
        self._drain(open_before)
        for client in self.clients.values():
            client.quit()
        self.clients = {}
        self.stop_nodes()
        ends.close()
        events = read_all(sorted(directory.glob("*.jsonl")))
        ids = [event.id for event in events if isinstance(event, Sent)]
        self.report.add(check(events, *self.finals(ids), is_ordered=self.promises_order))
        self.measure(events)
        shutil.rmtree(directory)

    def _task(self, name: str, directory: Path) -> Task:
        return self.task(
            Task(
                role=self._roles[name],
                url="",
                token=self.tokens.get(name, ""),
                key_file=str(self._keys.get(name, "")),
                name=name,
                run=f"{self._word}.{self._legs}.{name.removeprefix('drill_')}",
                directory=str(directory),
                seed=f"{self.report.seed}/{self._legs}/{name}",
                recipients=tuple(one for one, role in self._roles.items() if role != "send"),
            )
        )

    def _round(self, number: int) -> None:
        self.await_round()
        faults = self.faults(number)
        began_s = time.monotonic()
        # Each fault has a begin and an end; all of them in order of time.
        steps: list[tuple[float, _Deed]] = []
        for fault in faults:
            begin, end = self.deeds(fault)
            steps.append((fault.at_s, begin))
            steps.append((fault.at_s + fault.for_s, end))
        steps.sort(key=lambda step: step[0])
        for at_s, step in steps:
            time.sleep(max(began_s + at_s - time.monotonic(), 0.0))
            step()
        counted = Counter(self.report.faults_by_kind) + Counter(fault.kind.value for fault in faults)
        self.report.faults_by_kind = dict(counted)
        self.report.faults += len(faults)

    def spoil(self, proxies: Iterable[Proxy], fault: Fault) -> tuple[_Deed, _Deed]:
        """The deeds of a fault of the network."""
        hit = list(proxies)

        def become(toxic: Toxic | None) -> None:
            for proxy in hit:
                self.network.spoil(proxy, toxic)

        return lambda: become(Toxic(fault.kind, fault.amount)), lambda: become(None)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait(
        self,
        what: str,
        done: Callable[[], bool],
        timeout_s: float = _RECOVERY_S,
        *,
        why: Callable[[], str] | None = None,
    ) -> None:
        """Wait for something that a bus that recovers comes to.

        Args:
            what: as people read it if it doesn't come.
            done: whether it came.
            timeout_s: for how long.
            why: asked then what is amiss.

        Raises:
            ToolFailed: it doesn't.
        """
        waited_s, looked_at_s = 0.0, time.monotonic()
        while not done():
            now_s = time.monotonic()
            # A machine that stood still between two looks gave the bus no time to recover.
            waited_s += min(now_s - looked_at_s, _LONGEST_LOOK_S)
            looked_at_s = now_s
            if waited_s > timeout_s:
                progress = ", ".join(
                    f"{name} {client.receipts} receipts {client.handled} handled"
                    for name, client in self.clients.items()
                )
                where = f"round {self.report.rounds} of {self.report.drill}, seed {self.report.seed}"
                amiss = "" if why is None else f"; {why()}"
                raise ToolFailed(
                    f"the bus didn't recover: {what} did not come within {timeout_s:g} s"
                    f" ({where}: {progress or 'no client has started yet'}){amiss}"
                )
            time.sleep(_LOOK_S)

    def flow(self) -> None:
        """Wait until each sender gets receipts and each receiver messages."""
        clients = self.clients.values()
        for client in clients:
            client.look()
        marks = {client.name: client.receipts + client.handled + _FLOW for client in clients}

        def flows() -> bool:
            for client in clients:
                client.look()
            return all(client.receipts + client.handled >= marks[client.name] for client in clients)

        self.wait("traffic through every client", flows)

    def _drain(self, open_before: int) -> None:
        senders = [client for client in self.clients.values() if client.role == "send"]
        for sender in senders:
            sender.say("hush")

        def quiet() -> bool:
            for client in self.clients.values():
                client.look()
            return all(sender.is_quiet for sender in senders)

        self.wait("a receipt for every message", quiet, _DRAIN_S)
        self.wait("the end of every message", lambda: self.open() <= open_before, _DRAIN_S)
