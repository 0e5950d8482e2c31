"""An agent of a run with light traffic, as a process of its own: ``python -m tests.support.light_traffic send|take …``.

``send TO EVERY_S`` sends a STATUS each so many seconds until standard input ends; a line ``N`` there lets N messages
follow that nobody can handle. ``take`` is an agent that handles what it gets, and fails at the latter, so that they
become dead letters. Where and who the agent is comes from the environment, as for every client.
"""

from __future__ import annotations

import os
import queue
import sys
import threading

import trishula
from trishula.contract.message import Message

__all__: list[str] = []

#: The payload of a message that nobody can handle.
_BAD = "nobody can handle this"


def _send(to: str, every_s: float) -> None:
    is_over = threading.Event()
    orders: queue.SimpleQueue[int] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(int(line))
        is_over.set()

    threading.Thread(target=listen, daemon=True).start()
    # A node that is killed is away for longer than a receipt is awaited by default.
    with trishula.connect(timeout=120) as bus:
        while not is_over.wait(every_s):
            bus.send(to, type="STATUS", payload="fine")
            while not orders.empty():
                for _ in range(orders.get()):
                    bus.send(to, type="STATUS", payload=_BAD)
        # What the node says of the dead letters.
        for _ in bus.messages(wait_s=2, instance=bus.address.instance):
            pass


def _take() -> None:
    agent = trishula.Agent(os.environ["TRISHULA_AGENT"], state=False)

    @agent.on("STATUS")
    def handle(message: Message) -> None:
        if message.payload == _BAD:
            raise ValueError(_BAD)

    agent.run()


if __name__ == "__main__":
    if sys.argv[1] == "send":
        _send(sys.argv[2], float(sys.argv[3]))
    else:
        _take()
