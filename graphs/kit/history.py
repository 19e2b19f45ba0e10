"""What a provider is told of a conversation that was broken off."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

BROKEN_OFF = "This was not carried out: the run ended before."


def with_every_call_answered(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages, with an answer to each tool call that has none.

    A run that fails or is cancelled while its tools work leaves calls behind, and every provider refuses a
    conversation with such calls: without this the thread could never go on.
    """
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    told: list[AnyMessage] = []
    for message in messages:
        told.append(message)
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        told += [
            ToolMessage(BROKEN_OFF, name=call["name"], tool_call_id=call["id"], status="error")
            for call in calls
            if call["id"] not in answered
        ]
    return told
