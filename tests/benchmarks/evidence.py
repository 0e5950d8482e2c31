# ruff: noqa: T201  # a script that prints
"""How many records of a journal a second are written into a segment, and checked, and whether any is found wrongly.

::

    .venv/bin/python -m tests.benchmarks.evidence                       # 1,000,000 records
    .venv/bin/python -m tests.benchmarks.evidence --records 100000

The seconds are those of the processor. A short form of it is a test: ``tests/unit/test_segments.py``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.support.segments import KEY, head, records
from trishula.evidence.checking import check_file
from trishula.evidence.writing import new_segment


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        made_s = -time.process_time()
        for _ in records(count):
            pass
        made_s += time.process_time()
        began_s = time.process_time()
        with new_segment(path.parent, path.name, head(), KEY.sign) as writer:
            for record in records(count):
                writer.add(*record)
        written_s = time.process_time() - began_s - made_s
        size_bytes = path.stat().st_size
        began_s = time.process_time()
        checked = check_file(path, [KEY.public])
        checked_s = time.process_time() - began_s
    print(f"{count} records, {size_bytes / count:.0f} bytes each")
    print(f"written: {count / written_s:,.0f} a second; checked: {count / checked_s:,.0f} a second")
    print(f"false alarms: {len(checked.findings) + checked.further}; proven: {checked.proven}")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB at most")
    return 0 if checked.ok and checked.proven == ((1, count),) else 1


if __name__ == "__main__":
    sys.exit(main())
