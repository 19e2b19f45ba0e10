"""A conversation as every provider takes it, whatever was broken off, left over, or sent by a client.

The thread keeps what it holds. But a provider refuses the whole of a conversation for one message that it
does not like, at every later turn too: without this the thread could never go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

BROKEN_OFF: Final = "This was not carried out: the run ended before."
BEGINNING: Final = "(The conversation begins.)"


def acceptable(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages, without what a provider would refuse.

    Each tool call has its answers right behind it, and there are no other answers; nothing is empty; the user
    begins; instructions of clients are the user's; and what is neither text nor of the user's last message,
    such as an image that the provider may just have refused, is only named.
    """
    told: list[AnyMessage] = []
    last_said = max((at for at, each in enumerate(messages) if isinstance(each, HumanMessage)), default=-1)
    for at, message in enumerate(messages):
        match message:
            case ToolMessage():
                continue  # each is told behind its call
            case AIMessage() if message.tool_calls:
                told += [message, *_answers(message, messages[at + 1 :])]
            case AIMessage():
                # A thought alone, or nothing: of a run before, or of another library.
                told += [message] if message.text.strip() else []
            case SystemMessage():
                told.append(HumanMessage(message.text))
            case HumanMessage():
                told.append(_readable(message, only_text=at != last_said))
            case _:
                told.append(message)
    if told and isinstance(told[0], AIMessage):
        told.insert(0, HumanMessage(BEGINNING))
    return told


def _answers(message: AIMessage, later: Sequence[AnyMessage]) -> list[ToolMessage]:
    """An answer for each call: the one that was given before the model spoke again, or that there is none."""
    given: dict[str, ToolMessage] = {}
    for each in later:
        if isinstance(each, AIMessage):
            break
        if isinstance(each, ToolMessage):
            given.setdefault(each.tool_call_id, each)
    return [
        given.get(call["id"] or "")
        or ToolMessage(BROKEN_OFF, name=call["name"], tool_call_id=call["id"] or "", status="error")
        for call in message.tool_calls
    ]


def _readable(message: HumanMessage, *, only_text: bool) -> HumanMessage:
    if isinstance(message.content, str):
        return message
    blocks: list[Any] = [
        {"type": "text", "text": each} if isinstance(each, str) else each for each in message.content
    ]
    if only_text:
        blocks = [
            block if block.get("type") == "text" else {"type": "text", "text": f"\n[{block.get('type')}]"}
            for block in blocks
        ]
    return message.model_copy(update={"content": blocks})
