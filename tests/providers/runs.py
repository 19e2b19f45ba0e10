"""Runs an agent of the server on a fake provider, as a front end does: streaming."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.contract.api import Sdk
from tests.providers.anthropic_fake import AnthropicFake
from tests.providers.openai_fake import OpenAIFake

Fake = OpenAIFake | AnthropicFake

MODELS = {
    "openai": "openai:gpt-4.1-mini",
    "responses": "openai:gpt-5.1-codex",  # which the client knows to speak that protocol
    "anthropic": "anthropic:claude-sonnet-4-6",
}


@dataclass
class Ended:
    """How a run ended."""

    values: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None

    @property
    def said(self) -> str:
        """The last message's text."""
        return text_of(self.values["messages"][-1])


async def run(sdk: Sdk, graph: str, given: dict[str, Any], context: dict[str, Any], **more: Any) -> Ended:
    """Run to the end on a new thread, or on `thread_id`."""
    thread_id = more.pop("thread_id", None) or (await sdk.threads.create())["thread_id"]
    ended = Ended()
    modes: Any = ["values", "messages-tuple"]
    async for part in sdk.runs.stream(
        thread_id, graph, input=given, context=context, stream_mode=modes, **more
    ):
        if part.event == "error":
            ended.error = part.data
        elif part.event == "values":
            ended.values = part.data
    return ended


def text_of(message: dict[str, Any]) -> str:
    """A message's text, whether it came as one or in blocks."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
