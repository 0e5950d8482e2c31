"""An agent that kills itself (kill -9) at a named point, for ``test_agent_crash.py``; a program, not a test.

``CRASH_AT`` names the point and ``CRASH_AFTER`` how many messages pass it before; the hooks are put around the
product's methods here, the product has none. Each run of a handler is a line in ``EFFECTS``, fsynced before the handler
goes on; so is each message of which a commit said that it is handled.

The message whose id is ``POISON`` kills it each time. Messages with a subject go to a handler that awaits a turn of the
loop, so that others of their sender wait, and what is handled of them is gathered; each that is noted is a line, too.

Lines on standard input: ``send TO ID`` sends, and asks for no outcome.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from typing import Any

from trishula import Agent, current_delivery
from trishula.consumer.gathered_memory import GatheredMemory
from trishula.consumer.replies import Replies
from trishula.contract.message import Message
from trishula.messaging.agent_file import AgentFile
from trishula.messaging.engine import Engine
from trishula.messaging.entries import Batch
from trishula.messaging.sender import Sending

__all__ = ["POINTS"]

#: In the order in which a message passes them; one with a subject passes "noted" after it has returned.
POINTS = ("begun", "effect", "returned", "on record", "offered", "confirmed", "acknowledged")

_point = os.environ.get("CRASH_AT", "")
_left = int(os.environ.get("CRASH_AFTER", "0"))


def reached(point: str) -> None:
    """A message is at that point."""
    global _left
    if point == _point:
        _left -= 1
        if _left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def effect() -> None:
    delivery = current_delivery()
    assert delivery is not None
    reached("begun")
    note("ran", delivery.message.id, delivery.attempt)
    if delivery.message.id == os.environ.get("POISON"):
        os.kill(os.getpid(), signal.SIGKILL)
    reached("effect")


def note(what: str, message_id: str, attempt: int) -> None:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(json.dumps([what, message_id, attempt]) + "\n")
        file.flush()
        os.fsync(file.fileno())


def put_hooks() -> None:
    """Around the steps of :mod:`trishula.consumer.dispatcher`'s table."""
    commit, offer, replied = AgentFile.commit, Sending._offer, Replies._replied
    flush, remember = Engine._flush, GatheredMemory.remember

    def committing(file: AgentFile) -> bool:
        handled = [message_id for _, message_id in file._remembered]
        for _ in handled:
            reached("returned")
        done = commit(file)
        assert done
        for message_id in handled:
            note("on record", message_id, 0)
        for _ in handled:
            reached("on record")
        return done

    def offering(sending: Sending, link: Any, batch: Batch) -> None:
        offer(sending, link, batch)
        for _ in batch.entries:
            reached("offered")

    def confirmed(replies: Replies, wire: dict[str, Any], *more: Any) -> None:
        reached("confirmed")
        replied(replies, wire, *more)

    def flushing(engine: Engine) -> None:
        acks = len(engine.settling._acks.items)
        flush(engine)
        for _ in range(acks):
            reached("acknowledged")

    def remembering(memory: GatheredMemory, sender: str, message_id: str, *more: Any) -> None:
        before = len(memory._notes)
        remember(memory, sender, message_id, *more)
        if len(memory._notes) > before:
            note("on record", message_id, 0)
            reached("noted")

    hooks = (
        (GatheredMemory, "remember", remembering),
        (AgentFile, "commit", committing),
        (Sending, "_offer", offering),
    )
    for owner, name, hook in (*hooks, (Replies, "_replied", confirmed), (Engine, "_flush", flushing)):
        setattr(owner, name, hook)


def main() -> None:
    put_hooks()
    agent = Agent("agni")

    @agent.procedure()
    async def double(number: int) -> int:
        effect()
        return 2 * number

    @agent.on("STATUS")
    def heard(message: Message) -> None:
        effect()

    @agent.on("STATUS", subject="*")
    async def heard_slowly(message: Message) -> None:
        await asyncio.sleep(0)
        effect()

    @agent.on_start
    def listen() -> None:
        from twisted.internet import reactor as installed

        reactor: Any = installed

        def read() -> None:
            for line in sys.stdin:
                verb, to, message_id = line.split()
                assert verb == "send"
                reactor.callFromThread(agent.send, to, id=message_id)

        threading.Thread(target=read, daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    agent.run()


if __name__ == "__main__":
    main()
