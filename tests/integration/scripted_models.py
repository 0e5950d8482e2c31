"""Runs an example of a framework with a model that follows a script: it asks the agent dc, and says what it heard.

In the frameworks' own environment; ``test_frameworks.py`` starts it, with the name of the example.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from trishula import Agent

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "examples"))

ARGUMENTS = {"name": "dc", "procedure": "disk"}


def pydantic_ai_helper() -> Any:
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    def answer(messages: Any, info: Any) -> Any:
        (part, *_) = messages[-1].parts
        if isinstance(part, ToolReturnPart):
            return ModelResponse([TextPart(f"I heard: {part.content}")])
        return ModelResponse([ToolCallPart("ask", ARGUMENTS)])

    return FunctionModel(answer)


def openai_agents_helper() -> Any:
    from agents import Model, ModelResponse, Usage, set_tracing_disabled
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    # It would send traces to its maker.
    set_tracing_disabled(True)

    class Scripted(Model):
        async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
            output: list[Any]
            if isinstance(input, list) and input[-1].get("type") == "function_call_output":
                text = ResponseOutputText(text=f"I heard: {input[-1]['output']}", type="output_text", annotations=[])
                output = [
                    ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
                ]
            else:
                arguments = json.dumps(ARGUMENTS)
                output = [ResponseFunctionToolCall(call_id="c", name="ask", arguments=arguments, type="function_call")]
            return ModelResponse(output=output, usage=Usage(), response_id=None)

        def stream_response(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    return Scripted()


def langgraph_helper() -> Any:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Scripted(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, tools: Any, **_: Any) -> Any:
            return self

        def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
            last = messages[-1]
            if isinstance(last, ToolMessage):
                said = AIMessage(f"I heard: {last.content}")
            else:
                said = AIMessage("", tool_calls=[{"name": "ask", "args": ARGUMENTS, "id": "c"}])
            return ChatResult(generations=[ChatGeneration(message=said)])

    return Scripted()


def autogen_helper() -> Any:
    from autogen_core import FunctionCall
    from autogen_core.models import (
        ChatCompletionClient,
        CreateResult,
        FunctionExecutionResultMessage,
        ModelInfo,
        RequestUsage,
    )

    class Scripted(ChatCompletionClient):
        component_type = "model"

        @property
        def model_info(self) -> ModelInfo:
            return ModelInfo(
                vision=False, function_calling=True, json_output=False, family="scripted", structured_output=False
            )

        capabilities = model_info

        async def create(self, messages: Any, **_: Any) -> CreateResult:
            last = messages[-1]
            content: Any
            if isinstance(last, FunctionExecutionResultMessage):
                content, reason = f"I heard: {last.content[0].content}", "stop"
            else:
                content = [FunctionCall(id="c", name="ask", arguments=json.dumps(ARGUMENTS))]
                reason = "function_calls"
            return CreateResult(finish_reason=reason, content=content, usage=self.actual_usage(), cached=False)

        def create_stream(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        async def close(self) -> None:
            pass

        def actual_usage(self) -> RequestUsage:
            return RequestUsage(prompt_tokens=0, completion_tokens=0)

        total_usage = actual_usage

        def count_tokens(self, *_: Any, **__: Any) -> int:
            return 0

        def remaining_tokens(self, *_: Any, **__: Any) -> int:
            return 1000

    return Scripted()


def crewai_helper() -> Any:
    from crewai import BaseLLM

    class Scripted(BaseLLM):
        def supports_function_calling(self) -> bool:
            return True

        def call(self, messages: Any, *_: Any, **__: Any) -> Any:
            last = messages[-1]
            if last["role"] == "tool":
                return f"I heard: {last['content']}"
            return [{"id": "c", "type": "function", "function": {"name": "ask", "arguments": json.dumps(ARGUMENTS)}}]

        async def acall(self, *arguments: Any, **keywords: Any) -> Any:
            return self.call(*arguments, **keywords)

    return Scripted(model="scripted")


if __name__ == "__main__":
    example = importlib.import_module(sys.argv[1])
    agent: Agent = example.helper(globals()[sys.argv[1]]())
    agent.run()
