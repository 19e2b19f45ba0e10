"""What the trials agent can do; each tool reads its section of the input from the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from graphs.kit.findings import found
from graphs.kit.offload import in_thread
from graphs.kit.problems import parse_input
from graphs.trials.analysis import compare_survival, judge_interim
from graphs.trials.design import size_design
from graphs.trials.state import MODELS

NOT_SENT: Final = "Nothing was sent under"

Runtime = ToolRuntime[Any, Any]
Answer = Command[Any] | str


@tool
async def size_trial(runtime: Runtime, power: float | None = None) -> Answer:
    """Find the sample size of the design that was sent; `power`, a fraction, goes before the design's own."""
    return await _work(runtime, "design", size_design, **({} if power is None else {"power": power}))


@tool
async def compare_groups(runtime: Runtime) -> Answer:
    """Compare the survival of the groups that were sent: Kaplan-Meier and log-rank test."""
    return await _work(runtime, "survival", compare_survival)


@tool
async def judge_look(runtime: Runtime) -> Answer:
    """Judge the interim look that was sent against its group-sequential boundary."""
    return await _work(runtime, "interim", judge_interim)


async def _work(runtime: Runtime, section: str, compute: Callable[..., Any], **changes: float) -> Answer:
    sent = runtime.state.get(section)
    if sent is None:
        return f"{NOT_SENT} '{section}'."
    value = await in_thread(lambda: compute(parse_input(MODELS[section], {**sent, **changes}, key=section)))
    says = [value["summary"], "Assumptions:", *value["assumptions"]]
    return found(runtime, section, value, "\n".join(says))
