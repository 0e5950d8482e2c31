"""A graph of LangGraph on the bus: others call it, and other agents of the bus are its tool."""

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from trishula import Agent, current_delivery


def helper(model: BaseChatModel) -> Agent:
    agent = Agent("helper")

    @tool
    async def ask(name: str, procedure: str) -> str:
        """Have the agent of that name run a procedure."""
        return str(await agent.call(name, procedure, timeout=60))

    thinker = model.bind_tools([ask])

    async def think(state: MessagesState) -> MessagesState:
        return {"messages": [await thinker.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([ask]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    runnable = graph.compile()

    @agent.procedure()
    async def answer(question: str) -> str:
        """Waits for the model as long as it takes; when the node is lost meanwhile, the answer goes to the next one."""
        rules = SystemMessage("Ask the agents of the bus for facts. Answer in one sentence.")
        done = await runnable.ainvoke({"messages": [rules, HumanMessage(question)]})
        if (delivery := current_delivery()) is not None:
            delivery.surfaced()
        return str(done["messages"][-1].content)

    return agent


if __name__ == "__main__":
    from langchain_anthropic import ChatAnthropic

    helper(ChatAnthropic(model_name="claude-sonnet-4-5", timeout=None, stop=None)).run()
