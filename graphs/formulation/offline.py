"""What the offline model does in the place of a real one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Step, in_order, tool_outputs, user_text

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


def script(messages: Sequence[BaseMessage]) -> Step:
    """Find the blend that the question names, weigh it out, and say what the tools said."""
    solve = Call("solve_blend", **wishes(user_text(messages)))
    return in_order(
        solve, Call("write_batch_sheet"), then=lambda said: "\n\n".join(tool_outputs(said).values())
    )(messages)
