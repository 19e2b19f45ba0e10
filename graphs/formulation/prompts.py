"""What a real model is told, and what the offline model does instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, last_text, tool_outputs, user_text

SUPERVISOR: Final = """You lead a team that formulates blends. The ingredients, targets and batch size are in
the state already. Ask the formulator first, then the batcher. At the end answer in a few plain sentences with
the shares, the cost and what limits it. Never invent a figure."""
FORMULATOR: Final = """Find the blend with solve_blend. Pass an objective or a batch size only if the user
named one. Then report the shares, the cost and the limits that hold it back."""
BATCHER: Final = "Write the batch sheet with write_batch_sheet, then report the amounts."

_CHEAPEST: Final = re.compile(r"cheapest|(?:lowest|minimi[sz]e) (?:the )?(?:costs?|price)", re.IGNORECASE)
_GOAL: Final = re.compile(r"(minimi[sz]e|lowest|maximi[sz]e|highest) (?:the )?([\w-]+)", re.IGNORECASE)
_BATCH: Final = re.compile(r"(\d{1,9}(?:,\d{3})*(?:\.\d{1,6})?) ?(kg|t|tonnes?)\b", re.IGNORECASE)


def wishes(text: str) -> dict[str, Any]:
    """The objective and the batch size that a question names, as arguments of solve_blend."""
    found: dict[str, Any] = {}
    if _CHEAPEST.search(text):
        found["objective"] = {"minimise": "cost"}
    elif goal := _GOAL.search(text):
        verb = "minimise" if goal[1].lower().startswith(("min", "low")) else "maximise"
        found["objective"] = {verb: goal[2]}
    if "batch" in text.lower() and (batch := _BATCH.search(text)):
        found["batch_kg"] = float(batch[1].replace(",", "")) * (1 if batch[2].lower() == "kg" else 1000)
    return found


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Have the blend found and weighed out, then sum up what the tools said."""
    done = tool_outputs(messages)
    for member in ("formulator", "batcher"):
        if f"ask_{member}" not in done:
            return Call(f"ask_{member}", task=user_text(messages))
    return "\n".join(done[name] for name in ("solve_blend", "write_batch_sheet") if name in done)


def formulate(messages: Sequence[BaseMessage]) -> Step:
    """Solve with what the question names."""
    return in_order(Call("solve_blend", **wishes(user_text(messages))), then=last_text)(messages)


weigh_out = in_order(Call("write_batch_sheet"), then=last_text)
