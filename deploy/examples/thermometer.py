"""An agent that publishes what it measures. Nobody need listen, and what nobody hears is gone."""

import asyncio
import random

from trishula import Agent

agent = Agent("thermometer")


@agent.on_start
async def measure() -> None:
    while True:
        await agent.publish("celsius", round(random.gauss(20, 2), 1), "kitchen")
        await asyncio.sleep(0.2)
