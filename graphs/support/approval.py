"""What a reviewer is asked, in the form that agent inboxes show, and what their answer means."""

from __future__ import annotations

from typing import Any, Final

from graphs.support.compliance import MAX_REPLY_CHARACTERS, mask, personal_data
from graphs.support.policy_book import CATEGORIES
from graphs.support.state import Decision, Finding, State, customer_text

ACTION: Final = "send_reply"
MAX_FEEDBACK_CHARACTERS: Final = 2_000
SHOWN_CHARACTERS: Final = 1_000


class UnusableAnswerError(ValueError):
    """The reviewer's answer cannot be carried out; the message says what to answer instead."""


def ask(state: State) -> list[dict[str, Any]]:
    """Build the interrupt's value: one action request, with everything allowed.

    Args:
        state: The conversation, with a draft; an unusable answer before this one is shown first.
    """
    # Masked: the reviewer needs the case, and inboxes and their logs are no place for card numbers.
    said = mask(customer_text(state["messages"]))[:SHOWN_CHARACTERS]
    policies = ", ".join(f"{policy['id']} ({policy['title']})" for policy in state["policy"] or [])
    decision = state.get("decision")
    unusable = decision is not None and decision["type"] == "unusable"
    parts = [f"**The last answer was not usable:** {decision['note']}"] if decision and unusable else []
    parts += [f"**Customer:** {said}", f"**Category:** {state['category']}", f"**Policies:** {policies}"]
    compliance = state["compliance"]
    if compliance and compliance["findings"]:
        parts.append(f"**Compliance objects:** {_listed(compliance['findings'])}")
    if compliance and compliance["sent_back_for"]:
        parts.append(f"**Compliance had the draft rewritten for:** {_listed(compliance['sent_back_for'])}")
    return [
        {
            "action_request": {
                "action": ACTION,
                "args": {"reply": state["draft"], "category": state["category"]},
            },
            "config": {
                "allow_ignore": True,
                "allow_respond": True,
                "allow_edit": True,
                "allow_accept": True,
            },
            "description": "\n\n".join(parts),
        }
    ]


def _listed(findings: list[Finding]) -> str:
    return " ".join(
        f"{finding['message']} ({finding['excerpt']})" if finding["excerpt"] else finding["message"]
        for finding in findings
    )


def read_answer(answer: object) -> tuple[Decision, dict[str, str]]:
    """Understand a resume value: `{"type": …, "args": …}`, bare or as a list's only item.

    Returns:
        The decision, and the changes it makes to the state (`draft`, `category`).

    Raises:
        UnusableAnswerError: It is no such object, or what it asks for cannot be sent.
    """
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict):
        raise UnusableAnswerError(
            'Answer with {"type": "accept" | "edit" | "response" | "ignore", "args": …}, or a list of one.'
        )
    kind, args = answer.get("type"), answer.get("args")
    if kind == "accept":
        return Decision(type="accept", note=None), {}
    if kind == "ignore":
        return Decision(type="ignore", note=None), {}
    if kind == "response":
        return Decision(type="response", note=_text(args, "feedback", MAX_FEEDBACK_CHARACTERS)), {}
    if kind == "edit":
        return Decision(type="edit", note=None), _edited(args)
    raise UnusableAnswerError(f"'{str(kind)[:40]}' is no type; it is accept, edit, response or ignore.")


def _edited(action_request: object) -> dict[str, str]:
    args = action_request.get("args") if isinstance(action_request, dict) else None
    if not isinstance(args, dict):
        raise UnusableAnswerError(
            f'The args of an edit are the action request: {{"action": "{ACTION}", "args": {{"reply": …}}}}.'
        )
    reply = _text(args.get("reply"), "reply", MAX_REPLY_CHARACTERS)
    # A reviewer may overrule the other rules, knowing the case; a card number in a message is always a slip.
    if personal_data(reply):
        raise UnusableAnswerError("The edited reply contains a card or account number; leave it out.")
    category = args.get("category")
    if category is None:
        return {"draft": reply}
    if category not in CATEGORIES:
        raise UnusableAnswerError(f"'{str(category)[:40]}' is no category; it is {', '.join(CATEGORIES)}.")
    return {"draft": reply, "category": str(category)}


def _text(value: object, what: str, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UnusableAnswerError(f"The {what} is missing; it is a text of at most {most:,} characters.")
    if len(value) > most:
        raise UnusableAnswerError(f"The {what} has {len(value):,} characters; {most:,} is the most.")
    return value.strip()
