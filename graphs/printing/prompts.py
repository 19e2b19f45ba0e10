"""What a real model is told, and what the offline model does instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, last_text, tool_outputs, user_text
from graphs.printing.state import MATERIALS

SUPERVISOR: Final = """You lead a team that prepares parts for 3D printing. The part is in the state already.
Ask the inspector first, then the orienter if orientation or support matters, then the estimator for time,
material or cost. Ask only for what the user wants to know; if that is open, ask all three. At the end answer
in a few plain sentences with the figures and the assumptions. Never invent a figure."""

INSPECTOR: Final = "Inspect the part with inspect_part, then report its figures in one or two sentences."
ORIENTER: Final = "Find the best orientation with orient_part, then say how to turn the part and why."
ESTIMATOR: Final = """Estimate the print with estimate_print. Pass a material, infill, layer height or number
of copies only if the user named one. Then report time, material, cost and the assumptions."""

_MEASURES: Final = re.compile(
    r"watertight|manifold|volume|dimension|size|big|bounding|overhang|check|inspect|triangles|hole"
)
_ORIENTATION: Final = re.compile(r"orient|support|rotat|lay |turn|position|which way|stand")
_ESTIMATE: Final = re.compile(
    r"cost|price|expensive|cheap|quote|time|how long|hour|material|gram|weigh|filament|estimate|how much"
)
_KEEP: Final = re.compile(
    r"as (it )?is\b|as modelled|as modeled|without (rotat|turn)|(don't|do not) (rotat|turn)"
)

_NUMBER: Final = r"(\d{1,9}(?:[.,]\d{1,9})?)"


def _number(said: str) -> float:
    return float(said.replace(",", "."))


_WISHES: Final[dict[str, tuple[str, Callable[[str], str | float]]]] = {
    "material": (rf"\b({'|'.join(MATERIALS)})\b", str.upper),
    "infill_percent": (rf"{_NUMBER}\s*(?:%|percent)\s*infill|infill (?:of |at )?{_NUMBER}", _number),
    "layer_height_mm": (rf"{_NUMBER}\s*mm layer|layers? (?:height )?(?:of |at )?{_NUMBER}", _number),
    "copies": (r"\b(\d{1,9})\s*(?:copies|pieces|parts|pcs|units)\b", int),
}


def wishes(text: str) -> dict[str, Any]:
    """The print settings that a question names, as arguments of estimate_print."""
    found: dict[str, Any] = {}
    for name, (pattern, parse) in _WISHES.items():
        if match := re.search(pattern, text, re.IGNORECASE):
            found[name] = parse(next(group for group in match.groups() if group))
    return found


def _members(text: str) -> list[str]:
    lower = text.lower()
    measures, orientation = bool(_MEASURES.search(lower)), bool(_ORIENTATION.search(lower))
    estimate = bool(_ESTIMATE.search(lower) or wishes(text))
    if not (measures or orientation or estimate):
        orientation = estimate = True
    members = ["inspector"]
    if (orientation or estimate) and not _KEEP.search(lower):
        members.append("orienter")
    return [*members, "estimator"] if estimate else members


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Ask the members that the question needs, then sum up what their tools said."""
    done = tool_outputs(messages)
    for member in _members(user_text(messages)):
        if f"ask_{member}" not in done:
            return Call(f"ask_{member}", task=user_text(messages))
    said = [done[name] for name in ("inspect_part", "orient_part", "estimate_print") if name in done]
    return "\n".join(said)


inspect = in_order(Call("inspect_part"), then=last_text)
orient = in_order(Call("orient_part"), then=last_text)


def estimate(messages: Sequence[BaseMessage]) -> Step:
    """Estimate with what the question names."""
    return in_order(Call("estimate_print", **wishes(user_text(messages))), then=last_text)(messages)
