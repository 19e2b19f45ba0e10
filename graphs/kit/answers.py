"""What is wrong with a model's answer that came whole: calls nobody can make, nothing said, or not all of it.

Providers report these as success. What the model can mend it is asked to, by the complaint; what stays, or
cannot be mended, is a problem of the run, so that no run seems to have a result that has none.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage

from .problems import Problem

ANSWER_CUT: Final = "answer_cut"
# What every provider takes back as a tool's name; one bad name in its history would end a thread for ever.
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CUT: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
_REFUSED: Final = frozenset({"refusal", "content_filter"})
_STRICT: Final = frozenset({"openai", "anthropic"})  # whose answers always say why they end


@dataclass(frozen=True)
class Flaw:
    """Why an answer is of no use, and what the model is told when it is asked again."""

    complaint: str
    problem: Problem


def flaw_of(answer: AIMessage) -> Flaw | None:
    """What the model has to do again; nothing of such an answer is done or kept."""
    called: list[Any] = [*answer.tool_calls, *answer.invalid_tool_calls]
    again = "Ask again in other words, or use another model."
    if called and _ending(answer) in _CUT:
        # Cut arguments are completed by the library, and would be carried out as if they were meant so.
        return Flaw(
            "Your last attempt was cut off within a tool call, so nothing was done. Call with less at once.",
            Problem(
                code=ANSWER_CUT, message="The model's call of a tool was cut off, each time.", cure=again
            ),
        )
    unreadable = answer.invalid_tool_calls or [
        call for call in called if not _TOOL_NAME.fullmatch(call["name"] or "")
    ]
    if unreadable:
        names = ", ".join(sorted({str(call.get("name"))[:80] for call in unreadable}))
        return Flaw(
            f"Your last attempt called {names} with a name or arguments that cannot be read, so nothing was "
            "done. Call tools by their names, with a JSON object.",
            Problem(
                code="unreadable_tool_calls",
                message="The model called tools with unreadable names or arguments, each time.",
                cure=again,
            ),
        )
    if not called and not answer.text.strip():
        return Flaw(
            "Your last answer was empty. Answer the user in words, or call a tool.",
            Problem(code="empty_answer", message="The model gave an empty answer, each time.", cure=again),
        )
    return None


def give_ids(answer: AIMessage) -> None:
    """Give each call an id of its own: some servers that speak OpenAI's protocol send none."""
    known: set[str | None] = {None, ""}
    for call in answer.tool_calls:
        if call["id"] in known:
            call["id"] = f"call_{uuid.uuid4().hex[:24]}"
        known.add(call["id"])


def refusal_of(answer: AIMessage) -> Problem | None:
    """What is told when the model or its provider declines to answer; asking again changes nothing."""
    blocks = answer.content if isinstance(answer.content, list) else []
    told = answer.additional_kwargs.get("refusal") or "".join(
        str(block.get("refusal") or "") for block in blocks if isinstance(block, dict)
    )
    if not told and _ending(answer) not in _REFUSED:
        return None
    told = str(told or answer.text).strip()[:1_000]
    return Problem(
        code="model_refused",
        message="The model declined to answer" + (f": {told}" if told else "."),
        cure="Ask for something else, or use another model.",
    )


def cut_of(answer: AIMessage) -> Problem | None:
    """What is told of an answer in words that reached a limit on tokens: it is kept, but not whole."""
    if _ending(answer) not in _CUT:
        return None
    return Problem(
        code=ANSWER_CUT,
        message="The model's answer was cut off at its limit on tokens.",
        cure="Ask for less at once, or use a model that may answer at greater length.",
    )


def whole(answer: AIMessage) -> AIMessage:
    """The answer, if it came to its end.

    Raises:
        ConnectionError: It did not, though the connection was closed in order, as proxies do.
    """
    told = answer.response_metadata
    if told.get("model_provider") in _STRICT and not _ending(answer):
        raise ConnectionError("the answer broke off")
    return answer


def _ending(answer: AIMessage) -> str | None:
    told: dict[str, Any] = answer.response_metadata
    incomplete = told.get("incomplete_details") or {}
    reasons = (told.get(key) for key in ("stop_reason", "finish_reason", "status"))
    return incomplete.get("reason") or next(filter(None, reasons), None)
