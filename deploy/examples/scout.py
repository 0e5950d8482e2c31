"""An agent that prints what it hears."""

from trishula import Agent, Message

agent = Agent("scout")


@agent.on("STATUS")
async def heard(message: Message) -> None:
    print(message.sender, "says", message.payload)
