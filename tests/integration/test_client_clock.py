"""Clients on a machine whose clock is set back: their timers go on, so they reconnect, beat and give up in time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.node import environment

#: A wall clock that somebody sets back by an hour soon after the reactor began, and an address at which nobody is.
BEGIN = """
import math, time
true_time, step_at_s = time.time, math.inf
time.time = lambda: true_time() - (3600 if time.monotonic() > step_at_s else 0)
import trishula, trishula.blocking
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
where = {"url": "ws://127.0.0.1:1/ws", "token": "dc." + "a" * 43}


def begun():
    global step_at_s
    step_at_s = time.monotonic() + 0.3


reactor.callWhenRunning(begun)
"""

SCRIPT = """
try:
    trishula.connect(**where, timeout=1.0)
except trishula.TrishulaError as error:
    print(type(error).__name__)
"""

AGENT = """
reactor.callLater(1.0, reactor.stop)
trishula.Agent("dc", state=False).serve(**where)
print("ended")
"""


@pytest.mark.parametrize(("program", "said"), [(SCRIPT, "BusUnreachable"), (AGENT, "ended")], ids=["script", "agent"])
def test_timers_go_on_when_the_clock_is_set_back(program: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, env=environment(), timeout=60.0
    )
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
