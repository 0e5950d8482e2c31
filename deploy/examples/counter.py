"""An agent inside of a program that has its own loop and its own end."""

import asyncio
import signal

from trishula import Agent, Message

agent = Agent("dc")
enough = asyncio.Event()


@agent.on("STATUS")
async def heard(message: Message) -> None:
    print(message.sender, "says", message.payload, flush=True)
    if message.subject == "stop":
        enough.set()


async def main() -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    async with agent:
        print((await agent.send("dc", payload="a message to myself")).status, flush=True)
        await enough.wait()


asyncio.run(main())
print("left in order")
