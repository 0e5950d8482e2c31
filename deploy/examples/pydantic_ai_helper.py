"""An agent of pydantic-ai on the bus: others call it, and other agents of the bus are its tool."""

import os

from pydantic_ai import Agent as Thinker
from pydantic_ai.models import Model

from trishula import Agent, current_delivery


def helper(model: Model | str) -> Agent:
    agent = Agent("helper")
    thinker = Thinker(model, instructions="Ask the agents of the bus for facts. Answer in one sentence.")

    @thinker.tool_plain
    async def ask(name: str, procedure: str) -> str:
        """Have the agent of that name run a procedure."""
        return str(await agent.call(name, procedure, timeout=60))

    @agent.procedure()
    async def answer(question: str) -> str:
        """Waits for the model as long as it takes; when the node is lost meanwhile, the answer goes to the next one."""
        done = await thinker.run(question)
        if (delivery := current_delivery()) is not None:
            delivery.surfaced()
        return done.output

    return agent


if __name__ == "__main__":
    helper(os.environ["MODEL"]).run()  # such as anthropic:claude-sonnet-4-5
