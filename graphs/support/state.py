"""What a conversation with a customer holds."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage

from graphs.kit.state import AgentState


class State(AgentState, total=False):
    """The conversation (`messages`), and the present turn's way through the desk."""

    customer: (
        str | None
    )  # whose conversation it is, as the caller knows them; without it nothing is remembered
    room: str | None  # under what name the customer is remembered
    remembered: dict[str, list[Any]]  # wishes, and what was decided before in cases
    wish: str | None  # what the customer said that they always want
    category: str
    policy: list[dict[str, Any]]
    draft: str
    compliance: dict[str, list[str]]  # findings, and what the draft before was sent_back_for
    decision: dict[str, Any]  # type: what a reviewer decided, or "unusable"; note: their feedback, or why


NEW_TURN: Final[dict[str, Any]] = {"draft": "", "compliance": {}, "decision": {}}  # one may still wait


def open_turn(messages: list[AnyMessage]) -> list[AnyMessage]:
    """The messages since the last reply: what the customer wrote, and the draft if one waits."""
    for index in range(len(messages) - 1, -1, -1):
        if isinstance(messages[index], AIMessage) and not is_proposal(messages[index]):
            return messages[index + 1 :]
    return messages


def customer_text(messages: list[AnyMessage]) -> str:
    """What the customer wrote since the last reply, all of it: several messages may be waiting."""
    written = [message.text for message in open_turn(messages) if isinstance(message, HumanMessage)]
    return "\n".join(written).strip()


def asked_before(messages: list[AnyMessage]) -> str:
    """What the customer wrote before the reply that ends the messages."""
    return customer_text(messages[:-1])


def is_proposal(message: AnyMessage) -> bool:
    """Whether the message only shows a draft to a reviewer: a call of `send_reply`, which nobody has made."""
    return isinstance(message, AIMessage) and bool(message.tool_calls)


def proposal_id(messages: list[AnyMessage]) -> str | None:
    """The id of the message that shows the draft of this turn; what follows it replaces it in its place."""
    return next((message.id for message in reversed(open_turn(messages)) if is_proposal(message)), None)


def forget_proposals(messages: list[AnyMessage]) -> list[RemoveMessage]:
    """Take out drafts that were never sent, and the results that chat interfaces invent for such calls."""
    return [
        RemoveMessage(message.id)
        for message in messages
        if message.id and (is_proposal(message) or isinstance(message, ToolMessage))
    ]
