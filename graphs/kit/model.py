"""Which chat model the agents think with.

MODEL is any `init_chat_model` name ("openai:gpt-5", "anthropic:claude-sonnet-4-5", …; its integration package
must be installed). Unset or "offline" it is the deterministic model of `kit/offline.py`: no key, no network.
"""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from .context import Context
from .failures import ModelFailedError
from .offload import in_thread
from .policies import MODEL_TIMEOUT_SECONDS

T = TypeVar("T")

OFFLINE: Final = "offline"
# How LangChain names a provider's package that is not there.
_PACKAGE: Final = re.compile(r"pip install ([\w-]+)")

_models: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, BaseChatModel]] = WeakKeyDictionary()


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


async def with_fallback(name: str, call: Callable[[BaseChatModel], Awaitable[T]]) -> T:
    """Call with this model, and if it fails with the one of MODEL_FALLBACK, where that is set."""
    fallback = os.environ.get("MODEL_FALLBACK", "").strip()
    try:
        return await call(await named_model(name))
    except ModelFailedError:
        if not fallback:
            raise
    return await call(await named_model(fallback))


def settings_of(context: Context) -> dict[str, Any]:
    """What an assistant sets of each call."""
    return {} if context.temperature is None else {"temperature": context.temperature}


def _make(name: str) -> BaseChatModel:
    # The libraries keep one HTTP client a process for each address and timeout. A timeout that differs by
    # next to nothing gets a client of its own, and so each loop does. By chance and not by a count: the kit
    # may be in a process twice, by its name in a checkout and in the wheel. Retries sit in the middleware.
    timeout = MODEL_TIMEOUT_SECONDS + uuid.uuid4().int % 10**9 * 1e-12
    try:
        model: BaseChatModel = init_chat_model(name, max_retries=0, timeout=timeout)
    except ImportError as error:
        package = _PACKAGE.search(str(error))
        raise ModelFailedError(
            f"The model '{name}' needs the package {package[1]}, which is not installed: add it to "
            "pyproject.toml and set the environment up again."
            if package
            else f"The model '{name}' cannot be used: {error}"
        ) from error
    except Exception as error:
        raise ModelFailedError(f"The model '{name}' cannot be used: {error}") from error
    if hasattr(model, "stream_usage"):
        model.stream_usage = True  # unset, ChatOpenAI asks for the tokens only at its own address
    return model
