"""Which chat model the agents think with.

MODEL is any `init_chat_model` name ("openai:gpt-5", "anthropic:claude-sonnet-4-5", …; its integration package
must be installed). Unset or "offline" it is the deterministic model of `kit/offline.py`: no key, no network.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from graphs.kit.failures import ModelFailedError
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


def chat_model(rule: Rule, tools: Sequence[BaseTool]) -> Runnable[LanguageModelInput, AIMessage]:
    """The deployment's model for a node of a graph that is written by hand, with its tools bound.

    Args:
        rule: What the offline model does; a real model decides by itself.
        tools: What the model may call.

    Raises:
        ModelFailedError: The provider's package or its key is missing; the message says which.
    """
    name = model_name()
    models = _models.setdefault(asyncio.get_running_loop(), {})
    if name == OFFLINE:
        model: BaseChatModel = OfflineChatModel(rule=rule)
    else:
        model = models[name] = models.get(name) or _make(name)
    return model.bind_tools(tools) if tools else model


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
