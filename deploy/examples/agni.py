"""A first agent: one procedure, and a handler of messages. Run it with ``trishula agent run ./agni.py``."""

from trishula import Agent, Message

agent = Agent("agni")


@agent.procedure()
async def add(a: int, b: int = 1) -> int:
    return a + b


@agent.on("STATUS")
async def heard(message: Message) -> None:
    print(message.sender, "says", message.payload)
