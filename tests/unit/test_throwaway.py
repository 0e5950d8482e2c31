"""That a signal can't come between a child's start and the note of it.

In a process of its own: the signals of this one belong to pytest and to the reactor.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal
from trishula.tools.temporary_node import undisturbed

def leave(number, frame):
    raise SystemExit(number)

signal.signal(signal.SIGTERM, leave)
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
try:
    with undisturbed():
        %s
        print("the block went on", flush=True)
finally:
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    print("the handlers are back", flush=True)
print("and after it", flush=True)
"""


@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("pass", 0, ["the block went on", "the handlers are back", "and after it"]),
        ("signal.raise_signal(signal.SIGTERM)", 15, ["the block went on", "the handlers are back"]),
        ("signal.raise_signal(signal.SIGINT)", -2, ["the block went on", "the handlers are back"]),
        ("raise SystemExit(3)", 3, ["the handlers are back"]),
    ],
)
def test_signals_wait_for_the_end_of_the_block(statement: str, code: int, said: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM % statement], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.splitlines()) == (code, said)
