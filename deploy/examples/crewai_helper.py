"""An agent of CrewAI on the bus: others call it, and other agents of the bus are its tool."""

import os

from crewai import Agent as Thinker
from crewai import BaseLLM
from crewai.tools import tool

from trishula import Agent, current_delivery


def helper(model: BaseLLM | str) -> Agent:
    agent = Agent("helper")

    @tool("ask")
    def ask(name: str, procedure: str) -> str:
        """Have the agent of that name run a procedure."""
        # CrewAI runs its tools in threads.
        return str(agent.from_thread(agent.call, name, procedure, timeout=60))

    @agent.procedure()
    async def answer(question: str) -> str:
        """Waits for the model as long as it takes; when the node is lost meanwhile, the answer goes to the next one."""
        # It keeps the state of what it works on, so each question has one of its own.
        thinker = Thinker(
            role="helper",
            goal="Ask the agents of the bus for facts. Answer in one sentence.",
            backstory="",
            tools=[ask],
            llm=model,
        )
        done = await thinker.kickoff_async(question)
        if (delivery := current_delivery()) is not None:
            delivery.surfaced()
        return str(done.raw)

    return agent


if __name__ == "__main__":
    helper(os.environ["MODEL"]).run()  # such as anthropic/claude-sonnet-4-5
