"""``make test``: the whole suite in two lanes side by side, so that it takes as long as its slower half.

The tests with real nodes mostly wait, for reconnects and time limits; the others compute. One process runs the first
kind; another one, at a lower priority so that it takes only the processor time that nodes leave, runs the second
(pytest-xdist would spread both over its workers: tests that compute would then disturb what real nodes are measured
by). What the quiet lane says is printed when it has ended, and the two verdicts come last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

#: They compute, and start no node.
COMPUTING = ("unit", "contract", "property", "simulation")
#: They start real nodes, agents, proxies, hosts.
SERVING = ("checker", "integration", "partition")

#: Of the lane that computes, as nice has it.
_NICE = 10


def start(folders: tuple[str, ...], output: IO[bytes], nice: int = 0) -> subprocess.Popen[bytes]:
    """Run the tests of some folders; ``output`` is a file that gets what pytest says."""
    # Unbuffered, because the log is read while it grows.
    pytest = [sys.executable, "-u", "-m", "pytest", *(f"tests/{name}" for name in folders)]
    return subprocess.Popen(["nice", "-n", str(nice), *pytest], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def verdict(log: bytes) -> str:
    """The last line of what pytest said, without its decoration."""
    lines = log.decode(errors="replace").strip().splitlines()
    return lines[-1].strip("= ") if lines else "said nothing"


def main() -> int:
    """Run both lanes; the exit status is that of the first one that failed, else 0."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as quiet, tempfile.TemporaryFile() as loud:
        computing = start(COMPUTING, quiet, _NICE)
        serving = start(SERVING, loud)
        lanes = ((computing, quiet, COMPUTING), (serving, loud, SERVING))
        shown = dict.fromkeys((computing.pid, serving.pid), 0)
        try:
            while any(lane.poll() is None for lane, _, _ in lanes):
                time.sleep(0.5)
                _print_on(loud, shown, serving.pid)
                if computing.poll() is not None:
                    _print_on(quiet, shown, computing.pid)
        except BaseException:
            # Ctrl-C reaches both; what else ends us must end them.
            for lane, _, _ in lanes:
                lane.terminate()
            raise
        finally:
            for lane, _, _ in lanes:
                lane.wait()
        for lane, output, _ in lanes:
            _print_on(output, shown, lane.pid)
        for lane, output, folders in lanes:
            output.seek(0)
            print(f"{', '.join(folders)}: exit status {lane.returncode}: {verdict(output.read())}", flush=True)
    print(f"both together: {time.monotonic() - begun:.0f} s", flush=True)
    return next((lane.returncode for lane, _, _ in lanes if lane.returncode), 0)


def _print_on(output: IO[bytes], shown: dict[int, int], pid: int) -> None:
    """Print what a lane has said since the last time."""
    data = os.pread(output.fileno(), 1 << 24, shown[pid])
    shown[pid] += len(data)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
