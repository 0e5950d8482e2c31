"""A process that sends a file to a node and can be killed while it does: ``python -m tests.support.uploading …``.

It prints a line for each MiB that the node has.
"""

from __future__ import annotations

import sys

import trishula

MIB = 1024 * 1024


def main() -> None:
    url, agent, token, to, path = sys.argv[1:]
    told = 0

    def progress(done_bytes: int, size_bytes: int) -> None:
        nonlocal told
        if done_bytes >= told + MIB:
            told = done_bytes
            sys.stdout.write(f"{done_bytes}\n")
            sys.stdout.flush()

    with trishula.connect(url, agent, token, timeout=30) as bus:
        bus.send(to, attachment=path, on_progress=progress)


if __name__ == "__main__":
    main()
