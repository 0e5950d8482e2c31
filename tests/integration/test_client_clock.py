"""Clients on a machine whose clock is set back: their timers go on, so they reconnect, beat and give up in time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.node import environment

#: A wall clock that is set back all the time, so that no timer by it is ever due, and an address at which nobody is.
BEGIN = """
import time
began_at, began_s = time.time(), time.monotonic()
time.time = lambda: began_at - (time.monotonic() - began_s)
import trishula, trishula.sync
from twisted.internet import asyncioreactor
asyncioreactor.install()
from twisted.internet import reactor
where = {"url": "ws://127.0.0.1:1/ws", "token": "dc." + "a" * 43}
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
