"""``make test``: the whole suite in two lanes side by side, so that it takes as long as its slower half.

The tests with real nodes mostly wait, for reconnects and time limits; the others compute. One process runs the first
kind; another one, at a lower priority so that it takes only the processor time that nodes leave, runs the second
(pytest-xdist would spread both over its workers: tests that compute would then disturb what real nodes are measured
by). What the computing lane says is printed when it has ended, and the two verdicts come last.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: They compute, and start no node.
COMPUTING = ("tests/unit", "tests/contract", "tests/property", "tests/simulation")
#: They start real nodes, agents, proxies, hosts.
SERVING = ("tests/checker", "tests/integration", "tests/partition")

#: Of the lane that computes, as nice has it.
_NICE = 10
#: What a lane that is to end may take for the end of its test and its fixtures.
_ENDS_WITHIN_S = 60.0


class Lane:
    """One pytest, and what it says.

    Args:
        paths: what it runs.
        nice: by how much it is to stand back.
    """

    def __init__(self, paths: Sequence[str], nice: int = 0) -> None:
        self.paths = paths
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the lane is there
        self._shown = 0
        # Unbuffered, because the log is read while it grows.
        command = ["nice", "-n", str(nice), sys.executable, "-u", "-m", "pytest", *paths]
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

    def verdict(self) -> str:
        """Its exit status, and the last line that it said, without pytest's decoration."""
        size = os.fstat(self._output.fileno()).st_size
        lines = os.pread(self._output.fileno(), 1 << 16, max(0, size - (1 << 16))).decode(errors="replace").splitlines()
        last = next((line.strip("= ") for line in reversed(lines) if line.strip()), "said nothing")
        return f"{', '.join(self.paths)}: exit status {self.process.returncode}: {last}"

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
    """Run both lanes; the exit status is that of the first one that failed, else 0."""
    begun_s = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    computing, serving = lanes = Lane(COMPUTING, _NICE), Lane(SERVING)
    try:
        while not all(lane.is_over for lane in lanes):
            time.sleep(0.5)
            serving.show()
            if computing.is_over:
                computing.show()
    except KeyboardInterrupt:
        # The terminal has told the lanes too.
        for lane in lanes:
            lane.wait()
        raise
    except BaseException:
        for lane in lanes:
            lane.end()
        raise
    for lane in lanes:
        lane.show()
    for lane in lanes:
        print(lane.verdict(), flush=True)
    print(f"both together: {time.monotonic() - begun_s:.0f} s", flush=True)
    return next((lane.process.returncode for lane in lanes if lane.process.returncode), 0)


if __name__ == "__main__":
    sys.exit(main())
