"""A deterministic chat model that needs no network: it plans and calls tools by rule.

A rule looks at the conversation and says the next step: call these tools, or say this. So the graphs run the
same path with no key as with a real model, tool calls and streaming included, and tests can be exact. The
tools do their real work either way.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from .attachments import without_names

_CALL_IDS: Final = uuid.UUID("0f5cf2a8-9f8e-5a34-b1bd-5a8f6f0f6a10")


class Call:
    """One step of a rule: call this tool with these arguments."""

    def __init__(self, tool: str, **args: Any) -> None:
        """Name the tool and its arguments."""
        self.tool = tool
        self.args = args


Step = str | Call
"""What a rule answers: text to say, or a tool to call."""

Rule = Callable[[Sequence[BaseMessage]], Step]


def no_script(messages: Sequence[BaseMessage]) -> Step:
    """The rule of an agent that has none."""
    return "This agent has no script for the offline model: set MODEL to a real one."


class OfflineChatModel(BaseChatModel):
    """A chat model whose answers come from a rule instead of a network."""

    rule: Rule = no_script
    tool_names: frozenset[str] = frozenset()

    @property
    def _llm_type(self) -> str:
        return "holdfast-offline"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the rule call these tools and no others."""
        names = frozenset(convert_to_openai_tool(tool)["function"]["name"] for tool in tools)
        return self.model_copy(update={"tool_names": names})

    def _answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        step = self.rule(messages)
        if isinstance(step, str):
            return AIMessage(content=step)
        if step.tool not in self.tool_names:
            raise ValueError(f"the rule calls {step.tool!r}, but only {sorted(self.tool_names)} are bound")
        # The id depends on the place in the conversation alone, so that two runs of the same input are equal.
        call_id = str(uuid.uuid5(_CALL_IDS, f"{len(messages)}/{step.tool}"))
        return AIMessage(content="", tool_calls=[{"name": step.tool, "args": step.args, "id": call_id}])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        answer = self._answer(messages)
        if answer.tool_calls:
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_calls=answer.tool_calls))
            return
        for word in re.findall(r"\S+\s*|\s+", str(answer.content)):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
            if run_manager is not None:
                await run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


def this_turn(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    """The messages since the last thing that the user said, that one first."""
    for index in range(len(messages) - 1, -1, -1):
        if isinstance(messages[index], HumanMessage):
            return messages[index:]
    return messages


def user_text(messages: Sequence[BaseMessage]) -> str:
    """What the user said last, as text without the names of attachments; empty when the user said nothing."""
    first = next(iter(this_turn(messages)), None)
    return without_names(first.text) if isinstance(first, HumanMessage) else ""


def tool_outputs(messages: Sequence[BaseMessage]) -> dict[str, str]:
    """What each tool answered in this turn, by the tool's name; the last answer where there are several."""
    return {
        message.name: message.text
        for message in this_turn(messages)
        if isinstance(message, ToolMessage) and message.name
    }


def failure(messages: Sequence[BaseMessage]) -> str | None:
    """What the first tool that failed in this turn said, if one did."""
    answers = [message for message in this_turn(messages) if isinstance(message, ToolMessage)]
    return next((message.text for message in answers if message.status == "error"), None)


def in_order(*calls: Call, then: Callable[[Sequence[BaseMessage]], str]) -> Rule:
    """A rule that calls each tool once a turn, in this order, and then says something.

    When a tool tells a problem it says that instead: a rule cannot correct itself.
    """

    def rule(messages: Sequence[BaseMessage]) -> Step:
        if told := failure(messages):
            return told
        done = tool_outputs(messages)
        for call in calls:
            if call.tool not in done:
                return call
        return then(messages)

    return rule


def last_text(messages: Sequence[AnyMessage | BaseMessage]) -> str:
    """The text of the last message, empty when there is none."""
    return messages[-1].text if messages else ""
