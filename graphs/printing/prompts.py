"""What a real model is told, and what the offline model does instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, last_text, tool_outputs, user_text
from graphs.printing.estimate import MATERIALS

SUPERVISOR: Final = """You lead a team that prepares parts for 3D printing. The part is in the state already.
Ask the inspector first, then the orienter if orientation or support matters, then the estimator for time,
material or cost. Ask only for what the user wants to know; if that is open, ask all three. At the end answer
in a few plain sentences with the figures and the assumptions. Never invent a figure."""
INSPECTOR: Final = "Inspect the part with inspect_part, then report its figures in one or two sentences."
ORIENTER: Final = "Find the best orientation with orient_part, then say how to turn the part and why."
ESTIMATOR: Final = "Estimate with estimate_print, then report time, material, cost and the assumptions."

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


def _members(question: str) -> list[str]:
    text = question.lower()
    if _ESTIMATE.search(text) or wishes(text):
        return ["inspector", "orienter", "estimator"]
    if _ORIENTATION.search(text):
        return ["inspector", "orienter"]
    return ["inspector"] if _MEASURES.search(text) else ["inspector", "orienter", "estimator"]


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Ask the members that the question needs, then sum up what their tools said."""
    done = tool_outputs(messages)
    for member in _members(user_text(messages)):
        if f"ask_{member}" not in done:
            return Call(f"ask_{member}", task=user_text(messages))
    return "\n".join(done[name] for name in ("inspect_part", "orient_part", "estimate_print") if name in done)


inspect = in_order(Call("inspect_part"), then=last_text)
orient = in_order(Call("orient_part"), then=last_text)


def estimate(messages: Sequence[BaseMessage]) -> Step:
    """Estimate with what the question names."""
    return in_order(Call("estimate_print", **wishes(user_text(messages))), then=last_text)(messages)
