"""What the model's provider need not know: e-mail addresses and card numbers, by LangChain's PIIMiddleware.

The conversation keeps what was written; only what leaves for the provider is redacted. Names, and whatever
else has no form of its own, are not recognised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse, PIIMiddleware
from langchain.agents.middleware.pii import PIIMatch, detect_credit_card
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.runtime import Runtime

from .context import Context, context_of
from .model import OFFLINE, model_name


def _cards(text: str) -> list[PIIMatch]:
    # One in ten fractions of sixteen digits has a card's check digit.
    return [match for match in detect_credit_card(text) if text[match["start"] - 1 : match["start"]] != "."]


_RULES: Final[list[PIIMiddleware[Any, Any]]] = [
    PIIMiddleware("email", strategy="redact"),
    PIIMiddleware("credit_card", strategy="redact", detector=_cards),
]


class Redact(AgentMiddleware[Any, Context, Any]):
    """Redacts all messages of each model call, where the assistant or else the agent wants that."""

    def __init__(self, *, wanted: bool) -> None:
        """Take what holds where the assistant's context says nothing."""
        super().__init__()
        self.wanted = wanted

    async def awrap_model_call(
        self,
        request: ModelRequest[Context],
        handler: Callable[[ModelRequest[Context]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Call the model with what it may know."""
        if (context_of(request.runtime).model or model_name()) == OFFLINE:
            # Nothing leaves, and its scripts read the tools' JSON, which a redacted number would break.
            return await handler(request)
        return await handler(request.override(messages=self.redacted(request.messages, request.runtime)))

    def redacted(self, messages: Sequence[AnyMessage], runtime: Runtime[Any]) -> list[AnyMessage]:
        """The messages as a provider may see them."""
        told = context_of(runtime).redact_pii
        redacts = self.wanted if told is None else told
        return [_redacted(message, runtime) for message in messages] if redacts else list(messages)


def _redacted(message: AnyMessage, runtime: Runtime[Any]) -> AnyMessage:
    for rule in _RULES:
        # It looks at what the user said last, and here each message is that once: what was said before, in a
        # run that failed for example, is sent too.
        state: Any = {"messages": [HumanMessage(message.content)]}
        if changed := rule.before_model(state, runtime):
            message = message.model_copy(update={"content": changed["messages"][0].content})
    return message
