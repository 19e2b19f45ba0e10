"""What a conversation with a customer holds."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage

from graphs.kit.state import AgentState


class Finding(TypedDict):
    """One breach of a rule: its stable code, what is wrong, and the words in question."""

    code: str
    message: str
    excerpt: str


class Compliance(TypedDict):
    """The verdict on the present draft, and what the draft before it was sent back for."""

    passed: bool
    findings: list[Finding]
    sent_back_for: list[Finding]


class Decision(TypedDict):
    """Who let the reply go, or what the reviewer wants instead; `note` is feedback, or why to ask again."""

    type: Literal["auto", "accept", "edit", "response", "ignore", "unusable"]
    note: str | None


class State(AgentState, total=False):
    """The conversation (`messages`), and the present turn's way through the desk."""

    category: str | None
    policy: list[dict[str, Any]] | None
    draft: str | None
    compliance: Compliance | None
    decision: Decision | None


NEW_TURN: dict[str, None] = dict.fromkeys(("category", "policy", "draft", "compliance", "decision"))
"""What a new message clears. It may arrive while the last one still waits for its approval."""


def customer_text(messages: list[AnyMessage]) -> str:
    """What the customer wrote since the last reply, all of it: several messages may be waiting."""
    waiting: list[str] = []
    for message in reversed(messages):
        if not isinstance(message, HumanMessage):
            break
        waiting.insert(0, message.text.strip())
    return "\n".join(text for text in waiting if text)
