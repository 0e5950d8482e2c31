"""An agent of the OpenAI Agents SDK on the bus: others call it, and other agents of the bus are its tool."""

import os

from agents import Agent as Thinker
from agents import Model, Runner, function_tool

from trishula import Agent, current_delivery


def helper(model: Model | str) -> Agent:
    agent = Agent("helper")

    @function_tool
    async def ask(name: str, procedure: str) -> str:
        """Have the agent of that name run a procedure."""
        return str(await agent.call(name, procedure, timeout=60))

    thinker = Thinker(
        name="helper",
        instructions="Ask the agents of the bus for facts. Answer in one sentence.",
        tools=[ask],
        model=model,
    )

    @agent.procedure()
    async def answer(question: str) -> str:
        """Waits for the model as long as it takes; when the node is lost meanwhile, the answer goes to the next one."""
        done = await Runner.run(thinker, question)
        if (delivery := current_delivery()) is not None:
            delivery.surfaced()
        return str(done.final_output)

    return agent


if __name__ == "__main__":
    helper(os.environ["MODEL"]).run()
