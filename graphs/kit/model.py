"""Which chat model the agents think with.

MODEL is any `init_chat_model` name ("openai:gpt-5", "anthropic:claude-sonnet-4-5", …; its integration package
must be installed). Unset or "offline" it is the deterministic model of `kit/offline.py`: no key, no network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from graphs.kit.offline import OfflineChatModel, Rule

OFFLINE: Final = "offline"


def chat_model(rule: Rule, tools: Sequence[BaseTool]) -> Runnable[LanguageModelInput, AIMessage]:
    """Build the model of one agent or sub-agent, with its tools bound.

    Args:
        rule: What the offline model does; a real model decides by itself.
        tools: What the model may call.

    Raises:
        ImportError: MODEL names a provider whose package is not installed; the message names the package.
    """
    name = os.environ.get("MODEL", "").strip() or OFFLINE
    model: BaseChatModel = OfflineChatModel(rule=rule) if name == OFFLINE else _named_model(name)
    return model.bind_tools(tools) if tools else model


@cache
def _named_model(name: str) -> Any:
    # One client a process: its connections are reused by every agent. Retries sit in the nodes' policy.
    return init_chat_model(name, temperature=0, max_retries=0)
