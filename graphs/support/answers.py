"""What a reviewer may answer, in every form that interfaces send it.

{"decisions": [{"type": "approve"}]}                                        LangChain's HITLResponse
{"decisions": [{"type": "edit", "edited_action": {"name", "args"}}]}
{"decisions": [{"type": "reject" | "respond", "message": "…"}]}
[{"type": "accept" | "ignore", "args": …}]                                  agent inboxes
[{"type": "edit", "args": {"action", "args"}}]
[{"type": "response", "args": "…"}]
"""

from __future__ import annotations

from typing import Any, Final

from graphs.support.policy_book import CATEGORIES
from graphs.support.review import ACTION, MAX_REPLY_CHARACTERS, mask

_INBOX_NAMES: Final = {"accept": "approve", "ignore": "reject", "response": "respond"}


def read_answer(answer: object, draft: str) -> dict[str, Any]:
    """Turn a resume value into a state update; a ValueError says why not."""
    if isinstance(answer, dict) and "decisions" in answer:
        answer = answer["decisions"]
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    kind = _get(answer, "type")
    if isinstance(kind, str):
        kind = _INBOX_NAMES.get(kind, kind)
    feedback = _get(answer, "message") or (_get(answer, "args") if kind == "respond" else None)
    match kind:
        case "approve" if not draft.strip():
            raise ValueError("There is no draft to approve: edit it, or reject it.")
        case "approve":
            return {"decision": {"type": kind}}
        case "reject" if not feedback:
            return {"decision": {"type": kind}}
        case "reject" | "respond":
            # Without a verdict, so that compliance can send the next draft back again.
            return {"decision": {"type": "respond", "note": _text(feedback, "feedback")}, "compliance": {}}
        case "edit":
            return _edited(_get(answer, "edited_action") or _get(answer, "args"))
    raise ValueError(
        'Answer with {"decisions": [{"type": "approve" | "edit" | "reject" | "respond", …}]}, one decision.'
    )


def _edited(action: object) -> dict[str, Any]:
    name, args = _get(action, "name") or _get(action, "action") or ACTION, _get(action, "args")
    if name != ACTION:
        raise ValueError(f"Only {ACTION} can be edited here, and not turned into {name}.")
    unknown = sorted(map(str, args.keys() - {"reply", "category"})) if isinstance(args, dict) else []
    if unknown:
        raise ValueError(f"There is no argument {', '.join(unknown)}; there are reply and category.")
    reply, category = _text(_get(args, "reply"), "args.reply"), _get(args, "category")
    # A reviewer may overrule the other rules, knowing the case; a card number in a message is always a slip.
    if mask(reply) != reply:
        raise ValueError("The edited reply contains a card or account number; leave it out.")
    if category is not None and category not in CATEGORIES:
        raise ValueError(f"The category must be one of {', '.join(CATEGORIES)}.")
    return {"decision": {"type": "edit"}, "draft": reply, **({"category": category} if category else {})}


def _get(value: object, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_REPLY_CHARACTERS:
        raise ValueError(f"The {what} must be a text of 1 to {MAX_REPLY_CHARACTERS:,} characters.")
    return value.strip()
