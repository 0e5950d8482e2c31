"""A conversation between an agent that knows files alone and one on the bus, with a bridge and rsync between them.

::

    machine of the v1 agent            machine of the bridge                     the bus
    outbox/  ── rsync, each 0.1 s ──>  outbox/ ── trishula files bridge ──>  node ──> live agent
    inbox/   <── rsync, each 0.1 s ──  inbox/  <── (a small disk) ─────────  node <── live agent

The live agent holds several dialogues at once; in each it says the next thing when it has the answer to the last one.
Meanwhile the node is killed and restarted, and the bridge's disk is full once.

The long form, for people, as root: ``python -m tests.support.file_talk [MESSAGES] [KILLS]``; it prints what it found.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.disks import mounted, take_all, unmounted
from tests.support.node import NodeProcess, environment

__all__ = ["Talk", "live_agent"]

ROOT = Path(__file__).resolve().parents[2]
V1, LIVE = "agni", "rushabdev"
DIALOGUES = 10


# -- the live agent, a process of its own ------------------------------------------------------------------------------


def live_agent(log: Path, rounds: int) -> None:
    """Hold the dialogues; each message that comes is a line of the log: its id, and what it answers."""
    from trishula import Agent
    from trishula.contract.message import Message

    agent = Agent(LIVE)

    def say(dialogue: int, number: int) -> None:
        agent.send(V1, subject="talk", payload={"dialogue": dialogue, "number": number}, id=f"d{dialogue}_{number}")

    @agent.on_start
    def begin() -> None:
        for dialogue in range(DIALOGUES):
            say(dialogue, 0)

    @agent.on("STATUS")
    def heard(message: Message) -> None:
        with log.open("a") as file:
            file.write(json.dumps([message.id, message.reply_to, message.sender]) + "\n")
        if message.payload["number"] + 1 < rounds:
            say(message.payload["dialogue"], message.payload["number"] + 1)

    agent.run()


# -- the stage ---------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What a conversation came to, by ids: what was said, and what each side has heard, in order."""

    said: list[str]
    by_v1: list[str]
    by_live: list[str]
    seconds: float
    rsyncs: int
    rsyncs_failed: int

    @property
    def lost(self) -> list[str]:
        """What somebody said and the other one never heard."""
        answers = [f"re_{one}" for one in self.said]
        return sorted({*self.said} - {*self.by_v1}) + sorted({*answers} - {*self.by_live})

    @property
    def twice(self) -> list[str]:
        """What somebody heard more than once, or was never said."""
        heard = Counter([*self.by_v1, *self.by_live])
        known = {*self.said, *(f"re_{one}" for one in self.said)}
        return sorted(one for one, count in heard.items() if count > 1 or one not in known)


class Rsync:
    """Moves what is in one folder to another, again and again, as a cron job does."""

    def __init__(self, source: Path, target: Path, every_s: float = 0.1) -> None:
        self.count = self.failed = 0
        self._command = ["rsync", "-a", "--remove-source-files", "--exclude=.*", f"{source}/", f"{target}/"]
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rsync")

    def __enter__(self) -> Rsync:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            done = subprocess.run(self._command, capture_output=True)
            self.count += 1
            self.failed += done.returncode != 0


