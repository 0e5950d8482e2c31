"""A program on asyncio that asks and sends. It has no handlers, so it is a client and no agent."""

import asyncio

import trishula


async def main() -> None:
    async with trishula.AsyncClient() as bus:
        total = await bus.call("agni", "add", 2, b=3)
        receipt = await bus.send("agni", payload={"text": f"the sum is {total}"})
        print(total, receipt.status)


asyncio.run(main())
