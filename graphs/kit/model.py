"""Which chat model the agents think with.

MODEL is any `init_chat_model` name ("openai:gpt-5", "anthropic:claude-sonnet-4-5", …; its integration package
must be installed). Unset or "offline" it is the deterministic model of `kit/offline.py`: no key, no network.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langgraph.runtime import Runtime

from graphs.kit.answers import whole
from graphs.kit.context import Context, context_of
from graphs.kit.failures import ModelFailedError, patiently
from graphs.kit.offline import OfflineChatModel, Rule
from graphs.kit.offload import in_thread
from graphs.kit.policies import MODEL_TIMEOUT_SECONDS

OFFLINE: Final = "offline"

_models: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, BaseChatModel]] = WeakKeyDictionary()
_number: Final = itertools.count()


def model_name() -> str:
    """The model of this deployment, or OFFLINE."""
    return os.environ.get("MODEL", "").strip() or OFFLINE


async def named_model(name: str) -> BaseChatModel:
    """The model of this name, with one client for all runs of this event loop.

    A connection belongs to one event loop, and the server may give each of its job slots a loop of its own.

    Raises:
        ModelFailedError: The provider's package or its key is missing; the message says which.
    """
    models = _models.setdefault(asyncio.get_running_loop(), {})
    if name not in models:
        # In a thread: it imports the provider's package and reads certificates.
        made = await in_thread(_make, name)
        models.setdefault(name, made)
    return models[name]


async def ask_model(
    rule: Rule, said: Sequence[BaseMessage], runtime: Runtime[Any], **config: Any
) -> AIMessage:
    """Ask the assistant's model, or the deployment's, in a node of a graph that is written by hand.

    Args:
        rule: What the offline model does; a real model decides by itself.
        said: The conversation.
        runtime: The node's runtime.
        config: Keys of the call's RunnableConfig, for example `tags`.

    Raises:
        ModelFailedError: The provider refuses or stays away, or its package or key is missing.
    """
    context = context_of(runtime)
    name = context.model or model_name()
    model = OfflineChatModel(rule=rule) if name == OFFLINE else await named_model(name)
    bound = model.bind(**({} if name == OFFLINE else settings_of(context)))
    messages = list(said) if not context.prompt else [SystemMessage(context.prompt), *said]
    asked: Any = config

    async def call() -> AIMessage:
        return whole(await bound.ainvoke(messages, asked))

    return await patiently(call)


def settings_of(context: Context) -> dict[str, Any]:
    """What an assistant sets of each call."""
    return {} if context.temperature is None else {"temperature": context.temperature}


def _make(name: str) -> BaseChatModel:
    # The libraries keep one HTTP client a process for each address and timeout. A timeout that differs by
    # microseconds gets a client of its own, and so each loop does. Retries sit in the middleware.
    timeout = MODEL_TIMEOUT_SECONDS + next(_number) * 1e-6
    try:
        model: BaseChatModel = init_chat_model(name, max_retries=0, timeout=timeout)
    except Exception as error:
        raise ModelFailedError(f"The model '{name}' cannot be used: {error}") from error
    if hasattr(model, "stream_usage"):
        model.stream_usage = True  # unset, ChatOpenAI asks for the tokens only at its own address
    return model
