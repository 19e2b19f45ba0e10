"""What the project models are told, and the rules of the offline model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from graphs.kit.offline import Call, Rule, Step, in_order, tool_outputs, user_text

SUPERVISOR: Final = """You lead a project planning team. The plan (tasks, dates) is already in the state; do
not copy it. Ask the scheduler for the critical path, the risk_analyst for finish dates, probabilities and
risks, the charter for a Gantt chart; ask only for what the question needs, all three if it is open. Then
answer in a few plain sentences with the figures that matter and the assumptions. Invent no figures."""

SCHEDULER: Final = (
    "Call find_critical_path, then report duration, finish date, critical path and least slack."
)

RISK_ANALYST: Final = """Call simulate_finish once, with by_date or confidence_percent if the question names a
date or a confidence. Then report the finish dates, the probabilities and the risks that matter."""

CHARTER: Final = "Call draw_gantt, then say what the chart shows. Do not repeat the specification."

_TOPICS: Final = {
    "scheduler": r"critical|path|schedule|slack|float|expected|duration|how long|when|finish",
    "risk_analyst": r"risk|probab|chance|likel|confiden|deadline|late\b|\d{4}-|when|finish|\bp\d\d|%|percent",
    "charter": r"gantt|chart|draw|plot|diagram|timeline|picture",
}
_SAID_BY: Final = ("find_critical_path", "simulate_finish", "draw_gantt")


def supervise(messages: Sequence[BaseMessage]) -> Step:
    """Hand over to each member whose topic the question touches, to all where it touches none."""
    asked = user_text(messages).lower()
    wanted = [name for name, words in _TOPICS.items() if re.search(words, asked)] or list(_TOPICS)
    done = tool_outputs(messages)
    for name in wanted:
        if f"ask_{name}" not in done:
            return Call(f"ask_{name}", task=asked[:500])
    return " ".join(done[tool] for tool in _SAID_BY if tool in done)


def analyse_risk(messages: Sequence[BaseMessage]) -> Step:
    """Simulate, with the date and the confidence that the question names."""
    done = tool_outputs(messages)
    if "simulate_finish" in done:
        return done["simulate_finish"]
    asked = user_text(messages)
    args: dict[str, Any] = {}
    if day := re.search(r"\b\d{4}-\d{2}-\d{2}\b", asked):
        args["by_date"] = day[0]
    if percent := re.search(r"\b[pP](\d{2})\b|(\d+(?:\.\d+)?)\s*(?:%|percent)", asked):
        args["confidence_percent"] = float(percent[1] or percent[2])
    return Call("simulate_finish", **args)


def call_and_report(tool: str) -> Rule:
    """The rule of a member with one tool: call it, then say what it said."""
    return in_order(Call(tool), then=lambda messages: tool_outputs(messages)[tool])
