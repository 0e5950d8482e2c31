"""An agent of AutoGen on the bus: others call it, and other agents of the bus are its tool."""

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ChatCompletionClient

from trishula import Agent, current_delivery


def helper(model: ChatCompletionClient) -> Agent:
    agent = Agent("helper")

    async def ask(name: str, procedure: str) -> str:
        """Have the agent of that name run a procedure."""
        return str(await agent.call(name, procedure, timeout=60))

    @agent.procedure()
    async def answer(question: str) -> str:
        """Waits for the model as long as it takes; when the node is lost meanwhile, the answer goes to the next one."""
        # It remembers what it was asked, so each question has one of its own.
        thinker = AssistantAgent(
            "helper",
            model,
            tools=[ask],
            max_tool_iterations=10,
            system_message="Ask the agents of the bus for facts. Answer in one sentence.",
        )
        done = await thinker.run(task=question)
        if (delivery := current_delivery()) is not None:
            delivery.surfaced()
        return done.messages[-1].to_text()

    return agent


if __name__ == "__main__":
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    helper(OpenAIChatCompletionClient(model="gpt-5")).run()