class Talk:
    """The stage of a conversation below a folder; the bridge's machine has its folder on ``disk``."""

    def __init__(self, place: Path, disk: Path, *, rounds: int) -> None:
        self.rounds = rounds
        self.disk = disk
        self.bridge_folder = disk / "agni"
        self.v1_folder = place / "v1"
        self.node = NodeProcess(place / "node")
        self._place = place
        self._logs = place / "by_v1", place / "by_live"
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.said = [f"d{dialogue}_{number}" for dialogue in range(DIALOGUES) for number in range(rounds)]

    def run(self, *, kills: int, is_full_first: bool, timeout_s: float) -> Found:
        """Hold the conversation, with its faults at equal shares of it; what it came to.

        In a short one the disk is full before anything is said: later there may be no file to be written just then.
        """
        began_s = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            self._begin()
            there = stack.enter_context(Rsync(self.v1_folder / "outbox", self.bridge_folder / "outbox"))
            back = stack.enter_context(Rsync(self.bridge_folder / "inbox", self.v1_folder / "inbox"))
            faults: list[Callable[[], None]] = [self._kill_node] * kills
            if is_full_first:
                self._fill_disk()
            else:
                faults.insert(len(faults) // 2, self._fill_disk)
            for index, fault in enumerate(faults):
                self._wait(len(self.said) * (index + 1) // (len(faults) + 1), timeout_s)
                fault()
            self._wait(len(self.said), timeout_s)
            # The last answers are heard: their files are archived next.
            until_s = time.monotonic() + 60
            while list(self.bridge_folder.glob("outbox/*.json")) and time.monotonic() < until_s:
                time.sleep(0.05)
            # Whatever would come twice has time to.
            time.sleep(1.0)
            by_v1, by_live = self._lines(0), [json.loads(line)[0] for line in self._lines(1)]
            self._check_alive()
            return Found(
                self.said,
                by_v1,
                by_live,
                time.monotonic() - began_s,
                there.count + back.count,
                there.failed + back.failed,
            )

    def log(self, name: str) -> str:
        """What a process said on standard error."""
        return (self._place / f"{name}.log").read_text(errors="replace")

    def _begin(self) -> None:
        tokens = {name: self.node.token(name) for name in (V1, LIVE)}
        self.node.start()
        # The bridge must find all four: the disk may be full when it begins.
        for part in ("outbox", "inbox", "rejected", "archive"):
            self.v1_folder.joinpath(part).mkdir(parents=True, exist_ok=True)
            self.bridge_folder.joinpath(part).mkdir(parents=True, exist_ok=True)
        state = {"TRISHULA_URL": self.node.url, "TRISHULA_AGENT_STATE": str(self._place / "state")}
        self._spawn(
            "bridge",
            ["-m", "trishula.cli.main", "files", "bridge", str(self.bridge_folder), "--agent", V1, "--settle", "200ms"],
            **state,
            TRISHULA_TOKEN=tokens[V1],
        )
        self._spawn("v1", [str(ROOT / "tests/support/v1_agent.py"), V1, str(self.v1_folder), str(self._logs[0])])
        self._spawn(
            "live",
            ["-m", "tests.support.file_talk", "live", str(self._logs[1]), str(self.rounds)],
            **state,
            TRISHULA_TOKEN=tokens[LIVE],
        )

    def _spawn(self, name: str, arguments: list[str], **more: str) -> None:
        with (self._place / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._processes.append((name, process))

    def _end(self) -> None:
        for _, process in reversed(self._processes):
            process.terminate()
        for _, process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.node.stop()

    def _check_alive(self) -> None:
        for name, process in self._processes:
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.log(name)}"

    def _lines(self, which: int) -> list[str]:
        path = self._logs[which]
        return path.read_text().splitlines() if path.exists() else []

    def _wait(self, heard: int, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while len(self._lines(1)) < heard:
            self._check_alive()
            if time.monotonic() > until_s:
                raise AssertionError(
                    f"after {timeout_s:g} s the live agent has {len(self._lines(1))} of {heard} answers; the bridge:\n"
                    + self.log("bridge")[-4000:]
                )
            time.sleep(0.05)

    def _kill_node(self) -> None:
        port = int(self.node.url.rsplit(":", 1)[1].partition("/")[0])
        self.node.kill()
        self.node.restart(port=port)

    def _fill_disk(self) -> None:
        taken = take_all(self.disk)
        until_s = time.monotonic() + 60
        while "No space left on device" not in self.log("bridge") and time.monotonic() < until_s:
            # rsync and the bridge write and remove: there may be a little room now and then.
            with contextlib.suppress(OSError), taken.open("ab", buffering=0) as file:
                file.write(bytes(4096))
            time.sleep(0.05)
        time.sleep(1.0)
        taken.unlink()


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk in memory of 2 MiB."""
    disk = place / "disk"
    mounted(disk, "size=2m")
    try:
        yield disk
    finally:
        unmounted(disk)


def main() -> None:
    """The long form, or the live agent's process."""
    if sys.argv[1:2] == ["live"]:
        live_agent(Path(sys.argv[2]), int(sys.argv[3]))
        return
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name)) as disk:
        talk = Talk(Path(name), disk, rounds=max(1, messages // (2 * DIALOGUES)))
        found = talk.run(kills=kills, is_full_first=False, timeout_s=300.0)
        sys.stdout.write(
            f"{len(found.by_v1) + len(found.by_live)} messages in {found.seconds:.0f} s, {kills} kills of the node, "
            f"the folder full once, {found.rsyncs} runs of rsync of which {found.rsyncs_failed} failed; lost: "
            f"{len(found.lost)}, twice: {len(found.twice)}\n\nthe bridge's log:\n{talk.log('bridge')}"
        )
        sys.exit(1 if found.lost or found.twice else 0)


if __name__ == "__main__":
    main()
