"""What a run spends, and whether it may spend more."""

from __future__ import annotations

from typing import Final

from langchain_core.messages import AIMessage

from .context import Context
from .problems import Problem
from .state import Usage

BUDGET_SPENT: Final = "budget_spent"


def usage_of(answer: AIMessage) -> Usage:
    """What one answer of the model has cost."""
    told = answer.usage_metadata
    return Usage(
        model_calls=1,
        input_tokens=told["input_tokens"] if told else 0,
        output_tokens=told["output_tokens"] if told else 0,
    )


def overspent(usage: Usage, limits: Context) -> Problem | None:
    """The problem with which a run ends that has spent too much."""
    spent = {
        "model calls": (usage["model_calls"], limits.max_model_calls),
        "tool calls": (usage["tool_calls"], limits.max_tool_calls),
        "tokens": (usage["input_tokens"] + usage["output_tokens"], limits.max_tokens),
    }
    for what, (wanted, most) in spent.items():
        if wanted > most:
            return Problem(
                code=BUDGET_SPENT,
                message=f"The run was ended before its answer: {most:,} {what} are the most it may take.",
                cure="Ask for less at once, or raise the limit in the assistant's context.",
            )
    return None
