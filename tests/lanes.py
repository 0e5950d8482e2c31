"""``make test``: the whole suite in three lanes side by side, so that it takes as long as its longest lane.

The tests with real nodes mostly wait, for reconnects and time limits, so two lanes of them fit beside each other on two
cores. The third lane computes, at a lower priority so that it takes only the processor time that nodes leave
(pytest-xdist would spread all over its workers: tests that compute would then disturb what real nodes are measured by).
What the first lane says is printed as it is said, what each other lane says when it has ended; the verdicts come last.

Lanes beside each other are our doing, and have a node stand still that would not on a machine of its own. So a few
files with real nodes that fail are run again alone, when nothing else runs; they have failed if they fail again.
Whichever way that ends, they are named last, because a test that fails one time in ten may be right. Tests that compute
get no second try: what fails there once is a fault.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Lane:
    """Tests that one pytest runs.

    Attributes:
        paths: where they are.
        nice: by how much they stand back, as nice has it.
        has_nodes: whether they start real nodes.
    """

    paths: tuple[str, ...]
    nice: int = 0
    has_nodes: bool = True

    @property
    def name(self) -> str:
        """What it is called in the verdict."""
        return ", ".join(dict.fromkeys(str(Path(path).parent) if path.endswith(".py") else path for path in self.paths))


_INTEGRATION = sorted(f"tests/integration/{file.name}" for file in (ROOT / "tests" / "integration").glob("test_*.py"))
#: So many that both lanes with real nodes take as long (26 minutes, measured); named, so that a new one moves none.
_BESIDE_OPERATORS = [
    f"tests/integration/test_{name}.py"
    for name in (
        "draining",
        "file_bridge",
        "frameworks",
        "full_disk",
        "fuzzing",
        "http_doors",
        "link_proofs",
        "long_history",
        "objectives",
        "quotas",
        "redis_stream",
        "revoked_everywhere",
        "serving",
        "slow_lines",
        "triggers_fire",
        "wire_contract",
    )
]
#: They start real nodes, agents and proxies, also on hosts of their own.
SERVING = Lane(("tests/partition", *(file for file in _INTEGRATION if file not in _BESIDE_OPERATORS)))
#: They do too; with what operators have around them.
OPERATING = Lane(("tests/operating", "tests/checker", *_BESIDE_OPERATORS))
#: They compute, and start no node; the number is for nice.
COMPUTING = Lane(("tests/unit", "tests/contract", "tests/property", "tests/simulation"), 10, has_nodes=False)

#: More files than so many did not fail by chance.
_MOST_AGAIN = 3
#: What pytest's summary says of each test that failed, or whose fixtures did.
_FAILED = re.compile(rb"^(?:FAILED|ERROR) (\S+?\.py)(?=::| - |$)", re.MULTILINE)

#: What a run that is to end may take for the end of its test and its fixtures.
_ENDS_WITHIN_S = 60.0


class Run:
    """One pytest, and what it says.

    Args:
        lane: what it runs.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the run is there
        self._shown = 0
        # Unbuffered, because the log is read while it grows.
        command = ["nice", "-n", str(lane.nice), sys.executable, "-u", "-m", "pytest", *lane.paths]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def show(self) -> None:
        """Print what it has said since the last time."""
        data = os.pread(self._output.fileno(), 1 << 24, self._shown)
        self._shown += len(data)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    @property
    def failed_files(self) -> list[str]:
        """The files of the tests that failed, if that is how it ended."""
        if self.process.returncode != pytest.ExitCode.TESTS_FAILED:
            return []
        size = os.fstat(self._output.fileno()).st_size
        return sorted({found.decode() for found in _FAILED.findall(os.pread(self._output.fileno(), size, 0))})

    def verdict(self) -> str:
        """Its exit status, and the last line that it said, without pytest's decoration."""
        size = os.fstat(self._output.fileno()).st_size
        lines = os.pread(self._output.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace").splitlines()
        last = next((line.strip("= ") for line in reversed(lines) if line.strip()), "said nothing")
        return f"{self.lane.name}: exit status {self.process.returncode}: {last}"

    def end(self) -> None:
        """End it before its time, as Ctrl-C does: at SIGTERM only the reactor ends, and each further test fails."""
        if not self.is_over:
            self.process.send_signal(signal.SIGINT)
        self.wait()

    def wait(self) -> None:
        """Wait for its end, if that is near."""
        try:
            self.process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main() -> int:
    """Run all lanes; the exit status is that of the first one that failed, else 0."""
    begun_s = time.monotonic()
    # A simulated history that fails can be run again by it, and by its own seed.
    os.environ.setdefault("PYTHONHASHSEED", str(random.randrange(2**32)))
    print(f"PYTHONHASHSEED={os.environ['PYTHONHASHSEED']}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    first, *others = runs = [Run(lane) for lane in (SERVING, OPERATING, COMPUTING)]
    try:
        while not all(run.is_over for run in runs):
            time.sleep(0.5)
            first.show()
            for run in others:
                if run.is_over:
                    run.show()
    except KeyboardInterrupt:
        # The terminal has told the runs too.
        for run in runs:
            run.wait()
        raise
    except BaseException:
        for run in runs:
            run.end()
        raise
    for run in runs:
        run.show()
    again = run_again(runs)
    for run in runs:
        print(run.verdict(), flush=True)
    status = next((run.process.returncode for run in runs if run.process.returncode), 0)
    if again is not None:
        status = again.process.returncode
        print(f"UNSTEADY, failed beside other lanes and was run again alone: {again.verdict()}", flush=True)
    print(f"all together: {time.monotonic() - begun_s:.0f} s", flush=True)
    return status


def run_again(runs: list[Run]) -> Run | None:
    """Run the files that failed again, alone, if that can change the end of it all.

    Returns:
        The run, which has ended; ``None`` if there was none.
    """
    files = [file for run in runs if run.lane.has_nodes for file in run.failed_files]
    failed = [run for run in runs if run.process.returncode]
    if not files or len(files) > _MOST_AGAIN or not all(run.lane.has_nodes and run.failed_files for run in failed):
        return None
    print(f"\nRunning again alone: {', '.join(files)}", flush=True)
    again = Run(Lane(tuple(files)))
    try:
        while not again.is_over:
            time.sleep(0.5)
            again.show()
    except BaseException:
        again.end()
        raise
    again.show()
    return again


if __name__ == "__main__":
    sys.exit(main())
