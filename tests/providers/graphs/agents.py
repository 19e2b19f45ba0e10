"""Agents as their users write them, and as they are written for loops of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import anthropic
import openai
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

OPENAI = "gpt-4.1-mini"
ANTHROPIC = "claude-sonnet-4-6"


@tool
async def add(a: int, b: int) -> str:
    """Add two numbers."""
    await asyncio.sleep(0.01)
    return f"{a} + {b} = {a + b}"


# The plain way: a model, and with it an HTTP client, that all runs of the process share.
openai_agent = create_agent(f"openai:{OPENAI}", [add])
anthropic_agent = create_agent(f"anthropic:{ANTHROPIC}", [add])


class OfThisLoop(AgentMiddleware[Any, Any]):
    """Gives each event loop a model with an HTTP client of its own."""

    def __init__(self, make: Callable[[], BaseChatModel]) -> None:
        """`make` must not take the client from the library's cache, which is the process's."""
        super().__init__()
        self._make = make
        self._models: WeakKeyDictionary[asyncio.AbstractEventLoop, BaseChatModel] = WeakKeyDictionary()

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Call the model of the loop on which this run is."""
        loop = asyncio.get_running_loop()
        if loop not in self._models:
            self._models[loop] = self._make()
        return await handler(request.override(model=self._models[loop]))


class OwnClientAnthropic(ChatAnthropic):
    """ChatAnthropic takes no client from outside."""

    @cached_property
    def _async_client(self) -> anthropic.AsyncClient:
        return anthropic.AsyncClient(**self._client_params)


def _openai() -> BaseChatModel:
    return ChatOpenAI(model=OPENAI, http_async_client=openai.DefaultAsyncHttpxClient())


def _anthropic() -> BaseChatModel:
    return OwnClientAnthropic(model_name=ANTHROPIC, timeout=None, stop=None)


openai_per_loop = create_agent(_openai(), [add], middleware=[OfThisLoop(_openai)])
anthropic_per_loop = create_agent(_anthropic(), [add], middleware=[OfThisLoop(_anthropic)])
