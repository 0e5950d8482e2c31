"""Asyncio's own tools work on the bus: many calls at once, a time limit for a block, and a task that is cancelled."""

import asyncio

import trishula


async def main() -> None:
    async with trishula.AsyncClient() as bus:
        print(await asyncio.gather(*(bus.call("agni", "add", number, b=1) for number in range(3))))

        try:
            async with asyncio.timeout(0.5):
                await bus.fetch(wait_s=30)
        except TimeoutError:
            print("nothing came")

        receipt = await bus.send("away", payload={"text": "are you there?"})
        print(await bus.cancel(receipt.id))


asyncio.run(main())
