"""An agent whose work takes long: it awaits, blocks in a thread, is taken back, or blocks where it should not."""

import asyncio
import time

from trishula import Agent, Message, current_delivery

agent = Agent("worker")


@agent.procedure()
async def think(seconds: float) -> str:
    """Awaits, as a client of a model does that is made for asyncio. Everything else goes on meanwhile."""
    agent.busy(for_s=seconds, progress="thinking")
    await asyncio.sleep(seconds)
    agent.idle()
    return "thought"


@agent.procedure(thread=True)
def compute(seconds: float) -> str:
    """Blocks, as a library without ``await`` does. It has a thread of its own for that."""
    time.sleep(seconds)
    receipt = agent.from_thread(agent.send, "dc", payload="half of it is done")
    time.sleep(seconds)
    return receipt.status


@agent.procedure(thread=True)
def compute_in_steps(steps: int) -> int:
    """A thread can't be stopped from outside, so it asks now and then whether its work is still wanted."""
    delivery = current_delivery()
    for step in range(steps):
        if delivery is not None and delivery.cancelled:
            print("stopped early", flush=True)
            return step
        time.sleep(0.1)
    return steps


@agent.on("STATUS")
async def think_in_this_thread(message: Message) -> None:
    """Blocks the agent's loop, which is no good idea. So it says for how long, before it does."""
    agent.busy(for_s=600, progress="thinking")
    if (delivery := current_delivery()) is not None:
        delivery.working(600)
    time.sleep(1.0)
    agent.idle()
