"""What the offline model does in the place of a real one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text
from graphs.printing.estimate import MATERIALS

_MEASURES: Final = re.compile(r"watertight|manifold|volume|size|large|bounding|overhang|check|inspect")
_ORIENTATION: Final = re.compile(r"orient|support|rotat|\blay|\bturn|position|which way")
_ESTIMATE: Final = re.compile(
    r"cost|price|cheap|expensive|time|how long|hour|material|gram|weigh|filament|estimate|how much"
)


def wishes(text: str) -> dict[str, Any]:
    """The material and the number of copies that a question names, as arguments of estimate_print."""
    found: dict[str, Any] = {}
    if material := re.search(rf"\b({'|'.join(MATERIALS)})\b", text, re.IGNORECASE):
        found["material"] = material[1].upper()
    if copies := re.search(r"\b(\d{1,9})\s*(?:copies|pieces|parts)\b", text, re.IGNORECASE):
        found["copies"] = int(copies[1])
    return found


def _needs(question: str) -> tuple[bool, bool]:
    """Whether the question needs an orientation, and an estimate; an open one needs both."""
    text = question.lower()
    if _ESTIMATE.search(text) or wishes(text):
        return True, True
    if _ORIENTATION.search(text):
        return True, False
    return (False, False) if _MEASURES.search(text) else (True, True)


def supervisor(messages: Sequence[BaseMessage]) -> Step:
    """Ask the sub-agents that the question needs, then sum up what they said."""
    question = user_text(messages)
    _, estimated = _needs(question)
    calls = [Call("geometer", task=question), *([Call("estimator", task=question)] if estimated else [])]
    return in_order(*calls, then=_all_said)(messages)


def geometer(messages: Sequence[BaseMessage]) -> Step:
    """Inspect, and orient where that matters."""
    oriented, _ = _needs(user_text(messages))
    calls = [Call("inspect_part"), *([Call("orient_part")] if oriented else [])]
    return in_order(*calls, then=_all_said)(messages)


def estimator(messages: Sequence[BaseMessage]) -> Step:
    """Estimate with what the question names."""
    return in_order(Call("estimate_print", **wishes(user_text(messages))), then=_all_said)(messages)


def _all_said(messages: Sequence[BaseMessage]) -> str:
    return "\n\n".join(tool_outputs(messages).values())
