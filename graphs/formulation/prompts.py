"""What a real model is told, and what the offline model does instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, last_text, tool_outputs, user_text

INFEASIBLE: Final = "No blend meets all limits"

SUPERVISOR: Final = """You lead a team that formulates blends. The ingredients, targets and batch size are in
the state already. Ask the formulator first. If there is no blend, ask the explainer; else ask the batcher.
At the end answer in a few plain sentences with the shares, the cost and what limits it. Never invent a
figure."""

FORMULATOR: Final = """Find the blend with solve_blend. Pass an objective or a batch size only if the user
named one. Then report the shares, the cost and the limits that hold it back."""
EXPLAINER: Final = (
    "Explain the conflict with explain_conflict, then say which limits have to give, and how far."
)
BATCHER: Final = "Write the batch sheet with write_batch_sheet, then report the amounts."

_GOAL: Final = re.compile(
    r"\b(minimi[sz]e|lowest|maximi[sz]e|highest)\s+(?:(?:the|our|its|total|possible)\s+)*([a-z][\w-]*)",
    re.IGNORECASE,
)
_CHEAPEST: Final = re.compile(r"\b(cheap(est|ly)?|least[ -](cost|expensive))\b", re.IGNORECASE)
_COST: Final = re.compile(r"costs?|prices?|expenses?", re.IGNORECASE)
_MASS: Final = r"(\d{1,3}(?:,\d{3})+|\d{1,9}(?:\.\d{1,6})?)\s*(kg|kilos?|kilograms?|t|tons?|tonnes?)\b"
_BATCH: Final = re.compile(
    rf"\b(?:batch|make|produce|mix|weigh out|for)\D{{0,15}}{_MASS}|{_MASS}\s+batch", re.IGNORECASE
)


def wishes(text: str) -> dict[str, Any]:
    """The objective and the batch size that a question names, as arguments of solve_blend."""
    found: dict[str, Any] = {}
    if goal := _GOAL.search(text):
        side = "minimise" if goal[1].lower().startswith(("min", "low")) else "maximise"
        found[side] = "cost" if _COST.fullmatch(goal[2]) else goal[2]
    elif _CHEAPEST.search(text):
        found["minimise"] = "cost"
    if batch := _BATCH.search(text):
        number, unit = [group for group in batch.groups() if group]
        found["batch_kg"] = float(number.replace(",", "")) * (1000 if unit.lower().startswith("t") else 1)
    return found


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Have the blend found, then explained or weighed out, then sum up what the tools said."""
    done = tool_outputs(messages)
    if "ask_formulator" not in done:
        return Call("ask_formulator", task=user_text(messages))
    second = "explainer" if done.get("solve_blend", "").startswith(INFEASIBLE) else "batcher"
    if f"ask_{second}" not in done:
        return Call(f"ask_{second}", task=user_text(messages))
    said = ("solve_blend", "explain_conflict", "write_batch_sheet")
    return "\n".join(done[name] for name in said if name in done)


def formulate(messages: Sequence[BaseMessage]) -> Step:
    """Solve with what the question names."""
    return in_order(Call("solve_blend", **wishes(user_text(messages))), then=last_text)(messages)


explain = in_order(Call("explain_conflict"), then=last_text)
weigh_out = in_order(Call("write_batch_sheet"), then=last_text)
