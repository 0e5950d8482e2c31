# ruff: noqa: T201  # a script that prints
"""The gauntlet of *mcp_agent_mail*, and a crash: thirty models at once, through MCP, at that system and at TRISHULA.

::

    .venv/bin/python -m tests.benchmarks.gauntlet                        # both, up to ten minutes
    .venv/bin/python -m tests.benchmarks.gauntlet --only trishula --seconds 5
    .venv/bin/python -m tests.benchmarks.gauntlet --venv ../mail         # another version than the index's

Each system is started on a temporary folder, and gets over streamable HTTP, by one client's code and from one thread
for each agent,

``pipeline``   five messages of each agent to the next one
``storm``      five messages and ten reads of each agent at once
``sustained``  of each agent an act every 0.6 s: half sends, four in ten reads, one in ten searches
``crash``      the same, while all processes of the server are killed (SIGKILL) and started again
``one inbox``  500 messages to one agent, which reads them then
``broadcast``  ten messages to all
``search``     each agent looks for a message that it sent
``claims``     all claim the same five files at once, each for itself alone

A send that fails, or has no answer within 30 s, is repeated as a model would repeat it, until it is accepted or 30 s
are over: under the same id where a sender may choose one. After a minute no send of a part begins any more. What is
accepted must be read by its recipient, once, before the next part begins. Printed are how many deliveries were
accepted, how many calls failed or had no answer, what was lost, what was read twice (the same text under two ids, or
one that came again after it was settled), and p50/p99 of a send and of a read in ms; a search counts as a read. Of
claims those are accepted that an agent was granted, a file is lost that nobody has, and it counts as twice if more than
one was told that it has it alone. The last line counts over all parts of mail, when they are through. The parts of
theirs about Git's locks, pools and write-behind queues have nothing to act on here.

The other system comes from the package index into a temporary environment. It ends with 1 if TRISHULA lost a message,
had one read twice, or had two agents have one file alone.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.beside_peers import clients
from tests.benchmarks.peers.mail_systems import AgentMail, Mailbox, System, Trishula
from tests.benchmarks.peers.mcp_wire import NoAnswer, NoServer, ToolFailed
from tests.benchmarks.peers.servers import CantStart
from tests.support.node import ROOT
from trishula.tools.bench import percentile

PARTS = ("pipeline", "storm", "sustained", "crash", "one inbox", "broadcast", "search", "claims")
INDEX_VERSION = "mcp-agent-mail==0.1.0"
#: How often an agent acts under a sustained load: thirty of them make theirs, 50 a second.
EVERY_S = 0.6
LARGE_INBOX = 500
CLAIMED = [f"src/claimed{number}.py" for number in range(5)]
BROADCASTS = 10
#: How long a send is repeated, and a read for what was accepted.
PATIENCE_S = 30.0
_AGAIN_S = 0.2
_PADDING = "the quick brown fox jumps over the lazy dog " * 4


@dataclass
class Score:
    """What a part came to; times in ms."""

    accepted: int = 0
    failed: int = 0
    refused: int = 0
    lost: int = 0
    twice: int = 0
    send_ms: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)


class Gauntlet:
    """One system on its way through it."""

    def __init__(self, system: System, seconds: float, limit_s: float = 60.0) -> None:
        self._system = system
        self._seconds = seconds
        self._limit_s = limit_s
        self._ends_s = math.inf
        self._mailboxes = system.mailboxes()
        self._lock = threading.Lock()
        self._score = Score()
        self._number = 0
        #: (recipient, mark) of what was accepted in this part.
        self._owed: set[tuple[str, str]] = set()
        self._ever: set[tuple[str, str]] = set()
        #: The ids under which a recipient has read a mark, ever, one for each time.
        self._seen: dict[tuple[str, str], list[str]] = {}
        self._sent: dict[str, str] = {}

    def run(self, part: str) -> Score:
        """Do a part, and read all that it left."""
        self._score, self._owed = Score(), set()
        self._ends_s = time.monotonic() + self._limit_s
        if part == "claims":
            return self._claims()
        ways: dict[str, Callable[[], None]] = {
            "pipeline": lambda: self._all(lambda index: self._send_next(index, 5)),
            "storm": lambda: self._all(self._storm),
            "sustained": lambda: self._all(self._sustained),
            "crash": self._crash,
            "one inbox": self._large_inbox,
            "broadcast": self._broadcast,
            "search": lambda: self._all(self._search),
        }
        ways[part]()
        return self._told()

    def altogether(self) -> Score:
        """Read once more, and count over all parts: a server may do later what it gave no answer to."""
        self._score, self._owed = Score(accepted=len(self._ever)), self._ever
        return self._told()

    def _told(self) -> Score:
        self._all(self._read_rest)
        self._score.lost = len(self._owed - self._seen.keys())
        self._score.twice = sum(len(self._seen.get(owed, ())) > 1 for owed in self._owed)
        self._ever = self._ever | self._owed
        return self._score

    def _all(self, act: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(len(self._mailboxes)) as pool:
            for done in [pool.submit(act, index) for index in range(len(self._mailboxes))]:
                done.result()

    # -- acts of one agent -----------------------------------------------------------------------------------------

    def _send(self, index: int, to: Sequence[Mailbox]) -> None:
        """Send a new text until it is accepted; to all if nobody is named."""
        me = self._mailboxes[index]
        if time.monotonic() > self._ends_s:
            return
        with self._lock:
            self._number += 1
            mark = f"mark{self._number:06d}"
        until_s = time.monotonic() + PATIENCE_S
        while not self._tried(self._score.send_ms, lambda: me.send([one.name for one in to], f"{mark} {_PADDING}")):
            if time.monotonic() > until_s:
                with self._lock:
                    self._score.refused += 1
                return
            time.sleep(_AGAIN_S)
        recipients = to or [one for one in self._mailboxes if one is not me]
        with self._lock:
            self._sent[me.name] = mark
            self._score.accepted += len(recipients)
            self._owed.update((one.name, mark) for one in recipients)

    def _read(self, index: int) -> bool:
        """Read once; whether there was anything."""
        me, new = self._mailboxes[index], []

        def read() -> None:
            new.extend(me.read())

        self._tried(self._score.read_ms, read)
        with self._lock:
            for message_id, mark in new:
                self._seen.setdefault((me.name, mark), []).append(message_id)
        return bool(new)

    def _tried(self, times_ms: list[float], act: Callable[[], None]) -> bool:
        began_s = time.monotonic()
        try:
            act()
        except NoServer:
            time.sleep(_AGAIN_S)
            return False
        except (NoAnswer, ToolFailed) as error:
            with self._lock:
                self._score.failed += 1
                self._score.words[_first_words(error)] += 1
            return False
        with self._lock:
            times_ms.append((time.monotonic() - began_s) * 1000)
        return True

    def _read_rest(self, index: int) -> None:
        """Read until all that was accepted for this agent is there, and a read finds nothing more."""
        me, until_s = self._mailboxes[index].name, time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if self._read(index):
                continue
            with self._lock:
                missing = any(name == me and (name, mark) not in self._seen for name, mark in self._owed)
            if not missing:
                return
            time.sleep(_AGAIN_S)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _next(self, index: int) -> list[Mailbox]:
        return [self._mailboxes[(index + 1) % len(self._mailboxes)]]

    def _send_next(self, index: int, times: int) -> None:
        for _ in range(times):
            self._send(index, self._next(index))

    def _storm(self, index: int) -> None:
        for _ in range(5):
            self._send(index, self._next(index))
            self._read(index)
            self._read(index)

    def _sustained(self, index: int) -> None:
        began_s = time.monotonic() + EVERY_S * index / len(self._mailboxes)
        act = 0
        # Who is slower than that acts less often.
        while (now_s := time.monotonic()) < began_s + self._seconds:
            time.sleep(max(0.0, began_s + act * EVERY_S - now_s))
            kind = (act + index) % 10
            if kind % 2 == 0:
                self._send(index, [self._mailboxes[(index + 1 + act) % len(self._mailboxes)]])
            elif kind == 9:
                self._search(index)
            else:
                self._read(index)
            act += 1

    def _crash(self) -> None:
        failed: list[BaseException] = []

        def kill_and_start() -> None:
            time.sleep(self._seconds / 2)
            try:
                self._system.kill()
                self._system.start()
            except BaseException as error:
                failed.append(error)

        killer = threading.Thread(target=kill_and_start)
        killer.start()
        self._all(self._sustained)
        killer.join()
        if failed:
            raise failed[0]

    def _large_inbox(self) -> None:
        others = len(self._mailboxes) - 1
        shares = [LARGE_INBOX // others + (index < LARGE_INBOX % others) for index in range(others)]

        def send(index: int) -> None:
            for _ in range(shares[index - 1] if index else 0):
                self._send(index, [self._mailboxes[0]])

        self._all(send)

    def _broadcast(self) -> None:
        for index in range(BROADCASTS):
            self._send(index % len(self._mailboxes), [])

    def _search(self, index: int) -> None:
        me = self._mailboxes[index]
        mark = self._sent.get(me.name)
        if mark is None:
            return

        def look() -> None:
            if not me.finds(mark):
                raise ToolFailed("the search did not find a message that was accepted")

        self._tried(self._score.read_ms, look)

    def _claims(self) -> Score:
        holders: dict[str, list[str]] = {path: [] for path in CLAIMED}
        begin = threading.Barrier(len(self._mailboxes))

        def claim(index: int) -> None:
            me = self._mailboxes[index]
            begin.wait()
            for path in CLAIMED:

                def once(path: str = path) -> None:
                    if me.claims(path):
                        with self._lock:
                            holders[path].append(me.name)

                self._tried(self._score.send_ms, once)

        self._all(claim)
        self._score.accepted = sum(map(len, holders.values()))
        self._score.lost = sum(not those for those in holders.values())
        self._score.twice = sum(len(those) > 1 for those in holders.values())
        return self._score


def _first_words(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:150]}"


def line(part: str, name: str, score: Score) -> str:
    """A row of the table."""
    times = (f"{_pair(score.send_ms):>13}{_pair(score.read_ms):>13}").rstrip()
    counts = f"{score.accepted:>9}{score.failed + score.refused:>7}{score.lost:>6}{score.twice:>6}"
    return f"{part:<11}{name:<12}{counts}{times}"


HEAD = f"{'':<23}{'accepted':>9}{'failed':>7}{'lost':>6}{'twice':>6}{'send p50/99':>13}{'read p50/99':>13}"


def _pair(times_ms: list[float]) -> str:
    if not times_ms:
        return "–"
    ordered = sorted(times_ms)
    return f"{percentile(ordered, 0.5):.0f}/{percentile(ordered, 0.99):.0f}"


@contextlib.contextmanager
def started(kind: str, folder: Path, agents: int, mail: str, door: str) -> Iterator[System]:
    """A system that runs, for as long as the block lasts."""
    names = [f"agent{number:02d}" for number in range(agents)]
    system: System = AgentMail(folder, names, mail) if kind == "agent-mail" else Trishula(folder, names, door)
    try:
        system.start()
        yield system
    finally:
        system.kill()


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="gauntlet"
    )
    parser.add_argument("--only", choices=("agent-mail", "trishula"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--agents", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a sustained load")
    parser.add_argument("--limit", type=float, default=60.0, help="of a part, in seconds: then no send begins any more")
    parser.add_argument("--venv", help="an environment with mcp_agent_mail")
    parser.add_argument(
        "--door", metavar="PYTHON", default=str(ROOT / ".venv-mcp" / "bin" / "python"), help="of one with trishula[mcp]"
    )
    given = parser.parse_args()
    kinds = [given.only] if given.only else ["agent-mail", "trishula"]
    lines, notes = [HEAD], []
    with clients([INDEX_VERSION] if "agent-mail" in kinds else [], given.venv) as mail:
        runs: dict[str, dict[str, Score]] = {}
        for kind in kinds:
            name = "agent mail" if kind == "agent-mail" else "TRISHULA"
            try:
                with (
                    tempfile.TemporaryDirectory(prefix="gauntlet-", ignore_cleanup_errors=True) as folder,
                    started(kind, Path(folder), given.agents, mail, given.door) as system,
                ):
                    gauntlet = Gauntlet(system, given.seconds, given.limit)
                    for part in given.parts:
                        score = runs.setdefault(part, {})[name] = gauntlet.run(part)
                        print(line(part, name, score), file=sys.stderr, flush=True)
                    runs.setdefault("altogether", {})[name] = gauntlet.altogether()
            except CantStart as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        for part, scores in runs.items():
            for name, score in scores.items():
                lines.append(line(part, name, score))
                notes += [f"{part}, {name}: {count} × {said}" for said, count in score.words.most_common(3)]
        ours = {part: scores.get("TRISHULA", Score()) for part, scores in runs.items()}
    print("\n".join([*lines, "", *notes]))
    worst, claims = ours.get("altogether", Score()), ours.get("claims", Score())
    return 1 if worst.lost or worst.twice or claims.twice else 0


if __name__ == "__main__":
    sys.exit(main())
