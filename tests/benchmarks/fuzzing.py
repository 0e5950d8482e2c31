# ruff: noqa: T201  # a script that prints
"""A hundred thousand malformed inputs at a node, and what its agents noticed.

::

    python -m tests.benchmarks.fuzzing --inputs 100000 --seed 7
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.fuzzing import AGENTS, MIB, Fuzz, faults
from tests.support.node import NodeProcess


def main(inputs: int, seed: int) -> int:
    """Run the long form, and print what was seen; the exit status."""
    with tempfile.TemporaryDirectory() as directory, NodeProcess(Path(directory) / "state") as node:
        for agent in AGENTS:
            node.token(agent)
        fuzz, worker = Fuzz(node, inputs, seed), node.worker_pid()
        began_s = time.monotonic()
        fuzz.run()
        took_s = time.monotonic() - began_s
        waits_ms = sorted(one * 1000 for one in fuzz.waits_s)
        found = faults(node.log())
        print(f"{sum(fuzz.sent.values())} inputs with seed {seed} in {took_s:.0f} s: {dict(fuzz.sent)}")
        print(f"connections that the node ended: {dict(fuzz.endings)}")
        print(
            f"beside them: {len(waits_ms)} messages, {len(fuzz.lost)} lost or doubled, sent to settled p50 "
            f"{waits_ms[len(waits_ms) // 2]:.1f} ms, p99 {waits_ms[len(waits_ms) * 99 // 100]:.1f}, "
            f"most {waits_ms[-1]:.1f}"
        )
        print(f"worker: grew by {fuzz.grown_bytes / MIB:.0f} MiB at most; {len(found)} lines of faults")
        for line in [*fuzz.lost[:10], *found[:20]]:
            print("  " + line)
        return 0 if not found and not fuzz.lost and node.worker_pid() == worker else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    said = parser.parse_args()
    sys.exit(main(said.inputs, said.seed))
