"""What a conversation with a customer holds."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import AnyMessage, HumanMessage

from graphs.kit.state import AgentState


class State(AgentState, total=False):
    """The conversation (`messages`), and the present turn's way through the desk."""

    category: str
    policy: list[dict[str, Any]]
    draft: str
    compliance: dict[str, list[str]]  # findings, and what the draft before was sent_back_for
    decision: dict[str, Any]  # type, as a reviewer sent it, or "unusable"; note: their feedback, or why


NEW_TURN: Final[dict[str, Any]] = {"draft": "", "compliance": {}, "decision": {}}  # one may still wait


def customer_text(messages: list[AnyMessage]) -> str:
    """What the customer wrote since the last reply, all of it: several messages may be waiting."""
    waiting: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        waiting.insert(0, message.text)
    return "\n".join(waiting).strip()
